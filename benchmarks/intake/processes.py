"""Read from Linux's /proc what a process and all its children have used."""

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_AFTER_NAME = 2  # fields 1 and 2 of stat are the number and the name; field n is at n - 1 - _AFTER_NAME behind them
_PARENT, _CPU = 4 - 1 - _AFTER_NAME, slice(14 - 1 - _AFTER_NAME, 18 - 1 - _AFTER_NAME)


def tree(process: int) -> list[int]:
    """Return the numbers of a process and of all that descend from it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if fields := _stat(int(folder.name)):
            children.setdefault(int(fields[_PARENT]), []).append(int(folder.name))
    found = [process]
    for parent in found:
        found += children.get(parent, [])
    return found


def cpu_seconds(process: int) -> float:
    """Return user and system time of a process's tree, that of children that have ended included."""
    return sum(sum(map(int, fields[_CPU])) for each in tree(process) if (fields := _stat(each))) / _TICKS


def memory(process: int, field: str) -> float:
    """Return megabytes of a process's tree, summed: ``VmRSS`` for now, ``VmHWM`` for each one's highest."""
    found = 0.0
    for each in tree(process):
        try:
            lines = Path(f"/proc/{each}/status").read_text(encoding="utf-8").splitlines()
        except OSError:
            continue
        found += sum(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))
    return found


def _stat(process: int) -> list[str]:
    """Return the fields behind the name, none if there is no such process any more."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []
