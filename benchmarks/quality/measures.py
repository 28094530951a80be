"""Figures of a clone over all folds' rows, each with a 95 % interval by task: tasks are drawn, never decisions."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from imitrace_trainer.quality import Judged
from imitrace_trainer.quality import by_distance as bins_by_distance
from imitrace_trainer.task_draws import Share, TaskDraws
from imitrace_trainer.thresholds import NEVER
from overhead.timing import Json

Rows = Sequence[Json]
Weights = npt.NDArray[np.float64]

DRAWS = 1_000
_BINS = 10


def interval(tasks: Sequence[str], figure: Callable[[Weights], float]) -> Json:
    """Return a figure and its interval; ``figure`` takes how often each row counts, shape (rows,)."""
    names, place = np.unique(np.array(tasks), return_inverse=True)
    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    values = np.array([figure(counts[place].astype(np.float64)) for counts in drawn])
    low, high = np.nanquantile(values, [0.025, 0.975])
    told = {"value": figure(np.ones(len(tasks))), "low": float(low), "high": float(high)}
    return {name: round(value, 4) for name, value in told.items()}


def share(rows: Rows, hits: Sequence[bool]) -> Json:
    """Return the share of the rows that hit; of no rows nothing is known."""
    if not rows:
        return {"value": 0.0, "low": 0.0, "high": 1.0}
    hit = np.array(hits, dtype=np.float64)
    return interval([row["task"] for row in rows], lambda counts: _over(float(counts @ hit), float(counts.sum())))


def ratio(rows: Rows, ours: Sequence[bool], theirs: Sequence[bool]) -> Json:
    """Return how many times as often we hit as they do, on the same rows."""
    mine, others = np.array(ours, dtype=np.float64), np.array(theirs, dtype=np.float64)
    return interval([row["task"] for row in rows], lambda counts: _over(float(counts @ mine), float(counts @ others)))


def lead(rows: Rows, ours: Sequence[bool], theirs: Sequence[bool]) -> Json | None:
    """Return our share of hits less theirs, on the same rows; of no rows nothing."""
    if not rows:
        return None
    gain = np.array(ours, dtype=np.float64) - np.array(theirs, dtype=np.float64)
    return interval([row["task"] for row in rows], lambda counts: _over(float(counts @ gain), float(counts.sum())))


def calibration_error(rows: Rows) -> Json:
    """Return the expected calibration error over ten bins of equal size (Guo et al. 2017), with its interval."""
    rows = sorted(rows, key=lambda row: row["confidence"])
    gap = np.array([row["confidence"] - row["exact"] for row in rows])
    bins = np.array_split(np.arange(len(rows)), _BINS)

    def error(counts: Weights) -> float:
        return sum(abs(float(counts[part] @ gap[part])) for part in bins) / float(counts.sum())

    return interval([row["task"] for row in rows], error)


def chance_error(rows: Rows) -> float:
    """Return the expected calibration error that perfectly calibrated confidences would show on as many decisions."""
    sure = np.sort(np.array([row["confidence"] for row in rows]))
    right = np.random.default_rng(0).random((200, len(sure))) < sure
    gaps = np.array_split(sure - right, _BINS, axis=1)
    return round(float(sum(np.abs(part.sum(axis=1)) for part in gaps).mean()) / len(sure), 4)


def auroc(near: Sequence[float], far: Sequence[float]) -> float:
    """Return how often a far state lies farther than a near one; ties count half."""
    order = np.sort(np.array(near))
    below = np.searchsorted(order, far, side="left") + np.searchsorted(order, far, side="right")
    return round(float(below.mean()) / 2 / len(order), 4)


def by_distance(rows: Rows) -> list[Json]:
    """Return what is right by relative distance, as a clone's page does, with its intervals."""
    judged = [
        Judged(row["task"], "", row["label"], row["guess"], row["exact"], row["confidence"], row["ood"], acts=False)
        for row in rows
    ]
    return [
        {
            "ood": [round(one.least, 3), round(one.most, 3)],
            "decisions": one.exact.decisions,
            "tasks": one.tasks,
            "next_action": _rounded(one.agreement),
            "exact": _rounded(one.exact),
        }
        for one in bins_by_distance(judged, TaskDraws([row["task"] for row in rows]))
    ]


def _rounded(share: Share) -> Json:
    return {name: round(getattr(share, name), 4) for name in ("value", "low", "high")}


def covered(folds: Sequence[tuple[float, Rows]]) -> Json:
    """Return the share of decisions that are surer than their fold's threshold, and how many of those are right.

    Args:
        folds: the threshold and the held-out rows of each.
    """
    judged = [(row, row["confidence"] >= threshold) for threshold, rows in folds for row in rows]
    rows, sure = [row for row, _ in judged], np.array([float(is_sure) for _, is_sure in judged])
    right = np.array([row["exact"] for row in rows]) * sure
    told: Json = {"coverage": share(rows, [bool(one) for one in sure]), "realised": None}
    told["refused"] = sum(threshold == NEVER for threshold, _ in folds)
    if sure.any():
        tasks = [row["task"] for row in rows]
        told["realised"] = interval(tasks, lambda counts: _over(float(counts @ right), float(counts @ sure)))
    return told


def _over(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")
