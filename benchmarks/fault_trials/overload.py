"""Send ten times what the collector takes, and watch its memory and what it answers."""

import threading
import time
from typing import NamedTuple

from fault_trials.process import Collector, new_home
from fault_trials.stored import Outcome, stop_and_compare
from fault_trials.timetable import Plan, Sent, senders
from overhead.timing import Json, spread, tell

TIMES = 10
_COUNT = 512
"""Spans in a request, 1 MB."""
_PROCESSES = 2
_FLAT = 1.25
"""The last tenth's memory may be so many times the third's, by when the queue is full."""
_CALM_LIMIT = 10.0


class Size(NamedTuple):
    connections: int
    seconds: float
    measured_seconds: float
    derived: bool
    """Whether to look for each step in the read API, too."""


def run(size: Size) -> Outcome:
    """Return what came of ``TIMES`` the spans that four patient senders got through."""
    outcome = Outcome()
    with new_home() as home, Collector(home) as collector:
        idle = collector.memory()[0]
        sent = Sent()
        capacity = _capacity(collector, size.measured_seconds, sent)
        tell(f"  it takes {capacity:.0f} spans/s")
        interval = size.connections * _COUNT / (TIMES * capacity)
        plans = [
            Plan(
                sender=32 + n,
                protocol="grpc" if n % 4 == 3 else "http",
                address=collector.grpc if n % 4 == 3 else collector.http,
                count=_COUNT,
                interval=interval,
                longest_wait=interval,
                stubborn=False,
            )
            for n in range(size.connections)
        ]
        halves = [senders(plans[n::_PROCESSES]) for n in range(_PROCESSES)]
        with halves[0], halves[1]:
            began = time.monotonic()
            samples = _watch(collector, size.seconds)
            calm = time.monotonic()
            during = Sent()
            for half in halves:
                during.add(half.end())
        seconds_to_calm = _seconds_to_answer(collector, calm, sent)
        sent.add(during)
        stored = stop_and_compare(collector, sent, derived=size.derived)
        outcome.expect("Traceback" not in collector.log(), "overload: the collector printed a traceback")
    outcome.count("overload", sent, stored)
    outcome.report = {
        "idle_mb": idle,
        "capacity_spans_per_s": round(capacity),
        **_senders_view(during, began, calm),
        **_memory(samples),
        "calm_after_seconds": round(seconds_to_calm, 2),
        "stored": stored,
    }
    _judge(outcome)
    return outcome


def _capacity(collector: Collector, seconds: float, sent: Sent) -> float:
    plans = [Plan(sender=n, protocol="http", address=collector.http, count=_COUNT) for n in range(4)]
    with senders(plans) as process:
        threading.Event().wait(seconds)
        ended = time.monotonic()
        found = process.end()
    sent.add(found)
    within = [request for request in found.requests if request[0] <= ended]
    assert within, "the collector acknowledged nothing while its capacity was measured"
    return _COUNT * len(within) / seconds


def _watch(collector: Collector, seconds: float) -> list[tuple[float, float]]:
    """Return samples: seconds since the start, megabytes."""
    began, samples, pause = time.monotonic(), [], threading.Event()
    while (since := time.monotonic() - began) < seconds:
        samples.append((since / seconds, collector.memory()[0]))
        pause.wait(0.05)
    return samples


def _seconds_to_answer(collector: Collector, since: float, sent: Sent) -> float:
    """Send one request more and return when it was acknowledged, in seconds after the overload."""
    with senders([Plan(sender=31, protocol="http", address=collector.http, count=1)]) as process:
        sent.add(process.end())
    return time.monotonic() - since


def _senders_view(during: Sent, began: float, ended: float) -> Json:
    """Return how the senders fared; each connection's last request may have been answered after the end."""
    tries, seconds = sum(during.answers.values()), ended - began
    within = sum(request[5] for request in during.requests if request[0] <= ended)
    return {
        "seconds": round(seconds, 1),
        "requests_tried": tries,
        "answers": dict(during.answers),
        "offered_spans_per_s": round(tries * _COUNT / seconds),
        "acknowledged_spans_per_s": round(within / seconds),
        "offered_times_acknowledged": round(tries * _COUNT / max(1, within), 1),
        "acknowledged_after_ms": spread([request[1] for request in during.requests] or [0.0]),
    }


def _memory(samples: list[tuple[float, float]]) -> Json:
    tenths = [[megabytes for at, megabytes in samples if n <= 10 * at < n + 1] for n in range(10)]
    return {
        "peak_mb": max(megabytes for _, megabytes in samples),
        "peak_mb_by_tenth": [max(tenth, default=0.0) for tenth in tenths],
    }


def _judge(outcome: Outcome) -> None:
    report = outcome.report
    tenths = report["peak_mb_by_tenth"]
    allowed = {"acknowledged", "503", "UNAVAILABLE", "429", "RESOURCE_EXHAUSTED"}
    others = {word: count for word, count in report["answers"].items() if word not in allowed}
    outcome.expect(not others, f"overload: answers other than success and `come again`: {others}")
    outcome.expect(tenths[9] <= _FLAT * tenths[2], f"overload: memory grew from {tenths[2]} to {tenths[9]} MB")
    outcome.expect(report["calm_after_seconds"] < _CALM_LIMIT, "overload: it did not recover within 10 s")
