import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from imitrace.exceptions import CloneError
from imitrace_trainer.datasets import open_dataset
from imitrace_trainer.drift.findings import DETECTOR, DISAGREEMENT, DriftReport
from imitrace_trainer.drift.sequential import WatchFile, level
from imitrace_trainer.drift.traffic import training_traffic
from imitrace_trainer.drift_stage import drift_stage
from imitrace_trainer.registry import Registry
from imitrace_trainer.tool_ledger import ToolDecision, record_decision

if TYPE_CHECKING:  # torch takes seconds to import
    from imitrace_trainer.config import CloneConfig

Record = Callable[..., Path]
MINUTE = 60 * 10**9


@pytest.fixture(scope="session")
def usual(record: Record) -> Path:
    """Return more traffic of the same desk."""
    return record(count=120)


@pytest.fixture(scope="session")
def shifted(record: Record) -> Path:
    """Return traffic of which a fifth is of an intent that training never had."""
    return record(count=150, new=30)


@pytest.fixture
def check(home: Path, support: "CloneConfig") -> Callable[..., DriftReport]:
    """Return a function from a snapshot, and until which minute it is looked at, to a check's report."""

    def make(snapshot: Path, until: int = 20_000) -> DriftReport:
        return drift_stage(home, support, str(snapshot), now=until * MINUTE, since=5_000 * MINUTE)

    return make


def test_more_of_the_same_is_no_drift_and_renews_the_evidence(
    check: Callable[..., DriftReport], usual: Path, home: Path
) -> None:
    found = check(usual)
    assert (found.verdict, found.why, found.look, found.new) == ("none", (), 1, True)
    assert found.counts == {"training": 240, "unseen": 120, "recent": 120, "fresh": 120}
    assert Registry(home).checks("support") == {"drift": found.at}
    made = {test.name for test in found.tests if test.p is not None}
    assert made >= {"tools", "steps", "confidence", "distance", "outcomes", "states: kernel", "states: classifier"}
    assert all(test.p <= test.corrected for test in found.tests if test.p is not None and test.corrected is not None)


def test_what_a_clone_was_refitted_to_is_not_compared_with_what_it_never_saw(home: Path) -> None:
    dataset = open_dataset(home, "support")
    apart, refitted = (training_traffic(dataset, fitted) for fitted in (("train",), ("train", "calibration")))
    assert [one.trajectories["unseen"].sum() for one in (apart, refitted)] == [180, 120]
    assert apart.trajectories["trajectory_id"].equals(refitted.trajectories["trajectory_id"])


def test_a_new_intent_is_drift_that_its_states_show_and_renews_nothing(
    check: Callable[..., DriftReport], shifted: Path, home: Path
) -> None:
    found = check(shifted)
    assert found.verdict == "drift"
    drifted = {test.name for test in found.tests if test.drifts(found.level) and test.group == "all"}
    assert drifted & {"states: kernel", "states: features", "states: classifier"}
    assert "cohorts" in drifted
    assert found.cohorts()["common"] == "none"
    assert Registry(home).checks("support") == {}


def test_a_retired_tool_is_drift_until_somebody_decides(
    check: Callable[..., DriftReport], record: Record, home: Path
) -> None:
    without = record(count=40, without="get_order")
    found = check(without)
    (gone,) = [shift for shift in found.tools if shift.breaking]
    assert (found.verdict, gone.tool, gone.kind) == ("drift", "get_order", "vanished")
    assert found.why[0].startswith("tool get_order vanished: offered in 240 of 240")
    assert gone.p < 1e-20
    decided = ToolDecision(kind="deprecate", tool="get_order", at="2026-03-01T00:00:00+00:00", by="ann")
    record_decision(home, decided)
    assert not any(shift.breaking for shift in check(without).tools)


def test_little_traffic_is_insufficient_not_free_of_drift(
    check: Callable[..., DriftReport], usual: Path, home: Path
) -> None:
    found = check(usual, 10_020)
    assert (found.verdict, found.look, len(found.tests)) == ("insufficient", 0, 0)
    assert found.why == ("20 recent trajectories, needed: 30",)
    assert Registry(home).checks("support") == {}
    assert not WatchFile(home, "support").path.exists()


