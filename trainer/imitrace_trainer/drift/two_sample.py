"""Compare two samples of trajectories: their states, what was done in them, and single numbers of them.

Every test deals whole trajectories, see ``permutations``, and says beside its p value how large the difference is on a
scale that does not grow with the sample.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from imitrace_trainer.drift.permutations import Chance, Dealings, Floats, chance, mean_gaps, totals

Owners = npt.NDArray[np.int64]
"""The number of the trajectory that each row is of."""

_COSINES: Final = 256
_PAIRS: Final = 2_000
_FOLDS: Final = 5
_RIDGE: Final = 0.3
"""Weight of the squared weights, as a share of the training rows."""


@dataclass(frozen=True)
class Compared:
    """What a test says."""

    effect: float
    p: float
    before: float | None = None
    """The mean, or share, in training."""
    now: float | None = None


def compare_means(rows: Floats, owners: Owners, dealings: Dealings, seed: int) -> Compared:
    """Return the kernel two-sample test (MMD, Gretton et al. 2012) of the rows of trajectories.

    The kernel is Gaussian, as wide as the median distance of two rows, by random cosines (Rahimi and Recht 2007). The
    effect is the distance of the two means in the kernel's space, without what chance gives, over the rows' standard
    deviation there.

    Args:
        rows: one a step, shape (steps, columns).
        owners: shape (steps,).
        dealings: shape (1 + draws, trajectories).
        seed: draws the cosines.
    """
    rng = np.random.default_rng(seed)
    first, second = (rows[rng.integers(0, len(rows), _PAIRS)] for _ in range(2))
    widths = np.linalg.norm(first - second, axis=1)
    width = float(np.median(widths[widths > 0])) if (widths > 0).any() else 1.0
    directions = rng.standard_normal((rows.shape[1], _COSINES)) / width
    mapped = np.sqrt(2 / _COSINES) * np.cos(rows @ directions + rng.uniform(0, 2 * np.pi, _COSINES))
    trajectories = dealings.shape[1]
    sums = totals(mapped, owners, trajectories)
    weights = np.bincount(owners, minlength=trajectories).astype(np.float64)
    found = chance((mean_gaps(sums, weights, dealings) ** 2).sum(axis=1))
    spread = float(mapped.var(axis=0).sum())
    return Compared(float(np.sqrt(found.excess / spread)) if spread > 0 else 0.0, found.p)


def tell_apart(rows: Floats, dealings: Dealings, seed: int) -> Compared:
    """Return the classifier two-sample test (Lopez-Paz and Oquab 2017): can recent trajectories be told?

    A ridge regression on the label, fitted to four fifths of the trajectories, ranks the rest; the effect is the mean
    AUROC of the five. In every dealing it is fitted anew, so the p value is that of the whole procedure.

    Args:
        rows: one a trajectory, shape (trajectories, columns).
        dealings: shape (1 + draws, trajectories).
        seed: draws the folds.
    """
    spread = rows.std(axis=0)
    plain = (rows[:, spread > 0] - rows[:, spread > 0].mean(axis=0)) / spread[spread > 0]
    plain = np.hstack([plain, np.ones((len(plain), 1))]) / np.sqrt(plain.shape[1] + 1)
    fold = np.random.default_rng(seed).permutation(len(rows)) % _FOLDS
    won, pairs = np.zeros(len(dealings)), np.zeros(len(dealings))
    for number in range(_FOLDS):
        train, test = plain[fold != number], plain[fold == number]
        penalty = _RIDGE * len(train) / train.shape[1] * np.eye(train.shape[1])
        labels = dealings[:, fold != number].astype(np.float64)
        labels -= labels.mean(axis=1, keepdims=True)
        weights = np.linalg.solve(train.T @ train + penalty, train.T @ labels.T)
        some_won, some_pairs = _pairs_won(test @ weights, dealings[:, fold == number])
        won, pairs = won + some_won, pairs + some_pairs
    found = chance(won / np.maximum(pairs, 1))
    return Compared(found.value, found.p)


def _pairs_won(scores: Floats, labels: Dealings) -> tuple[Floats, Floats]:
    """Return how many pairs of a recent and another trajectory are ranked right, and how many there are."""
    ranks = np.argsort(np.argsort(scores, axis=0), axis=0) + 1
    recent = labels.sum(axis=1, dtype=np.float64)
    won = (ranks.T * labels).sum(axis=1, dtype=np.float64) - recent * (recent + 1) / 2
    return won, recent * (labels.shape[1] - recent)


def compare_kinds(kinds: npt.NDArray[np.int64], owners: Owners, dealings: Dealings) -> Compared:
    """Return the chi-square test of what kinds rows are of, dealt by trajectory, with Cramer's V as effect.

    V is taken without what chance gives with so many kinds and such dependent rows (after Bergsma 2013).

    Args:
        kinds: a number a row, shape (rows,).
        owners: shape (rows,).
        dealings: shape (1 + draws, trajectories).
    """
    trajectories = dealings.shape[1]
    table = np.zeros((trajectories, int(kinds.max()) + 1))
    np.add.at(table, (owners, kinds), 1)
    inside, whole = (dealings @ table).astype(np.float64), table.sum(axis=0)
    recent = inside.sum(axis=1, keepdims=True)
    due = recent * whole / whole.sum()
    gap = (inside - due) ** 2 * whole.sum() / np.maximum(due * (whole.sum() - recent), 1e-12)
    found = chance(np.where(whole > 0, gap, 0.0).sum(axis=1))
    return Compared(float(np.sqrt(min(1.0, found.excess / whole.sum()))), found.p)


def compare_ranks(values: Floats, owners: Owners, dealings: Dealings) -> Compared:
    """Return the rank test of numbers (Wilcoxon 1945), dealt by trajectory, with Cliff's delta (1993) as effect.

    Delta is how much likelier a recent number is the larger of two than the smaller; its sign is that of the change.
    """
    order = np.unique(values, return_inverse=True, return_counts=True)
    _, places, counts = order
    middle = np.cumsum(counts) - (counts - 1) / 2
    compared = compare_shares(middle[places.reshape(-1)] * 2 / len(values), owners, dealings)
    recent = dealings[0][owners] > 0
    return Compared(compared.effect, compared.p, float(values[~recent].mean()), float(values[recent].mean()))


def compare_shares(values: Floats, owners: Owners, dealings: Dealings) -> Compared:
    """Return the test of a mean, such as a share of rows, dealt by trajectory; the effect is recent less training."""
    trajectories = dealings.shape[1]
    sums = totals(values[:, None], owners, trajectories)
    weights = np.bincount(owners, minlength=trajectories).astype(np.float64)
    gaps = mean_gaps(sums, weights, dealings)[:, 0]
    found: Chance = chance(np.abs(gaps))
    recent = dealings[0][owners] > 0
    return Compared(float(gaps[0]), found.p, float(values[~recent].mean()), float(values[recent].mean()))
