"""A registered clone opened to act: which version is meant, and the evidence without which it is never trusted."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from imitrace.canonical import canonical_json
from imitrace.exceptions import CloneError
from imitrace.messages import Action, from_openai, tool_definition
from imitrace_trainer.champion import OpenClone, open_clone, stamp
from imitrace_trainer.clone_files import CloneCard
from imitrace_trainer.encoding import view_state
from imitrace_trainer.environment import load_object
from imitrace_trainer.evidence import Evidence
from imitrace_trainer.gate_report import GateReport
from imitrace_trainer.keys import signing_key
from imitrace_trainer.policy import Decision, State
from imitrace_trainer.reading import Reader
from imitrace_trainer.registry import CloneVersion, Registry
from imitrace_trainer.route import RoutedClone
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.seal import seal
from imitrace_trainer.stages import load_clone
from imitrace_trainer.thresholds import Thresholds
from imitrace_trainer.tool_ledger import ToolDecision, record_decision

Fork = Callable[[Path], Path]
Question = tuple[list[str], list[dict[str, object]], dict[str, str]]


@pytest.fixture(scope="module")
def question(counter: Path) -> Question:
    """Return the beginning of a common ticket, as it is on the wire."""
    world = load_object("counter_world:Counter", counter)()
    messages = [canonical_json(from_openai(message)) for message in world.reset("common-9-0")]
    return messages, [tool_definition(tool) for tool in world.tools], {"cohort": "common"}


def report_of(home: Path) -> GateReport:
    report = Registry(home).gate_record("counter", 1)
    assert report is not None
    return report


def second_version(home: Path, **files: str) -> int:
    """Register v1's files once more, some of them replaced."""

    def write(folder: Path) -> None:
        for path in (home / "clones" / "counter" / "v1").iterdir():
            shutil.copy(path, folder)
        for name, text in files.items():
            (folder / name.replace("_", ".")).write_text(text)

    return Registry(home).register("counter", write)


