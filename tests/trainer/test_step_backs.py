"""Cohorts that go back to the expert by themselves: kept by version, followed by what runs, and given back by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from imitrace.canonical import canonical_json
from imitrace.cli import main
from imitrace.clones import CloneHandle
from imitrace.exceptions import CloneError
from imitrace.messages import from_openai, tool_definition
from imitrace_trainer.champion import open_clone, stamp
from imitrace_trainer.environment import load_object
from imitrace_trainer.registry import Registry
from imitrace_trainer.step_backs import DRIFT, StepBack, StepBacks

Fork = Callable[[Path], Path]
FOUND = StepBack(since="2099-03-01T00:00:00+00:00", by=DRIFT, why="states: kernel: distance 0.4", marks=("kernel",))
REASON = "cohort 'common' stepped back: drift of 2099-03-01T00:00:00+00:00: states: kernel: distance 0.4"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def home(promoted_home: Path, fork: Fork) -> Path:
    return fork(promoted_home)


@pytest.fixture(scope="module")
def question(counter: Path) -> tuple[list[str], list[dict[str, object]]]:
    """Return the beginning of a ticket, as it is on the wire."""
    world = load_object("counter_world:Counter", counter)()
    messages = [canonical_json(from_openai(message)) for message in world.reset("common-9-0")]
    return messages, [tool_definition(tool) for tool in world.tools]


def test_a_process_that_runs_follows_and_only_in_that_cohort(
    home: Path, question: tuple[list[str], list[dict[str, object]]]
) -> None:
    time = [0.0]
    handle = CloneHandle("counter", home, clock=lambda: time[0])
    assert handle.warm(60)
    assert handle.ask(*question, {"cohort": "common"}).trusted
    StepBacks(home, "counter").step_back(1, {"common": FOUND})
    time[0] += 1.1
    handle.warm(60)
    told = handle.ask(*question, {"cohort": "common"})
    assert (told.trusted, told.reason) == (False, REASON)
    assert told.action is not None
    assert handle.ask(*question, {"cohort": "safety"}).reason != REASON
    assert (handle.standing().cohorts, handle.standing().stepped_back) == (("safety",), {"common": REASON})


def test_where_every_cohort_stepped_back_the_standing_says_why(home: Path) -> None:
    StepBacks(home, "counter").step_back(1, {"common": FOUND, "safety": FOUND})
    standing = open_clone(home, "counter").standing
    assert standing.cohorts == ()
    assert standing.reason.startswith(REASON)


def test_it_is_shown_and_resumed_by_hand_with_a_note(home: Path) -> None:
    assert StepBacks(home, "counter").step_back(1, {"common": FOUND}) == {"common": FOUND}
    shown = run("route", "counter", "--home", home)
    assert shown.stdout.splitlines()[:2] == ["counter v1 (champion, candidate) acts in safety", f"! {REASON}"]
    assert json.loads(run("route", "counter", "--home", home, "--json").stdout)["stepped_back"] == {"common": REASON}
    assert run("route", "counter", "--tag", "cohort=common", "--home", home).stdout.splitlines()[1] == REASON
    assert f"\n  ! {REASON}" in run("clones", "--home", home).stdout
    lacks = run("route", "counter", "--resume", "common", "--home", home)
    assert (lacks.exit_code, "needs --note" in lacks.stderr) == (2, True)
    back = run("route", "counter", "--resume", "common", "--note", "fine", "--home", home)
    assert back.stdout.startswith("counter v1 (champion, candidate) acts in common, safety\nsettings")
    again = run("route", "counter", "--resume", "common", "--note", "fine", "--home", home)
    assert "cohort 'common' of v1 did not step back, allowed: none" in again.stderr


def test_what_was_seen_when_it_was_resumed_takes_it_back_no_more(home: Path) -> None:
    steps = StepBacks(home, "counter")
    steps.step_back(1, {"common": FOUND})
    steps.resume(1, "common", "looked at", "2099-03-02T00:00:00+00:00")
    assert steps.step_back(1, {"common": FOUND}) == {}
    other = StepBack(since=FOUND.since, by=DRIFT, why="tools", marks=("kernel", "tools"))
    assert steps.step_back(1, {"common": other}) == {"common": other}


@pytest.mark.parametrize(("since", "cohorts"), [("2020-01-01T00:00:00+00:00", 2), ("2099-01-01T00:00:00+00:00", 1)])
def test_a_promotion_clears_what_came_before_the_gate_that_allows_it(home: Path, since: str, cohorts: int) -> None:
    registry = Registry(home)
    StepBacks(home, "counter").step_back(1, {"common": StepBack(since=since, by=DRIFT, why="tools")})
    record = registry.gate_record("counter", 1)
    assert record is not None
    registry.promote("counter", 1, dataset_hash=record.dataset_hash)
    assert len(registry.evidence(registry.resolve("counter:1")).cohorts) == cohorts


def test_another_version_starts_with_all_of_its_cohorts(home: Path) -> None:
    StepBacks(home, "counter").step_back(7, {"common": FOUND})
    assert Registry(home).evidence(Registry(home).resolve("counter:1")).stepped_back == {}


@pytest.mark.parametrize("text", ["{", '{"format": 2}', '{"format": 1, "versions": {"1": {}}}'])
def test_a_damaged_file_leaves_all_to_the_expert(home: Path, text: str) -> None:
    before = stamp(home, "counter")
    StepBacks(home, "counter").path.write_text(text, encoding="utf-8")
    assert stamp(home, "counter") != before
    with pytest.raises(CloneError, match=r"stepped_back.json can't be read"):
        StepBacks(home, "counter").of(1)
    assert open_clone(home, "counter").standing.cohorts == ()