def test_only_a_look_at_new_traffic_is_paid_for(check: Callable[..., DriftReport], usual: Path, home: Path) -> None:
    first, again = check(usual, 10_060), check(usual, 10_070)
    assert (first.look, again.look, again.new, again.verdict) == (1, 1, False, "none")
    assert again.why == ("10 trajectories have ended since the last look, needed for another: 30",)
    assert Registry(home).checks("support") == {"drift": first.at}
    second = check(usual, 10_095)
    assert (second.look, second.new, second.level) == (2, True, level(0.05, 2))
    watch = WatchFile(home, "support").read()
    assert watch.spent == pytest.approx(level(0.05, 1) + level(0.05, 2))
    assert [one["number"] for one in second.looks] == [1, 2]


def test_an_alarm_stands_until_there_is_another_champion(
    check: Callable[..., DriftReport], shifted: Path, usual: Path, home: Path
) -> None:
    alarm = check(shifted)
    watch = WatchFile(home, "support")
    with watch.held() as before:
        assert before.alarm is not None
        watch.write(replace(before, seen=0))
    standing = check(usual)
    assert (standing.verdict, standing.look) == ("drift", 2)
    assert standing.why[0].startswith(f"the alarm of {alarm.at} stands")
    with watch.held() as before:
        watch.write(before.of(99))  # as another champion would leave it
    assert check(usual).verdict == "none"


def test_what_training_saw_is_not_recent(check: Callable[..., DriftReport], home: Path, support: "CloneConfig") -> None:
    dataset = home / "datasets" / "support" / "v1"
    manifest = json.loads((dataset / "manifest.json").read_text())
    source = Path(manifest["source"].removeprefix("snapshot "))
    found = drift_stage(home, support, str(source), now=20_000 * MINUTE, since=0)
    assert (found.verdict, found.counts["recent"]) == ("insufficient", 0)


def test_a_clones_own_steps_count_and_need_no_expert(
    check: Callable[..., DriftReport], usual: Path, tmp_path: Path
) -> None:
    acted = Path(shutil.copytree(usual, tmp_path / "acted"))
    steps = pl.read_parquet(acted / "steps.parquet").with_columns(pl.lit("clone").alias("policy_role"))
    steps.write_parquet(acted / "steps.parquet")
    found = check(acted)
    assert (found.verdict, found.counts["recent"]) == ("none", 120)
    (doubt,) = [test for test in found.tests if test.name == "disagreement beyond doubt"]
    assert doubt.lack == "120 trajectories of training and 0 recent ones, needed: 30"
    assert found.disagreeing is not None
    assert found.disagreeing.asked.decisions == 0


def test_both_figures_are_told_by_their_names(check: Callable[..., DriftReport], usual: Path) -> None:
    found = check(usual)
    told = json.loads(json.dumps(found.to_json()))
    assert told[DETECTOR]["verdict"] == "none"
    assert DETECTOR == "distribution-shift-detector"
    assert DISAGREEMENT == "clone-vs-expert-action-disagreement-rate"
    rate = told[DISAGREEMENT]["asked"]
    assert 0 <= rate["low"] <= rate["value"] <= rate["high"] <= 1
    assert told[DISAGREEMENT]["audit"]["audited"] == 0
    assert all(name in found.render() for name in (DETECTOR, DISAGREEMENT))


def test_a_damaged_record_is_told_before_any_work(check: Callable[..., DriftReport], home: Path) -> None:
    WatchFile(home, "support").path.write_text("{")
    with pytest.raises(CloneError, match=r"drift\.json can't be read"):
        check(Path("nowhere"))


def test_without_a_champion_there_is_nothing_to_look_at(
    check: Callable[..., DriftReport], usual: Path, home: Path
) -> None:
    (home / "clones" / "support" / "aliases.json").unlink()
    with pytest.raises(CloneError, match="support@champion"):
        check(usual)
