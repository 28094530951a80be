"""Send what is left when the process ends: at exit, on SIGTERM, and at the end of a multiprocessing child."""

import atexit
import functools
import multiprocessing.util
import os
import signal
import threading
from types import FrameType

from imitrace.context import end_open
from imitrace.provider import EXIT_SECONDS, shutdown


def finish() -> None:
    """End what is open and deliver everything, within the time that ``shutdown`` allows."""
    end_open()
    shutdown()


@functools.cache
def finish_at_exit() -> None:
    """Call ``finish`` however the process ends, but for SIGKILL; once in a process.

    A SIGTERM that the application handles itself is left to it.
    """
    atexit.register(finish)
    _finish_child(None)  # this may be a child of multiprocessing itself, which ends without atexit
    multiprocessing.util.register_after_fork(finish_at_exit, _finish_child)
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _finish_and_die)


def _finish_child(_: object) -> None:
    """Let a child of multiprocessing, which forgets its parent's finalizers, finish too."""
    multiprocessing.util.Finalize(None, finish, exitpriority=0)


def _finish_and_die(number: int, frame: FrameType | None) -> None:
    """Finish in another thread, since this one may hold a lock of ours just now, and die of the signal all the same."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends it at once
    finishing = threading.Thread(target=finish, name="imitrace-finish", daemon=True)
    finishing.start()
    finishing.join(EXIT_SECONDS + 1)
    os.kill(os.getpid(), number)
