"""Bet against a promise that a rate is at most so high; whoever wins much has shown that it is broken.

A fortune of 1 is put, in equal parts, on fixed bets. Each trajectory multiplies a part by 1 + bet (disagreements - rate
x decisions). While the promise holds no bet is expected to win, whatever came before, so the fortune ever reaches
1 / alpha with probability at most alpha (Ville 1939), however often is looked and whenever is stopped. After
Waudby-Smith and Ramdas (2024), Estimating means of bounded random variables by betting,
https://arxiv.org/abs/2010.09686, with whole trajectories for observations, since their decisions depend on each other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MOST: Final = 20
"""Decisions of a trajectory that count, the first: more would make every bet small."""
_SHARES: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""What a trajectory of ``MOST`` decisions without a disagreement takes from each part."""


@dataclass(frozen=True, kw_only=True)
class Fortune:
    """How a bet stands."""

    logs: tuple[float, ...] = (0.0,) * len(_SHARES)
    """Logarithms of the parts, each 1 in the beginning."""
    trajectories: int = 0
    decisions: int = 0
    disagreements: int = 0

    @property
    def size(self) -> float:
        """Return the fortune, 1 in the beginning; at most 1e300."""
        top = max(self.logs)
        mean = sum(math.exp(one - top) for one in self.logs) / len(self.logs)
        return math.exp(min(690.0, top + math.log(mean)))

    def after(self, disagrees: Sequence[bool], rate: float) -> "Fortune":
        """Return this after a trajectory.

        Args:
            disagrees: of its decisions in which the clone was trusted and an expert acted, in order.
            rate: the promise, over 0 and under 1.
        """
        counted = disagrees[:MOST]
        gain = sum(counted) - rate * len(counted)
        logs = tuple(
            one + math.log1p(share / (rate * MOST) * gain) for one, share in zip(self.logs, _SHARES, strict=True)
        )
        return Fortune(
            logs=logs,
            trajectories=self.trajectories + 1,
            decisions=self.decisions + len(counted),
            disagreements=self.disagreements + sum(counted),
        )
