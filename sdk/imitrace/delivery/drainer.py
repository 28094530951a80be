"""Deliver what lies in a spool, oldest first, by one daemon thread that never gives up."""

import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping

from imitrace.delivery.outbox import Settled
from imitrace.delivery.sender import Sender
from imitrace.delivery.spool import Segment, Spool, SpoolConfig, Stored
from imitrace.delivery.transports import Answer, Signal
from imitrace.faults import Faults

_LOOK_AGAIN = 10.0
_LAST_SECONDS = 1.0


class Drainer:
    """A spool and the thread that empties it, shared by the deliveries of both signals."""

    def __init__(
        self, config: SpoolConfig, make_senders: Callable[[], Mapping[Signal, Sender]], faults: Faults
    ) -> None:
        self._config = config
        self._make_senders = make_senders
        self._faults = faults
        self._spool = Spool(config, faults)
        self.reset()

    def reset(self) -> None:
        """Start anew with files of one's own: what a forked child does, its parent keeps the old ones."""
        self._spool.forget()
        self._spool = Spool(self._config, self._faults)
        self._senders = self._make_senders()
        self._open = set(self._senders)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._taken: Counter[Signal] = Counter()
        self._exported: Counter[Signal] = Counter()
        self._failed: Counter[Signal] = Counter()
        self._recovered: Counter[Signal] = Counter()
        self._asked = self._answered = 0
        self._thread: threading.Thread | None = None

    def keep(self, signal: Signal, records: int, body: bytes) -> bool:
        """Write a request to the disk; return False when the spool is full or closed.

        Raises:
            OSError: the disk is full or the folder can't be written.
        """
        if signal not in self._open:
            return False
        with self._lock:
            self._taken[signal] += records  # before the thread can deliver them
        kept = False
        try:
            kept = self._spool.append(signal, records, body)
        finally:
            with self._lock:
                if not kept:
                    self._taken[signal] -= records
                self._asked += 1
                self._start()
                self._changed.notify_all()
        if not kept:
            self._faults.count("spool_full", f"{self._config.folder} has no room for {len(body)} bytes")
        return kept

    def settled(self, signal: Signal) -> Settled:
        """Return the counts of one signal."""
        with self._lock:
            return Settled(
                taken=self._taken[signal],
                exported=self._exported[signal],
                failed=self._failed[signal] + self._spool.vanished[signal],
                recovered=self._recovered[signal],
            )

    def drain(self, timeout: float) -> bool:
        """Wait until nothing is left to deliver, also of other processes that have died."""
        with self._lock:
            if self._thread is None and (self._spool.is_empty() or not self._start()):
                return self._spool.is_empty()
            self._asked += 1
            asked = self._asked
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._answered >= asked, timeout)

    def close(self, signal: Signal) -> None:
        """Take no more of ``signal``; with the last one, stop and leave the rest on disk."""
        with self._lock:
            self._open.discard(signal)
            if self._open:
                return
            thread = self._thread
            self._changed.notify_all()
        for sender in self._senders.values():
            sender.close()
        if thread is None:
            self._spool.close()
        else:
            thread.join(_LAST_SECONDS)

    def _start(self) -> bool:
        if self._thread is None and self._open:
            thread = threading.Thread(target=self._work, name="imitrace-spool", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is shutting down; the next process delivers what is on disk
                return False
            self._thread = thread
        return self._thread is not None

    def _work(self) -> None:
        try:
            while self._open:
                with self._lock:
                    asked = self._asked
                emptied = False
                with self._faults.guard("spool_unreadable"):
                    emptied = self._deliver_all()
                self._rest(asked, emptied)
        finally:
            self._spool.close()

    def _rest(self, asked: int, emptied: bool) -> None:
        """Say that all is delivered that was there when ``asked`` was read, and wait for more."""
        with self._lock:
            if not self._open:
                return
            if emptied:
                self._answered = asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._asked > asked or not self._open, _LOOK_AGAIN)

    def _deliver_all(self) -> bool:
        while self._open and (found := self._spool.oldest()):
            segment, request = found
            answer = self._senders[request.signal].send(request.body, request.records, math.inf)
            if answer.verdict == "later":  # closed
                return False
            if answer.verdict == "refused":
                self._spool.set_aside(request)
            segment.acknowledge(request)
            self._count(segment, request, answer)
        return True

    def _count(self, segment: Segment, request: Stored, answer: Answer) -> None:
        lost = request.records if answer.verdict == "refused" else answer.rejected
        with self._lock:
            if segment.own:
                self._exported[request.signal] += request.records - lost
                self._failed[request.signal] += lost
            else:
                self._recovered[request.signal] += request.records - lost
