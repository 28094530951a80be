"""Let background work stand aside while requests are in hand, for both hold the interpreter's lock."""

import threading
import time
from collections.abc import Callable

_LOOK = 0.002
"""Seconds between two looks whether requests are still in hand."""

GiveWay = Callable[[], None]
"""Called every few milliseconds by whoever works in the background; returns when it may go on."""


def never() -> None:
    """Go on at once."""


class Pace:
    """Hold a background thread up while something more urgent is at work, but never for too long.

    The interpreter gives its lock to one thread at a time and knows no priorities: beside a thread that derives,
    a commit took three times as long, and one acknowledgement in a hundred half a second.
    """

    def __init__(self, busy: Callable[[], bool], share: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with no work done.

        Args:
            busy: whether something more urgent is at work.
            share: how many times as long as it has worked a thread is held up, at most.
            clock: seconds.
        """
        self._busy = busy
        self._clock = clock
        self.share = share
        self._stopped = threading.Event()
        self.begin()

    def begin(self) -> None:
        """Begin a portion of work: what was worked before counts no more."""
        self._began = self._clock()
        self._waited = 0.0

    @property
    def worked(self) -> float:
        """Return the seconds worked in this portion."""
        return self._clock() - self._began - self._waited

    def give_way(self) -> None:
        """Wait while something more urgent is at work, and patience lasts."""
        while self._busy() and self._waited < self.share * self.worked and not self._stopped.is_set():
            began = self._clock()
            self._stopped.wait(_LOOK)
            self._waited += self._clock() - began

    def stop(self) -> None:
        """Never wait again."""
        self._stopped.set()
