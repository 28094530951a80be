"""Put load on a server from several processes at once."""

import dataclasses
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from intake.payloads import SPANS
from intake.sender import Errand, Sent
from overhead.config import clean_environment

SENDERS = 8
_HERE = Path(__file__).parents[1]
_SOON = 0.1


class Route(NamedTuple):
    """How requests get to a server."""

    target: str
    protocol: str
    headers: dict[str, str]


class Load(NamedTuple):
    """What became of the requests."""

    begun: float
    """In seconds of the monotonic clock."""
    acknowledged: int
    """Spans."""
    rejected: int
    """Spans that acknowledgements said were not taken."""
    milliseconds: list[float]
    retried: int
    refused: list[str]


def put(route: Route, bodies: Sequence[Path], rate: float | None = None, senders: int = SENDERS) -> Load:
    """Send requests, dealt out to the senders, and return when the last is answered.

    Args:
        route: where to.
        bodies: files with one request each.
        rate: requests a second of all senders together, at random times (a Poisson process), whatever the server does;
            None for each sender to send its next request as soon as its last one is answered.
        senders: how many processes.
    """
    draw, errands = random.Random(7), []
    for number in range(min(senders, len(bodies))):
        mine = [str(path) for path in bodies[number::senders]]
        due: list[float] = []
        for _ in mine if rate else ():
            due.append((due[-1] if due else 0.0) + draw.expovariate(rate / senders if rate else 1.0))
        errands.append(Errand(route.target, route.protocol, route.headers, mine, due))
    begun, sent = _run(errands)
    answers = [ExportTraceServiceResponse.FromString(bytes.fromhex(text)) for each in sent for text in each.answers]
    rejected = sum(answer.partial_success.rejected_spans for answer in answers)
    milliseconds = [one for each in sent for one in each.milliseconds]
    return Load(
        begun,
        len(milliseconds) * SPANS - rejected,
        rejected,
        milliseconds,
        sum(each.retried for each in sent),
        [refusal for each in sent for refusal in each.refused],
    )


def _run(errands: Sequence[Errand]) -> tuple[float, list[Sent]]:
    """Start all senders, let them begin at one time, and return that time and what each has to say."""
    command = [sys.executable, "-m", "intake.sender"]
    with ExitStack() as stack:
        pipe = subprocess.PIPE
        started = [
            stack.enter_context(
                subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=_HERE, env=clean_environment())
            )
            for _ in errands
        ]
        for process, errand in zip(started, errands, strict=True):
            _tell(process, json.dumps(dataclasses.asdict(errand)))
        for process in started:
            assert process.stdout is not None and process.stdout.readline() == "ready\n", "a sender did not start"
        begun = time.monotonic() + _SOON
        for process in started:
            _tell(process, str(begun))
        return begun, [Sent(**json.loads(process.communicate()[0])) for process in started]


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
