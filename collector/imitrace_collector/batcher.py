"""Queue batches in bounded memory and write them from one thread: many requests, one commit. Knows no DuckDB."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from imitrace.exceptions import StoreError
from imitrace_collector.budget import QueueFullError

T = TypeVar("T")

GROUP_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True)
class Commit:
    """How one write went."""

    ended_at: float
    """On the monotonic clock."""
    seconds: float
    """How long it took."""
    requests: int
    """How many batches were written together."""
    size: int
    """Their bytes."""
    result: object
    """What the writer returned; None when it failed."""
    error: Exception | None
    """Why it failed; None when it did not."""


@dataclass(frozen=True)
class _Waiting(Generic[T]):
    batch: T
    size: int
    written: Future[None]


class Batcher(Generic[T]):
    """Own the writing thread: whatever waits is written together, and each sender hears of it afterwards.

    It outlives every failed write: the senders of that group are told, and the next group is tried anew.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], object],
        queue_bytes: int,
        watch: Callable[[Commit], object] | None = None,
        group_bytes: int = GROUP_BYTES,
    ) -> None:
        """Start the writing thread.

        Args:
            write: writes batches durably, all or none; called from one thread only.
            queue_bytes: most bytes that may wait, those being written included.
            watch: told of each write, from that thread.
            group_bytes: most bytes written together, unless one batch alone has more.
        """
        self._write = write
        self._queue_bytes = queue_bytes
        self._group_bytes = group_bytes
        self._watch = watch
        self._waiting: deque[_Waiting[T]] = deque()
        self._bytes = 0
        self._last: Commit | None = None
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="imitrace-writer", daemon=True)
        self._thread.start()

    @property
    def bytes(self) -> int:
        """Return how many bytes wait, those being written included."""
        return self._bytes

    @property
    def depth(self) -> int:
        """Return how many batches wait for the next write."""
        return len(self._waiting)

    @property
    def last_commit(self) -> Commit | None:
        """Return how the last write went; None before the first."""
        return self._last

    def submit(self, batch: T, size: int) -> Future[None]:
        """Queue a batch of ``size`` bytes; the future resolves once it is durable, or with the reason why not.

        Raises:
            QueueFullError: it would exceed the queue's bytes, or the batcher is stopping.
        """
        with self._changed:
            if self._stopping:
                raise QueueFullError("the collector is stopping; send again")
            if self._bytes + size > self._queue_bytes:
                raise QueueFullError(f"{self._bytes} of {self._queue_bytes} bytes wait to be written; send again")
            waiting = _Waiting(batch, size, Future[None]())
            self._waiting.append(waiting)
            self._bytes += size
            self._changed.notify()
        return waiting.written

    def stop(self) -> None:
        """Take nothing more, write all that waits, and end the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._take():
            live = [waiting for waiting in group if waiting.written.set_running_or_notify_cancel()]
            self._write_group(live)
            with self._changed:
                self._bytes -= sum(waiting.size for waiting in group)

    def _take(self) -> list[_Waiting[T]]:
        """Wait for batches and return as many as fit a group; an empty list means that the batcher has stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            group: list[_Waiting[T]] = []
            size = 0
            while self._waiting and (not group or size + self._waiting[0].size <= self._group_bytes):
                group.append(self._waiting.popleft())
                size += group[-1].size
        return group

    def _write_group(self, group: Sequence[_Waiting[T]]) -> None:
        if not group:
            return
        error = self._commit(group)
        if error is None:
            for waiting in group:
                waiting.written.set_result(None)
        elif len(group) == 1 or isinstance(error, StoreError):  # the disk's fault: none of them would fare better
            for waiting in group:
                waiting.written.set_exception(error)
        else:
            for waiting in group:  # one bad batch must not fail its neighbours
                self._write_group([waiting])

    def _commit(self, group: Sequence[_Waiting[T]]) -> Exception | None:
        began = time.monotonic()
        result: object = None
        error: Exception | None = None
        try:
            result = self._write([waiting.batch for waiting in group])
        except OSError as failed:
            error = StoreError(f"the store can't be written: {failed}; send again")
        except Exception as failed:  # whatever went wrong, the senders must hear of it
            error = failed
        ended = time.monotonic()
        size = sum(waiting.size for waiting in group)
        self._last = Commit(ended, ended - began, len(group), size, result, error)
        if self._watch is not None:
            self._watch(self._last)
        return error
