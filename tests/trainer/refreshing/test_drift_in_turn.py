"""Drift in the middle of a refresh: looked for where asked, due by it once, and no fault of it stops a run."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imitrace_trainer.config import CloneConfig
from imitrace_trainer.drift.config import DriftConfig
from imitrace_trainer.drift.sequential import Look, Watch, WatchFile
from imitrace_trainer.refreshing.config import ScheduleConfig
from imitrace_trainer.refreshing.due import Memory
from imitrace_trainer.refreshing.run_desk import drift_found
from imitrace_trainer.refreshing.runs import Run, Runs
from imitrace_trainer.refreshing.scheduled import Asked, scheduled_refresh, what_would_be_done
from imitrace_trainer.registry import Registry
from imitrace_trainer.step_backs import StepBacks

Fork = Callable[[Path], Path]
CENTURY = DriftConfig(window_days=36_500, trajectories=10, draws=200, asked=60, decisions=3)
"""The counter's tickets are of 1970."""


def quiet(stage: str, share: float) -> None:
    pass


def go(home: Path, clone: CloneConfig, source: Path, after: timedelta = timedelta()) -> Run:
    """Refresh as if so much time had gone by."""
    later = lambda: datetime.now(UTC) + after  # noqa: E731 - a clock
    return scheduled_refresh(Asked(home, clone, str(source)), quiet, lambda text: None, later)


@pytest.fixture
def watched(counter_clone: CloneConfig) -> CloneConfig:
    """Return the counter's clone on a schedule by which time and rows alone make nothing due."""
    return replace(counter_clone, schedule=ScheduleConfig(new_rows=10_000), drift=CENTURY)


@pytest.fixture
def home(promoted_home: Path, fork: Fork, watched: CloneConfig, counter: Path) -> Path:
    """Return a workspace whose clone had its first turn."""
    home = fork(promoted_home)
    assert go(home, watched, counter / "snapshot").outcome == "unchanged"
    return home


def test_drift_is_found_by_the_run_itself_and_makes_it_due_once(
    home: Path, watched: CloneConfig, all_by_grump: Path
) -> None:
    plan = what_would_be_done(Asked(home, watched, str(all_by_grump), force=True), quiet)[1]
    assert plan[0] == "look for drift of v1"
    assert not WatchFile(home, "counter").path.exists()
    run = go(home, watched, all_by_grump)
    assert run.due == ("drift was found",), run
    assert run.drift is not None
    assert (run.drift["verdict"], run.drift["look"]) == ("drift", [1, 1])
    assert run.outcome in ("held", "failed_gate", "inconclusive")
    assert Runs(home, "counter").all()[-1] == run
    assert set(StepBacks(home, "counter").of(1).cohorts) == {"common"}  # fraud was turned away before, too
    again = go(home, watched, all_by_grump)
    assert (again.outcome, again.due) == ("not_due", ())
    assert again.drift is not None
    assert again.drift["look"] == [1, 1]
    assert WatchFile(home, "counter").read().looks == 1


def test_more_of_the_same_is_looked_at_and_not_due(home: Path, watched: CloneConfig, all_by_clerk: Path) -> None:
    run = go(home, watched, all_by_clerk)
    assert run.drift == {"verdict": "none", "why": [], "look": [1, 1]}
    assert run.outcome == "not_due"
    assert "drift" in Registry(home).checks("counter")


def test_no_cohort_steps_back_where_that_is_off(home: Path, watched: CloneConfig, all_by_grump: Path) -> None:
    run = go(home, replace(watched, drift=replace(CENTURY, step_back=False)), all_by_grump)
    assert run.due == ("drift was found",), run
    assert not StepBacks(home, "counter").path.exists()


def test_a_schedule_that_heeds_no_drift_pays_for_no_look(home: Path, watched: CloneConfig, all_by_grump: Path) -> None:
    deaf = replace(watched, schedule=ScheduleConfig(new_rows=10_000, drift=False))
    run = go(home, deaf, all_by_grump)
    assert (run.outcome, run.drift) == ("not_due", None)
    assert not WatchFile(home, "counter").path.exists()


def test_a_damaged_memory_of_looks_is_said_and_stops_nothing(
    home: Path, watched: CloneConfig, all_by_grump: Path
) -> None:
    WatchFile(home, "counter").path.write_text("{", encoding="utf-8")
    run = go(home, replace(watched, schedule=ScheduleConfig()), all_by_grump)
    assert run.drift is not None
    assert run.drift["verdict"] == "error"
    assert "drift.json can't be read" in run.drift["why"][0]
    assert run.outcome in ("held", "failed_gate", "inconclusive")


@pytest.mark.parametrize(
    ("verdict", "champion", "hours", "found"),
    [("drift", 1, 1, True), ("none", 1, 1, False), ("drift", 2, 1, None), ("drift", 1, -1, False)],
)
def test_drift_counts_that_no_turn_has_answered(
    home: Path, verdict: str, champion: int, hours: int, found: bool | None
) -> None:
    memory = Memory.of(Runs(home, "counter").all())
    assert drift_found(home, "counter", memory) is None
    at = (datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="seconds")
    look = Look(1, at, 0.025, 40, verdict, ("tools",))
    WatchFile(home, "counter").write(Watch(champion, 1, 0.025, 5, look if verdict == "drift" else None, (look,)))
    assert drift_found(home, "counter", memory) is found
