"""Choose what a trace goes on from, where several said the same: the nearest before it, and one from one.

Only what is near in time counts, so that it costs as much among a million equal conversations as among a hundred, and
what comes late changes only what is near it.
"""

from collections.abc import Sequence
from typing import NamedTuple

NEAR = 128
"""How many others that said, or saw, the same are looked at."""
FORKS = 8
"""How many more may go on from the same, at most: an answer that was asked for again, an edited message."""


class End(NamedTuple):
    """One side of a key, in the order in which they are looked at."""

    began: int
    trace_id: str
    provides: bool
    """Whether this trace said it, else it saw it: what it sees comes before what it says."""


def goes_on_from(ends: Sequence[End], place: int) -> str | None:
    """Return the trace that the one at a place goes on from, or None.

    It is the last before it that nobody else went on from, as brackets are paired; else the nearest before it, if not
    too many did.

    Args:
        ends: of one key, in order; ``NEAR`` before the place are enough.
        place: of one that saw it.
    """
    others = 0
    nearest = None
    for end in reversed(ends[max(0, place - NEAR) : place]):
        if not end.provides:
            others += 1
            continue
        if not others:
            return end.trace_id
        if nearest is None and others <= FORKS:
            nearest = end.trace_id
        others -= 1
    return nearest


def is_about(ends: Sequence[End], place: int) -> str | None:
    """Return the trace that a score at a place names: the nearest before it, else the nearest after it; or None.

    Args:
        ends: of one key, in order; ``NEAR`` on both sides of the place are enough.
        place: of the score.
    """
    before = (end.trace_id for end in reversed(ends[max(0, place - NEAR) : place]) if end.provides)
    after = (end.trace_id for end in ends[place + 1 : place + 1 + NEAR] if end.provides)
    return next(before, None) or next(after, None)
