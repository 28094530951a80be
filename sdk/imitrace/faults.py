"""Count what tracing could not do, and say it once: an agent never fails because it is watched."""

import logging
import threading
from collections import Counter
from types import TracebackType

LOGGER = logging.getLogger("imitrace")


class Faults:
    """Counts by reason; the first of each reason is logged as a warning, the rest are only counted."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._counts: Counter[str] = Counter()
        self._guards: dict[str, Guard] = {}

    def count(self, reason: str, detail: object) -> None:
        """Add one to ``reason``; log ``detail`` when it is the first."""
        with self._lock:
            self._counts[reason] += 1
            first = self._counts[reason] == 1
        if first:
            LOGGER.warning("imitrace: %s: %s (logged once, counted in imitrace.stats().faults)", reason, detail)

    def guard(self, reason: str) -> "Guard":
        """Return a context manager that turns any ``Exception`` inside into a count of ``reason``."""
        guard = self._guards.get(reason)
        if guard is None:
            guard = self._guards[reason] = Guard(self, reason)
        return guard

    def counts(self) -> dict[str, int]:
        """Return the counts so far."""
        with self._lock:
            return dict(self._counts)

    def reset(self) -> None:
        """Start from nothing with a fresh lock: what a forked child does."""
        self._lock = threading.RLock()
        self._counts = Counter()


class Guard:
    """Swallow and count the exceptions of one block of ours; never put an agent's own code inside."""

    def __init__(self, faults: Faults, reason: str) -> None:
        self._faults = faults
        self._reason = reason

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self._faults.count(self._reason, f"{type(error).__name__}: {_first_line(error)}")
        return True


def _first_line(error: Exception) -> str:
    try:
        return str(error).partition("\n")[0][:200]
    except Exception:  # an exception whose text can't be had is still counted
        return "its text can't be read"