def rewrite(home: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change v1's ``clone.json`` and sign it again."""
    folder = home / "clones/counter/v1"
    record = json.loads((folder / "clone.json").read_text(encoding="utf-8"))
    change(record)
    (folder / "clone.json").write_text(json.dumps(record), encoding="utf-8")
    seal(folder, "counter", 1, signing_key(home))


def make_champion(home: Path, version: int) -> None:
    Registry(home).record_gate("counter", version, replace(report_of(home), version=version))
    Registry(home).promote("counter", version, dataset_hash=report_of(home).dataset_hash)


def test_a_champion_is_trusted_where_its_gate_passed_and_it_is_sure(promoted_home: Path, question: Question) -> None:
    clone = open_clone(promoted_home, "counter@champion")
    verdict = clone.decide(*question)
    said = json.loads(question[0][0])["parts"][0]["content"]
    assert verdict.action == Action("tool_call", "find_order", {"email": said.split()[2]})
    assert (verdict.trusted, verdict.reason) == (True, "trusted")
    assert (verdict.clone, verdict.version) == ("counter", "v1")


def test_it_decides_as_the_route_does_for_every_cohort(promoted_home: Path, question: Question) -> None:
    loaded, clone = load_clone(promoted_home, "counter"), open_clone(promoted_home, "counter")
    passed = report_of(promoted_home).passed_cohorts()
    messages, tools, _ = question
    for cohort in ("common", "safety", "rare"):
        state = State([json.loads(message) for message in messages], tools, {"cohort": cohort})
        decision, routed = RoutedClone(loaded.policy, loaded.thresholds, passed).decide(state)
        verdict = clone.decide(messages, tools, {"cohort": cohort})
        assert (verdict.action, verdict.confidence, verdict.ood) == (decision.action, decision.confidence, decision.ood)
        assert (verdict.trusted, verdict.reason) == (routed.actor == "clone", routed.reason)


def test_a_call_that_was_already_made_is_left_to_the_expert(promoted_home: Path, question: Question) -> None:
    messages, tools, tags = question
    clone = open_clone(promoted_home, "counter")
    made = clone.decide(*question).action
    assert made is not None
    call = {"type": "tool_call", "id": "c1", "name": made.name, "arguments": made.arguments}
    again = [*messages, canonical_json({"role": "assistant", "parts": [call]}), *messages]
    verdict = clone.decide(again, tools, tags)
    assert not (verdict.trusted and verdict.action == made)


def test_a_tool_that_is_not_offered_is_never_called(promoted_home: Path, question: Question) -> None:
    messages, tools, tags = question
    verdict = open_clone(promoted_home, "counter").decide(messages, tools[1:], tags)
    assert not (verdict.trusted and verdict.action and verdict.action.name == "find_order")
    assert not open_clone(promoted_home, "counter").decide(messages, [], tags).trusted


def test_a_champion_leaves_a_cohort_to_the_expert_from_the_request_on_that_lacks_its_tool(
    promoted_home: Path, question: Question
) -> None:
    messages, tools, tags = question
    clone = open_clone(promoted_home, "counter")
    assert clone.decide(*question).trusted
    relied = clone.clone.relied.cohorts[tags["cohort"]]
    other = next(name for name in relied if name != "find_order")
    verdict = clone.decide(messages, [one for one in tools if one["name"] != other], tags)
    assert (verdict.trusted, verdict.reason) == (
        False,
        f"tool {other!r}, which cohort {tags['cohort']!r} was learnt with, is not offered",
    )
    changed: list[dict[str, Any]] = json.loads(json.dumps(tools))
    parameters = next(one for one in changed if one["name"] == other)["parameters"]
    parameters["properties"]["reason"] = {"type": "string"}
    assert clone.decide(messages, changed, tags).trusted
    parameters["required"] = [*parameters.get("required", ()), "reason"]
    verdict = clone.decide(messages, changed, tags)
    assert not verdict.trusted and "reason: added, required" in verdict.reason
    assert clone.decide(*question).trusted


def test_a_retired_tool_is_called_no_more_from_the_moment_it_is_retired(
    promoted_home: Path, fork: Fork, question: Question
) -> None:
    home = fork(promoted_home)
    before, seen = open_clone(home, "counter"), stamp(home, "counter")
    record_decision(home, ToolDecision(kind="deprecate", tool="find_order", agent="counter"))
    assert stamp(home, "counter") != seen
    retired = open_clone(home, "counter", before)
    verdict = retired.decide(*question)
    assert before.decide(*question).trusted and not verdict.trusted
    assert verdict.action and verdict.action.name != "find_order"
    record_decision(home, ToolDecision(kind="restore", tool="find_order", agent="counter"))
    assert open_clone(home, "counter", retired).decide(*question) == before.decide(*question)


def test_another_agents_retired_tool_is_none_of_its(promoted_home: Path, fork: Fork, question: Question) -> None:
    home = fork(promoted_home)
    record_decision(home, ToolDecision(kind="deprecate", tool="find_order", agent="desk"))
    assert open_clone(home, "counter").decide(*question).trusted


def test_a_tool_that_is_declared_irreversible_needs_that_threshold_at_once(
    promoted_home: Path, fork: Fork, question: Question
) -> None:
    home = fork(promoted_home)
    rewrite(home, lambda record: record["route"].update(irreversible=1.5, cohorts={}))
    assert open_clone(home, "counter").decide(*question).trusted
    record_decision(home, ToolDecision(kind="risk", tool="find_order", risk="irreversible"))
    verdict = open_clone(home, "counter").decide(*question)
    assert (verdict.trusted, verdict.reason[:10]) == (False, "confidence")


def test_nothing_is_trusted_while_the_tool_ledger_can_not_be_read(
    promoted_home: Path, fork: Fork, question: Question
) -> None:
    home = fork(promoted_home)
    (home / "tools.json").write_text("{", encoding="utf-8")
    verdict = open_clone(home, "counter").decide(*question)
    assert not verdict.trusted and "tools.json can't be read" in verdict.reason


@pytest.mark.parametrize("reference", ["counter@candidate", "counter:1", "counter:v1"])
def test_a_version_without_a_gate_record_is_asked_but_never_trusted(
    trained_home: Path, question: Question, reference: str
) -> None:
    verdict = open_clone(trained_home, reference).decide(*question)
    assert verdict.action is not None
    assert (verdict.trusted, verdict.reason) == (False, "counter v1 has no gate record")


def test_a_bare_name_without_a_champion_opens_nothing(trained_home: Path) -> None:
    with pytest.raises(CloneError, match="'counter@champion' names no version"):
        open_clone(trained_home, "counter")


def test_a_candidate_is_not_trusted_on_the_champions_evidence(
    promoted_home: Path, fork: Fork, question: Question
) -> None:
    home = fork(promoted_home)
    number = second_version(home)
    shutil.copy(home / "clones/counter/gates/v1.json", home / f"clones/counter/gates/v{number}.json")
    assert open_clone(home, "counter@champion").decide(*question).trusted
    verdict = open_clone(home, "counter@candidate").decide(*question)
    assert (verdict.trusted, verdict.version, verdict.reason) == (False, "v2", "counter v2 has no gate record")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset_hash": "other"}, "counter v1 was gated on another dataset than it was made from"),
        ({"cohorts": ()}, "counter v1 passed its gate in no cohort"),
        ({"cohorts": "blocked"}, "counter v1 passed its gate in no cohort"),
    ],
)
def test_evidence_of_something_else_is_no_evidence(
    promoted_home: Path, fork: Fork, question: Question, changes: dict[str, object], reason: str
) -> None:
    home = fork(promoted_home)
    report = report_of(home)
    if changes == {"cohorts": "blocked"}:
        common = next(cohort for cohort in report.cohorts if cohort.cohort == "common")
        changes = {"cohorts": (common, replace(common, cohort="safety", verdict="fail", regressions=1))}
    Registry(home).record_gate("counter", 1, replace(report, **changes))  # type: ignore[arg-type]  # a table's values
    verdict = open_clone(home, "counter").decide(*question)
    assert (verdict.trusted, verdict.reason) == (False, reason)


