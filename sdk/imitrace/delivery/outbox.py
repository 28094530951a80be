"""Hold records between the agent and the collector: bounded, sent by one thread, every record's fate counted.

OpenTelemetry's own batch processor neither keeps the time limit of a flush nor says how many records it lost; a
demonstration that is lost in silence is a wrong one, so the queue is ours.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
_LAST_SECONDS = 1.0


class Receipt(NamedTuple):
    """What became of a batch that was handed over; the rest of it is kept on disk."""

    exported: int = 0
    failed: int = 0
    dropped: int = 0


class Settled(NamedTuple):
    """What became of the records that a delivery kept on disk."""

    taken: int = 0
    exported: int = 0
    failed: int = 0
    recovered: int = 0


class Delivery(Protocol[T_contra]):
    """What takes batches to the collector, to disk, or to memory in tests."""

    def send(self, batch: Sequence[T_contra]) -> Receipt | bool:
        """Deliver a batch; return whether all of it was accepted, or how much of it was."""

    def close(self) -> None:
        """Break off a delivery in progress and refuse later ones."""

    def reset(self) -> None:
        """Forget connections: called in a forked child, which must not share its parent's sockets."""


@runtime_checkable
class Backlog(Protocol):
    """A delivery that keeps records on disk and delivers them from there by itself."""

    def settled(self) -> Settled:
        """Return the counts of what was kept."""

    def drain(self, timeout: float) -> bool:
        """Wait until everything on disk is delivered; return whether that took less than ``timeout`` seconds."""


@dataclass(frozen=True, kw_only=True)
class OutboxConfig:
    """The bounds of an outbox."""

    max_records: int = 8192
    """Records held, in the queue and on their way; the next one is dropped and counted."""
    max_bytes: int = 64 * 2**20
    """Bytes of payload held, in the queue and on their way; the next record is dropped and counted."""
    batch_records: int = 512
    """Records in one request at most; a full batch is sent at once."""
    batch_bytes: int = 2 * 2**20
    """Bytes of payload in one request, unless a single record is larger; many receivers take 4 MiB at most."""
    delay: float = 1.0
    """Seconds a record may wait for company."""


@dataclass(frozen=True, kw_only=True)
class Stats:
    """What became of everything emitted: ``records == exported + failed + dropped + pending + spooled``."""

    steps: int = 0
    """Steps emitted."""
    records: int = 0
    """Records emitted: steps, trajectories, tool runs and scores."""
    exported: int = 0
    """Records that the collector answered for with success."""
    failed: int = 0
    """Records that the collector refused, or that could not be delivered within the retries."""
    dropped: int = 0
    """Records refused because the queue, or the spool, was full or closed."""
    pending: int = 0
    """Records still waiting in memory or on their way from there."""
    spooled: int = 0
    """Records that wait on disk; they are not lost when the process ends."""
    recovered: int = 0
    """Records delivered that an earlier process had left on disk; they are no part of ``records``."""
    redacted: dict[str, int] = field(default_factory=dict)
    """What was cut from payloads before they left the process, by rule."""
    faults: dict[str, int] = field(default_factory=dict)
    """What could not be recorded as it was meant, by reason."""

    @property
    def lost(self) -> int:
        """Return how many records will not reach the collector."""
        return self.failed + self.dropped


def text_bytes(text: str) -> int:
    """Return the bytes that a text takes on the wire."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))


def payload_bytes(attributes: Mapping[str, object] | None) -> int:
    """Return the bytes that the text among a record's attributes takes on the wire."""
    size = 0
    for value in attributes.values() if attributes else ():
        if isinstance(value, str):
            size += text_bytes(value)
        elif isinstance(value, list | tuple):
            size += sum(text_bytes(item) for item in value if isinstance(item, str))
    return size


