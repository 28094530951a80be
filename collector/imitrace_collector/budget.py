"""Count the bytes of every request in flight, so that memory has a bound whoever sends."""

import threading
from types import TracebackType
from typing import Self

from imitrace.exceptions import StoreError


class QueueFullError(StoreError):
    """Report that there is no room now; the sender keeps its batch and comes again."""


class Budget:
    """Hold the bytes that requests may take together; safe from any thread."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Return the bytes that are taken now."""
        return self._held

    def reserve(self, size: int = 0) -> "Reservation":
        """Take bytes for one request, and leave the returned context to give all of them back.

        Raises:
            QueueFullError: so many are not free.
        """
        reservation = Reservation(self)
        reservation.grow(size)
        return reservation

    def take(self, size: int) -> None:
        """Take bytes; give them back with ``release``.

        Raises:
            QueueFullError: so many are not free.
        """
        with self._lock:
            if self._held + size > self.limit:
                raise QueueFullError(f"{self._held} of {self.limit} bytes are in flight; send again")
            self._held += size

    def release(self, size: int) -> None:
        """Give bytes back."""
        with self._lock:
            self._held -= size


class Reservation:
    """The bytes that one request holds; belongs to one task at a time."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.size = 0

    def grow(self, size: int) -> None:
        """Take ``size`` bytes more.

        Raises:
            QueueFullError: so many are not free.
        """
        self._budget.take(size)
        self.size += size

    def shrink(self, size: int) -> None:
        """Give ``size`` bytes back, at most what is held."""
        size = min(size, self.size)
        self._budget.release(size)
        self.size -= size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shrink(self.size)
