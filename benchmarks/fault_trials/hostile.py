"""Attack the collector while a well-behaved sender goes on: what each attack costs, and how it is answered."""

import statistics
import threading
import time
from collections import Counter
from typing import NamedTuple

from fault_trials import attacks
from fault_trials.process import Collector, new_home
from fault_trials.stored import Outcome, stop_and_compare
from fault_trials.timetable import Plan, Sent, senders
from fault_trials.wire import SILENT, Target, place
from overhead.timing import Json, tell

_WRONG_CODES = {"UNKNOWN", "INTERNAL", "DATA_LOSS", "DEADLINE_EXCEEDED", SILENT}
"""Answers that a peer should never get; of HTTP, each 5xx but 503."""
_PEAK_MB, _P99_MS = 600.0, 1000.0
_COUNT, _INTERVAL = 16, 0.025


class Size(NamedTuple):
    attacks: attacks.Size
    calm_seconds: float
    answer_seconds: float


FULL = Size(attacks.Size(500, 20.0, 1024, 1_000_000, 10_000, 256), 10.0, 30.0)
QUICK = Size(attacks.Size(50, 1.0, 64, 100_000, 2_000, 32), 1.0, 3.0)


def run(size: Size) -> Outcome:
    """Return each attack's answers, time, CPU seconds, peak of memory, and the good sender's p99 meanwhile."""
    outcome = Outcome()
    with new_home() as home, Collector(home) as collector:
        pid = collector.pid
        target = Target(place(collector.http), place(collector.grpc), size.answer_seconds)
        plans = [
            Plan(sender=0, protocol="http", address=collector.http, count=_COUNT, interval=_INTERVAL),
            Plan(sender=1, protocol="grpc", address=collector.grpc, count=_COUNT, interval=_INTERVAL),
        ]
        with senders(plans) as process:
            found = {"nothing": _attacked(collector, lambda _: _calm(size.calm_seconds), target)}
            for name, attack in attacks.attacks(size.attacks).items():
                tell(f"  {name}")
                found[name] = _attacked(collector, attack, target)
                if not collector.runs or collector.pid != pid:
                    outcome.expect(False, f"hostile: {name} ended the collector")
                    collector.start()
                    pid = collector.pid
            sent = process.end()
        log = collector.log()
        stored = stop_and_compare(collector, sent)
    outcome.count("hostile", sent, stored)
    _judge(outcome, found, sent, log)
    shown = {name: {key: value for key, value in of.items() if key != "span"} for name, of in found.items()}
    outcome.report = {"answers_to_the_good_sender": dict(sent.answers), "attacks": shown, "stored": stored}
    return outcome


def _calm(seconds: float) -> Counter[str]:
    threading.Event().wait(seconds)
    return Counter()


def _attacked(collector: Collector, attack: attacks.Attack, target: Target) -> Json:
    collector.forget_peak()
    cpu, began = collector.cpu_seconds(), time.monotonic()
    answers = attack(target)
    ended = time.monotonic()
    if not collector.runs:
        return {"answers": dict(answers), "span": (began, ended), "peak_mb": 0.0}
    _, peak = collector.memory()
    return {
        "answers": dict(answers),
        "seconds": round(ended - began, 2),
        "cpu_seconds": round(collector.cpu_seconds() - cpu, 2),
        "peak_mb": peak,
        "span": (began, ended),
    }


def _judge(outcome: Outcome, found: dict[str, Json], sent: Sent, log: str) -> None:
    for name, attack in found.items():
        attack |= _good_sender(sent, *attack["span"])
        wrong = {word: count for word, count in attack["answers"].items() if _is_wrong(word)}
        outcome.expect(not wrong, f"hostile: {name} was answered {wrong}")
        outcome.expect(attack["peak_mb"] < _PEAK_MB, f"hostile: {name} took memory to {attack['peak_mb']} MB")
        slowest = attack["good_sender_p99_ms"]
        outcome.expect((slowest or 0) < _P99_MS, f"hostile: during {name} the good sender's p99 was {slowest} ms")
    outcome.expect("Traceback" not in log, f"hostile: the collector printed {log.count('Traceback')} tracebacks")
    refused = {word: n for word, n in sent.answers.items() if word not in ("acknowledged", "503", "UNAVAILABLE")}
    outcome.expect(not refused, f"hostile: the good sender was answered {refused}")


def _good_sender(sent: Sent, began: float, ended: float) -> Json:
    """Return what requests in flight during the attack took; a short attack is given a second's company."""
    ended = max(ended, began + 1.0)
    spent = [ms for at, ms, *_ in sent.requests if at - ms / 1000 <= ended and at >= began]
    p99 = statistics.quantiles(spent, n=100, method="inclusive")[98] if len(spent) > 1 else None
    return {"good_sender_requests": len(spent), "good_sender_p99_ms": None if p99 is None else round(p99, 1)}


def _is_wrong(word: str) -> bool:
    return word in _WRONG_CODES or (word.isdigit() and word.startswith("5") and word != "503")
