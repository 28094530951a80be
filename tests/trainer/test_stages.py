import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from imitrace.exceptions import CloneError, DatasetError
from imitrace.messages import Action
from imitrace_trainer.clone_list import list_clones
from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.curate import curate
from imitrace_trainer.curation import curate_stage
from imitrace_trainer.datasets import Example, open_dataset, write_dataset
from imitrace_trainer.demonstrations import Demonstration, well_ended
from imitrace_trainer.families import FAMILIES
from imitrace_trainer.gating import gate_stage
from imitrace_trainer.policy import State
from imitrace_trainer.registry import Registry
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.stages import (
    calls_of,
    dataset_of,
    demonstrations,
    evaluate_stage,
    load_clone,
    promote_stage,
    train_stage,
)
from imitrace_trainer.thresholds import NEVER, Call, Thresholds, thresholds_for
from imitrace_trainer.tool_ledger import ToolDecision, record_decision

Fork = Callable[[Path], Path]
LOOK = Action("tool_call", "look", {"order": 1})


def quiet(stage: str, share: float) -> None:
    pass


def calls(calibration: Sequence[Demonstration], action: Action = LOOK) -> list[Call]:
    """Return the calls of a clone that answers every state alike, as sure as the number in the last message."""
    return calls_of(
        [(action, float(one.state.messages[-1]["parts"][0]["content"])) for one in calibration], calibration
    )


def held(confidence: float, action: Action) -> Demonstration:
    message = {"role": "user", "parts": [{"type": "text", "content": str(confidence)}]}
    return Demonstration(State([message], []), action, "task")


def example(
    trajectory: str, action: Action, mask: bool = True, tags: dict[str, str] | None = None, sure: float = 1.0
) -> Example:
    state = held(sure, action).state.messages
    return Example(
        trajectory_id=trajectory,
        step_index=0,
        decision="d",
        task=trajectory[0],
        tags=tags or {},
        split="gate",
        state=list(state),
        message_ids=[],
        tools=[{"name": "look"}],
        action=action,
        policy_role="expert",
        loss_mask=mask,
        outcome=None,
    )


def untrained(clone: CloneConfig) -> CloneConfig:
    return replace(clone, train=replace(clone.train, epochs=1, learning_rate=0.0))


def rolled(clone: CloneConfig, **changed: object) -> CloneConfig:
    assert clone.rollout is not None
    return replace(clone, rollout=replace(clone.rollout, **changed))  # type: ignore[arg-type]  # named by the test


def said_in(one: Demonstration) -> str:
    return str(one.state.messages[0]["parts"][0]["content"])


@pytest.mark.parametrize(
    ("outcomes", "kept"),
    [
        (("success", "failure", "abandoned", None), {"success", "None"}),
        (("failure", "abandoned"), {"failure", "abandoned"}),
    ],
)
def test_a_clone_is_judged_by_what_is_not_known_to_have_failed(
    make_tables: Callable[..., dict[str, pl.DataFrame]],
    tmp_path: Path,
    outcomes: Sequence[str | None],
    kept: set[str],
) -> None:
    cases = [
        {"id": f"t{n}", "task": f"task {n % 10}", "says": f"{outcome}", "outcome": outcome}
        for n, outcome in enumerate(outcome for outcome in outcomes for _ in range(10))
    ]
    cohort = CohortConfig(name="desk", agent="desk")
    made = {table: frame.lazy() for table, frame in make_tables(*cases).items()}
    dataset = write_dataset(tmp_path, cohort, curate(made, cohort), "a test")
    for split in ("train", "calibration", "gate"):
        shown = demonstrations(dataset.examples(split))
        assert {(said_in(one), one.failed) for one in shown} == {
            (str(outcome), outcome in ("failure", "abandoned")) for outcome in outcomes
        }
        assert {said_in(one) for one in well_ended(shown)} == kept
    calibration = demonstrations(dataset.examples("calibration"))
    proven = calls_of([(LOOK, 0.5)] * len(calibration), calibration)
    assert len(proven) == sum(said_in(one) in kept for one in calibration)


