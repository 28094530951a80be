"""Keep a collector's process small while requests come and go."""

import ctypes
import gc

_GARBAGE = 50_000, 20, 20
"""Requests are many objects without cycles: by Python's own thresholds, collecting took half of the CPU of reading."""

# glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_ARENAS = 2
_APART = 256 * 1024
_KEPT = 8 * 1024 * 1024
"""Free memory that an arena keeps for the next request: by itself glibc gives it back, and page faults for it took a
twelfth of the CPU of reading and writing."""


def keep_small() -> None:
    """Collect garbage seldom, and have glibc give the memory of large requests back as soon as they are done.

    By itself glibc raises the size from which it maps memory apart to that of the largest request seen, and keeps an
    arena for every thread: under overload a sixth of the process was free memory that nobody got back. Elsewhere than
    on glibc only the garbage is seen to.

    Source: https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    gc.set_threshold(*_GARBAGE)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
        mallopt(_M_MMAP_THRESHOLD, _APART)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
