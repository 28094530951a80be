"""Run calls aside in one thread, each within a time limit and few at once: who asks goes on when an answer is late."""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

WAITING: Final = 8
"""Calls that may wait for the one that runs."""


@dataclass
class _Call(Generic[T]):
    run: Callable[[], T]
    done: threading.Event = field(default_factory=threading.Event)
    result: Any = None
    error: BaseException | None = None
    given_up: bool = False


class LimitedCalls:
    """One thread that answers calls in turn; it starts with the first and ends with the process.

    After a fork the child makes a new one.
    """

    def __init__(self, name: str, timeout: float) -> None:
        """Name the thread, and say how many seconds a call may take, its waiting included."""
        self._name = name
        self._timeout = timeout
        self._lock = threading.Lock()
        self._calls: queue.SimpleQueue[_Call[Any]] = queue.SimpleQueue()
        self._waiting = 0
        self._late: _Call[Any] | None = None
        self._thread: threading.Thread | None = None

    def call(self, run: Callable[[], T]) -> T:
        """Return what a function returns, run in the thread.

        Raises:
            TimeoutError: it took too long, an earlier one that did still runs, or too many wait.
            Exception: what the function raised.
        """
        asked: _Call[T] = _Call(run)
        with self._lock:
            if self._late is not None:
                raise TimeoutError("the clone is still busy with an earlier question that took too long")
            if self._waiting > WAITING:
                raise TimeoutError(f"the clone is overloaded: {self._waiting} questions wait")
            self._waiting += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
        self._calls.put(asked)
        if not asked.done.wait(self._timeout):
            with self._lock:
                if not asked.done.is_set():
                    asked.given_up = True
                    self._late = asked
                    raise TimeoutError(f"the clone took longer than {self._timeout:g} s")
        if asked.error is not None:
            raise asked.error
        result: T = asked.result
        return result

    def _work(self) -> None:
        while True:
            asked = self._calls.get()
            if not asked.given_up:
                try:
                    asked.result = asked.run()
                except BaseException as error:  # whatever it is, it is the asker's
                    asked.error = error
            with self._lock:
                self._waiting -= 1
                if self._late is asked:
                    self._late = None
                asked.done.set()
            del asked
