"""Kill the collector again and again while everybody sends, and count what was acknowledged afterwards."""

import random
import subprocess
import sys
import threading
from typing import NamedTuple

import pyarrow as pa

from fault_trials.process import Collector, new_home
from fault_trials.stored import Outcome, read_table, stop_and_compare
from fault_trials.timetable import Plan, Sent, otel_sender, senders
from overhead.config import clean_environment
from overhead.timing import spread, tell

_LIFE = (0.3, 2.5)
"""Seconds from ready to the kill, drawn evenly."""
_BIRTH = (0.05, 0.8)
"""Seconds from the start of the process to a kill before it is ready."""
_YOUNG = 5
"""Every so many starts are killed once before they are ready."""
_READY_LIMIT = 5.0
_DERIVED = {
    "trajectories": ["trajectory_id", "step_count", "complete"],
    "steps": ["trajectory_id", "step_index", "trace_id", "span_id", "state"],
    "scores": ["trajectory_id", "step_index", "name", "value"],
}
_SORTED_BY = {
    "trajectories": ["trajectory_id"],
    "steps": ["trajectory_id", "step_index", "trace_id", "span_id"],
    "scores": ["trajectory_id", "step_index", "name"],
}


class Size(NamedTuple):
    kills: int
    interval: float
    """Seconds between a sender's requests, at least."""


def run(size: Size) -> Outcome:
    """Return what was lost and stored twice after so many kills while it took spans."""
    outcome, kills = Outcome(), size.kills
    draw = random.Random(kills)
    with new_home() as home, Collector(home) as collector:
        every = size.interval
        plans = [Plan(sender=n, protocol=name, address=collector.http, interval=every) for n, name in enumerate(_HTTP)]
        plans += [Plan(sender=10 + n, protocol="grpc", address=collector.grpc, interval=every) for n in range(2)]
        plans.append(Plan(sender=20, protocol="http", address=collector.http, signal="logs", interval=every))
        with (
            senders(plans) as own,
            otel_sender("http", collector.http) as by_http,
            otel_sender("grpc", collector.grpc) as by_grpc,
        ):
            ready, young = _kill_often(collector, kills, draw)
            sent = Sent()
            for process in (own, by_http, by_grpc):
                sent.add(process.end())
        before = _derived(collector)
        stored = stop_and_compare(collector, sent)
        after = _rebuilt(collector)
        _judge(outcome, ready, collector.log())
    outcome.count("kills", sent, stored)
    rebuilt = all(before[name].equals(after[name]) for name in _DERIVED)
    outcome.expect(rebuilt, "kills: `imitrace rebuild` does not make the same derived tables")
    outcome.report = {
        "kills": kills,
        "killed_before_ready": young,
        "senders": [*(plan.protocol + " " + plan.signal for plan in plans), "opentelemetry http", "opentelemetry grpc"],
        "answers": dict(sent.answers),
        "ready_seconds": spread(ready),
        "ready_seconds_longest": round(max(ready), 2),
        "stored": stored,
        "rebuilt_alike": rebuilt,
    }
    return outcome


_HTTP = ("http", "http_gzip", "http_json")


def _kill_often(collector: Collector, kills: int, draw: random.Random) -> tuple[list[float], int]:
    """Return the seconds until each restart was ready, and how many were killed before they were."""
    ready, young, pause = [], 0, threading.Event()
    for number in range(kills):
        pause.wait(draw.uniform(*_LIFE))
        collector.kill()
        if number % _YOUNG == _YOUNG - 1:
            collector.launch()
            pause.wait(draw.uniform(*_BIRTH))
            collector.kill()
            young += 1
        ready.append(collector.start())
        if number % 10 == 9:
            tell(f"  {number + 1} kills, ready again after {ready[-1]:.2f} s")
    pause.wait(_LIFE[1] / 2)
    return ready, young


def _judge(outcome: Outcome, ready: list[float], log: str) -> None:
    outcome.expect(max(ready) < _READY_LIMIT, f"kills: a restart took {max(ready):.1f} s")
    outcome.expect("Traceback" not in log, "kills: the collector printed a traceback")


def _rebuilt(collector: Collector) -> dict[str, pa.Table]:
    """Derive everything anew from the raw spans, and return it."""
    command = [sys.executable, "-m", "imitrace", "rebuild", "--home", str(collector.home)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=clean_environment())
    collector.start()
    derived = _derived(collector)
    collector.stop()
    return derived


def _derived(collector: Collector) -> dict[str, pa.Table]:
    found = {name: read_table(collector.http, name, keys) for name, keys in _DERIVED.items()}
    return {name: table.sort_by([(key, "ascending") for key in _SORTED_BY[name]]) for name, table in found.items()}