class Outbox(Generic[T]):
    """A bounded queue and the one daemon thread that empties it; the thread starts with the first record."""

    def __init__(
        self,
        delivery: Delivery[T],
        size: Callable[[T], int],
        config: OutboxConfig | None = None,
        prepare: Callable[[T], object] = lambda record: record,
    ) -> None:
        """Take what to deliver to.

        Args:
            delivery: takes the batches.
            size: bytes of a record's payload.
            config: the bounds.
            prepare: finishes a record before it is delivered, where the agent does not wait for it.
        """
        self._prepare = prepare
        self._delivery = delivery
        self._backlog = delivery if isinstance(delivery, Backlog) else None
        self._size = size
        self._config = config or OutboxConfig()
        self._max_records, self._max_bytes = self._config.max_records, self._config.max_bytes
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """Start empty with a fresh lock and no thread: what a forked child does, its parent keeps the records."""
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._finished = threading.Condition(self._lock)
        self._queue: deque[tuple[T, int]] = deque()
        self._queued_bytes = self._held_bytes = 0
        self._queued = self._done = 0
        self._emitted = self._exported = self._failed = self._dropped = 0
        self._lost_at_flush = 0
        self._flushing = 0
        self._asleep = False
        self._worker: threading.Thread | None = None
        self._delivery.reset()

    def put(self, record: T) -> bool:
        """Queue a record, or drop and count it, and return whether it was queued; never wait for the collector."""
        size = self._size(record)
        with self._lock:
            self._emitted += 1
            held_bytes = self._held_bytes + size
            full = self._queued - self._done >= self._max_records or held_bytes > self._max_bytes
            if full or self._closed or (self._worker is None and not self._start_worker()):
                self._dropped += 1
                return False
            self._queue.append((record, size))
            self._queued += 1
            self._held_bytes = held_bytes
            self._queued_bytes += size
            if self._asleep and (len(self._queue) == 1 or self._is_due()):
                self._asleep = False
                self._wake.notify()
            return True

    def flush(self, timeout: float) -> bool:
        """Wait until all that was put before is delivered, also from the disk.

        Returns:
            True when that took less than ``timeout`` seconds and no record was lost since the previous flush.
        """
        until = time.monotonic() + timeout
        with self._lock:
            target = self._queued
            self._flushing += 1
            self._wake.notify()
            settled = self._finished.wait_for(lambda: self._done >= target, timeout)
            self._flushing -= 1
        if self._backlog is not None:
            settled = self._backlog.drain(max(0.0, until - time.monotonic())) and settled
        stats = self.stats()
        with self._lock:
            clean = stats.lost == self._lost_at_flush
            self._lost_at_flush = stats.lost
        return settled and clean

    def close(self, timeout: float) -> bool:
        """Flush, then stop the thread; what is still queued goes to disk, or is dropped and counted."""
        flushed = self.flush(timeout)
        with self._lock:
            self._closed = True
            worker = self._worker
            self._wake.notify()
        if self._backlog is not None and worker is not None:
            worker.join(_LAST_SECONDS)
        self._delivery.close()
        if worker is not None:
            worker.join(_LAST_SECONDS)
        with self._lock:
            self._dropped += len(self._queue)
            self._done += len(self._queue)
            self._queue.clear()
            self._finished.notify_all()
        return flushed

    def stats(self) -> Stats:
        """Return the counts of this outbox."""
        with self._lock:
            kept = self._settled()
            exported, failed = self._exported + kept.exported, self._failed + kept.failed
            spooled = kept.taken - kept.exported - kept.failed
            return Stats(
                records=self._emitted,
                exported=exported,
                failed=failed,
                dropped=self._dropped,
                pending=self._emitted - exported - failed - self._dropped - spooled,
                spooled=spooled,
                recovered=kept.recovered,
            )

    def _settled(self) -> Settled:
        return Settled() if self._backlog is None else self._backlog.settled()

    def _start_worker(self) -> bool:
        worker = threading.Thread(target=self._work, name="imitrace-outbox", daemon=True)
        try:
            worker.start()
        except RuntimeError:  # the interpreter is shutting down and starts no more threads
            return False
        self._worker = worker
        return True

    def _work(self) -> None:
        while batch := self._next_batch():
            receipt = self._hand_over([record for record, _ in batch])
            with self._lock:
                self._exported += receipt.exported
                self._failed += receipt.failed
                self._dropped += receipt.dropped
                self._done += len(batch)
                self._held_bytes -= sum(size for _, size in batch)
                self._finished.notify_all()

    def _hand_over(self, batch: list[T]) -> Receipt:
        before = self._settled().taken
        try:
            for record in batch:
                self._prepare(record)
            receipt = self._delivery.send(batch)
        except Exception:  # an exporter's own bug is a failed delivery, not the end of all deliveries
            return Receipt(failed=len(batch) - (self._settled().taken - before))
        if isinstance(receipt, Receipt):
            return receipt
        return Receipt(exported=len(batch)) if receipt else Receipt(failed=len(batch))

    def _next_batch(self) -> list[tuple[T, int]]:
        """Wait for a batch that is due; empty when the outbox is closed and nothing is left to save."""
        with self._lock:
            while not self._queue and not self._closed:
                self._sleep(None)
            due = time.monotonic() + self._config.delay
            while not self._is_due() and (left := due - time.monotonic()) > 0:
                self._sleep(left)
            if self._closed and self._backlog is None:
                return []
            return self._take_batch()

    def _sleep(self, timeout: float | None) -> None:
        self._asleep = True
        self._wake.wait(timeout)
        self._asleep = False

    def _take_batch(self) -> list[tuple[T, int]]:
        batch: list[tuple[T, int]] = []
        taken = 0
        while self._queue and len(batch) < self._config.batch_records:
            if batch and taken + self._queue[0][1] > self._config.batch_bytes:
                break
            taken += self._queue[0][1]
            batch.append(self._queue.popleft())
        self._queued_bytes -= taken
        return batch

    def _is_due(self) -> bool:
        enough = len(self._queue) >= self._config.batch_records or self._queued_bytes >= self._config.batch_bytes
        return enough or self._flushing > 0 or self._closed
