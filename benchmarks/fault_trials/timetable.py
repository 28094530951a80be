"""Say who sends what and how often, start the senders in processes of their own, and gather what they got through."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from overhead.config import clean_environment

HERE = Path(__file__).parents[1]
LAST_TRIES_SECONDS = 30.0
_END_SECONDS = 120.0

Request = tuple[float, float, str, int, int, int]
"""One that was acknowledged: when (``time.monotonic``), after how many milliseconds, signal, sender, number, count."""
Requests = list[Request]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One connection: what goes over it."""

    sender: int
    protocol: str
    """``http``, ``http_gzip``, ``http_json`` or ``grpc``."""
    address: str
    signal: str = "traces"
    count: int = 64
    """Steps, or scores, in a request."""
    interval: float = 0.0
    """Seconds from one request to the next, if the answer came by then."""
    longest_wait: float = 0.2
    """Seconds before another try, at most, whatever the collector asks for."""
    stubborn: bool = True
    """Try the last request on after the end."""
    limit: float = 60.0
    """Seconds to wait for an answer."""


@dataclass
class Sent:
    """What senders got through."""

    requests: Requests = field(default_factory=list)
    """Acknowledged ones of ``fault_trials.sender``."""
    spans: list[tuple[str, str]] = field(default_factory=list)
    """Trace and span id of what OpenTelemetry's exporter reported as exported."""
    answers: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Sent") -> None:
        self.requests += other.requests
        self.spans += other.spans
        self.answers.update(other.answers)

    @property
    def acknowledged(self) -> int:
        """Spans and log records."""
        return sum(request[5] for request in self.requests) + len(self.spans)


class Senders:
    """A process that sends; enter it to start, ``end`` it to hear."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._command = [sys.executable, "-m", f"fault_trials.{module}", *arguments]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if "otel" in self._command[2] else None,
            text=True,
            cwd=HERE,
            env=clean_environment(),
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "sending\n", "the senders did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def end(self) -> Sent:
        """Tell it to end, and return what was acknowledged."""
        out, _ = self._process.communicate("", timeout=_END_SECONDS)
        found: dict[str, Any] = json.loads(out)
        return Sent(
            [tuple(request) for request in found.get("requests", ())],
            [(trace, span) for trace, span in found.get("spans", ())],
            Counter(found["answers"]),
        )


def senders(plans: Sequence[Plan]) -> Senders:
    return Senders("sender", json.dumps([asdict(plan) for plan in plans]))


def otel_sender(protocol: str, address: str) -> Senders:
    return Senders("otel_sender", protocol, address)
