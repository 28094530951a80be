"""Write a schedule as lines of a crontab, put them into the user's own and take them out; no other line is touched."""

import subprocess
from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

from imitrace.exceptions import ConfigError
from imitrace_trainer.refreshing.calls import Call
from imitrace_trainer.refreshing.times import Moment, Times, elsewhere

_SECONDS = 30


def crontab_lines(call: Call, times: Times, clock: ZoneInfo, now: datetime) -> list[str]:
    """Return the lines that call a refresh at its times, and once when the machine starts.

    Debian's cron knows one clock, the machine's. Where the schedule's goes otherwise, the lines come at every time that
    may be one of the schedule's, and the refresh itself says when it is not due.

    Args:
        call: what to start.
        times: when.
        clock: the machine's zone.
        now: from when on the two clocks are compared.
    """
    command = f"{call.shell} {call.mark}".replace("%", r"\%")  # cron ends a command at a bare one
    other = elsewhere(times, clock, now)
    plans = [times.fields] if other is None else [f"{plan} * * *" for plan in _together(other)]
    return [f"{plan} {command}" for plan in [*plans, "@reboot"]]


def with_lines(table: str, call: Call, lines: Iterable[str]) -> str:
    """Return a crontab with the clone's lines, in place of those that it had of it."""
    kept = without_lines(table, call)
    end = "" if not kept or kept.endswith("\n") else "\n"
    return kept + end + "".join(f"{line}\n" for line in lines)


def without_lines(table: str, call: Call) -> str:
    """Return a crontab without the clone's lines; all others as they were, byte for byte."""
    return "".join(
        line for line in table.splitlines(keepends=True) if not line.rstrip("\r\n").endswith(f" {_mark(call)}")
    )


def read_crontab() -> str:
    """Return the user's crontab, empty where there is none.

    Raises:
        ConfigError: there is no ``crontab`` here, or it refuses.
    """
    ran = _crontab(["-l"])
    if ran.returncode and "no crontab" not in ran.stderr:
        raise ConfigError(
            f"crontab -l failed: {ran.stderr.strip() or ran.returncode}; ask for leave in /etc/cron.allow"
        )
    return "" if ran.returncode else ran.stdout


def write_crontab(table: str) -> None:
    """Put a crontab in place of the user's; an empty one takes it away.

    Raises:
        ConfigError: there is no ``crontab`` here, or it refuses a line.
    """
    ran = _crontab(["-"] if table else ["-r"], table)
    if ran.returncode:
        raise ConfigError(f"crontab refused the lines: {ran.stderr.strip()}; nothing was changed")


def _mark(call: Call) -> str:
    return call.mark.replace("%", r"\%")


def _together(moments: Iterable[Moment]) -> list[str]:
    """Return minutes and hours as pairs of cron's fields, hours with the same minutes in one."""
    minutes: dict[int, set[int]] = defaultdict(set)
    for hour, minute in moments:
        minutes[hour].add(minute)
    hours: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for hour in sorted(minutes):
        hours[tuple(sorted(minutes[hour]))].append(hour)
    return [f"{','.join(map(str, each))} {','.join(map(str, found))}" for each, found in hours.items()]


def _crontab(arguments: list[str], said: str | None = None) -> subprocess.CompletedProcess[str]:
    command = ["crontab", *arguments]
    try:
        return subprocess.run(command, input=said, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(
            f"crontab can't be run ({error}); install cron, or print another form: --as systemd or --as kubernetes"
        ) from error
