"""When a refresh is due: schedules, missed times, rows, tools, evidence, and runs that were killed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from imitrace.exceptions import ConfigError
from imitrace_trainer.refreshing.config import ScheduleConfig, schedule_from_config
from imitrace_trainer.refreshing.due import Memory, Standing, why_due, why_due_by
from imitrace_trainer.refreshing.runs import Run, Seen

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
NIGHTLY = ScheduleConfig(cron="30 3 * * *", time_zone="Europe/Berlin")
SEEN = Seen(rows=100, newest=1_000, tools="t", ledger="l")
FINE = Standing()


def run(started: datetime, outcome: str = "promoted", state: str = "finished") -> Run:
    at = started.isoformat()
    return Run(id=at, clone="desk", state=state, started_at=at, ended_at=at, outcome=outcome, seen=SEEN)


def ago(outcome: str = "promoted", state: str = "finished", **gone: float) -> Memory:
    return Memory.of([run(NOW - timedelta(**gone), outcome, state)])


def reasons(schedule: ScheduleConfig | None, memory: Memory, standing: Standing = FINE, **given: bool) -> list[str]:
    found = why_due(schedule, memory, standing, NOW, drifted=given.get("drifted"))
    return [*found.reasons] if found is not None else ["look"]


def test_without_a_schedule_it_is_always_due() -> None:
    assert reasons(None, ago(hours=1)) == ["no schedule says when, so it is due whenever it is called"]


def test_a_clone_that_was_never_refreshed_is_due() -> None:
    assert reasons(NIGHTLY, Memory()) == ["no refresh of it went the whole way yet"]
    assert reasons(NIGHTLY, ago("not_due", hours=1)) == ["no refresh of it went the whole way yet"]


def test_a_scheduled_time_is_due_once() -> None:
    assert reasons(NIGHTLY, ago(hours=20)) == ["scheduled for 2026-11-22T03:30+01:00"]
    found = why_due(NIGHTLY, ago(hours=1), FINE, NOW, drifted=None)
    assert found is not None
    assert (found.reasons, found.why) == ((), "not due: not before 2026-11-23T03:30+01:00 Europe/Berlin")


def test_times_missed_in_downtime_make_one_run() -> None:
    (reason,) = reasons(NIGHTLY, ago(days=4))
    assert reason == "scheduled for 2026-11-22T03:30+01:00, 4 times since the last run"


def test_a_run_that_failed_leaves_its_time_due() -> None:
    turn, failed = run(NOW - timedelta(days=1)), run(NOW - timedelta(hours=1), "error", "failed")
    assert reasons(NIGHTLY, Memory.of([turn, failed])) == ["scheduled for 2026-11-22T03:30+01:00"]


def test_a_look_that_found_nothing_is_not_done_again_before_the_next_time() -> None:
    memory = Memory.of([run(NOW - timedelta(days=3)), run(NOW - timedelta(hours=5), "not_due")])
    assert reasons(replace(NIGHTLY, new_rows=10), memory) == []


def test_a_run_of_the_future_keeps_no_later_one_off() -> None:
    future = Memory.of([run(NOW + timedelta(days=900))])
    prompt = datetime(2026, 11, 22, 2, 30, 9, tzinfo=UTC)
    for at, due in ((prompt, True), (prompt + timedelta(hours=1), False)):
        found = why_due(NIGHTLY, future, FINE, at, drifted=None)
        assert found is not None
        assert bool(found.reasons) is due


def test_a_killed_run_is_due_at_any_time() -> None:
    (reason,) = reasons(NIGHTLY, ago(state="running", minutes=1))
    assert reason.endswith("was killed at stage look: it is taken up again")


@pytest.mark.parametrize(("drifted", "watched", "due"), [(True, True, True), (True, False, False), (None, True, False)])
def test_drift_makes_it_due_at_once_where_it_is_watched(drifted: bool | None, watched: bool, due: bool) -> None:
    found = why_due(replace(NIGHTLY, drift=watched), ago(hours=1), FINE, NOW, drifted=drifted)
    assert found is not None
    assert found.reasons == (("drift was found",) if due else ())


@pytest.mark.parametrize(
    ("standing", "reason"),
    [
        (Standing(until=NOW + timedelta(days=2)), "the champion's evidence lapses at 2026-11-24T10:00+00:00"),
        (Standing(lack="it lapsed"), "the champion may act nowhere: it lapsed"),
        (Standing(until=NOW + timedelta(days=4)), "look"),
    ],
)
def test_evidence_that_lapses_soon_makes_it_due(standing: Standing, reason: str) -> None:
    assert reasons(replace(NIGHTLY, new_rows=10), ago(days=1), standing) == [reason]


def test_days_make_it_due() -> None:
    weekly = ScheduleConfig(after_days=7)
    assert reasons(weekly, ago(days=7)) == ["the last turn ended 7.0 days ago"]
    assert reasons(weekly, ago(days=6)) == ["look"]
    found = why_due_by(SEEN, weekly, ago(days=6), NOW)
    assert (found.reasons, found.why) == ((), "not due: the last turn ended 6.0 days ago, of 7")


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (replace(SEEN, rows=149), "not due: 49 new rows of 50"),
        (replace(SEEN, rows=150), "50 new rows of 50"),
        (replace(SEEN, rows=60, newer=55), "55 new rows of 50"),  # others were deleted
        (replace(SEEN, tools="other"), "the agent's tools changed"),
        (replace(SEEN, ledger="other"), "other things are decided about its tools"),
    ],
)
def test_what_is_in_the_traces_makes_it_due(seen: Seen, why: str) -> None:
    assert why_due_by(seen, ScheduleConfig(new_rows=50), ago(days=1), NOW).why == why


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"cron": "soon"}, "clone.desk.schedule.cron is 'soon': it has 1 fields"),
        ({"time_zone": "Mars"}, "clone.desk.schedule.time_zone is 'Mars', allowed: a name of the tz database"),
        ({"new_rows": -1}, "clone.desk.schedule.new_rows is -1, allowed: a whole number from 0"),
        ({"after_days": True}, "clone.desk.schedule.after_days is True, allowed: a number from 0"),
        ({"most_hours": 1}, "clone.desk.schedule.most_hours is unknown, allowed: cron, time_zone"),
        ({"drift": "yes"}, "clone.desk.schedule.drift is 'yes', allowed: true, false"),
    ],
)
def test_a_wrong_schedule_is_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        schedule_from_config({"clone": {"desk": {"schedule": table}}}, "desk")
    assert str(caught.value).startswith(message)


def test_a_schedule_is_read_without_its_clone_being_complete() -> None:
    found = schedule_from_config({"clone": {"desk": {"schedule": {"cron": "@daily", "most_minutes": 5}}}}, "desk")
    assert found == ScheduleConfig(cron="@daily", most_minutes=5)
    assert schedule_from_config({"clone": {"desk": {}}}, "desk") is None
    assert schedule_from_config({}, "desk") is None
