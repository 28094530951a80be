"""Say when a cron expression comes round in a time zone, right over daylight saving."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from imitrace.exceptions import ConfigError

NAMED: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_WORDS: Final = set(re.findall("...", "sunmontuewedthufrisatjanfebmaraprmayjunjulaugsepoctnovdec"))
_PLAIN = re.compile(r"[0-9a-z*,/-]+")
_LOCAL: Final = Path("/etc/localtime")
_AHEAD: Final = timedelta(days=800)
"""How far changes of the clock are looked for: two years and a bit."""

Moment = tuple[int, int]
"""Hour and minute of a day."""


@dataclass(frozen=True)
class Times:
    """The times of a cron expression: five fields, or one of ``NAMED``, in the clock of a time zone.

    A time that the clock leaves out when it is put forward comes at the next time that there is; one that it shows
    twice comes once, the first time. Expressions whose minute or hour begins with ``*`` come as often as the clock
    goes round. This is how Debian's cron reads them, and Vixie's: https://manpages.debian.org/bookworm/cron/cron.8.en.html
    """

    cron: str
    time_zone: str = "UTC"

    def __post_init__(self) -> None:
        """Refuse what no clock or no cron knows.

        Raises:
            ConfigError: the expression or the zone is not allowed, or the expression never comes round.
        """
        assert self.zone  # noqa: S101 - looked up, so that an unknown one is refused here
        now = datetime.now(UTC)
        try:
            CronSim(self.fields, now)
        except CronSimError as error:
            raise wrong_cron(self.cron, str(error).lower()) from error
        if next(self.after(now), None) is None:
            raise wrong_cron(self.cron, "it never comes round")

    @cached_property
    def zone(self) -> ZoneInfo:
        """Return the time zone.

        Raises:
            ConfigError: this machine knows none of this name.
        """
        try:
            return ZoneInfo(self.time_zone)
        except (OSError, ValueError, LookupError) as error:
            raise ConfigError(
                f"time_zone is {self.time_zone!r}, allowed: a name of the tz database such as 'Europe/Berlin'; "
                "where the system has none, install tzdata"
            ) from error

    @cached_property
    def fields(self) -> str:
        """Return the expression as five fields, in small letters.

        Raises:
            ConfigError: it has another form, or cron and Kubernetes would read it otherwise.
        """
        text = " ".join(self.cron.lower().split())
        fields = NAMED.get(text, text).split()
        if len(fields) != 5:
            raise wrong_cron(self.cron, f"it has {len(fields)} fields")
        for field in fields:
            if not _PLAIN.fullmatch(field) or not {*re.findall("[a-z]+", field)} <= _WORDS:
                raise wrong_cron(self.cron, f"{field!r} is no field of cron's")
        day, weekday = fields[2], fields[4]
        if "*" not in (day, weekday) and (day.startswith("*") or weekday.startswith("*")):
            raise wrong_cron(self.cron, f"whether day {day} and weekday {weekday} must both hold is read in two ways")
        return " ".join(fields)

    @cached_property
    def plan(self) -> CronSim:
        """Return what the fields hold: ``minutes``, ``hours``, ``days``, ``months`` and ``weekdays``, as sets."""
        return CronSim(self.fields, datetime(2000, 1, 1))

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the times after a moment, each once, in the schedule's zone.

        Args:
            moment: with a time zone.
        """
        last = moment.astimezone(UTC)
        # from an hour before: where the clock is put back, what it shows is behind what it showed
        for found in CronSim(self.fields, (last - timedelta(hours=3)).astimezone(self.zone)):
            if found.astimezone(UTC) > last:
                last = found.astimezone(UTC)
                yield last.astimezone(self.zone)

    def between(self, start: datetime, end: datetime, most: int = 1_000) -> list[datetime]:
        """Return the times after ``start`` and not after ``end``, at most so many."""
        found: list[datetime] = []
        for moment in self.after(start):
            if moment > end or len(found) == most:
                break
            found.append(moment)
        return found


def system_zone() -> ZoneInfo:
    """Return the zone that this machine's clock shows, UTC where it says none."""
    try:
        with _LOCAL.open("rb") as file:
            return ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return ZoneInfo("UTC")


def moved(times: Times, now: datetime) -> set[Moment]:
    """Return at which hours and minutes the schedule comes because the clock leaves out those that it names."""
    found = set()
    for change in changes(times.zone, now):
        for moment in times.between(change - timedelta(hours=3), change + timedelta(hours=3)):
            local = moment.astimezone(times.zone)
            if local.minute not in times.plan.minutes or local.hour not in times.plan.hours:
                found.add((local.hour, local.minute))
    return found


def elsewhere(times: Times, zone: ZoneInfo, now: datetime) -> set[Moment] | None:
    """Return the hours and minutes at which another clock may show the schedule's times; None where both go alike.

    A superset for the two years to come: of days and of which side of a change it is nothing is said.
    """
    hours = [now + timedelta(hours=hour) for hour in range(0, int(_AHEAD.total_seconds()) // 3600, 3)]
    gaps = {_offset(zone, hour) - _offset(times.zone, hour) for hour in hours}
    if gaps == {timedelta()}:
        return None
    days = {timedelta(hours=h, minutes=m) for h in times.plan.hours for m in times.plan.minutes}
    named = {day + gap for day in days for gap in gaps}
    around = [
        moment.astimezone(zone)
        for change in changes(times.zone, now)
        for moment in times.between(change - timedelta(hours=3), change + timedelta(hours=3))
    ]
    return {_moment(one) for one in named} | {(one.hour, one.minute) for one in around}


def changes(zone: ZoneInfo, now: datetime) -> list[datetime]:
    """Return when a zone's clock is put forward or back in the two years to come, to the hour."""
    hours = [now + timedelta(hours=hour) for hour in range(int(_AHEAD.total_seconds()) // 3600)]
    return [after for before, after in pairwise(hours) if _offset(zone, before) != _offset(zone, after)]


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _moment(since_midnight: timedelta) -> Moment:
    minutes = int(since_midnight.total_seconds()) // 60 % (24 * 60)
    return minutes // 60, minutes % 60


def wrong_cron(cron: str, why: str) -> ConfigError:
    """Return the error for an expression that is not allowed."""
    return ConfigError(
        f"cron is {cron!r}: {why}; allowed: minute hour day month weekday, such as '30 3 * * mon-fri', "
        f"or one of {', '.join(NAMED)}"
    )
