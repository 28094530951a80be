"""Write a schedule as a systemd timer with its service, and put both among the user's own units."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from imitrace.exceptions import ConfigError
from imitrace_trainer.refreshing.calls import Call
from imitrace_trainer.refreshing.times import Times, moved

_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_SECONDS = 30


@dataclass(frozen=True)
class Units:
    """A timer and its service."""

    name: str
    service: str
    timer: str

    @property
    def files(self) -> dict[str, str]:
        """Return the texts by the names of their files."""
        return {f"{self.name}.service": self.service, f"{self.name}.timer": self.timer}


def systemd_units(call: Call, times: Times, now: datetime) -> Units:
    """Return the units that call a refresh at its times; one that was missed comes when the machine runs again.

    A clock's missing times systemd leaves out, so the timer has those that come in their place, too.
    """
    name = f"imitrace-refresh-{re.sub(r'[^A-Za-z0-9_.-]', '_', call.clone)}"
    service = [
        call.mark,
        "[Unit]",
        f"Description=imitrace: refresh {call.clone}",
        "[Service]",
        "Type=oneshot",
        f"ExecStart=/bin/sh -c {_word(call.shell)}",
    ]
    timer = [
        call.mark,
        "[Unit]",
        f"Description=imitrace: when to refresh {call.clone}",
        "[Timer]",
        *(f"OnCalendar={moment} {times.time_zone}" for moment in calendar(times, now)),
        "Persistent=true",
        "[Install]",
        "WantedBy=timers.target",
    ]
    return Units(name, "\n".join(service) + "\n", "\n".join(timer) + "\n")


def calendar(times: Times, now: datetime) -> Iterator[str]:
    """Yield a schedule's times as systemd writes them; together they are its days, hours and minutes.

    Source: https://www.freedesktop.org/software/systemd/man/latest/systemd.time.html#Calendar%20Events
    """
    plan, (_, _, day, _, weekday) = times.plan, times.fields.split()
    months = _numbers(plan.months, 12)
    days = _numbers(plan.days, 31)
    weekdays = ",".join(dict.fromkeys(_WEEKDAYS[one] for one in sorted(plan.weekdays)))  # type: ignore[index]  # numbers
    clocks = [f"{_numbers(plan.hours, 24)}:{_numbers(plan.minutes, 60)}:00"]
    clocks += [f"{hour:02}:{minute:02}:00" for hour, minute in sorted(moved(times, now))]
    for clock in clocks:
        if day == "*" and weekday != "*":
            yield f"{weekdays} *-{months}-* {clock}"
        else:
            yield f"*-{months}-{days} {clock}"
        if "*" not in (day, weekday):  # either suffices
            yield f"{weekdays} *-{months}-* {clock}"


def unit_folder() -> Path:
    """Return where the user's own units lie."""
    return Path.home() / ".config" / "systemd" / "user"


def install_units(units: Units, call: Call, folder: Path) -> str | None:
    """Write units and start their timer; return why it did not start, None when it did.

    Raises:
        ConfigError: there are such units of another workspace, or they can't be written.
    """
    for name in units.files:
        _check_own(folder / name, call)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in units.files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"units can't be written to {folder}: {error.strerror}") from error
    return _systemctl("daemon-reload") or _systemctl("enable", "--now", f"{units.name}.timer")


def remove_units(units: Units, call: Call, folder: Path) -> bool:
    """Stop a timer and delete the units; return whether there were any.

    Raises:
        ConfigError: they are of another workspace.
    """
    there = [folder / name for name in units.files if (folder / name).exists()]
    for path in there:
        _check_own(path, call)
    if there:
        _systemctl("disable", "--now", f"{units.name}.timer")
    for path in there:
        path.unlink()
    if there:
        _systemctl("daemon-reload")
    return bool(there)


def _check_own(path: Path, call: Call) -> None:
    if path.exists() and path.read_text(encoding="utf-8").partition("\n")[0] != call.mark:
        raise ConfigError(f"unit {path} does not begin with {call.mark!r}: it is another's; remove or rename it first")


def _systemctl(*arguments: str) -> str | None:
    command = ["systemctl", "--user", *arguments]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{' '.join(command)}: {error}"
    return f"{' '.join(command)}: {ran.stderr.strip()}" if ran.returncode else None


def _numbers(found: set[int], count: int) -> str:
    return "*" if len(found) == count else ",".join(f"{one:02}" for one in sorted(found))


def _word(text: str) -> str:
    """Return a word of a command line: https://www.freedesktop.org/software/systemd/man/latest/systemd.service.html."""
    kept = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$").replace("%", "%%")
    return f'"{kept}"'
