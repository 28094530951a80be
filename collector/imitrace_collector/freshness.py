"""Decide how long a read waits for what is still to be derived."""

import threading
import time
from collections.abc import Callable, Mapping

from imitrace.exceptions import WireError
from imitrace_collector.config import AS_OF_HEADER, FRESH_SECONDS, PENDING_HEADER
from imitrace_collector.derive import BehindError, Deriver

FRESH_QUERY = ("fresh", "as_of")
"""What a query says of it."""
_MOST_SECONDS = 3600
_PATIENCE = 10.0
_WAITERS = 16
"""Most reads that wait until they are fresh: each holds one of the threads that answer all others."""


class Freshness:
    """Wait for a deriver as long as that is short, or as long as a read asks for; used from any thread.

    A read has all that was acknowledged before it, unless deriving that takes longer than ``patience``: then it has
    what there is, and whoever asks soon after is not made to wait for the same.
    """

    def __init__(
        self, deriver: Deriver, patience: float = _PATIENCE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._deriver = deriver
        self._patience = patience
        self._clock = clock
        self._lock = threading.Lock()
        self._waiters = threading.Semaphore(_WAITERS)
        self._behind_until = float("-inf")

    def wait(self, query: Mapping[str, str]) -> dict[str, str]:
        """Wait as a query asks, and return the headers that say what the answer lacks.

        Args:
            query: with ``fresh`` as a number of seconds, all that was acknowledged is waited for, up to so long; 1 is
                two minutes. With ``as_of``, no more is waited for than another read was told that it waits for.

        Raises:
            StoreError: deriving fails, or what must be fresh takes too long.
            WireError: ``fresh`` or ``as_of`` is nothing of that.
        """
        if query.get("fresh", "0") != "0":
            return self.wait_for_all(query)
        with self._lock:
            patience = 0.0 if self._clock() < self._behind_until else self._patience
        try:
            self._deriver.catch_up(patience)
        except BehindError as behind:
            if patience:
                with self._lock:
                    self._behind_until = self._clock() + self._patience
            return {PENDING_HEADER: str(behind.chunks)}
        return {}

    def wait_for_all(self, query: Mapping[str, str], seconds: float = FRESH_SECONDS) -> dict[str, str]:
        """Wait until all that was acknowledged is derived; as ``wait``, but ``fresh`` as 1, or none, is ``seconds``."""
        found = _number(query, "fresh", _MOST_SECONDS)
        patience = seconds if found in (None, 1) else found
        as_of = _number(query, "as_of", 2**63 - 1)
        waits = self._waiters.acquire(blocking=False)
        try:
            return {AS_OF_HEADER: str(self._deriver.catch_up(patience if waits else 0.0, as_of))}
        finally:
            if waits:
                self._waiters.release()


def _number(query: Mapping[str, str], name: str, most: int) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= most):
        raise WireError(f"{name} is {text!r}, allowed: {_ALLOWED[name]}")
    return int(text)


_ALLOWED = {
    "fresh": f"0, 1 for as long as is usual, or up to {_MOST_SECONDS} seconds",
    "as_of": f"the number that an answer has as {AS_OF_HEADER}",
}