def test_a_champion_leaves_all_to_the_expert_from_the_moment_its_evidence_lapses(
    promoted_home: Path, question: Question
) -> None:
    opened = open_clone(promoted_home, "counter")
    until = opened.evidence.until
    assert until is not None
    moments = {seconds: replace(opened, clock=partial(float, until + seconds)) for seconds in (-1, 0)}
    assert moments[-1].decide(*question).trusted
    lapsed = moments[0].decide(*question)
    assert (lapsed.trusted, lapsed.action is not None) == (False, True)
    assert "evidence lapsed: gate of" in lapsed.reason
    assert (moments[0].standing.cohorts, moments[0].standing.reason) == ((), lapsed.reason)
    assert moments[-1].standing.cohorts == ("common", "safety")


def test_settings_of_the_route_come_into_service_with_the_next_look(
    promoted_home: Path, fork: Fork, question: Question
) -> None:
    home = fork(promoted_home)
    before, seen = open_clone(home, "counter"), stamp(home, "counter")
    rules = [{"when": {"tag": "cohort", "eq": "common"}, "to": "expert"}]
    Registry(home).record_route("counter", RouteConfig.from_table({"rules": rules}))
    assert stamp(home, "counter") != seen
    assert open_clone(home, "counter", before).decide(*question).reason == "rule 1 leaves this to the expert"


def test_damaged_settings_leave_all_to_the_expert(promoted_home: Path, fork: Fork, question: Question) -> None:
    home = fork(promoted_home)
    (home / "clones/counter/route.json").write_text('{"audit": 7}')
    verdict = open_clone(home, "counter").decide(*question)
    assert not verdict.trusted
    assert "route.json can't be read (route audit is 7" in verdict.reason


def test_an_audited_decision_is_the_experts_with_the_clones_beside_it(
    promoted_home: Path, fork: Fork, question: Question
) -> None:
    home = fork(promoted_home)
    Registry(home).record_route("counter", RouteConfig(audit=0.25))
    opened = open_clone(home, "counter")
    serving = opened.clone.serving
    assert serving is not None
    drawn = replace(opened, clone=replace(opened.clone, serving=replace(serving, draw=lambda: 0.1)))
    verdict = drawn.decide(*question)
    assert (verdict.trusted, verdict.reason, verdict.propensity) == (False, "audit", 0.25)
    assert verdict.action is not None


def test_what_is_remembered_of_trajectories_outlives_a_new_look_at_the_records(promoted_home: Path, fork: Fork) -> None:
    home = fork(promoted_home)
    before = open_clone(home, "counter")
    Registry(home).record_check("counter", "tools", "2026-03-01T00:00:00+00:00")
    assert open_clone(home, "counter", before).clone.serving is before.clone.serving


def test_a_damaged_gate_record_is_no_evidence(promoted_home: Path, fork: Fork, question: Question) -> None:
    home = fork(promoted_home)
    (home / "clones/counter/gates/v1.json").write_text("{")
    verdict = open_clone(home, "counter").decide(*question)
    assert not verdict.trusted
    assert "gate record is unreadable" in verdict.reason


def test_a_clone_that_is_not_what_was_signed_is_not_opened(promoted_home: Path, fork: Fork) -> None:
    home = fork(promoted_home)
    path = home / "clones/counter/v1/report.json"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(CloneError, match=r"can't be read \(report\.json changed since it was signed\): copy it again"):
        open_clone(home, "counter")
    with pytest.raises(CloneError, match=r"report\.json changed"):
        load_clone(home, "counter")


def test_a_clone_by_a_key_that_nobody_trusts_is_opened_once_somebody_does(promoted_home: Path, fork: Fork) -> None:
    home = fork(promoted_home)
    makers = (home / "keys").rename(home / "elsewhere")
    signing_key(home)
    before = stamp(home, "counter")
    with pytest.raises(CloneError, match=r"signature\.json is by key [0-9a-f]{16}, trusted: [0-9a-f]{16}\)"):
        open_clone(home, "counter")
    shutil.copy(makers / "clone.pub", home / "keys" / "makers.pub")
    assert stamp(home, "counter") != before
    assert open_clone(home, "counter").evidence.lack is None


