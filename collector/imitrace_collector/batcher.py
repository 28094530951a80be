"""Queue batches in bounded memory and write them from one thread: many requests, one commit. Knows no DuckDB."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

from imitrace.exceptions import StoreError

T = TypeVar("T")


class QueueFullError(StoreError):
    """Report that a batch was not taken; the sender keeps it and comes again."""


@dataclass(frozen=True)
class _Waiting(Generic[T]):
    batch: T
    size: int
    written: Future[None]


class Batcher(Generic[T]):
    """Own the writing thread: whatever waits is written together, and each sender hears of it afterwards."""

    def __init__(self, write: Callable[[Sequence[T]], object], queue_bytes: int) -> None:
        """Start the writing thread.

        Args:
            write: writes batches durably, all or none; called from one thread only.
            queue_bytes: most bytes that may wait, those being written included.
        """
        self._write = write
        self._queue_bytes = queue_bytes
        self._waiting: deque[_Waiting[T]] = deque()
        self._bytes = 0
        self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="imitrace-writer", daemon=True)
        self._thread.start()

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
        """Wait for batches and return all of them; an empty list means that the batcher has stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopping)
            group = list(self._waiting)
            self._waiting.clear()
        return group

    def _write_group(self, group: Sequence[_Waiting[T]]) -> None:
        if not group:
            return
        try:
            self._write([waiting.batch for waiting in group])
        except Exception as error:  # whatever went wrong, the senders must hear of it
            if len(group) == 1:
                group[0].written.set_exception(error)
                return
            for waiting in group:  # one bad batch must not fail its neighbours
                self._write_group([waiting])
            return
        for waiting in group:
            waiting.written.set_result(None)
