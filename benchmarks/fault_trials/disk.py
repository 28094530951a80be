"""Fill the disk and make room again, take the right to write away, and break the files: each has one clear answer."""

import hashlib
import http.client
import os
import random
import resource
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from fault_trials.exits import ACKNOWLEDGED, HttpExit
from fault_trials.payloads import PROTOBUF, Template
from fault_trials.process import Collector, Refusal, new_home, try_to_start
from fault_trials.stored import STORE_FILE, Outcome, read_table, stop_and_compare
from fault_trials.timetable import Plan, Sent, senders
from overhead.timing import Json, tell

_MEGABYTE = 2**20
_BLOCK = 4096
_HEADERS = 3 * _BLOCK
"""A DuckDB file begins with three headers of 4 kB."""
_FULL_SECONDS, _ROOM_SECONDS = 60.0, 15.0
FEW = frozenset(("random_headers", "random_middle", "newer_version", "cut_log"))
"""Ways of breaking a store that a quick run tries."""
_COUNT = 128
_ROOMY = 8
"""How many times larger a disk is when there is room again: what is derived needs some, too."""


class Size(NamedTuple):
    megabytes: int
    """Of the disk that fills up."""
    seconds: float
    """How long the store whose files are broken was sent to."""
    damages: frozenset[str] | None = None
    """Which ways of breaking it, None for all."""


def run(size: Size) -> Outcome:
    """Return what the collector did with a full disk, and with files that it can't use."""
    outcome = Outcome()
    fill: Json = {"file_limit": _filled(outcome, "file limit", _limited(size.megabytes))}
    if _can_mount():
        fill["full_disk"] = _filled(outcome, "full disk", _small_disk(size.megabytes))
    outcome.report = {"fills_up": fill, "files": _broken_files(outcome, size)}
    if "full_disk" not in fill:
        outcome.report["not_run"] = {"full_disk": "this user may not mount; a limit on the file's size stood in"}
    return outcome


class Shortage(NamedTuple):
    """A place that fills up, and how there is room in it again."""

    home: Path
    begin: Callable[[Collector], None]
    end: Callable[[Collector], None]


