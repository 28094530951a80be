"""Hold records between the agent and the exporter: bounded, sent by one thread, every record's fate counted.

OpenTelemetry's own batch processor neither keeps the time limit of a flush nor says how many records it lost; a
demonstration that is lost in silence is a wrong one, so the queue is ours.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Delivery(Protocol[T_contra]):
    """What takes batches to the collector, or to memory in tests."""

    def send(self, batch: Sequence[T_contra]) -> bool:
        """Deliver a batch; return whether it was accepted."""

    def close(self) -> None:
        """Break off a delivery in progress and refuse later ones."""

    def reset(self) -> None:
        """Forget connections: called in a forked child, which must not share its parent's sockets."""


@dataclass(frozen=True, kw_only=True)
class OutboxConfig:
    """The bounds of an outbox."""

    max_records: int = 8192
    """Records held, in the queue and on their way; the next one is dropped and counted."""
    max_bytes: int = 64 * 2**20
    """Characters of payload held; the next record is dropped and counted."""
    batch_records: int = 256
    """Records in one request at most; a full batch is sent at once."""
    batch_bytes: int = 2 * 2**20
    """Characters of payload in one request, unless a single record is larger."""
    delay: float = 1.0
    """Seconds a record may wait for company."""


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What became of everything emitted: ``records == exported + failed + dropped + pending``."""

    steps: int = 0
    """Steps emitted."""
    records: int = 0
    """Records emitted: steps, trajectories, tool runs and scores."""
    exported: int = 0
    """Records in requests that the collector answered with success."""
    failed: int = 0
    """Records whose delivery failed after the exporter's retries."""
    dropped: int = 0
    """Records refused because the queue was full or closed."""
    pending: int = 0
    """Records still waiting or on their way."""
    faults: dict[str, int] = field(default_factory=dict)
    """What could not be recorded as it was meant, by reason."""

    @property
    def lost(self) -> int:
        """Return how many records will not reach the collector."""
        return self.failed + self.dropped


class Outbox(Generic[T]):
    """A bounded queue and the one daemon thread that empties it; the thread starts with the first record."""

    def __init__(self, delivery: Delivery[T], size: Callable[[T], int], config: OutboxConfig | None = None) -> None:
        self._delivery = delivery
        self._size = size
        self._config = config or OutboxConfig()
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """Start empty with a fresh lock and no thread: what a forked child does, its parent keeps the records."""
        self._changed = threading.Condition()
        self._queue: deque[tuple[T, int]] = deque()
        self._held_bytes = 0
        self._emitted = self._exported = self._failed = self._dropped = 0
        self._lost_at_flush = 0
        self._flushing = 0
        self._worker: threading.Thread | None = None
        self._delivery.reset()

    def put(self, record: T) -> None:
        """Queue a record, or drop and count it; never wait for the collector."""
        size = self._size(record)
        with self._changed:
            self._emitted += 1
            full = self._pending() > self._config.max_records or self._held_bytes + size > self._config.max_bytes
            if full or self._closed or not self._has_worker():
                self._dropped += 1
                return
            self._queue.append((record, size))
            self._held_bytes += size
            if len(self._queue) == 1 or self._is_due():
                self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait until all that was put before is delivered.

        Returns:
            True when that took less than ``timeout`` seconds and no record was lost since the previous flush.
        """
        with self._changed:
            target = self._emitted
            self._flushing += 1
            self._changed.notify_all()
            settled = self._changed.wait_for(lambda: self._emitted - self._pending() >= target, timeout)
            self._flushing -= 1
            lost = self._failed + self._dropped
            clean = lost == self._lost_at_flush
            self._lost_at_flush = lost
        return settled and clean

    def close(self, timeout: float) -> bool:
        """Flush, then stop the thread; what is still queued is dropped and counted."""
        flushed = self.flush(timeout)
        with self._changed:
            self._closed = True
            worker = self._worker
            self._changed.notify_all()
        self._delivery.close()
        if worker is not None:
            worker.join(1.0)
        with self._changed:
            self._dropped += len(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        return flushed

    def stats(self) -> Stats:
        """Return the counts of this outbox."""
        with self._changed:
            return Stats(
                records=self._emitted,
                exported=self._exported,
                failed=self._failed,
                dropped=self._dropped,
                pending=self._pending(),
            )

    def _pending(self) -> int:
        return self._emitted - self._exported - self._failed - self._dropped

    def _has_worker(self) -> bool:
        if self._worker is None:
            worker = threading.Thread(target=self._work, name="imitrace-outbox", daemon=True)
            try:
                worker.start()
            except RuntimeError:  # the interpreter is shutting down and starts no more threads
                return False
            self._worker = worker
        return True

    def _work(self) -> None:
        while batch := self._next_batch():
            try:
                accepted = self._delivery.send(batch)
            except Exception:  # an exporter's own bug is a failed delivery, not the end of all deliveries
                accepted = False
            with self._changed:
                if accepted:
                    self._exported += len(batch)
                else:
                    self._failed += len(batch)
                self._changed.notify_all()

    def _next_batch(self) -> list[T]:
        """Wait for a batch that is due; empty when the outbox is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            due = time.monotonic() + self._config.delay
            while not self._is_due() and (left := due - time.monotonic()) > 0:
                self._changed.wait(left)
            if self._closed:
                return []
            batch: list[T] = []
            taken = 0
            while self._queue and len(batch) < self._config.batch_records:
                if batch and taken + self._queue[0][1] > self._config.batch_bytes:
                    break
                record, size = self._queue.popleft()
                batch.append(record)
                taken += size
            self._held_bytes -= taken
            return batch

    def _is_due(self) -> bool:
        enough = len(self._queue) >= self._config.batch_records or self._held_bytes >= self._config.batch_bytes
        return enough or self._flushing > 0 or self._closed
