"""Say how far several people agree beyond chance: Cohen's kappa of each two, Krippendorff's alpha of all."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np

from imitrace_trainer.task_draws import EDGE

Judged = Mapping[str, Mapping[str, Hashable]]
"""By item: by reviewer: the verdict."""
Pair = tuple[Hashable, Hashable]

_DRAWS: Final = 1_000
_FEWEST: Final = 2
"""Items from which a bootstrap has something to draw."""


@dataclass(frozen=True)
class Kappa:
    """Agreement beyond chance with its 95 % interval, from a bootstrap over items."""

    value: float | None
    """1: they always agree; 0: as by chance; None: all verdicts are the same, or none is shared."""
    low: float | None
    high: float | None
    items: int
    """Judged by two reviewers or more."""
    agreed: int
    """Items of these about which all agree."""

    def __str__(self) -> str:
        if self.value is None:
            return f"can't be told from {self.items} items, {self.agreed} of them agreed on"
        reach = "" if self.low is None or self.high is None else f" [{self.low:.2f}, {self.high:.2f}]"
        return f"{self.value:.2f}{reach} of {self.items} items, {self.agreed} of them agreed on"

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return dict(vars(self))


def cohen(pairs: Sequence[Pair]) -> float | None:
    """Return Cohen's kappa of two reviewers' verdicts; None where chance alone would agree on everything.

    Source: Cohen (1960), Educational and Psychological Measurement 20, 37-46.
    """
    if not pairs:
        return None
    n = len(pairs)
    first, second = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    chance = sum(first[verdict] * second[verdict] for verdict in first) / n**2
    observed = sum(one == other for one, other in pairs) / n
    return None if math.isclose(chance, 1) else (observed - chance) / (1 - chance)


def krippendorff(items: Sequence[Sequence[Hashable]]) -> float | None:
    """Return Krippendorff's alpha of named verdicts, however many reviewers each item has; None where it has no sense.

    Items with one verdict tell nothing and are left out.

    Source: Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, University of Pennsylvania.
    """
    pairable = [verdicts for verdicts in items if len(verdicts) > 1]
    total: Counter[Hashable] = Counter(verdict for verdicts in pairable for verdict in verdicts)
    n = total.total()
    expected = n * n - sum(count * count for count in total.values())
    if not expected:
        return None
    observed = 0.0
    for verdicts in pairable:
        m = len(verdicts)
        observed += (m * m - sum(count * count for count in Counter(verdicts).values())) / (m - 1)
    return 1 - (n - 1) * observed / expected


def agreements(judged: Judged) -> dict[str, Kappa]:
    """Return Cohen's kappa by ``"ANN, BEN"`` for each two reviewers who share an item, and of all as ``all``.

    Of ``all`` it is Krippendorff's alpha, which may have others for each item; of two who judged everything it differs
    from kappa by as much as few items tell.
    """
    reviewers = sorted({reviewer for verdicts in judged.values() for reviewer in verdicts})
    found = {}
    for one, other in combinations(reviewers, 2):
        pairs = [(of[one], of[other]) for of in judged.values() if one in of and other in of]
        if pairs:
            found[f"{one}, {other}"] = _with_interval(pairs, cohen)
    everything = [tuple(of.values()) for of in judged.values() if len(of) > 1]
    return {**found, "all": _with_interval(everything, krippendorff)}


def _with_interval(items: Sequence[Any], measure: Callable[[Sequence[Any]], float | None]) -> Kappa:
    """Return a measure with a percentile bootstrap's interval; draws in which it has no sense are left out."""
    value, agreed = measure(items), sum(len(set(verdicts)) == 1 for verdicts in items)
    if value is None or len(items) < _FEWEST:
        return Kappa(value, None, None, len(items), agreed)
    rng = np.random.default_rng(0)
    drawn = (measure([items[place] for place in rng.integers(0, len(items), len(items))]) for _ in range(_DRAWS))
    values = [one for one in drawn if one is not None]
    low, high = (float(edge) for edge in np.quantile(values, [1 - EDGE, EDGE])) if values else (None, None)
    return Kappa(value, low, high, len(items), agreed)
