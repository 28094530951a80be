"""Trace the collector's system calls: before it answers, the log is synced, and the folder where the log is new."""

import re
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fault_trials.exits import ACKNOWLEDGED, Exit, GrpcExit, HttpExit
from fault_trials.payloads import PROTOBUF, Template
from fault_trials.process import Collector, new_home
from fault_trials.stored import STORE_FILE, Outcome, compare
from fault_trials.timetable import Sent
from overhead.timing import Json

_COUNT = 16
_CALLS = "openat,creat,write,pwrite64,writev,pwritev,fsync,fdatasync,sync_file_range,msync,sendto,sendmsg"
_LINE = re.compile(r"^(?:\[pid\s+)?\d+\]?\s+(?P<at>\d+\.\d+) (?P<call>\w+)\((?P<rest>.*)$")
_RESUMED = re.compile(r"^(?P<pid>\d+)\s+(?P<at>\d+\.\d+) <\.\.\. (?P<call>\w+) resumed>(?P<rest>.*)$")
_UNFINISHED = re.compile(r"^(?P<pid>\d+)\s+(?P<at>\d+\.\d+) (?P<call>\w+)\((?P<rest>.*?)\s*<unfinished \.\.\.>$")
_WRITES, _SYNCS = {"write", "pwrite64", "writev", "pwritev"}, {"fsync", "fdatasync"}
_LONGEST_ATTACH = 60.0


class Call(NamedTuple):
    """A system call that has ended."""

    at: float
    """When it ended, by the system's clock."""
    name: str
    said: str
    """Its arguments and result, each descriptor with its file."""


def run(requests: int) -> Outcome | str:
    """Return what was synced before each of so many answers, by HTTP and by gRPC, or why that can't be seen."""
    if shutil.which("strace") is None:
        return "strace is not installed (Debian: apt-get install strace)"
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="faults-power-") as folder, new_home() as home:
        trace = Path(folder) / "trace"
        prefix = ["strace", "-f", "-ttt", "-y", "-s", "16", "-e", f"trace={_CALLS}", "-o", str(trace)]
        with Collector(home, prefix=prefix) as collector:
            doors: dict[str, Exit] = {
                "http": HttpExit(collector.http, "traces", PROTOBUF, zipped=False, limit=60),
                "grpc": GrpcExit(collector.grpc, "traces", limit=60),
            }
            sent = Sent()
            spans = {name: _send(number, door, requests, sent) for number, (name, door) in enumerate(doors.items())}
            collector.kill()
        calls = read_trace(trace.read_text(encoding="utf-8", errors="replace"))
        with Collector(home) as collector:
            collector.stop()
        stored = compare(home, sent)
    outcome.count("power", sent, stored)
    outcome.report = {"stored": stored, **_report(outcome, calls, home, spans)}
    return outcome


def _send(sender: int, door: Exit, requests: int, sent: Sent) -> list[tuple[float, float]]:
    """Send requests one after the other and return when each was begun and answered, by the system's clock."""
    template = Template("traces", PROTOBUF, _COUNT)
    spans, pause = [], threading.Event()
    for number in range(requests):
        began = time.time()
        word = door.send(template.body(sender, number)).word
        spans.append((began, time.time()))
        assert word == ACKNOWLEDGED, f"a request was answered {word}"
        sent.requests.append((began, 0.0, "traces", sender, number, _COUNT))
        pause.wait(0.05)  # whatever follows an answer is not counted to the next request
    return spans


def _report(outcome: Outcome, calls: Sequence[Call], home: Path, spans: dict[str, list[tuple[float, float]]]) -> Json:
    log = str(home / f"{STORE_FILE}.wal")
    report: Json = {}
    for name, times in spans.items():
        within = [[call for call in calls if began <= call.at <= ended] for began, ended in times]
        synced = sum(_synced_after_writing(found, log) for found in within)
        answered_late = sum(_answered_after_sync(found, log) for found in within) if name == "http" else None
        report[name] = {"requests": len(times), "log_synced_before_the_answer": synced}
        if answered_late is not None:
            report[name]["answer_written_after_the_sync"] = answered_late
            outcome.expect(answered_late == len(times), "power: an HTTP answer was written before the log was synced")
        outcome.expect(synced == len(times), f"power: a {name} request was answered before the log was synced")
        report[name]["calls_of_the_first"] = [_short(call, home) for call in within[0]]
    made = [call.at for call in calls if call.name == "openat" and log in call.said and "O_CREAT" in call.said]
    folder = [call.at for call in calls if call.name in _SYNCS and f"<{home}>" in call.said]
    first_answer = min(ended for times in spans.values() for _, ended in times)
    durable = bool(made) and any(made[0] <= at <= first_answer for at in folder)
    report |= {"log_made": len(made), "folder_synced": len(folder), "folder_synced_before_first_answer": durable}
    outcome.expect(durable, "power: the folder was not synced after the log was made in it, before the first answer")
    return report


def _synced_after_writing(calls: Sequence[Call], log: str) -> bool:
    """Return whether the log was written, and synced after the last write."""
    writes = [place for place, call in enumerate(calls) if call.name in _WRITES and f"<{log}>" in call.said]
    syncs = [place for place, call in enumerate(calls) if call.name in _SYNCS and f"<{log}>" in call.said]
    return bool(writes and syncs) and max(syncs) > max(writes)


def _answered_after_sync(calls: Sequence[Call], log: str) -> bool:
    answers = [place for place, call in enumerate(calls) if '"HTTP/1.1 200' in call.said]
    syncs = [place for place, call in enumerate(calls) if call.name in _SYNCS and f"<{log}>" in call.said]
    return bool(answers and syncs) and min(answers) > max(place for place in syncs if place < max(answers))


def _short(call: Call, home: Path) -> str:
    return f"{call.name}({call.said.replace(str(home), 'HOME')[:100]}"


def read_trace(text: str) -> list[Call]:
    """Return the calls of an ``strace -f -ttt`` in the order in which they ended."""
    begun: dict[tuple[str, str], str] = {}
    calls = []
    for line in text.splitlines():
        if found := _UNFINISHED.match(line):
            begun[found["pid"], found["call"]] = found["rest"]
        elif found := _RESUMED.match(line):
            rest = begun.pop((found["pid"], found["call"]), "")
            calls.append(Call(float(found["at"]), found["call"], rest + found["rest"]))
        elif found := _LINE.match(line):
            calls.append(Call(float(found["at"]), found["call"], found["rest"]))
    return calls
