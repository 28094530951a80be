"""Take export requests from either protocol: let in, bound, read, write, count."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from imitrace_collector import otlp
from imitrace_collector.batcher import Batcher, Commit
from imitrace_collector.budget import Budget, Reservation
from imitrace_collector.compression import decompress
from imitrace_collector.config import CollectorConfig
from imitrace_collector.health import Health
from imitrace_collector.logs import Seldom, event
from imitrace_collector.metrics import Metrics
from imitrace_collector.rates import Rates
from imitrace_collector.refusals import Refusal, refusal
from imitrace_collector.rows import Batch
from imitrace_collector.tokens import Role, Tokens

SIGNALS = {"traces": otlp.TRACES, "logs": otlp.LOGS}
"""The signals that are kept, by the name that paths and metrics have for them."""

_READERS = 2  # they hold the interpreter's lock most of the time, so more would only hold more memory


@dataclass(frozen=True)
class Export:
    """A request that was let in."""

    signal: str
    """A key of ``SIGNALS``."""
    protocol: str
    """``http`` or ``grpc``."""
    caller: str
    """Which token it carried."""
    media_type: str = otlp.PROTOBUF
    """How its body is written."""
    encoding: str = "identity"
    """How that is compressed."""


@dataclass
class Body:
    """A request's body, which whoever reads it takes out, so that it is not kept until the answer."""

    content: bytes

    def take(self) -> bytes:
        """Return it, and keep nothing."""
        content, self.content = self.content, b""
        return content


class Intake:
    """What stands between the wire and the writing thread; one for both protocols, used from any thread."""

    def __init__(
        self,
        config: CollectorConfig,
        batcher: Batcher[Batch],
        metrics: Metrics | None = None,
        budget: Budget | None = None,
    ) -> None:
        self.config = config
        self.budget = budget or Budget(config.queue_bytes)
        self.metrics = metrics or Metrics()
        self.health = Health(config, batcher, self.budget)
        self._batcher = batcher
        self._tokens = Tokens(config)
        self._rates = Rates(config.rate_requests, config.rate_bytes)
        self._readers = ThreadPoolExecutor(_READERS, "imitrace-reader")
        self._seldom = Seldom()

    def admit(self, authorization: str | None, role: Role) -> str:
        """Return who asks, where its token and its rate allow that.

        Raises:
            UnauthenticatedError: the token is missing or unknown.
            ForbiddenError: it opens something else.
            RateLimitedError: it was used too often.
        """
        caller = self._tokens.caller(authorization, role)
        if role is not Role.OPEN:
            self._rates.admit(caller)
        return caller

    def reserve(self, size: int = 0) -> Reservation:
        """Take the bytes of a request before it is read.

        Raises:
            StoreError: they are not free, or the disk is nearly full; the sender comes again.
        """
        self.health.check_disk()
        return self.budget.reserve(size)

    async def take(self, export: Export, body: Body, held: Reservation) -> otlp.Proto:
        """Return the answer to a request once it is durable.

        Args:
            export: what is known of it.
            body: as it came; it is emptied.
            held: its reservation; in the end it holds what the body decompressed to.

        Raises:
            WireError: it can't be read.
            StoreError: it can't be written now.
        """
        came = len(body.content)
        self._rates.charge(export.caller, came)
        self.metrics.received(export.signal, export.protocol, came)
        loop = asyncio.get_running_loop()
        size, reading = await loop.run_in_executor(self._readers, self._read, export, body, held.grow)
        if export.encoding != "identity":
            held.shrink(came)
        if reading.batch != Batch():
            await asyncio.wrap_future(self._batcher.submit(reading.batch, size))
        self._count(export.signal, reading)
        return reading.response

    def refused(self, error: Exception, place: str) -> Refusal:
        """Return what a sender is told of an error, and log what an operator should know of it."""
        found = refusal(error)
        if found.http >= 500 and found.retry_seconds is None:
            event(logging.ERROR, "request failed", place=place, error=repr(error))
        else:
            self._seldom.event(
                logging.WARNING, f"requests refused with {found.http.value}", place=place, why=str(error)
            )
        return found

    def stop(self) -> None:
        """End the reading threads."""
        self._readers.shutdown()

    def _read(self, export: Export, body: Body, claim: Callable[[int], object]) -> tuple[int, otlp.Reading]:
        plain = decompress(body.take(), export.encoding, self.config.max_request_bytes, claim)
        signal = SIGNALS[export.signal]
        message = otlp.parse(signal, plain, export.media_type)
        came = plain if export.media_type == otlp.PROTOBUF else None
        return len(plain), otlp.read(signal, message, time.time_ns(), came)

    def _count(self, signal: str, reading: otlp.Reading) -> None:
        rejected = getattr(reading.response.partial_success, SIGNALS[signal].rejected_field)
        self.metrics.read(signal, len(reading.batch.spans) + len(reading.batch.logs), rejected)


def log_commits() -> Callable[[Commit], None]:
    """Return a watch over commits that logs when they begin to fail and when they work again."""
    failing = False

    def watch(commit: Commit) -> None:
        nonlocal failing
        if commit.error is not None and not failing:
            event(logging.ERROR, "commit failed", error=str(commit.error), requests=commit.requests)
        elif commit.error is None and failing:
            event(logging.INFO, "commits work again", requests=commit.requests)
        failing = commit.error is not None

    return watch
