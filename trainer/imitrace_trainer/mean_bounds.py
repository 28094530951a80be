"""Bound the mean of bounded values from few of them, whatever their distribution: of tasks, scores or step counts.

The bound is Gaffke's (2005): weights are drawn evenly from all that sum to 1, over the values and one more, the worst
that could be; the mean is at least what all but a share ``1 - level`` of the weighted means reach. Of values that are
all 0 or 1 it is the bound of Clopper and Pearson (1934). That it holds at its level for any bounded distribution is
conjectured; no counterexample is known (Learned-Miller and Thomas 2020; Phan, Thomas and Learned-Miller 2021, ICML),
and ``benchmarks/gate_power.py`` tries. The share is computed without drawing, by the saddlepoint of Lugannani and Rice
(1980), Advances in Applied Probability 12.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean

import numpy as np
import numpy.typing as npt

from imitrace_trainer.intervals import cases_for_variance, cases_needed

_Floats = npt.NDArray[np.float64]
_HALVINGS = 26  # 2**-26 of the range that is searched
_STEPS = 60
_NORMAL = NormalDist()


def mean_bounds(values: Sequence[float], level: float, limit: float = 1.0) -> tuple[float, float, float]:
    """Return the mean of independent values with a bound below and one above, each holding at ``level``.

    Args:
        values: at least one.
        level: confidence of each bound alone, over 0.5 and under 1.
        limit: no value there could be is further from 0.

    Raises:
        ValueError: there are no values, one is beyond ``limit``, or the level is not allowed.
    """
    if not values or not all(abs(value) <= limit for value in values):
        worst = max(values, key=abs) if values else "none"
        raise ValueError(f"values reach {worst}, allowed: one or more from -{limit} to {limit}")
    if not 0.5 < level < 1:
        raise ValueError(f"level is {level}, allowed: over 0.5 and under 1")
    found, counts = np.unique(np.asarray(values, dtype=np.float64) / limit, return_counts=True)
    times = counts.astype(np.float64)
    low, high = _lower(found, times, level), -_lower(-found[::-1], times[::-1], level)
    return fmean(values), limit * low, limit * high


def values_needed(gap: float, deviation: float, level: float, limit: float = 1.0, power: float = 0.8) -> int:
    """Return of how many values the lower bound lies with ``power`` at most ``gap`` below their true mean.

    By the normal approximation, and the exponential one of what the one value more weighs that is thought to be the
    worst; never fewer than the exact rule asks for when all values are equal.

    Args:
        gap: over 0 and under ``limit``.
        deviation: standard deviation of the values.
        level: confidence of the bound.
        limit: as in ``mean_bounds``.
        power: chance that the bound is as good.
    """
    need = max(cases_for_variance(gap, deviation, level, power), cases_needed(gap / limit, 0.0, level))
    worst = -math.log1p(-level) - 1
    while deviation:
        error = deviation / math.sqrt(need)
        reach = math.hypot(_NORMAL.inv_cdf(level) * error, worst * limit / need)
        if limit / need + reach + _NORMAL.inv_cdf(power) * error <= gap:
            break
        need += max(1, need // 50)
    return need


def _lower(values: _Floats, counts: _Floats, level: float) -> float:
    """Return the bound of the mean of sorted values in [-1, 1]: where 1 - level of the weighted means lie below."""
    low, high = -1.0, float(values @ counts / counts.sum())
    if high <= -1.0:
        return -1.0
    points, times = np.concatenate(([-1.0], values)), np.concatenate(([1.0], counts))
    tilt = 0.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        share, tilt = _share_below(points, times, middle, tilt)
        if share < 1 - level:
            low = middle
        else:
            high = middle
    return low


def _share_below(points: _Floats, times: _Floats, mean: float, start: float) -> tuple[float, float]:
    """Return how likely weights from the flat Dirichlet distribution give these points at most this mean, and the tilt.

    It is the chance that gamma variables, one for each point with its count as shape, times the points' distances from
    the mean, sum to at most 0.
    """
    away = points - mean
    if away[0] >= 0 or away[-1] <= 0:  # all lie on one side: where values are as good as equal, rounding does that
        return float(away[-1] <= 0), 0.0
    tilt = _tilt(away, times, start)
    left = 1 + tilt * away
    height = float(times @ np.log(left))
    if height < 1e-9:
        return 0.5, tilt
    sign = -1.0 if tilt > 0 else 1.0
    root = sign * math.sqrt(2 * height)
    curve = -tilt * math.sqrt(float(times @ (away / left) ** 2))
    chance = _NORMAL.cdf(root) + _NORMAL.pdf(root) * (1 / root - 1 / curve)
    return min(1.0, max(0.0, chance)), tilt


def _tilt(away: _Floats, times: _Floats, start: float) -> float:
    """Return the multiplier that brings the weighted mean to 0, by Newton's method between the ends it may have."""
    low, high = -1 / float(away[-1]), -1 / float(away[0])
    tilt = start if low < start < high else 0.0
    for _ in range(_STEPS):
        left = away / (1 + tilt * away)
        slope = float(times @ left)
        if slope > 0:
            low = tilt
        else:
            high = tilt
        step = slope / float(times @ left**2)
        following = tilt + step
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - tilt) <= 1e-9 * (1 + abs(tilt)):
            return following
        tilt = following
    return tilt
