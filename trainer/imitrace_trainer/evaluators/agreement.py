"""Say how far scores agree with labels: accuracy, precision, recall and Cohen's kappa, each with an interval."""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from imitrace.exceptions import DatasetError
from imitrace_trainer.intervals import wilson

_RESAMPLES = 2_000
_LEAST_CLUSTERS = 2
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far scores, cut at a threshold, agree with labels."""

    n: int
    threshold: float
    labelled_good: int
    scored_good: int
    both_good: int
    accuracy: float
    kappa: float | None
    """None where either side has one class only."""
    kappa_interval: Interval | None
    """95 %, by a bootstrap over clusters; None where there are too few of them."""

    @property
    def accuracy_interval(self) -> Interval:
        """Return Wilson's 95 % interval of the accuracy, as if cases were independent."""
        return wilson(round(self.accuracy * self.n), self.n)

    @property
    def precision(self) -> float | None:
        """Return the share of cases scored good that are labelled so."""
        return self.both_good / self.scored_good if self.scored_good else None

    @property
    def recall(self) -> float | None:
        """Return the share of cases labelled good that are scored so."""
        return self.both_good / self.labelled_good if self.labelled_good else None

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {**asdict(self), "precision": self.precision, "recall": self.recall}


def agreement(
    scores: Sequence[float], labels: Sequence[float], clusters: Sequence[str] = (), threshold: float = 0.8
) -> Agreement:
    """Compare scores with labels, case by case; good is what reaches the threshold, in both.

    Args:
        scores: what is judged.
        labels: what people, tests or an environment said.
        clusters: what cases belong together, such as tries at one task; none: each stands alone.
        threshold: from which on a value is good.

    Raises:
        DatasetError: there are no cases, or not as many labels as scores.
    """
    if not scores or len(scores) != len(labels) or (clusters and len(clusters) != len(scores)):
        raise DatasetError(f"{len(scores)} scores and {len(labels)} labels, allowed: as many of both, and at least one")
    pairs = [(score >= threshold, label >= threshold) for score, label in zip(scores, labels, strict=True)]
    groups: dict[str, list[tuple[bool, bool]]] = {}
    for place, pair in enumerate(pairs):
        groups.setdefault(clusters[place] if clusters else str(place), []).append(pair)
    kappa = cohen_kappa(pairs)
    return Agreement(
        n=len(pairs),
        threshold=threshold,
        labelled_good=sum(label for _, label in pairs),
        scored_good=sum(score for score, _ in pairs),
        both_good=sum(score and label for score, label in pairs),
        accuracy=sum(score == label for score, label in pairs) / len(pairs),
        kappa=kappa,
        kappa_interval=None if kappa is None else _interval(list(groups.values())),
    )


def cohen_kappa(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Return Cohen's kappa: agreement beyond chance, over what was possible; None where chance alone agrees fully.

    Source: Cohen (1960), Educational and Psychological Measurement 20, 37-46.
    """
    n = len(pairs)
    first, second = (sum(pair[side] for pair in pairs) / n for side in (0, 1))
    chance = first * second + (1 - first) * (1 - second)
    observed = sum(one == other for one, other in pairs) / n
    return None if chance == 1 else (observed - chance) / (1 - chance)


def _interval(groups: Sequence[Sequence[tuple[bool, bool]]]) -> Interval | None:
    """Return a percentile bootstrap's 95 % interval of kappa, drawing whole clusters."""
    if len(groups) < _LEAST_CLUSTERS:
        return None
    draw = random.Random(0)
    found = []
    for _ in range(_RESAMPLES):
        kappa = cohen_kappa([pair for group in draw.choices(groups, k=len(groups)) for pair in group])
        if kappa is not None:
            found.append(kappa)
    found.sort()
    return (found[int(0.025 * len(found))], found[int(0.975 * len(found))]) if found else None