def test_curating_the_same_source_again_gives_the_version_that_exists(
    counter: Path, counter_clone: CloneConfig, trained_home: Path, fork: Fork, more_tickets: Path
) -> None:
    home = fork(trained_home)
    again = curate_stage(home, counter_clone.cohort, str(counter / "snapshot"))
    grown = curate_stage(home, counter_clone.cohort, str(more_tickets))
    assert [(made.version, made.created) for made in (again, grown)] == [(1, False), (2, True)]
    assert len(grown.tasks()) == len(again.tasks()) + 8


def test_training_registers_a_candidate_with_its_report_and_card(trained_home: Path) -> None:
    registry = Registry(trained_home)
    assert (registry.versions("counter"), registry.aliases("counter")) == ([1], {"candidate": 1})
    folder = registry.resolve("counter").path
    assert {path.name for path in folder.iterdir()} == {
        "model.safetensors",
        "second.safetensors",
        "second.json",
        "critic.safetensors",
        "critic.json",
        "clone.json",
        "report.json",
        "report.html",
        "card.md",
        "signature.json",
    }
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    ladder, critic, quality, foretold = (report.pop(name) for name in ("ladder", "critic", "quality", "foretold"))
    assert {told["right"] for told in foretold} == {True}
    assert critic["refused"] == "0 training tasks failed, needed 5: it learns from successes and failures"
    assert report == evaluate_stage(trained_home, "counter:1").to_json()
    assert [rung["family"] for rung in ladder] == sorted(FAMILIES, key=lambda one: one != ladder[0]["family"])
    assert load_clone(trained_home, "counter:1").card.training["family"] == ladder[0]["family"]
    assert quality["exact"]["value"] == report["exact_agreement"]["value"]
    assert (quality["tasks"], quality["origin"]["family"]) == (report["tasks"], ladder[0]["family"])
    assert report["exact_agreement"]["value"] == 1.0
    assert report["tasks"] == len(open_dataset(trained_home, "counter").tasks("gate"))


def test_the_card_says_what_was_learned_from_and_when_it_acts(trained_home: Path) -> None:
    loaded, dataset = load_clone(trained_home, "counter"), open_dataset(trained_home, "counter")
    card = (loaded.version.path / "card.md").read_text(encoding="utf-8")
    assert card.startswith("# counter\n")
    assert f"v{dataset.version} (`{dataset.hash}`)" in card
    assert f"can't (refund_order): {loaded.thresholds.irreversible:.4f}" in card
    assert "held-out tasks        16" in card
    assert "## Its critic\n\n- off: 0 training tasks failed" in card


def test_the_record_names_dataset_configuration_and_fit(trained_home: Path, counter_clone: CloneConfig) -> None:
    card, dataset = load_clone(trained_home, "counter").card, open_dataset(trained_home, "counter")
    assert (card.name, card.dataset, card.dataset_version, card.dataset_hash) == ("counter", "counter", 1, dataset.hash)
    assert card.training["config"]["epochs"] == counter_clone.train.epochs
    assert card.training["fit"]["decisions"] == len(demonstrations(dataset.examples_of(card.fitted)))
    assert len(card.training["fit"]["choice_loss"]) == counter_clone.train.epochs
    assert card.fitted == ("train", "calibration")


def test_a_clone_that_is_not_refitted_says_so_and_learns_from_nothing_but_train(
    trained_home: Path, counter_clone: CloneConfig, fork: Fork
) -> None:
    home = fork(trained_home)
    refitted, before = load_clone(home, "counter:1"), open_dataset(home, "counter")
    train_stage(home, replace(counter_clone, train=replace(counter_clone.train, refit=False)), quiet)
    apart, report = load_clone(home, "counter:2"), home / "clones" / "counter"
    assert (apart.card.fitted, refitted.card.fitted) == (("train",), ("train", "calibration"))
    assert apart.card.route == refitted.card.route
    one, other = (json.loads((report / f"v{n}" / "report.json").read_text(encoding="utf-8")) for n in (1, 2))
    assert one["foretold"] == other["foretold"]
    assert len(one["foretold"]) == len(demonstrations(before.examples("calibration")))
    tasks = [told["quality"]["trained_tasks"] for told in (one, other)]
    assert tasks == [len(before.tasks("train") | before.tasks("calibration")), len(before.tasks("train"))]


