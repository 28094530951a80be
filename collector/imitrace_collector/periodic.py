"""Do something again and again, from a thread of its own."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from imitrace.exceptions import ImitraceError

_log = logging.getLogger(__name__)


class Periodic:
    """Call a function every so often, until it is stopped; what goes wrong is logged, counted and tried again."""

    def __init__(self, name: str, every: timedelta, act: Callable[[], None], *, first: timedelta | None = None) -> None:
        """Start the thread.

        Args:
            name: of the thread, and in the log.
            every: from the end of one call to the begin of the next.
            act: what to call.
            first: how long until the first call, where that is not ``every``.
        """
        self.done = 0
        """Calls that went well."""
        self.failed = 0
        self._name = name
        self._every = every
        self._first = every if first is None else first
        self._act = act
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"imitrace-{name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let a call that was begun end, and end the thread."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        pause = self._first
        while not self._over.wait(max(0.0, pause.total_seconds())):
            try:
                self._act()
                self.done += 1
            except (ImitraceError, OSError) as error:
                self.failed += 1
                _log.error("%s failed, trying again in %s: %s", self._name, self._every, error)
            pause = self._every
