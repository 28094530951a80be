"""Limit how much each token may ask for: token buckets, by a clock that is handed in."""

import threading
import time
from collections.abc import Callable

from imitrace.exceptions import ImitraceError


class RateLimitedError(ImitraceError):
    """Report a caller that asks for more than its share; it may come again."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class Bucket:
    """Let ``rate`` units a second through, and a second's worth at once.

    A cost may be larger than what is there: it makes a debt that is waited for, so that a large request passes
    late instead of never.
    """

    def __init__(self, rate: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._level = rate
        self._at = clock()

    def wait(self) -> float:
        """Return the seconds until something may be taken; 0 when it may be now."""
        now = self._clock()
        self._level = min(self._rate, self._level + max(0.0, now - self._at) * self._rate)
        self._at = now
        return 0.0 if self._level > 0 else (-self._level + 1e-9) / self._rate

    def take(self, cost: float) -> None:
        """Take ``cost`` units, into debt if need be."""
        self._level -= cost


class Rates:
    """Keep a bucket of requests and one of bytes for each caller; safe from any thread."""

    def __init__(self, requests: float, size: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the limits.

        Args:
            requests: requests a second for each caller; 0 sets no limit.
            size: bytes a second for each caller; 0 sets no limit.
            clock: seconds that only go forward.
        """
        self._limits = {name: rate for name, rate in (("requests", requests), ("bytes", size)) if rate}
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}
        self._lock = threading.Lock()

    def admit(self, caller: str) -> None:
        """Count one request.

        Raises:
            RateLimitedError: the caller has used up its requests or its bytes; says when to come again.
        """
        with self._lock:
            for unit, rate in self._limits.items():
                seconds = self._bucket(caller, unit).wait()
                if seconds > 0:
                    raise RateLimitedError(f"{caller} may send {rate:g} {unit} a second; send again later", seconds)
            self._take(caller, "requests", 1)

    def charge(self, caller: str, size: int) -> None:
        """Count a request's bytes, once they are known."""
        with self._lock:
            self._take(caller, "bytes", size)

    def _take(self, caller: str, unit: str, cost: float) -> None:
        if unit in self._limits:
            self._bucket(caller, unit).take(cost)

    def _bucket(self, caller: str, unit: str) -> Bucket:
        if (caller, unit) not in self._buckets:
            self._buckets[caller, unit] = Bucket(self._limits[unit], self._clock)
        return self._buckets[caller, unit]
