"""Let the collector's clock jump while it takes spans, and start it when its clock is wrong."""

import glob
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from fault_trials.process import Collector, new_home
from fault_trials.stored import Outcome, stop_and_compare
from fault_trials.timetable import Plan, Sent, senders
from overhead.timing import Json

_LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/local/lib/faketime/libfaketimeMT.so.1")
FULL = ("+1h", "-1h", "-30d", "+30d", "+3650d", "-20000d", "+0")
QUICK = ("+30d", "-30d")
"""Offsets from the true time, one after the other."""
_BETWEEN_SECONDS = 1.5
"""The library looks for a new offset once a second."""
_STALL_MS = 5000.0


def run(jumps: Sequence[str]) -> Outcome | str:
    """Return how it went on through these jumps, or why its clock can't be changed."""
    library = next((path for pattern in _LIBRARIES for path in glob.glob(pattern)), None)  # noqa: PTH207 - absolute
    if library is None:
        return "libfaketime is not installed (Debian: apt-get install libfaketime)"
    outcome = Outcome()
    with tempfile.TemporaryDirectory(prefix="faults-clock-") as folder, new_home() as home:
        said = Path(folder) / "offset"
        said.write_text("+0\n", encoding="utf-8")
        fake = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(said),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        with Collector(home, environment=fake) as collector:
            _through_jumps(outcome, collector, said, jumps)
    return outcome


def _through_jumps(outcome: Outcome, collector: Collector, said: Path, jumps: Sequence[str]) -> None:
    plans = [
        Plan(sender=0, protocol="http", address=collector.http, interval=0.05),
        Plan(sender=1, protocol="grpc", address=collector.grpc, interval=0.05),
        Plan(sender=2, protocol="http", address=collector.http, signal="logs", interval=0.05),
    ]
    ends: dict[str, tuple[float, float]] = {}
    starts: dict[str, float] = {}
    with senders(plans) as process:
        for jump in jumps:
            began = time.monotonic()
            said.write_text(f"{jump}\n", encoding="utf-8")
            threading.Event().wait(_BETWEEN_SECONDS)
            ends[jump] = (began, time.monotonic())
        for jump in ("+3650d", "-3650d"):
            said.write_text(f"{jump}\n", encoding="utf-8")
            collector.kill()
            starts[jump] = round(collector.start(), 2)
        said.write_text("+0\n", encoding="utf-8")
        threading.Event().wait(_BETWEEN_SECONDS)
        sent = process.end()
    stored = stop_and_compare(collector, sent)
    outcome.count("clock", sent, stored)
    outcome.report = {
        "jumps": {jump: _acknowledged_in(sent, *span) for jump, span in ends.items()},
        "ready_seconds_with_the_clock_at": starts,
        "answers": dict(sent.answers),
        "stored": stored,
    }
    for jump, found in outcome.report["jumps"].items():
        outcome.expect(found["requests"] > 0, f"clock: nothing was acknowledged after a jump to {jump}")
        outcome.expect(found["slowest_ms"] < _STALL_MS, f"clock: it stalled after a jump to {jump}")


def _acknowledged_in(sent: Sent, began: float, ended: float) -> Json:
    spent = [request[1] for request in sent.requests if began <= request[0] <= ended]
    return {"requests": len(spent), "slowest_ms": max(spent, default=0.0)}
