"""Send requests one after the other, as one of several processes, and say when each was acknowledged.

Run as ``python -m intake.sender``; the first line on stdin is a JSON object with the fields of ``Errand``, which is
answered by ``ready``; the second is the time to start at, in seconds of the machine's monotonic clock. Prints one JSON
object with the fields of ``Sent``.
"""

import dataclasses
import http.client
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

ATTEMPTS = 300
_TIMEOUT = 300.0
_RETRYABLE = {429, 502, 503, 504}
_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


@dataclasses.dataclass(frozen=True)
class Errand:
    """What to send where."""

    target: str
    """``HOST:PORT``."""
    protocol: str
    """``http`` or ``grpc``."""
    headers: dict[str, str]
    bodies: list[str]
    """Files."""
    due: list[float]
    """When each is to be sent, in seconds from the start; empty to send one as soon as the one before is answered."""


@dataclasses.dataclass
class Sent:
    """What became of it."""

    milliseconds: list[float] = dataclasses.field(default_factory=list)
    """From when each was due, or else sent, to its acknowledgement; those that were refused are left out."""
    answers: list[str] = dataclasses.field(default_factory=list)
    """What acknowledgements said, in hexadecimal, where they said anything."""
    retried: int = 0
    refused: list[str] = dataclasses.field(default_factory=list)


class RefusalError(Exception):
    """An answer that is no acknowledgement."""

    def __init__(self, answer: str, wait: float | None) -> None:
        super().__init__(answer)
        self.wait = wait
        """Seconds until it may be tried again; None if it may not."""


Export = Callable[[bytes], bytes]


def _by_http(errand: Errand) -> Export:
    connection = http.client.HTTPConnection(errand.target, timeout=_TIMEOUT)
    headers = {"Content-Type": "application/x-protobuf", **errand.headers}

    def export(body: bytes) -> bytes:
        connection.request("POST", "/v1/traces", body, headers)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status // 100 != 2:
            wait = float(answer.getheader("Retry-After") or 1) if answer.status in _RETRYABLE else None
            raise RefusalError(f"{answer.status}: {content[:200]!r}", wait)
        return content

    return export


def _by_grpc(errand: Errand) -> Export:
    import grpc  # only here: it takes a while

    call = grpc.insecure_channel(errand.target).unary_unary(_EXPORT)
    retryable = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)

    def export(body: bytes) -> bytes:
        try:
            answer: bytes = call(body, timeout=_TIMEOUT)
        except grpc.RpcError as error:
            raise RefusalError(
                f"{error.code()}: {error.details()}", 1.0 if error.code() in retryable else None
            ) from error
        return answer

    return export


def send(bodies: list[bytes], due: list[float], export: Export) -> Sent:
    """Send every request, each when it is due by the monotonic clock, and again as long as it is told to come again."""
    sent = Sent()
    for place, body in enumerate(bodies):
        if due:
            _wait(due[place] - time.monotonic())
        since = due[place] if due else time.monotonic()
        try:
            answer = _persist(export, body, sent)
        except (RefusalError, OSError, http.client.HTTPException) as error:
            sent.refused.append(f"{type(error).__name__}: {error}"[:300])
            continue
        sent.milliseconds.append((time.monotonic() - since) * 1e3)
        if answer:
            sent.answers.append(answer.hex())
    return sent


def _persist(export: Export, body: bytes, sent: Sent) -> bytes:
    for _ in range(ATTEMPTS):
        try:
            return export(body)
        except RefusalError as refusal:
            if refusal.wait is None:
                raise
            sent.retried += 1
            _wait(refusal.wait)
    raise RefusalError(f"told to come again {ATTEMPTS} times", None)


def _wait(seconds: float) -> None:
    if seconds > 0:
        threading.Event().wait(seconds)


def main() -> None:
    errand = Errand(**json.loads(sys.stdin.readline()))
    export = _by_grpc(errand) if errand.protocol == "grpc" else _by_http(errand)
    bodies = [Path(path).read_bytes() for path in errand.bodies]
    print("ready", flush=True)
    begin = float(sys.stdin.readline())
    _wait(begin - time.monotonic())
    sent = send(bodies, [begin + due for due in errand.due], export)
    print(json.dumps(dataclasses.asdict(sent)))


if __name__ == "__main__":
    main()
