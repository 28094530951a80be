"""Wait until a server is told to stop, whichever of its threads the kernel gives the signal to."""

import signal
import threading

_LOOK = 0.5
"""Seconds. Python runs handlers in the main thread, and another one that takes the signal doesn't wake it: without a
limit to its wait it would never hear of that."""


class StopSignals:
    """SIGINT and SIGTERM, noted from the moment that this is made on; for the main thread."""

    def __init__(self) -> None:
        """Note both from now on."""
        self._came = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._came.set())

    def wait(self) -> None:
        """Return once one has come."""
        while not self._came.wait(_LOOK):
            continue
