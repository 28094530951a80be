"""Bound rates and paired differences from few cases, without scipy.

Sources: Wilson (1927) JASA 22; Clopper and Pearson (1934) Biometrika 26; Tango (1998) Statistics in Medicine 17,
891-908; Hanley and Lippman-Hand (1983) JAMA 249 (rule of three); Student (1908) Biometrika 6; NIST DLMF 8.17.22
(continued fraction of the incomplete beta function).
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist, fmean, stdev

_HALVINGS = 60  # 2**-60 of the interval that is searched
_MANY = 40  # cases expected to disagree from which the normal approximation of a test's power holds


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's two-sided score interval for a rate; right on average, not in every case."""
    _check_counts(confidence, n, successes)
    z = _z(_two_sided(confidence))
    rate, spread = successes / n, z * z / n
    middle = (rate + spread / 2) / (1 + spread)
    half = z * math.sqrt(rate * (1 - rate) / n + spread / (4 * n)) / (1 + spread)
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == n else min(1.0, middle + half)
    return low, high


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval for a rate: it covers at least ``confidence`` of the time, always."""
    _check_counts(confidence, n, successes)
    level = _two_sided(confidence)
    high = upper_bound(successes, n, level)
    return 1 - upper_bound(n - successes, n, level), high


def upper_bound(events: int, n: int, confidence: float = 0.95) -> float:
    """Return the exact one-sided upper bound of a rate; for no events the exact rule of three."""
    _check_counts(confidence, n, events)
    if events == n:
        return 1.0
    if events == 0:
        return -math.expm1(math.log1p(-confidence) / n)
    return _bisect(lambda p: _beta_cdf(p, events + 1, n - events) - confidence, 0.0, 1.0)


def rate_at_most(events: float, n: float, limit: float, confidence: float = 0.95) -> bool:
    """Tell whether ``upper_bound`` is at most ``limit``: by one evaluation, where the bound itself takes a search.

    Counts may be fractions: of cases that tell less than independent ones would.
    """
    _check_counts(confidence, n, events)
    _check_share("limit", limit)
    return events < n and _beta_cdf(limit, events + 1, n - events) >= confidence


def paired_difference(
    both: int, only_clone: int, only_expert: int, neither: int, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Return clone's rate minus expert's over paired cases, with Tango's two-sided score interval.

    The score test is a little liberal (6.7 % instead of 5 %) when one side has no case that it alone won. There the
    bound on that side is widened to the exact one of Clopper and Pearson where that is wider.

    Args:
        both: cases where expert and clone succeeded.
        only_clone: cases where the clone alone did.
        only_expert: cases where the expert alone did.
        neither: cases where none did.
        confidence: of the two-sided interval; use ``2 * c - 1`` for two one-sided bounds at ``c``.

    Returns:
        Difference, lower and upper bound, each in [-1, 1].
    """
    n = both + only_clone + only_expert + neither
    _check_counts(confidence, n, both, only_clone, only_expert, neither)
    difference = (only_clone - only_expert) / n
    low = -_paired_upper(only_expert, only_clone, n, confidence)
    return difference, low, _paired_upper(only_clone, only_expert, n, confidence)


def paired_mean_difference(
    values: Sequence[float], confidence: float = 0.95, limit: float = 1.0
) -> tuple[float, float, float]:
    """Return the mean of paired differences with Student's t interval, never narrower than the rule of three allows.

    Of ``n`` cases that all look alike, up to ``upper_bound(0, n)`` of those to come may differ, each by as much as
    ``limit``; the interval reaches at least so far to each side. One case says nothing but the limits. Below some 30
    cases a t interval of skewed values covers less often than it says.

    Args:
        values: clone's score minus expert's, one for each case.
        confidence: of the two-sided interval.
        limit: the largest difference that a case can show.

    Raises:
        ValueError: there are no values, or one is beyond ``limit``.
    """
    n = len(values)
    _check_counts(confidence, n)
    if not all(abs(value) <= limit for value in values):
        raise ValueError(f"values reach {max(values, key=abs)}, allowed: -{limit} to {limit}")
    mean = fmean(values)
    if n == 1:
        return mean, -limit, limit
    level = _two_sided(confidence)
    half = max(_t_quantile(level, n - 1) * stdev(values) / math.sqrt(n), limit * upper_bound(0, n, level))
    return mean, max(-limit, mean - half), min(limit, mean + half)


