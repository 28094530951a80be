"""Measure how well a number tells successes from failures, with an interval by task."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from imitrace_trainer.task_draws import Share

Numbers = npt.NDArray[np.float64]

_RESAMPLES = 1_000


def auroc(scores: Numbers, success: Numbers) -> float:
    """Return how often a success scores higher than a failure, ties half: the area under the ROC curve.

    Args:
        scores: shape (n,).
        success: 1 or 0, shape (n,).

    Returns:
        A value in [0, 1]; 0.5 where there is no success or no failure.
    """
    return _area(np.unique(scores, return_inverse=True)[1], success, np.ones(len(scores)))


def auroc_by_task(scores: Numbers, success: Numbers, tasks: Sequence[str], seed: int = 0) -> Share:
    """Return the area with its 95 % interval from a bootstrap in which tasks are drawn, never single decisions.

    One task alone says nothing of others: its interval is [0, 1].
    """
    names, of_task = np.unique(np.array(tasks), return_inverse=True)
    place = np.unique(scores, return_inverse=True)[1]
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=_RESAMPLES)
    values = [_area(place, success, counts[of_task].astype(np.float64)) for counts in drawn]
    low, high = (0.0, 1.0) if len(names) == 1 else np.quantile(values, [0.025, 0.975]).tolist()
    return Share(auroc(scores, success), low, high, len(scores))


def _area(place: npt.NDArray[np.intp], success: Numbers, often: Numbers) -> float:
    right = np.bincount(place, often * success)
    wrong = np.bincount(place, often * (1 - success))
    below = np.cumsum(wrong) - wrong
    pairs = float(right.sum() * wrong.sum())
    return float((right * (below + wrong / 2)).sum()) / pairs if pairs else 0.5
