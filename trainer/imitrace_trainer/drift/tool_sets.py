"""Find tools that are offered no more, offered anew, or under another contract; exact, by trajectory."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from imitrace_trainer.tool_changes import changes

_RARE: Final = 0.05


@dataclass(frozen=True)
class Offered:
    """What the trajectories of a side offered."""

    trajectories: int
    """Those of which that is known."""
    contracts: Mapping[tuple[str, str], int]
    """By tool and hash of its definition: how many trajectories offered it."""
    tools: Mapping[str, int]
    """By tool: how many trajectories offered it, whatever its definition."""
    since: Mapping[str, int]
    """By tool: how many trajectories ended after the last that offered it."""


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
    cohorts: tuple[str, ...] = ()
    """Those whose training called it."""

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


def tool_shifts(old: Offered, new: Offered, definitions: Mapping[str, Mapping[str, Any]]) -> list[ToolShift]:
    """Return what became of the tools that the newest traffic, or training, does not offer under a definition.

    Args:
        old: what training's trajectories offered.
        new: the same of recent traffic.
        definitions: by hash.
    """
    return [*_vanished(old, new), *_unknown(old, new, definitions)]


def _vanished(old: Offered, new: Offered) -> Iterator[ToolShift]:
    """Yield the tools that so many of the newest trajectories lack that chance is unlikely, for all tools together."""
    every = old.trajectories + new.trajectories
    for tool, known in sorted(old.tools.items()):
        without = new.since.get(tool, new.trajectories)
        held = known + new.tools.get(tool, 0)
        chance = min(1.0, len(old.tools) * absent_by_chance(every, without, held))
        if without and chance <= _RARE:
            told = f"offered in {known} of {old.trajectories} trajectories of training, in none of the newest {without}"
            yield ToolShift(tool, "vanished", held / (every - without), chance, told, breaking=True)


def _unknown(old: Offered, new: Offered, definitions: Mapping[str, Mapping[str, Any]]) -> Iterator[ToolShift]:
    for (tool, schema), count in sorted(new.contracts.items()):
        if (tool, schema) in old.contracts:
            continue
        chance = absent_by_chance(old.trajectories + new.trajectories, old.trajectories, count)
        share, of = count / new.trajectories, f"{count} of {new.trajectories} recent trajectories"
        known = [(held, name) for (other, name), held in old.contracts.items() if other == tool]
        if not known:
            yield ToolShift(tool, "new", share, chance, f"offered in {of}, in none of training", breaking=False)
            continue
        differences = changes(definitions[max(known)[1]], definitions[schema])
        told = f"another contract in {of}: {'; '.join(map(str, differences))}"
        breaks = any(change.breaking for change in differences)
        yield ToolShift(tool, "changed", share, chance, told, breaking=breaks)


def _log_ways(of: int, take: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(take + 1) - math.lgamma(of - take + 1) if 0 <= take <= of else -math.inf
