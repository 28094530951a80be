"""A champion in service that is held to its promise, and tried in few trajectories while it is new."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from imitrace_trainer.canary import CANARY, CanaryFile
from imitrace_trainer.champion import open_clone, stamp
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.live_file import LiveFile
from imitrace_trainer.live_watch import watch_live
from imitrace_trainer.refresh import refresh
from imitrace_trainer.registry import Registry
from imitrace_trainer.route import AUDIT
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.step_backs import LIVE, StepBacks

Fork = Callable[[Path], Path]
Frames = dict[str, pl.LazyFrame]
HOUR = 3_600 * 10**9
NOW = 1_800_000_000 * 10**9
"""2027-01-15T08:00:00 UTC."""


@pytest.fixture
def home(promoted_home: Path, fork: Fork) -> Path:
    """Return a workspace whose champion promised an error of 2 %."""
    home = fork(promoted_home)
    Registry(home).record_route("counter", RouteConfig(error=0.02))
    return home


@pytest.fixture
def compared(make_diverging: Callable[..., Any]) -> Callable[..., Frames]:
    """Return a function to the tables of trajectories in which experts took trusted decisions.

    Of so many the first ``wrong`` are ones in which the clone would have done otherwise.
    """

    def make(count: int, wrong: int, start: int = 10, version: str = "v1", reason: str = AUDIT) -> Frames:
        cases = []
        for number in range(count):
            name = "other" if number < wrong else "find"
            shadow = {"clone": "counter", "version": version, "action": {"kind": "tool_call", "name": name}}
            columns = {"route_reason": reason, "propensity": 0.05, "shadow": shadow}
            case: dict[str, Any] = {"tools": None, "calls": ["find"], "steps": {0: columns}, "agent": "counter"}
            cases.append(case | {"started_at": start + 10 * number})
        tables = make_diverging(*cases)
        tags = pl.lit('{"cohort": "common"}').alias("tags")
        tables["trajectories"] = tables["trajectories"].with_columns(tags)
        return {name: table.lazy() for name, table in tables.items()}

    return make


def test_a_promise_that_is_kept_alarms_nobody(
    home: Path, counter_clone: CloneConfig, compared: Callable[..., Frames]
) -> None:
    found = watch_live(home, counter_clone, compared(200, 2))
    assert (found.alarms, found.notes, found.live.decisions) == ((), (), 200)
    assert LiveFile(home, "counter").read() == found.live
    again = watch_live(home, counter_clone, compared(200, 2))
    assert again.live == found.live
    later = watch_live(home, counter_clone, compared(10, 0, start=5_000))
    assert later.live.decisions == 210


def test_a_broken_promise_takes_the_cohort_to_the_expert(
    home: Path, counter_clone: CloneConfig, compared: Callable[..., Frames]
) -> None:
    found = watch_live(home, counter_clone, compared(40, 12), NOW)
    (alarm,) = found.alarms
    assert (alarm.version, alarm.cohort, alarm.did) == (1, "common", "it steps back to the expert")
    assert alarm.why.startswith("the expert did otherwise in 12 of 40 trusted decisions, promised: 0.02 (evidence 1 to")
    assert StepBacks(home, "counter").of(1).cohorts["common"].by == LIVE
    assert open_clone(home, "counter").standing.cohorts == ("safety",)
    assert watch_live(home, counter_clone, compared(40, 12, start=5_000)).alarms == ()
    assert LiveFile(home, "counter").read().alarms == (alarm,)


def test_with_a_proven_version_before_it_that_is_champion_again_and_the_other_stays_away(
    home: Path, counter_clone: CloneConfig, compared: Callable[..., Frames], more_tickets: Path
) -> None:
    promoted = refresh(home, counter_clone, str(more_tickets), lambda stage, share: None, lambda text: None)
    assert promoted.outcome == "promoted"
    Registry(home).record_route("counter", RouteConfig(error=0.02))
    (alarm,) = watch_live(home, counter_clone, compared(40, 12, version="v2")).alarms
    assert alarm.did == "v1 is champion again"
    assert Registry(home).aliases("counter") == {"candidate": 2, "champion": 1, "previous": 2}
    again = refresh(home, counter_clone, str(more_tickets), lambda stage, share: None, lambda text: None)
    assert (again.outcome, again.gate) == ("unchanged", None)
    assert again.reason.startswith("v2 went back on what it promised: the expert did otherwise in 12 of 40")


def test_other_versions_and_what_was_not_drawn_count_for_nothing(
    home: Path, counter_clone: CloneConfig, compared: Callable[..., Frames]
) -> None:
    assert watch_live(home, counter_clone, compared(40, 40, version="v9")).live.decisions == 0
    assert watch_live(home, counter_clone, compared(40, 40, start=900, reason="confidence 0.1")).live.decisions == 0


def test_a_canary_ends_when_time_and_decisions_are_enough(
    home: Path, counter_clone: CloneConfig, compared: Callable[..., Frames]
) -> None:
    config = RouteConfig(error=0.02, canary=0.25, canary_hours=2, canary_decisions=50)
    Registry(home).record_route("counter", config)
    CanaryFile(home, "counter").begin(1, "2027-01-15T08:00:00+00:00")
    assert open_clone(home, "counter").clone.canary == 0.25
    few, early = compared(49, 0, reason=CANARY), compared(30, 0, start=900, reason=CANARY)
    assert watch_live(home, counter_clone, few, NOW + 3 * HOUR).notes == ()
    assert watch_live(home, counter_clone, early, NOW + HOUR).notes == ()
    before = stamp(home, "counter")
    (note,) = watch_live(home, counter_clone, compared(1, 0, start=5_000), NOW + 3 * HOUR).notes
    assert note.startswith("v1 acts in all trajectories from now on: 80 decisions were compared")
    assert stamp(home, "counter") != before
    assert open_clone(home, "counter").clone.canary == 0


def test_a_promotion_begins_a_canary_where_that_is_asked_for(
    promoted_home: Path, fork: Fork, counter_clone: CloneConfig, more_tickets: Path
) -> None:
    home = fork(promoted_home)
    assert not CanaryFile(home, "counter").read().runs(1)
    tried = replace(counter_clone, route=replace(counter_clone.route, canary=0.1))
    assert refresh(home, tried, str(more_tickets), lambda stage, share: None, lambda text: None).outcome == "promoted"
    assert CanaryFile(home, "counter").read().runs(2)
