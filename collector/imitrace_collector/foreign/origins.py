"""Say of each step from which spans it was made, and by which rule: what ``doctor --trace`` tells."""

from collections.abc import Iterable
from typing import NamedTuple

from imitrace_collector.foreign.readings import Reading


class Origin(NamedTuple):
    """Where one side of a step comes from."""

    side: str
    """``action``, ``state``, ``observation``, ``agent`` or ``tools``."""
    rule: str
    """By which rule, in words: an attribute's name, ``by id``, ``next request``."""
    trace_id: str | None
    span_id: str | None
    """The span that says it; None where nothing does."""
    logs: int
    """How many log records of that span were read."""


class StepOrigin(NamedTuple):
    """Where one step comes from."""

    trajectory_id: str
    step_index: int
    decision: str
    copies: tuple[str, ...]
    """Ids of spans that tell of the same model call and were not counted."""
    sides: tuple[Origin, ...]


def origin(side: str, found: tuple[str, Reading] | None) -> Origin:
    """Return where a side comes from: a rule and the span that says it, or that nothing does."""
    if found is None:
        return Origin(side, "not found", None, None, 0)
    rule, reading = found
    return Origin(side, rule, reading.row.trace_id, reading.row.span_id, len(reading.logs))


def span_ids(readings: Iterable[Reading]) -> tuple[str, ...]:
    """Return the ids of some spans."""
    return tuple(reading.row.span_id for reading in readings)