def test_a_newer_version_that_can_not_be_checked_leaves_the_one_before(promoted_home: Path, fork: Fork) -> None:
    home = fork(promoted_home)
    before = open_clone(home, "counter")
    make_champion(home, second_version(home))
    (home / "keys" / "other.pub").write_text("no key")
    kept = open_clone(home, "counter", before)
    assert (kept.version, kept.evidence.lack) == (before.version, None)
    assert "other.pub holds no public key" in str(kept.problem)


def test_opening_again_keeps_the_weights_and_reads_the_evidence(
    promoted_home: Path, fork: Fork, question: Question
) -> None:
    home = fork(promoted_home)
    before = open_clone(home, "counter")
    (home / "clones/counter/gates/v1.json").unlink()
    again = open_clone(home, "counter", before)
    assert again.clone.policy is before.clone.policy
    assert before.decide(*question).trusted
    assert not again.decide(*question).trusted


@pytest.mark.parametrize("files", [{"model_safetensors": "cut"}, {"clone_json": "{}"}])
def test_a_newer_version_that_cannot_be_read_leaves_the_one_before_with_the_problem(
    promoted_home: Path, fork: Fork, question: Question, files: dict[str, str]
) -> None:
    home = fork(promoted_home)
    before = open_clone(home, "counter")
    number = second_version(home)
    make_champion(home, number)
    for name, text in files.items():
        (home / f"clones/counter/v{number}" / name.replace("_", ".")).write_text(text)
    kept = open_clone(home, "counter", before)
    assert kept.decide(*question).version == "v1"
    assert kept.problem is not None
    assert kept.problem.startswith(f"counter v{number} can't be read")
    with pytest.raises(CloneError):
        open_clone(home, "counter")


def test_thresholds_that_cannot_be_read_open_nothing(promoted_home: Path, fork: Fork) -> None:
    home = fork(promoted_home)
    rewrite(home, lambda record: record.update(route={}))
    with pytest.raises(CloneError, match="counter v1 has no thresholds"):
        open_clone(home, "counter")


@pytest.mark.parametrize(
    "change",
    [
        lambda home: Registry(home).record_gate("counter", 1, replace(report_of(home), confidence=0.5)),
        lambda home: second_version(home),
        lambda home: (home / "clones/counter/aliases.json").unlink(),
        lambda home: shutil.rmtree(home / "clones/counter/v1"),
        lambda home: (home / "clones/counter/gates/v1.json").write_text("{}"),
        lambda home: Registry(home).record_route("counter", RouteConfig(gate_days=1)),
        lambda home: Registry(home).record_check("counter", "tools", "2026-03-01T00:00:00+00:00"),
        lambda home: shutil.rmtree(home / "clones"),
    ],
    ids=["gate", "register", "aliases", "version", "by hand", "route", "check", "all"],
)
def test_the_stamp_changes_with_whatever_the_registry_means(
    promoted_home: Path, fork: Fork, change: Callable[[Path], object]
) -> None:
    home = fork(promoted_home)
    before = stamp(home, "counter@champion")
    assert stamp(home, "counter@champion") == before
    change(home)
    assert stamp(home, "counter@champion") != before


def test_the_stamp_of_what_does_not_exist_is_a_stamp(tmp_path: Path) -> None:
    assert stamp(tmp_path, "counter") == stamp(tmp_path, "counter:3")


class Diary:
    """A policy that answers with every date that it reads in a state."""

    def __init__(self) -> None:
        self.reader = Reader()

    def act(self, state: State) -> Decision:
        readings = view_state(state.messages, state.tools, self.reader).readings
        dates = [place.value for reading in readings for place in reading.seen if place.leaf == "date"]
        return Decision(Action("tool_call", "note", {"dates": dates}), 1.0, 0.0, {})


def test_the_same_message_is_read_by_the_year_of_its_own_conversation(tmp_path: Path) -> None:
    routed = RoutedClone(Diary(), Thresholds(0.5, 0.5), ("all",))
    card = CloneCard("diary", "diary", 1, "d1", "2026-03-01T00:00:00Z", "0.1.0", {}, {})
    clone = OpenClone(CloneVersion("diary", 1, tmp_path), card, routed, Evidence(("all",)))
    user = canonical_json({"role": "user", "parts": [{"type": "text", "content": "See you on May 4."}]})
    for year in ("2025", "2026", "2025"):
        told = canonical_json({"role": "system", "parts": [{"type": "text", "content": f"It is {year}-01-01."}]})
        action = clone.decide([told, user], [], {}).action
        assert action is not None
        assert action.arguments == {"dates": [f"{year}-05-04"]}
