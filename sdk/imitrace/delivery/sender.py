"""Send encoded requests of one signal, again and again for as long as it makes sense."""

import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value

from imitrace.delivery.transports import Answer, Connection, Signal, Transport
from imitrace.faults import Faults

_MIN_DELAY = 0.05


@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    """How long and how often a request is tried."""

    patience: float = 10.0
    """Seconds in which a request that waits in memory is tried; one that waits on disk is tried for ever."""
    first_delay: float = 0.25
    """Seconds before the second try; they double with each further one, less a random part of up to a half."""
    max_delay: float = 5.0
    """Seconds between two tries at most, unless the collector asks for more."""
    random: Callable[[], float] = random.random
    """Gives numbers from 0 to 1."""


class Sender:
    """One signal's way to the collector; one thread sends, another may close it."""

    def __init__(self, connection: Connection, signal: Signal, retry: RetryConfig, faults: Faults) -> None:
        self.signal = signal
        self._connection = connection
        self._retry = retry
        self._faults = faults
        self._transport = open_transport(connection, signal)
        self._closing = threading.Event()
        self._quiet_until = 0.0

    def send(self, body: bytes, records: int, patience: float | None = None) -> Answer:
        """Send a request and return the last answer, ``later`` when patience ended or the sender was closed.

        Args:
            body: an encoded OTLP request.
            records: how many records it holds.
            patience: seconds to try; those of the configuration when not given.
        """
        until = time.monotonic() + (self._retry.patience if patience is None else patience)
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            return self._checked(self._try_until(body, until), records)
        finally:
            detach(token)

    def close(self) -> None:
        """Break off what is being sent, and send nothing more."""
        self._closing.set()
        self._transport.close()

    def _try_until(self, body: bytes, until: float) -> Answer:
        failures = 0
        if self._closing.wait(min(until, self._quiet_until) - time.monotonic()):  # as a batch before was told to
            return Answer("later", "closed")
        while True:
            left = max(0.001, until - time.monotonic())
            answer = self._transport.post(body, min(self._connection.timeout, left))
            if answer.mendable and math.isinf(until):
                self._faults.count("collector_refused", f"{self._connection.place}: {answer.reason}; kept on disk")
                answer = answer._replace(verdict="later", delay=self._retry.max_delay)
            if answer.verdict != "later" or self._closing.is_set():
                return answer
            if failures == 0 and math.isinf(until) and not answer.mendable:
                self._count_away(answer)  # said at once, since it may stay so for days
            delay = max(_MIN_DELAY, self._delay(failures) if answer.delay is None else answer.delay)
            self._quiet_until = time.monotonic() + delay
            if self._quiet_until >= until:
                return answer
            if self._closing.wait(delay):
                return answer
            failures += 1

    def _delay(self, failures: int) -> float:
        full = min(self._retry.max_delay, self._retry.first_delay * 2.0 ** min(failures, 30))
        return full * (1 - self._retry.random() / 2)

    def _checked(self, answer: Answer, records: int) -> Answer:
        """Count what went wrong; no collector can reject more records than there were."""
        if answer.verdict == "refused":
            self._faults.count("collector_refused", f"{self._connection.place}: {answer.reason}")
        elif answer.verdict == "later" and not self._closing.is_set():
            self._count_away(answer)
        rejected = min(max(answer.rejected, 0), records)
        if rejected:
            self._faults.count("collector_rejected", f"{rejected} of {records} records: {answer.reason}")
        return answer._replace(rejected=rejected)

    def _count_away(self, answer: Answer) -> None:
        self._faults.count("collector_away", f"{self._connection.place}: {answer.reason}")


def open_transport(connection: Connection, signal: Signal) -> Transport:
    """Return what carries requests of ``signal``; it connects on first use."""
    if connection.protocol == "grpc":
        from imitrace.delivery.otlp_grpc import GrpcTransport

        return GrpcTransport(connection, signal)
    from imitrace.delivery.otlp_http import HttpTransport

    return HttpTransport(connection, signal)
