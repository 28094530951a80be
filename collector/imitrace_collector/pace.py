"""Let background work stand aside while requests are in hand, for both hold the interpreter's lock."""

import threading
import time
from collections.abc import Callable

_LOOK = 0.002
"""Seconds between two looks whether requests are still in hand."""
_LEAST, _CALM, _LATEST = 5.0, 1.0, 30.0

_NEWS = 0.3
"""How much the last portion counts in an estimate, beside all before."""

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


class Rest:
    """Choose when work that nobody waits for begins: in a pause of what comes in, or else late.

    What many requests brought is worked through in one go, and beside none of them; it costs the same, only afterwards.
    """

    def __init__(
        self,
        least: float = _LEAST,
        calm: float = _CALM,
        latest: float = _LATEST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Rest for no longer than asked.

        Args:
            least: seconds of a rest, at least.
            calm: for how many seconds nothing must have come in.
            latest: seconds after which work begins though something comes in all the time.
            clock: seconds.
        """
        self._least, self._calm, self._latest = least, calm, latest
        self._clock = clock
        self._came = float("-inf")
        self.begin()

    def begin(self, seconds: float = 0.0) -> None:
        """Begin a rest of so many seconds, or more."""
        now = self._clock()
        self._earliest = now + max(self._least, seconds)
        self._end = max(self._earliest, now + self._latest)

    def came(self) -> None:
        """Hear that something came in."""
        self._came = self._clock()

    def left(self) -> float:
        """Return the seconds that are left if nothing comes in meanwhile; none, or fewer, when it is over."""
        return min(max(self._earliest, self._came + self._calm), self._end) - self._clock()


class Speed:
    """Estimate how long work takes from how long it took lately."""

    def __init__(self) -> None:
        self._each: float | None = None

    def note(self, done: int, seconds: float) -> None:
        """Hear that so much was done in so many seconds."""
        if done:
            each = seconds / done
            self._each = each if self._each is None else self._each + _NEWS * (each - self._each)

    def seconds(self, amount: int) -> float | None:
        """Return about how long an amount takes; None before anything was done."""
        return None if self._each is None else self._each * amount