@lru_cache(maxsize=4096)  # every outcome is counted, and a gate asks again at each step
def cases_needed(margin: float, disagreement: float, confidence: float = 0.95, power: float = 0.8) -> int:
    """Return how many paired cases show with ``power`` that an equal clone is less than ``margin`` worse.

    Normal approximation of the paired non-inferiority test at a true difference of 0, and never fewer than the rule
    of three asks for when no case disagrees. Where few cases are expected to disagree the approximation is too hopeful,
    and every outcome is counted.

    Args:
        margin: the difference that is tolerated, over 0 and under 1.
        disagreement: share of cases where exactly one of clone and expert succeeds.
        confidence: of the one-sided bound.
        power: chance that an equal clone passes.
    """
    _check_share("margin", margin)
    _check_share("power", power)
    _check_share("confidence", confidence)
    if not 0 <= disagreement <= 1:
        raise ValueError(f"disagreement is {disagreement}, allowed: 0 to 1")
    by_power = (_z(confidence) + _z(power)) ** 2 * disagreement / margin**2
    cases = math.ceil(max(by_power, math.log1p(-confidence) / math.log1p(-margin)))
    if disagreement < 1:
        while 0 < cases * disagreement < _MANY and _power(cases, margin, disagreement, confidence) < power:
            cases += max(1, cases // 50)
    return cases


def _power(cases: int, margin: float, disagreement: float, confidence: float) -> float:
    """Return how likely it is that an equal clone passes, summed over what it and the expert may win alone."""
    spread = cases * disagreement
    least, most = 0, min(cases, round(spread / 2 + 8 * math.sqrt(spread) + 8))
    side, neither = disagreement / 2, 1 - disagreement
    passed = 0.0
    for losses in range(most + 1):
        while least + losses <= cases and not _is_shown(cases, (least, losses), margin, confidence):
            least += 1  # the more the expert wins alone, the more the clone must
        for wins in range(least, min(most, cases - losses) + 1):
            ways = math.lgamma(cases + 1) - math.lgamma(wins + 1) - math.lgamma(losses + 1)
            ways -= math.lgamma(cases - wins - losses + 1)
            chance = ways + (wins + losses) * math.log(side) + (cases - wins - losses) * math.log(neither)
            passed += math.exp(chance)
    return passed


def _is_shown(cases: int, alone: tuple[int, int], margin: float, confidence: float) -> bool:
    """Tell whether ``paired_difference`` lies above ``-margin``: by one evaluation, where the bound takes a search."""
    wins, losses = alone
    if losses == cases or _tango(losses, wins, cases, margin) >= -_z(confidence):
        return False
    return wins > 0 or rate_at_most(losses, cases, margin, confidence)


def cases_for_variance(margin: float, deviation: float, confidence: float = 0.95, power: float = 0.8) -> int:
    """Return how many real-valued paired differences of this standard deviation show the same with ``power``."""
    _check_share("margin", margin)
    return math.ceil(((_z(confidence) + _z(power)) * deviation / margin) ** 2)


def _paired_upper(wins: int, losses: int, n: int, confidence: float) -> float:
    if wins == n:
        return 1.0
    level = _two_sided(confidence)
    z = _z(level)
    upper = _bisect(lambda delta: -z - _tango(wins, losses, n, delta), (wins - losses) / n, 1.0)
    return upper if losses else max(upper, upper_bound(wins, n, level))


def _tango(wins: int, losses: int, n: int, delta: float) -> float:
    """Return Tango's score statistic for a true difference of ``delta``: 0 at the estimate, falling as delta grows."""
    linear = -wins - losses + (2 * n - wins + losses) * delta
    constant = -losses * delta * (1 - delta)
    q = (math.sqrt(max(0.0, linear * linear - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    gap = wins - losses - n * delta
    if variance <= 0:
        return math.copysign(math.inf, gap) if gap else 0.0
    return gap / math.sqrt(variance)


def _bisect(rising: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if rising(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _t_quantile(level: float, freedom: int) -> float:
    tail = 2 * (1 - level)
    x = _bisect(lambda x: _beta_cdf(x, freedom / 2, 0.5) - tail, 0.0, 1.0)
    return math.sqrt(freedom * (1 - x) / x)


def _beta_cdf(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function: the continued fraction on the side where it converges fast."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_cdf(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(log_front) / (a * _beta_fraction(x, a, b))


def _beta_fraction(x: float, a: float, b: float) -> float:
    """Return 1 + d1/(1 + d2/(1 + ...)) by Lentz's method (Thompson and Barnett, 1986)."""
    fraction, c, d = 1.0, 1.0, 0.0
    for i in range(1, 100_000):
        m = i // 2
        if i % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        c, d = 1 + term / c, 1 / (1 + term * d)
        fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return fraction


def _z(level: float) -> float:
    return NormalDist().inv_cdf(level)


def _two_sided(confidence: float) -> float:
    return (1 + confidence) / 2


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}, allowed: over 0 and under 1")


def _check_counts(confidence: float, n: float, *counts: float) -> None:
    _check_share("confidence", confidence)
    if n < 1 or not all(0 <= count <= n for count in counts):
        raise ValueError(f"counts are {', '.join(map(str, (*counts, n)))}, allowed: 0 to n, and n at least 1")
