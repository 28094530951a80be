"""Carry the trajectory into the threads, pools and processes that are started inside it.

Python hands no context to a new thread, and the workers of a pool keep that of whoever started them. So the standard
library's ways to start work are wrapped once, when tracing is configured: what is handed over runs in the trajectory of
the code that handed it over, and in none if that ran in none. While tracing is off the wrappers do nothing.
"""

import concurrent.futures.process
import concurrent.futures.thread
import functools
import importlib
import multiprocessing.pool
import multiprocessing.process
import threading
from collections.abc import Callable
from typing import Any

from imitrace.context import Trajectory, current, entered, joined_by_worker
from imitrace.provider import active, configured_by
from imitrace.tracer import inject

OWN_THREADS = "imitrace-"
"""How the names of our own threads begin: they belong to no trajectory."""

_TAKE_A_FUNCTION_FIRST: tuple[tuple[type, str], ...] = (
    (concurrent.futures.thread.ThreadPoolExecutor, "submit"),
    (concurrent.futures.process.ProcessPoolExecutor, "submit"),
    (multiprocessing.pool.Pool, "apply_async"),
    (multiprocessing.pool.Pool, "_map_async"),
    (multiprocessing.pool.Pool, "imap"),
    (multiprocessing.pool.Pool, "imap_unordered"),
)


class Carried:
    """A function that runs in the trajectory in which it was handed over, in this process or in another."""

    def __init__(self, function: Callable[..., Any], trajectory: Trajectory | None) -> None:
        self._function = function
        self._trajectory = trajectory
        self._headers: dict[str, str] | None = None

    def addressed(self) -> "Carried":
        """Note now where in the trajectory it was handed over; a pool would ask later, when it sends it."""
        self._headers = _headers_in(self._trajectory)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function."""
        with entered(self._trajectory):
            return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        headers = self._headers if self._headers is not None else self.addressed()._headers
        return Joining, (self._function, headers, configured_by())


class Joining:
    """The same in another process: what it records there becomes a part of the trajectory."""

    def __init__(self, function: Callable[..., Any], headers: dict[str, str], settings: dict[str, Any]) -> None:
        self._function = function
        self._headers = headers
        self._settings = settings

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function, in a process that is configured as the first one was."""
        _configure(self._settings)
        with entered(None):
            if not self._headers:
                return self._function(*args, **kwargs)
            with joined_by_worker(self._headers):
                return self._function(*args, **kwargs)


class Passenger:
    """What travels in a process object, and enters the trajectory when it is unpacked in a new interpreter."""

    def __init__(self, trajectory: Trajectory | None) -> None:
        self._headers = _headers_in(trajectory)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self._headers, configured_by())


def _headers_in(trajectory: Trajectory | None) -> dict[str, str]:
    """Return what tells another process where in the trajectory this is; nothing outside of one."""
    with entered(trajectory):
        return dict(inject())


def _arrive(headers: dict[str, str], settings: dict[str, Any]) -> None:
    """Stay in the trajectory until the process ends: it was started for this alone."""
    _configure(settings)
    if headers and active() is not None:
        joined_by_worker(headers).__enter__()


def _configure(settings: dict[str, Any]) -> None:
    if settings and active() is None:
        importlib.import_module("imitrace").configure(**settings)


@functools.cache
def carry_into_workers() -> None:
    """Wrap the standard library's ways to start work, once in a process."""
    for kind, name in _TAKE_A_FUNCTION_FIRST:
        to_processes = kind is not concurrent.futures.thread.ThreadPoolExecutor
        setattr(kind, name, _carrying(getattr(kind, name), to_processes))
    start_thread = threading.Thread.start
    start_process = multiprocessing.process.BaseProcess.start

    @functools.wraps(start_thread)
    def start(self: threading.Thread) -> None:
        trajectory = current()
        if trajectory is not None and active() is not None and not self.name.startswith(OWN_THREADS):
            self.run = Carried(self.run, trajectory)  # type: ignore[method-assign]  # of this one thread
        start_thread(self)

    @functools.wraps(start_process)
    def start_child(self: Any) -> None:
        if active() is not None:
            self._imitrace_passenger = Passenger(current())
        start_process(self)

    threading.Thread.start = start  # type: ignore[method-assign]
    multiprocessing.process.BaseProcess.start = start_child  # type: ignore[method-assign]


def _carrying(method: Callable[..., Any], to_processes: bool) -> Callable[..., Any]:
    @functools.wraps(method)
    def handed_over(self: Any, *args: Any, **kwargs: Any) -> Any:
        if active() is not None:
            if args:
                args = (_carried(args[0], to_processes), *args[1:])
            elif "func" in kwargs:
                kwargs["func"] = _carried(kwargs["func"], to_processes)
        return method(self, *args, **kwargs)

    return handed_over


def _carried(function: Callable[..., Any], to_processes: bool) -> Carried:
    carried = Carried(function, current())
    return carried.addressed() if to_processes else carried
