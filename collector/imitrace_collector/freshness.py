"""Decide how long a read waits for what is still to be derived."""

import threading
import time
from collections.abc import Callable, Mapping

from imitrace.exceptions import WireError
from imitrace_collector.config import PENDING_HEADER
from imitrace_collector.derive import BehindError, Deriver

_PATIENCE = 10.0


class Freshness:
    """Wait for a deriver as long as that is short; used from any thread.

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
        self._behind_until = float("-inf")

    def wait(self, query: Mapping[str, str]) -> dict[str, str]:
        """Wait as a query asks, and return the headers that say what the answer lacks.

        Args:
            query: with ``fresh`` as 1, all that was acknowledged is waited for.

        Raises:
            StoreError: deriving fails, or what must be fresh takes too long.
            WireError: ``fresh`` is neither 0 nor 1.
        """
        if _fresh(query):
            self._deriver.catch_up()
            return {}
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


def _fresh(query: Mapping[str, str]) -> bool:
    found = query.get("fresh", "0")
    if found not in ("0", "1"):
        raise WireError(f"fresh is {found!r}, allowed: 0, 1")
    return found == "1"
