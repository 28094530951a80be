"""Turn raw evidence into a probability of being right, and distances into a verdict on novelty."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

_RIDGE = 1.0
_NEWTON_STEPS = 50
_HALVINGS = 40


@dataclass
class Calibration:
    """Logistic calibration (Platt 1999) over several pieces of evidence, and the accepted distance."""

    weights: list[float] = field(default_factory=list)
    """One a piece of evidence; none: confidence 0, which means that the expert acts."""
    bias: float = 0.0
    mean: list[float] = field(default_factory=list)
    scale: list[float] = field(default_factory=list)
    distance_limit: float = 1.0
    """The distance that 99 % of the calibration states stay below."""
    cases: int = 0
    """Decisions that it was fitted on, those of failures left out unless there were no others."""

    def confidence(self, evidence: Sequence[float]) -> float:
        """Return the probability that the action is the expert's; 0 where nothing was calibrated.

        It is at most (n + 1) / (n + 2): what n cases support of which all were right (Laplace's rule of succession).
        """
        if not self.weights:
            return 0.0
        standard = (np.asarray(evidence) - self.mean) / self.scale
        share = float(1 / (1 + np.exp(-np.clip(standard @ self.weights + self.bias, -30, 30))))
        return min(share, (self.cases + 1) / (self.cases + 2))

    def relative_distance(self, distance: float) -> float:
        """Return a distance in units of the accepted limit."""
        return distance / self.distance_limit if self.distance_limit > 0 else float(distance > 0)

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)


def fit_calibration(
    evidence: Sequence[Sequence[float]],
    right: Sequence[bool],
    distances: Sequence[float],
    failed: Sequence[bool] = (),
    own: int = 0,
) -> Calibration:
    """Fit on decisions that were not trained on.

    Args:
        evidence: shape (decisions, pieces).
        right: whether the action was the expert's, shape (decisions,).
        distances: of each state from the training states, shape (decisions,).
        failed: whether the decision's trajectory failed, shape (decisions,); none: of none it is known.
        own: how many of the first pieces add up to the log-odds that a model itself gives: the ridge then pulls towards
            its own word, with a bias that is free, and not towards one that tells nothing.

    Returns:
        The calibration; with Platt's target smoothing and a ridge, so that few cases stay modest. Decisions of failures
        tell with the others what evidence is worth, but have a bias of their own, and confidence is by that of the
        others: an expert that fails is harder to foresee.
    """
    if not evidence:
        return Calibration()
    values = np.asarray(evidence, dtype=np.float64)
    mean, scale = values.mean(axis=0), values.std(axis=0) + 1e-6
    hits = float(sum(right))
    misses = len(right) - hits
    target = np.where(np.asarray(right), (hits + 1) / (hits + 2), 1 / (misses + 2))
    lost = np.asarray(failed or [False] * len(values), dtype=np.float64)
    lost = lost * (lost.min() < 1)  # where all failed they have to do
    design = np.hstack([(values - mean) / scale, np.stack([lost, np.ones(len(values))], axis=1)])
    prior = np.zeros(design.shape[1])
    prior[:own] = scale[:own]
    solution = _newton(design, target, prior)
    limit = float(np.quantile(np.asarray(distances), 0.99))
    return Calibration(
        weights=solution[:-2].tolist(),
        bias=float(solution[-1]),
        mean=mean.tolist(),
        scale=scale.tolist(),
        distance_limit=max(limit, 1e-6),
        cases=int(len(values) - lost.sum()),
    )


def _newton(
    design: npt.NDArray[np.float64], target: npt.NDArray[np.float64], prior: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    solution = prior.copy()
    ridge = np.diag([_RIDGE] * (design.shape[1] - 1) + [1e-6])

    def loss(weights: npt.NDArray[np.float64]) -> float:
        odds, away = design @ weights, weights - prior
        return float(np.logaddexp(0, odds).sum() - target @ odds + away @ ridge @ away / 2)

    for _ in range(_NEWTON_STEPS):
        share = 1 / (1 + np.exp(-np.clip(design @ solution, -30, 30)))
        gradient = design.T @ (share - target) + ridge @ (solution - prior)
        curvature = (design * (share * (1 - share))[:, None]).T @ design + ridge
        step = np.linalg.solve(curvature, gradient)
        least = loss(solution)
        for _ in range(_HALVINGS):  # from far off a whole step may lead farther away
            if loss(solution - step) <= least:
                break
            step /= 2
        solution -= step
        if float(np.abs(step).max()) < 1e-8:
            break
    return solution
