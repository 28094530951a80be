"""Find tools that are offered no more, offered anew, or under another contract; exact, by trajectory."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from imitrace_trainer.tool_changes import changes

Offered = Mapping[tuple[str, str], int]
"""By tool and hash of its definition: how many trajectories offered it."""


@dataclass(frozen=True)
class ToolShift:
    """What became of a tool."""

    tool: str
    kind: Literal["vanished", "new", "changed"]
    share: float
    """Of the trajectories of the side that knows it."""
    p: float
    """How likely it is that chance alone kept it out of the other side."""
    text: str
    breaking: bool
    """Whether calls that training taught may not be possible any more."""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)


def absent_by_chance(trajectories: int, of_one: int, with_it: int) -> float:
    """Return the chance that none of ``of_one`` trajectories has what ``with_it`` of all have (Fisher 1935).

    Args:
        trajectories: all of both sides.
        of_one: those of the side without it.
        with_it: those of the other side that have it.
    """
    others = trajectories - of_one
    if with_it > others:
        raise ValueError(f"{with_it} of {others} trajectories have it, allowed: 0 to {others}")
    return math.exp(_log_ways(trajectories - with_it, of_one) - _log_ways(trajectories, of_one))


def tool_shifts(
    before: tuple[Offered, int], now: tuple[Offered, int], definitions: Mapping[str, Mapping[str, Any]]
) -> list[ToolShift]:
    """Return what became of the tools that only one side offers under a definition.

    Args:
        before: what training's trajectories offered, and how many there are.
        now: the same of recent traffic.
        definitions: by hash.
    """
    (old, some), (new, others) = before, now
    found = []
    gone = {tool for tool, _ in old} - {tool for tool, _ in new}
    for tool in sorted(gone):
        count = max(held for (name, _), held in old.items() if name == tool)
        chance = absent_by_chance(some + others, others, count)
        told = f"offered in {count} of {some} trajectories of training, in none of {others} since"
        found.append(ToolShift(tool, "vanished", count / some, chance, told, breaking=True))
    for (tool, schema), count in sorted(new.items()):
        if (tool, schema) in old:
            continue
        chance, share = absent_by_chance(some + others, some, count), count / others
        known = [(held, name) for (other, name), held in old.items() if other == tool]
        if not known:
            told = f"offered in {count} of {others} recent trajectories, in none of training"
            found.append(ToolShift(tool, "new", share, chance, told, breaking=False))
            continue
        differences = changes(definitions[max(known)[1]], definitions[schema])
        told = f"another contract in {count} of {others} recent trajectories: {'; '.join(map(str, differences))}"
        breaks = any(change.breaking for change in differences)
        found.append(ToolShift(tool, "changed", share, chance, told, breaking=breaks))
    return found


def _log_ways(of: int, take: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(take + 1) - math.lgamma(of - take + 1) if 0 <= take <= of else -math.inf
