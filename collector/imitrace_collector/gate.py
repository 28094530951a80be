"""Let many threads through, or one alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Count who is inside, so that one may come in when nobody is and keep all others waiting."""

    def __init__(self) -> None:
        self._inside = 0
        self._closed = False
        self._changed = threading.Condition()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Come in beside others; wait while one is alone inside, or waits to be."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self, patience: float) -> Iterator[bool]:
        """Come in alone: True once nobody else is inside, False where somebody still is after ``patience`` seconds.

        Others wait outside meanwhile, so a short patience, tried again later, is kinder than a long one.
        """
        with self._changed:
            found = self._changed.wait_for(lambda: not self._closed, patience)
            if found:
                self._closed = True
                found = self._changed.wait_for(lambda: not self._inside, patience)
                if not found:
                    self._open()
        try:
            yield found
        finally:
            if found:
                with self._changed:
                    self._open()

    def _open(self) -> None:
        self._closed = False
        self._changed.notify_all()
