"""When schedules come round: what is allowed, daylight saving in Berlin, and clocks of other zones."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace.exceptions import ConfigError
from imitrace_trainer.refreshing.times import Times, elsewhere, moved, system_zone

BERLIN = ZoneInfo("Europe/Berlin")
WINTER, SUMMER = datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 3, 28, 12, tzinfo=UTC)
"""A day before Berlin's clocks are put back, and forward."""


def after(cron: str, moment: datetime, count: int, zone: str = "Europe/Berlin") -> list[str]:
    return [found.isoformat()[5:] for found in islice(Times(cron, zone).after(moment), count)]


@pytest.mark.parametrize(
    ("cron", "first"),
    [
        ("30 3 * * *", "10-25T03:30:00+01:00"),
        ("*/20 9-17/4 * * Mon-Fri", "10-26T09:00:00+01:00"),
        ("0 0 1,15 jan *", "01-01T00:00:00+01:00"),
        ("0 12 * * 7", "10-25T12:00:00+01:00"),
        ("@weekly", "10-25T00:00:00+02:00"),
        (" @DAILY ", "10-25T00:00:00+02:00"),
        ("0 6 13 * fri", "10-30T06:00:00+01:00"),
    ],
)
def test_an_expression_comes_round(cron: str, first: str) -> None:
    assert after(cron, WINTER, 1) == [first]


def test_a_time_that_the_clock_leaves_out_comes_at_the_next_there_is() -> None:
    assert after("30 2 * * *", SUMMER, 2) == ["03-29T03:00:00+02:00", "03-30T02:30:00+02:00"]
    assert after("15,45 2 * * *", SUMMER, 2) == ["03-29T03:00:00+02:00", "03-30T02:15:00+02:00"]


def test_a_time_that_the_clock_shows_twice_comes_once() -> None:
    assert after("30 2 * * *", WINTER, 2) == ["10-25T02:30:00+02:00", "10-26T02:30:00+01:00"]
    between = datetime(2026, 10, 25, 1, 10, tzinfo=UTC)  # 02:10, for the second time
    assert after("30 2 * * *", between, 1) == ["10-26T02:30:00+01:00"]


def test_what_comes_every_hour_comes_as_often_as_there_are_hours() -> None:
    night = datetime(2026, 10, 24, 23, 30, tzinfo=UTC)
    assert after("0 * * * *", night, 3) == ["10-25T02:00:00+02:00", "10-25T02:00:00+01:00", "10-25T03:00:00+01:00"]


@given(
    minutes=st.integers(0, 60 * 24 * 365),
    cron=st.sampled_from(["30 2 * * *", "0,59 1-3 * * *", "*/7 * * * *", "5 2 * 3,10 sun", "0 0 29 * *"]),
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
@settings(max_examples=60, deadline=None)
def test_times_go_on_and_lie_behind_where_they_begin(minutes: int, cron: str, zone: str) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    found = [moment.astimezone(UTC) for moment in islice(Times(cron, zone).after(start), 6)]
    assert [start, *found] == sorted({start, *found})
    assert list(islice(Times(cron, zone).after(found[1]), 4)) == [one.astimezone(ZoneInfo(zone)) for one in found[2:]]


@pytest.mark.parametrize(
    ("cron", "why"),
    [
        ("* * * *", "it has 4 fields"),
        ("0 0 0 * * *", "it has 6 fields"),
        ("60 * * * *", "bad minute"),
        ("0 24 * * *", "bad hour"),
        ("*/0 * * * *", "bad minute"),
        ("0 0 L * *", "'l' is no field"),
        ("0 0 * * mon#2", "'mon#2' is no field"),
        ("@reboot", "it has 1 fields"),
        ("0 0 30 2 *", "bad day"),
        ("0 0 */2 * mon", "read in two ways"),
        ("0 0 * * *; rm -rf /", "it has 8 fields"),
    ],
)
def test_what_is_no_schedule_is_refused(cron: str, why: str) -> None:
    with pytest.raises(ConfigError, match="allowed: minute hour day month weekday") as caught:
        Times(cron)
    assert why in str(caught.value)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../etc/passwd", "Europe"])
def test_a_zone_that_nobody_knows_is_refused(zone: str) -> None:
    with pytest.raises(ConfigError, match="allowed: a name of the tz database"):
        Times("@daily", zone)


def test_only_times_in_the_gap_are_moved() -> None:
    assert moved(Times("30 2 * * *", "Europe/Berlin"), WINTER) == {(3, 0)}
    assert moved(Times("30 3 * * *", "Europe/Berlin"), WINTER) == set()
    assert moved(Times("30 2 * * *"), WINTER) == set()


def test_on_a_clock_of_the_same_offsets_nothing_is_elsewhere() -> None:
    assert elsewhere(Times("30 2 * * *", "Europe/Berlin"), ZoneInfo("Europe/Paris"), WINTER) is None


@pytest.mark.parametrize("cron", ["30 2 * * *", "30 0 1 * *", "0 */6 * * *", "45 23 * * sat"])
@pytest.mark.parametrize("clock", ["UTC", "America/New_York", "Asia/Kathmandu"])
def test_another_clock_shows_every_time_that_may_come(cron: str, clock: str) -> None:
    shown, times = elsewhere(Times(cron, "Europe/Berlin"), ZoneInfo(clock), WINTER), Times(cron, "Europe/Berlin")
    assert shown is not None
    local = [moment.astimezone(ZoneInfo(clock)) for moment in islice(times.after(WINTER), 1_500)]
    assert {(one.hour, one.minute) for one in local if one < WINTER + timedelta(days=700)} <= shown
    assert len(shown) <= 24


def test_this_machines_clock_has_a_zone() -> None:
    assert datetime.now(system_zone()).utcoffset() is not None