@pytest.mark.parametrize(
    "rule",
    [
        {"mask_where": (Condition("StepQuality", "<", 0.5),)},
        {"label_errors": 0.01},
        {"personal_data": ("iban",), "personal_data_action": "mask"},
    ],
)
def test_what_rules_keep_out_of_training_alone_is_not_learnt_from_the_calibration_tasks_either(
    counter: Path, counter_clone: CloneConfig, tmp_path: Path, rule: dict[str, Any]
) -> None:
    strict = untrained(replace(counter_clone, cohort=replace(counter_clone.cohort, **rule), family="frequency"))
    curate_stage(tmp_path, strict.cohort, str(counter / "snapshot"))
    train_stage(tmp_path, strict, quiet)
    assert load_clone(tmp_path, "counter").card.fitted == ("train",)


def test_what_is_declared_of_tools_bears_on_training_and_on_clones_that_are_there(
    trained_home: Path, counter_clone: CloneConfig, fork: Fork
) -> None:
    home = fork(trained_home)
    record_decision(home, ToolDecision(kind="risk", tool="close_ticket", risk="irreversible"))
    record_decision(home, ToolDecision(kind="deprecate", tool="find_order", agent="counter"))
    there = load_clone(home, "counter")
    assert there.card.agent == "counter"
    assert there.thresholds.irreversible_tools == ("close_ticket", "refund_order")
    (seen,) = (example for example in open_dataset(home, "counter").examples("gate")[:1])
    assert there.policy.act(State(seen.state, seen.tools)).action.name != "find_order"
    fresh = train_stage(home, untrained(counter_clone), quiet)
    assert fresh.thresholds.irreversible_tools == ("close_ticket", "refund_order")


def test_progress_reaches_one_in_every_stage(trained_home: Path, counter_clone: CloneConfig, fork: Fork) -> None:
    told: dict[str, list[float]] = {}
    clone = untrained(counter_clone)

    def listen(stage: str, share: float) -> None:
        told.setdefault(stage, []).append(share)

    home = fork(trained_home)
    train_stage(home, clone, listen)
    gate_stage(home, rolled(clone, tasks=2), "counter:1", listen)
    assert {stage for stage in told if told[stage][-1] == 1.0} == {
        *("choose", "linear", "arguments", "refit: choose", "refit: linear", "refit: arguments"),
        *("replay", "rollout"),
    }
    assert all(shares == sorted(shares) for shares in told.values())


def test_without_a_calibration_split_the_clone_never_acts(
    counter: Path, counter_clone: CloneConfig, tmp_path: Path
) -> None:
    cohort = replace(counter_clone.cohort, split=SplitConfig(calibration=0.0, gate=0.5))
    clone = replace(untrained(counter_clone), cohort=cohort)
    curate_stage(tmp_path, cohort, str(counter / "snapshot"))
    trained = train_stage(tmp_path, clone, quiet)
    assert (trained.thresholds.reversible, trained.thresholds.irreversible) == (NEVER, NEVER)
    assert trained.fit.calibration_cases == 0
    assert "never: nothing could be promised" in (trained.path / "card.md").read_text(encoding="utf-8")


def test_training_before_curating_says_which_command_is_missing(counter_clone: CloneConfig, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"'counter' does not exist, there are: none; .*'imitrace curate counter'"):
        train_stage(tmp_path, counter_clone, quiet)


def test_steps_that_are_context_only_are_no_demonstrations() -> None:
    examples = [example("a", LOOK, mask=False), example("a", LOOK)]
    assert [demonstration.task for demonstration in demonstrations(examples)] == ["a"]


def test_a_strict_promise_needs_more_confidence_than_a_loose_one() -> None:
    wrong = Action("tool_call", "look", {"order": 2})
    shown = [held(0.9, LOOK)] * 40 + [held(0.5, LOOK)] * 16 + [held(0.5, wrong)] * 4 + [held(0.1, wrong)] * 20
    calibration = [replace(one, task=str(number)) for number, one in enumerate(shown)]
    config = RouteConfig(error=0.2, irreversible_error=0.1, confidence=0.8, irreversible=("cancel",))
    assert thresholds_for(calls(calibration), config) == Thresholds(0.5, 0.9, ("cancel",))


def test_the_threshold_of_what_cannot_be_undone_is_never_the_lower_one() -> None:
    config = RouteConfig(error=0.01, irreversible_error=0.5, confidence=0.8)
    assert thresholds_for(calls([held(0.9, LOOK)] * 20), config) == Thresholds(NEVER, NEVER)