@contextmanager
def _small_disk(megabytes: int) -> Iterator[Shortage]:
    """Yield a home on a disk of its own, most of which another file takes, until that is gone and the disk larger."""
    with _mounted(megabytes) as folder:
        ballast = folder / "ballast"

        def take(_: Collector) -> None:
            ballast.write_bytes(bytes(megabytes * _MEGABYTE * 3 // 4))

        def give(_: Collector) -> None:
            ballast.unlink()
            _remount(folder, f"size={_ROOMY * megabytes}m")

        yield Shortage(folder / "home", take, give)


@contextmanager
def _limited(megabytes: int) -> Iterator[Shortage]:
    """Yield a home whose collector may make no file larger than a few megabytes, until it may."""

    def limit(collector: Collector, most: int) -> None:
        resource.prlimit(collector.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    with new_home() as home:
        most = megabytes * _MEGABYTE // 8
        yield Shortage(home, lambda c: limit(c, most), lambda c: limit(c, resource.RLIM_INFINITY))


@contextmanager
def _mounted(megabytes: int) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="faults-disk-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)  # noqa: S607
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S607
        folder.rmdir()


def _remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)  # noqa: S607


def _can_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        return False
    try:
        with _mounted(1):
            return True
    except subprocess.CalledProcessError:
        return False


class _Feed:
    """One patient sender in this process."""

    def __init__(self, collector: Collector, sent: Sent) -> None:
        self._door = HttpExit(collector.http, "traces", PROTOBUF, zipped=False, limit=30)
        self._template = Template("traces", PROTOBUF, _COUNT)
        self._sent = sent
        self._number = 0

    def until(self, limit: float, *, acknowledged: bool) -> tuple[float, dict[str, int]]:
        """Send until an answer is a success, or is not, and return the seconds that took and the answers by word."""
        began, answers, pause = time.monotonic(), dict[str, int](), threading.Event()
        while (spent := time.monotonic() - began) < limit:
            word = self._once()
            answers[word] = answers.get(word, 0) + 1
            if (word == ACKNOWLEDGED) == acknowledged:
                break
            if word != ACKNOWLEDGED:
                pause.wait(0.1)
        return round(spent, 2), answers

    def answers(self, tries: int) -> dict[str, int]:
        """Return how so many tries are answered."""
        found: dict[str, int] = {}
        for _ in range(tries):
            word = self._once()
            found[word] = found.get(word, 0) + 1
        return found

    def _once(self) -> str:
        """Send the request whose turn it is; it stays the same until it is acknowledged."""
        word = self._door.send(self._template.body(0, self._number)).word
        if word == ACKNOWLEDGED:
            self._sent.requests.append((time.monotonic(), 0.0, "traces", 0, self._number, _COUNT))
            self._number += 1
        return word


def _filled(outcome: Outcome, name: str, place: AbstractContextManager[Shortage]) -> Json:
    tell(f"  {name}")
    sent = Sent()
    with place as shortage, Collector(shortage.home) as collector:
        pid, feed = collector.pid, _Feed(collector, sent)
        feed.answers(2)
        shortage.begin(collector)
        until_full, _ = feed.until(_FULL_SECONDS, acknowledged=False)
        while_full = feed.answers(10)
        shortage.end(collector)
        until_room, with_room = feed.until(_ROOM_SECONDS, acknowledged=True)
        afterwards = feed.answers(10)
        same = collector.runs and collector.pid == pid
        if not same:
            tell(collector.log()[-500:])
            collector.start()
        stored = stop_and_compare(collector, sent)
    outcome.count(name, sent, stored)
    outcome.expect(until_full < _FULL_SECONDS, f"disk: {name} was never noticed")
    outcome.expect(set(while_full) <= {"503", ACKNOWLEDGED}, f"disk: {name} was answered {while_full}, not by 503")
    outcome.expect(same, f"disk: {name} ended the collector")
    outcome.expect(
        set(afterwards) == {ACKNOWLEDGED}, f"disk: after {name} there was room, and the answers {afterwards}"
    )
    return {
        "answers_while_full": while_full,
        "answers_until_room_was_noticed": with_room,
        "seconds_until_room_was_noticed": until_room,
        "answers_with_room": afterwards,
        "same_process": same,
        "stored": stored,
    }


def _broken_files(outcome: Outcome, size: Size) -> Json:
    """Return how a collector starts on each kind of broken file, and whether it left the file alone."""
    report: Json = {}
    with new_home() as stopped, new_home() as killed:
        _fill(stopped, size.seconds, leave_log=False)
        _fill(killed, size.seconds, leave_log=True)
        for name, (damage, must_refuse) in _DAMAGE.items():
            if size.damages is not None and name not in size.damages:
                continue
            with new_home() as copy:
                shutil.copytree(killed if name.endswith("_log") else stopped, copy)
                damage(copy)
                report[name] = _tried(outcome, name, copy, must_refuse)
        report |= _read_only(outcome, stopped)
    return report


def _fill(home: Path, seconds: float, *, leave_log: bool) -> None:
    with Collector(home) as collector:
        with senders([Plan(sender=0, protocol="http", address=collector.http, count=_COUNT)]) as process:
            threading.Event().wait(seconds)
            process.end()
        if not leave_log:
            collector.stop()


def _tried(outcome: Outcome, name: str, home: Path, must_refuse: bool | None) -> Json:
    """Start on a broken home; ``must_refuse`` is None where the file may also be usable."""
    before, used = _hashes(home), dict[str, Any]()
    refusal = try_to_start(home, lambda collector: used.update(_use(collector)))
    said = _told(refusal)
    if must_refuse or not refusal.started:
        outcome.expect(refusal.clear, f"disk: {name} is not refused in one line and by code 2, but {said}")
        said["untouched"] = _hashes(home) == before
        outcome.expect(said["untouched"], f"disk: {name}: the files were changed")
    else:
        told = used["told_of"] or used["steps"] is None
        outcome.expect(told or used["whole"], f"disk: {name}: it reads on and says nothing of what is missing: {used}")
        outcome.expect(used["sent"] in (ACKNOWLEDGED, "503"), f"disk: {name}: an export was answered {used['sent']}")
        outcome.expect(used["alive"], f"disk: {name}: the first use ended it with {refusal.code}")
    return said | used


def _use(collector: Collector) -> Json:
    """Send one request and read the steps; say how many there are, and whether they are as many as its spans."""
    door = HttpExit(collector.http, "traces", PROTOBUF, zipped=False, limit=30)
    word = door.send(Template("traces", PROTOBUF, _COUNT).body(9, 0)).word
    try:
        steps: int | None = read_table(collector.http, "steps", ["trace_id", "span_id"]).num_rows
        trajectories = read_table(collector.http, "trajectories", ["trajectory_id", "step_count"])
        whole = sum(trajectories["step_count"].to_pylist()) == steps
    except (OSError, http.client.HTTPException, pa.ArrowException):
        steps, whole = None, False
    return {"sent": word, "steps": steps, "whole": whole, "told_of": collector.log() != "", "alive": collector.runs}


def _told(refusal: Refusal) -> Json:
    return {
        "outcome": "started" if refusal.started else "refused",
        "exit_code": refusal.code,
        "line": refusal.lines[-1] if refusal.lines else None,
        "lines": len(refusal.lines),
        "seconds": refusal.seconds,
    }


def _hashes(home: Path) -> dict[str, str]:
    paths = [path for path in home.rglob("*") if path.is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _scramble(path: Path, start: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(random.Random(start).randbytes(length))


def _newer(home: Path) -> None:
    with duckdb.connect(str(home / STORE_FILE)) as store:
        store.execute("UPDATE meta SET value = '999' WHERE key = 'store_version'")


def _foreign(home: Path) -> None:
    (home / STORE_FILE).unlink()
    with duckdb.connect(str(home / STORE_FILE)) as store:
        store.execute("CREATE TABLE accounts (id INTEGER)")


def _text(home: Path) -> None:
    (home / STORE_FILE).write_text("dear diary\n" * 1000, encoding="utf-8")


def _halve(home: Path) -> None:
    os.truncate(home / STORE_FILE, (home / STORE_FILE).stat().st_size // 2)


def _log_of(home: Path) -> Path:
    return home / f"{STORE_FILE}.wal"


def _cut_log(home: Path) -> None:
    """Leave what a power cut may leave: the last record is half there."""
    os.truncate(_log_of(home), max(0, _log_of(home).stat().st_size - 1000))


def _corrupt_log(home: Path) -> None:
    _scramble(_log_of(home), _log_of(home).stat().st_size // 2, 64)


_DAMAGE: dict[str, tuple[Callable[[Path], None], bool | None]] = {
    "random_magic": (lambda home: _scramble(home / STORE_FILE, 0, 64), True),
    "random_headers": (lambda home: _scramble(home / STORE_FILE, _BLOCK, 2 * _BLOCK), True),
    "random_middle": (lambda home: _scramble(home / STORE_FILE, (home / STORE_FILE).stat().st_size // 2, 4096), None),
    "random_all_blocks": (
        lambda home: _scramble(home / STORE_FILE, _HEADERS, (home / STORE_FILE).stat().st_size - _HEADERS),
        True,
    ),
    "half_a_file": (_halve, None),
    "empty_file": (lambda home: os.truncate(home / STORE_FILE, 0), None),
    "a_text_file": (_text, True),
    "newer_version": (_newer, True),
    "anothers_database": (_foreign, True),
    "cut_log": (_cut_log, None),
    "corrupt_log": (_corrupt_log, None),
}
"""How a store is broken, and whether it must be refused; None where it may also start, on what is whole of it."""


def _read_only(outcome: Outcome, home: Path) -> Json:
    """Start where nothing may be written: a store that is there, and a home that is not."""
    if not _can_mount():
        return {}
    report: Json = {}
    with _mounted(256) as folder:
        shutil.copytree(home, folder / "home")
        _remount(folder, "ro")
        report["read_only_store"] = _tried(outcome, "read_only_store", folder / "home", True)
        report["read_only_folder"] = _tried(outcome, "read_only_folder", folder / "other", True)
    return report
