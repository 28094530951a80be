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

_FOLDS: Final = 5
_STRONGEST: Final = 20
"""Features that a classifier is made of, and that the sparse test sums."""


@dataclass(frozen=True)
class Compared:
    """What a test says."""

    effect: float
    p: float
    before: float | None = None
    """The mean, or share, in training."""
    now: float | None = None


def compare_means(present: Floats, dealings: Dealings) -> Compared:
    """Return the kernel two-sample test (MMD, Gretton et al. 2012) of what trajectories hold.

    The kernel is Gaussian over TF-IDF rows of length 1, as wide as the median distance of two trajectories. The effect
    is the distance of the two means in the kernel's space, without what chance gives, over the deviation there.

    Args:
        present: 1 where a trajectory has a feature, shape (trajectories, features).
        dealings: shape (1 + draws, trajectories).
    """
    rows = present * np.log(len(present) / np.maximum(present.sum(axis=0), 1))
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    apart = np.maximum(0.0, 2 - 2 * rows @ rows.T)
    pairs = apart[np.triu_indices(len(rows), 1)]
    kernel = np.exp(-apart / max(float(np.median(pairs)), 1e-12))
    recent = dealings.sum(axis=1, keepdims=True, dtype=np.float64)
    weights = dealings / recent - (1 - dealings) / (dealings.shape[1] - recent)
    found = chance(((weights @ kernel) * weights).sum(axis=1))
    spread = 1 - float(kernel.mean())
    return Compared(float(np.sqrt(found.excess / spread)) if spread > 1e-12 else 0.0, found.p)


def compare_features(present: Floats, dealings: Dealings) -> Compared:
    """Return the test of the few features that differ most: a new kind of request has words of its own.

    It sums the squares of the largest normal scores, which finds what few features show and means hide (the sparse case
    of Donoho and Jin 2004). The effect is by how much the share of trajectories that have the most different feature
    differs.

    Args:
        present: shape (trajectories, features).
        dealings: shape (1 + draws, trajectories).
    """
    scores, gaps = _scores(present, dealings)
    largest = np.partition(scores**2, -min(_STRONGEST, scores.shape[1]), axis=1)[:, -_STRONGEST:]
    return Compared(float(np.abs(gaps[0][np.abs(scores[0]).argmax()])), chance(largest.sum(axis=1)).p)


def tell_apart(present: Floats, dealings: Dealings, seed: int) -> Compared:
    """Return the classifier two-sample test (Lopez-Paz and Oquab 2017): can recent trajectories be told?

    A naive Bayes of the features that differ most in four fifths of the trajectories ranks the rest; the effect is the
    AUROC over the five. In every dealing it is fitted anew, so the p value is that of the whole procedure.

    Args:
        present: shape (trajectories, features).
        dealings: shape (1 + draws, trajectories).
        seed: draws the folds.
    """
    rng = np.random.default_rng(seed)
    fold, ties = rng.permutation(len(present)) % _FOLDS, 1e-9 * rng.random(len(present))
    won, pairs = np.zeros(len(dealings)), np.zeros(len(dealings))
    for number in range(_FOLDS):
        train, test = present[fold != number], present[fold == number]
        labels = dealings[:, fold != number]
        chosen = _strongest(train, labels)
        recent = labels.sum(axis=1, keepdims=True)
        inside = np.take_along_axis(labels @ train, chosen, axis=1)
        outside = train.sum(axis=0)[chosen] - inside
        first, second = (inside + 0.5) / (recent + 1), (outside + 0.5) / (labels.shape[1] - recent + 1)
        weights = np.log(first / second) - np.log((1 - first) / (1 - second))
        scores = np.stack([(test[:, places] * some).sum(axis=1) for places, some in zip(chosen, weights, strict=True)])
        some_won, some_pairs = _pairs_won(scores + ties[fold == number], dealings[:, fold == number])
        won, pairs = won + some_won, pairs + some_pairs
    found = chance(won / np.maximum(pairs, 1))
    return Compared(found.value, found.p)


def _strongest(present: Floats, dealings: Dealings) -> npt.NDArray[np.int64]:
    scores, _ = _scores(present, dealings)
    return np.argpartition(np.abs(scores), -min(_STRONGEST, scores.shape[1]), axis=1)[:, -_STRONGEST:]


def _scores(present: Floats, dealings: Dealings) -> tuple[Floats, Floats]:
    """Return of each feature the normal score of the difference of its shares, and the difference."""
    recent = dealings.sum(axis=1, keepdims=True)
    others = dealings.shape[1] - recent
    inside, whole = dealings @ present, present.sum(axis=0)
    gaps = inside / recent - (whole - inside) / others
    share = whole / len(present)
    spread = np.sqrt(np.maximum(share * (1 - share), 1e-12) * (1 / recent + 1 / others))
    return gaps / spread, gaps


def _pairs_won(scores: Floats, labels: Dealings) -> tuple[Floats, Floats]:
    """Return how many pairs of a recent and another trajectory are ranked right, and how many there are.

    Args:
        scores: shape (1 + draws, trajectories), no two of a row equal.
        labels: 1 where a trajectory is recent, the same shape.
    """
    ranks = np.argsort(np.argsort(scores, axis=1), axis=1) + 1
    recent = labels.sum(axis=1, dtype=np.float64)
    won = (ranks * labels).sum(axis=1, dtype=np.float64) - recent * (recent + 1) / 2
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


def compare_ranks(values: Floats, owners: Owners, dealings: Dealings, worse: int = 0) -> Compared:
    """Return the rank test of numbers (Wilcoxon 1945), dealt by trajectory, with Cliff's delta (1993) as effect.

    Delta is how much likelier a recent number is the larger of two than the smaller; its sign is that of the change.
    ``worse`` is as ``compare_shares`` has it.
    """
    order = np.unique(values, return_inverse=True, return_counts=True)
    _, places, counts = order
    middle = np.cumsum(counts) - (counts - 1) / 2
    compared = compare_shares(middle[places.reshape(-1)] * 2 / len(values), owners, dealings, worse)
    recent = dealings[0][owners] > 0
    return Compared(compared.effect, compared.p, float(values[~recent].mean()), float(values[recent].mean()))


def compare_shares(values: Floats, owners: Owners, dealings: Dealings, worse: int = 0) -> Compared:
    """Return the test of a mean, such as a share of rows, dealt by trajectory; the effect is recent less training.

    Args:
        values: shape (rows,).
        owners: shape (rows,).
        dealings: shape (1 + draws, trajectories).
        worse: 1 or -1 where only a change up or down is looked for, 0 for both.
    """
    trajectories = dealings.shape[1]
    sums = totals(values[:, None], owners, trajectories)
    weights = np.bincount(owners, minlength=trajectories).astype(np.float64)
    gaps = mean_gaps(sums, weights, dealings)[:, 0]
    found: Chance = chance(worse * gaps if worse else np.abs(gaps))
    recent = dealings[0][owners] > 0
    return Compared(float(gaps[0]), found.p, float(values[~recent].mean()), float(values[recent].mean()))
