"""Play days of traffic, without drift and with a shift that begins on a day, and check on each of them."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from drifting.populations import Population
from imitrace_trainer.drift.asking import Asked
from imitrace_trainer.drift.checking import tool_changes
from imitrace_trainer.drift.comparisons import compare, corrected
from imitrace_trainer.drift.config import DriftConfig
from imitrace_trainer.drift.sequential import level
from imitrace_trainer.drift.traffic import Traffic
from imitrace_trainer.tool_ledger import ToolRules

WINDOW = 7
"""Days."""
EARLIER = 7
"""Looks that a champion had before a shift begins."""
SHIFTS: dict[str, tuple[str, float, float]] = {
    "new intent 5 %": ("new intent", 0.05, 0.0),
    "new intent 10 %": ("new intent", 0.1, 0.0),
    "new intent 20 %": ("new intent", 0.2, 0.0),
    "capital letters": ("capital letters", 1.0, 0.0),
    "typing errors": ("typing errors", 1.0, 0.0),
    "policy change": ("policy", 1.0, 0.0),
    "retired tool": ("retired tool", 1.0, 0.0),
    "slow drift": ("new intent", 0.0, 0.02),
}
"""By shift: the kind of trajectories, their share from the first day on, and by how much it grows each day."""

_SHIFTED = 1_000

Picks = list[tuple[str, str]]


def shifts(*, quick: bool) -> list[str]:
    """Return the names of the shifts that are played."""
    return list(SHIFTS)[:2] if quick else list(SHIFTS)


def shifted_seed(number: int) -> int:
    """Return the seed of a stream with a shift, which no stream without one has."""
    return _SHIFTED + number


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is played."""

    streams: int
    shifted: int
    checks: int
    after: int
    """Checks after a shift has begun."""
    a_day: int
    reference: int
    draws: int


@dataclass(frozen=True)
class Day:
    """What a check of a day has before it."""

    reference: tuple[Traffic, Asked]
    recent: tuple[Traffic, Asked]


def days(
    population: Population, size: Size, seed: int, shift: tuple[str, float, float] | None, checks: int
) -> Iterator[Day]:
    """Yield the checks of a stream: a window of usual days before them, then those of the shift, if there is one.

    Training's trajectories and each day's are drawn from the same ones with replacement, so that without a shift there
    is none.
    """
    rng = np.random.default_rng(seed)
    reference = population.sample(_drawn(population, size.reference, rng, "usual", 0.0), "training")
    past = [_drawn(population, size.a_day, rng, "usual", 0.0) for _ in range(WINDOW - 1)]
    kind, first, more = shift or ("usual", 0.0, 0.0)
    for number in range(checks):
        past.append(_drawn(population, size.a_day, rng, kind, min(1.0, first + more * number)))
        yield Day(reference, population.sample([pick for day in past[-WINDOW:] for pick in day], "recent"))


def _drawn(population: Population, count: int, rng: np.random.Generator, kind: str, share: float) -> Picks:
    found: Picks = []
    for _ in range(count):
        chosen = kind if rng.random() < share else "usual"
        names = population.kinds[chosen].names
        found.append((chosen, names[int(rng.integers(len(names)))]))
    return found


def alarms(day: Day, config: DriftConfig, look: int) -> list[str]:
    """Return which tests say drift at a look."""
    sides, asked = (day.reference[0], day.recent[0]), (day.reference[1], day.recent[1])
    broken = [shift for shift in tool_changes(*sides, ToolRules()) if shift.breaking]
    tests, chances = corrected(compare(sides, asked, config), [shift.p for shift in broken])
    limit = level(config.alpha, look)
    told = [f"tool {shift.kind}" for shift, p in zip(broken, chances, strict=True) if p <= limit]
    return [*told, *(test.name for test in tests if test.drifts(limit))]


def played(
    population: Population, size: Size, seed: int, shift: tuple[str, float, float] | None, checks: int
) -> tuple[list[list[str]], float]:
    """Return the tests that said drift at each check, up to the first alarm after a shift, and seconds a check."""
    config = DriftConfig(draws=size.draws)
    found: list[list[str]] = []
    began = time.monotonic()
    first = 1 if shift is None else 1 + EARLIER
    for number, day in enumerate(days(population, size, seed, shift, checks), first):
        found.append(alarms(day, config, number))
        if shift is not None and found[-1]:
            break
    return found, (time.monotonic() - began) / len(found)
