"""Give shares of decisions intervals by a cluster bootstrap: tasks are drawn, never single decisions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imitrace_trainer.intervals import upper_bound

EDGE = 0.975
"""Quantile at which an interval of 95 % ends."""

Floats = npt.NDArray[np.float64]

_DRAWS = 1_000


@dataclass(frozen=True)
class Share:
    """A share of decisions with its 95 % interval, from a bootstrap over tasks."""

    value: float
    low: float
    high: float
    decisions: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] of {self.decisions}"


class TaskDraws:
    """Tasks drawn with replacement, so that each figure of the same decisions gets its interval from the same draws."""

    def __init__(self, tasks: Sequence[str], seed: int = 0) -> None:
        names, self._place = np.unique(np.array(tasks, dtype=object).astype(str), return_inverse=True)
        self._tasks = len(names)
        drawn = np.random.default_rng(seed).integers(0, max(1, self._tasks), size=(_DRAWS, self._tasks))
        self._counts = np.zeros((_DRAWS, self._tasks))
        np.add.at(self._counts, (np.arange(_DRAWS)[:, None], drawn), 1)

    def tasks(self, mask: npt.NDArray[np.bool_]) -> int:
        """Return how many tasks have a decision that the mask picks."""
        return len(np.unique(self._place[mask]))

    def sums(self, values: Floats) -> Floats:
        """Return the sum of values, shape (decisions, ...), in each draw, shape (draws, ...)."""
        by_task = np.zeros((self._tasks, *values.shape[1:]))
        np.add.at(by_task, self._place, values)
        return np.tensordot(self._counts, by_task, axes=1)

    def share(
        self,
        hits: Sequence[bool] | Floats,
        mask: Sequence[bool] | npt.NDArray[np.bool_] | None = None,
        least: float = 0.0,
    ) -> Share:
        """Return the mean of hits over the decisions that the mask picks; each is between ``least`` and 1."""
        hit = np.asarray(hits, dtype=np.float64)
        picked = np.ones(len(hit), dtype=bool) if mask is None else np.asarray(mask, dtype=bool)
        tasks = self.tasks(picked)
        count = int(picked.sum())
        if not count:
            return Share(0.0, least, 1.0, 0)
        value = float(hit[picked].mean())
        if tasks == 1:
            return Share(value, least, 1.0, count)
        whole = self.sums(picked.astype(np.float64))
        drawn = self.sums(hit * picked)[whole > 0] / whole[whole > 0]
        low, high = (float(edge) for edge in np.quantile(drawn, [1 - EDGE, EDGE]))
        if low == high:  # every task says the same: so may others not
            reach = upper_bound(0, tasks, EDGE)
            low, high = max(least, value - reach), min(1.0, value + reach)
        return Share(value, low, high, count)


def difference(ours: Sequence[bool], theirs: Sequence[bool], draws: TaskDraws) -> Share:
    """Return our share less theirs on the same decisions, in [-1, 1]."""
    return draws.share(np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64), least=-1.0)
