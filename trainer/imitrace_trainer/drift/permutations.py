"""Deal whole trajectories anew between two samples, and say how likely what was found is by chance alone.

Steps of one trajectory depend on each other, so trajectories are dealt, never steps: under no drift every dealing is
as likely as the one that was seen, whatever the steps within a trajectory do (Fisher 1935; Lehmann and Romano 2005).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Dealings = npt.NDArray[np.float32]
"""1 where a trajectory is recent, shape (1 + draws, trajectories); the first row is how they really are."""

_TAIL: Final = 20
"""One over the share of dealings that the tail is fitted to."""
_FEWEST: Final = 10


@dataclass(frozen=True)
class Chance:
    """A statistic, and what chance makes of it."""

    value: float
    p: float
    mean: float
    """Of the statistic over the dealings."""

    @property
    def excess(self) -> float:
        """Return the statistic less what chance gives, at least 0: for squared gaps an estimate without bias."""
        return max(0.0, self.value - self.mean)


def deal(recent: npt.NDArray[np.bool_], draws: int, seed: int) -> Dealings:
    """Return how trajectories are, and drawn dealings with as many recent ones.

    Args:
        recent: which trajectories are recent, shape (trajectories,).
        draws: how many dealings.
        seed: draws them.
    """
    rng = np.random.default_rng(seed)
    found = np.zeros((1 + draws, len(recent)), dtype=np.float32)
    found[0] = recent
    count = int(recent.sum())
    keys = rng.random((draws, len(recent)), dtype=np.float32)
    chosen = np.argpartition(keys, count - 1, axis=1)[:, :count] if count else np.zeros((draws, 0), dtype=np.int64)
    found[np.arange(1, 1 + draws)[:, None], chosen] = 1
    return found


def chance(values: Floats) -> Chance:
    """Return how likely the first value is among the others, large ones being unlikely.

    Where a dealing reached it, the p value is the exact one, (1 + reached) / (1 + draws) (Phipson and Smyth 2010).
    Where none did, it is at most 1 / (1 + draws), and how much smaller is estimated by an exponential tail fitted to
    the largest twentieth (after Knijnenburg et al. 2009): squared gaps have such tails, other statistics lighter ones.
    The fitted mean is raised by two of its standard errors.
    """
    seen, dealt = float(values[0]), np.sort(values[1:])
    mean = float(dealt.mean())
    slack = 1e-9 * max(1.0, abs(seen))
    reached = int((dealt >= seen - slack).sum())
    p = (1 + reached) / (1 + len(dealt))
    largest = dealt[-max(_FEWEST, len(dealt) // _TAIL) :]
    if reached or len(largest) == len(dealt):
        return Chance(seen, p, mean)
    scale = float((largest - largest[0]).mean()) * (1 + 2 / math.sqrt(len(largest)))
    if scale <= 0:
        return Chance(seen, p, mean)
    tail = len(largest) / len(dealt) * math.exp(-(seen - float(largest[0])) / scale)
    return Chance(seen, min(p, tail), mean)


def holm(chances: Sequence[float]) -> list[float]:
    """Return p values corrected so that all together err as seldom as one would (Holm 1979), in their order."""
    order = sorted(range(len(chances)), key=lambda place: chances[place])
    corrected, least = [1.0] * len(chances), 0.0
    for rank, place in enumerate(order):
        least = max(least, min(1.0, chances[place] * (len(chances) - rank)))
        corrected[place] = least
    return corrected


def totals(values: Floats, owners: npt.NDArray[np.int64], trajectories: int) -> Floats:
    """Return the sum of the rows of each trajectory, shape (trajectories, columns).

    Args:
        values: one row a step, shape (steps, columns).
        owners: the number of each row's trajectory, shape (steps,).
        trajectories: how many there are.
    """
    found = np.zeros((trajectories, values.shape[1]))
    np.add.at(found, owners, values)
    return found


def mean_gaps(sums: Floats, weights: Floats, dealings: Dealings) -> Floats:
    """Return the mean over recent steps less that over the others, in each dealing, shape (1 + draws, columns).

    Args:
        sums: of each trajectory's rows, shape (trajectories, columns).
        weights: how many rows each has, shape (trajectories,).
        dealings: which are recent.
    """
    inside, count = dealings @ sums, (dealings @ weights)[:, None]
    outside, rest = sums.sum(axis=0) - inside, weights.sum() - count
    return np.asarray(inside / np.maximum(count, 1e-12) - outside / np.maximum(rest, 1e-12), dtype=np.float64)