def test_predicted_messages_prove_nothing_of_the_clones_calls() -> None:
    calibration = [held(0.9, Action("message", message="hi"))] * 200
    chosen = thresholds_for(calls(calibration, Action("message", message="")), RouteConfig())
    assert chosen == Thresholds(NEVER, NEVER)


def test_a_dataset_that_was_changed_on_disk_is_refused(
    trained_home: Path, counter_clone: CloneConfig, fork: Fork
) -> None:
    home = fork(trained_home)
    manifest = home / "datasets" / "counter" / "v1" / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text(encoding="utf-8")) | {"hash": "other"}))
    with pytest.raises(DatasetError, match="dataset counter v1 is not what counter was trained on; train again"):
        evaluate_stage(home, "counter")
    with pytest.raises(DatasetError, match="train again"):
        gate_stage(home, counter_clone, "counter", quiet)


def test_a_clone_remembers_its_dataset_version_when_newer_ones_come(
    trained_home: Path, counter_clone: CloneConfig, fork: Fork, more_tickets: Path
) -> None:
    home = fork(trained_home)
    curate_stage(home, counter_clone.cohort, str(more_tickets))
    assert dataset_of(home, load_clone(home, "counter")).version == 1


def test_a_dataset_that_is_gone_is_refused(trained_home: Path, fork: Fork) -> None:
    home = fork(trained_home)
    shutil.rmtree(home / "datasets" / "counter")
    with pytest.raises(DatasetError, match="dataset 'counter' does not exist, there are: none; make it with"):
        evaluate_stage(home, "counter")


def test_promoting_without_a_gate_record_is_refused(trained_home: Path) -> None:
    with pytest.raises(CloneError, match="counter v1 has no gate record; run 'imitrace gate counter:1'"):
        promote_stage(trained_home, "counter")


def test_promoting_after_a_failed_gate_is_refused(trained_home: Path, counter_clone: CloneConfig, fork: Fork) -> None:
    home = fork(trained_home)
    reversed_rule = rolled(counter_clone, environment="counter_world:Reversed")
    strict = replace(reversed_rule, gate=replace(counter_clone.gate, safety_bound=0.01))
    assert gate_stage(home, strict, "counter", quiet).verdict == "fail"
    with pytest.raises(
        CloneError, match=r"counter v1 passed in no cohort \(common fail, safety inconclusive\), needed: "
    ):
        promote_stage(home, "counter")


def test_promoting_takes_the_candidate_or_the_version_that_was_named(promoted_home: Path, fork: Fork) -> None:
    home = fork(promoted_home)
    assert promote_stage(home, "counter").version == promote_stage(home, "counter", 1).version == 1
    assert promote_stage(home, "counter").cohorts == ("common", "safety")
    for version in (0, 7):
        with pytest.raises(CloneError, match=f"clone reference 'counter:{version}' names no version"):
            promote_stage(home, "counter", version)


def test_promoting_a_clone_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CloneError, match="clone 'counter' does not exist, there is: none; run 'imitrace train'"):
        promote_stage(tmp_path, "counter")


def test_clones_are_listed_with_aliases_verdicts_and_cohorts(
    promoted_home: Path, counter_clone: CloneConfig, fork: Fork
) -> None:
    home = fork(promoted_home)
    train_stage(home, untrained(counter_clone), quiet)
    rows = [{key: row[key] for key in ("version", "aliases", "gate", "cohorts")} for row in list_clones(home)]
    assert rows == [
        {"version": 1, "aliases": ["champion"], "gate": "pass", "cohorts": ["common", "safety"]},
        {"version": 2, "aliases": ["candidate"], "gate": "not run", "cohorts": []},
    ]


def test_a_workspace_without_clones_lists_none(tmp_path: Path) -> None:
    assert list_clones(tmp_path) == []


def test_an_example_is_trained_on_as_often_as_it_weighs() -> None:
    one = Example(
        *("t", 0, "0", "a", {}, "train", [{"role": "user", "parts": []}], ["m"], []),
        *(Action("message", message="hi"), "expert", True, None),
    )
    weighed = [one, replace(one, weight=3.0), replace(one, weight=5.0, loss_mask=False)]
    assert len(demonstrations(weighed)) == 4
    assert 1400 < len(demonstrations([replace(one, step_index=n, weight=1.5) for n in range(1000)])) < 1600
