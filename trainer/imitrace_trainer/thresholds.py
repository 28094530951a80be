"""Choose from which confidence a clone may act, on tasks it was not fitted to: by cohort, and by what can be undone."""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from imitrace_trainer.intervals import rate_at_most
from imitrace_trainer.route_config import RouteConfig

NEVER = 2.0
"""A threshold that no confidence reaches."""


@dataclass(frozen=True)
class Thresholds:
    """The confidence from which the clone may act; above 1 means never."""

    reversible: float
    irreversible: float
    irreversible_tools: tuple[str, ...] = ()
    replies: float = NEVER
    """For texts, which can't be taken back either."""
    cohorts: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Reversible and irreversible in single cohorts, in place of those above."""

    def of(self, tool: str | None, cohort: str) -> float:
        """Return the threshold for a tool's call in a cohort, or for a reply."""
        if tool is None:
            return self.replies
        loose, strict = self.cohorts.get(cohort, (self.reversible, self.irreversible))
        return strict if tool in self.irreversible_tools else loose

    def with_irreversible(self, tools: Iterable[str]) -> "Thresholds":
        """Return these thresholds with more tools that can't be undone."""
        return replace(self, irreversible_tools=tuple(sorted({*self.irreversible_tools, *tools})))

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Thresholds":
        """Return what ``to_json`` gave."""
        return cls(
            record["reversible"],
            record["irreversible"],
            tuple(record["irreversible_tools"]),
            record["replies"],
            {cohort: (loose, strict) for cohort, (loose, strict) in record["cohorts"].items()},
        )


class Call(NamedTuple):
    """A call that a clone proposed on a calibration task, and whether the expert made the same."""

    confidence: float
    right: bool
    task: str
    cohort: str


def thresholds_for(calls: Sequence[Call], config: RouteConfig) -> Thresholds:
    """Return the thresholds that keep the promised errors, over all calls and in each cohort.

    A cohort whose own calls prove a threshold has that one, which may be lower or higher. One whose calls don't is lent
    the one proven over all cohorts, raised until of its own calls above it no more are wrong than is promised.
    """
    pooled = _pair(calls, config)
    by_cohort: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        by_cohort[call.cohort].append(call)
    if len(by_cohort) < 2:
        return Thresholds(*pooled, config.irreversible)
    promised = (config.error, config.irreversible_error)
    cohorts = {}
    for name, own in sorted(by_cohort.items()):
        proven = zip(_pair(own, config), pooled, promised, strict=True)
        loose, strict = (mine if mine < NEVER else _lent(own, *shared) for mine, *shared in proven)
        cohorts[name] = (loose, max(loose, strict))
    return Thresholds(*pooled, config.irreversible, cohorts=cohorts)


def _pair(calls: Sequence[Call], config: RouteConfig) -> tuple[float, float]:
    sure, right = [call.confidence for call in calls], [call.right for call in calls]
    tasks = [call.task for call in calls]
    loose = choose_threshold(sure, right, config.error, config.confidence, tasks)
    strict = choose_threshold(sure, right, config.irreversible_error, config.confidence, tasks)
    return loose, max(loose, strict)


def _lent(own: Sequence[Call], threshold: float, error: float) -> float:
    """Return the threshold proven over all cohorts, raised until this one's own calls don't speak against it."""
    found, wrong = NEVER, 0
    above = sorted((call for call in own if call.confidence >= threshold), key=lambda call: -call.confidence)
    if not above:
        return threshold
    for count, call in enumerate(above, start=1):
        wrong += not call.right
        last = count == len(above)
        if (last or above[count].confidence < call.confidence) and wrong <= error * count:
            found = threshold if last else call.confidence
    return found


_PARTS = 40
_STARTS = (10, 20)


def choose_threshold(
    confidences: Sequence[float],
    right: Sequence[bool],
    error: float,
    confidence: float,
    tasks: Sequence[Hashable] | None = None,
) -> float:
    """Return the lowest confidence above which the error is proven to be small.

    Thresholds are tried downwards, a fortieth of the decisions at a time, each by the exact binomial bound (Clopper &
    Pearson 1934), until the first that fails: a fixed sequence keeps the promise without correction (Angelopoulos et
    al. 2021). Two sequences share the allowed risk: one starts at the most confident quarter, for clones that are good
    at little, one at the most confident half, where a few faults weigh less.

    Decisions of one task tend to be right or wrong together, so they count for fewer: the bound is that of as many
    cases as would tell as much if they were independent (Korn & Graubard 1998, with Kish's design effect).

    Args:
        confidences: of decisions that were not trained on, shape (n,).
        right: whether each was the expert's, shape (n,).
        error: the largest share of wrong decisions promised.
        confidence: of the one-sided bound.
        tasks: of each decision its task; None: all are independent.

    Returns:
        The threshold, or ``NEVER`` where nothing can be promised.
    """
    names = range(len(right)) if tasks is None else tasks
    ranked = sorted(zip(confidences, right, names, strict=True), key=lambda one: one[:2], reverse=True)
    effects = design_effects([hit - sure for sure, hit, _ in ranked], [name for _, _, name in ranked])
    each = 1 - (1 - confidence) / len(_STARTS)
    judged = [(sure, hit) for sure, hit, _ in ranked]
    return min(_walk_down(judged, effects, (start, error, each)) for start in _STARTS)


def design_effects(surprises: Sequence[float], tasks: Sequence[Hashable]) -> list[float]:
    """Return for the first 1, 2, ... decisions how many count for one, as those of a task resemble each other.

    It is 1 + (m - 1) r (Kish 1965): m is the mean task size, weighted by size, and r the correlation within tasks over
    all decisions, by analysis of variance, plus its standard error (Donner 1986).

    Args:
        surprises: 1 or 0 for right or wrong, less the confidence: what the confidence did not know.
        tasks: of each decision its task.
    """
    alike = _alike(surprises, tasks)
    counts: Counter[Hashable] = Counter()
    squares, effects = 0, []
    for seen, task in enumerate(tasks, start=1):
        squares += 2 * counts[task] + 1
        counts[task] += 1
        effects.append(1 + (squares / seen - 1) * alike)
    return effects


_ROUNDING = 1e-12
"""A variance of values of at most 1 that equal values have by rounding."""


def _alike(values: Sequence[float], tasks: Sequence[Hashable]) -> float:
    """Return how far the values of one task resemble each other: 0 not at all, 1 they are the same."""
    sizes = Counter(tasks)
    n, k = len(values), len(sizes)
    if k == n:
        return 0.0
    if k == 1:
        return 1.0
    sums: dict[Hashable, float] = defaultdict(float)
    for value, task in zip(values, tasks, strict=True):
        sums[task] += value
    explained = sum(sums[task] ** 2 / size for task, size in sizes.items())
    between = (explained - sum(values) ** 2 / n) / (k - 1)
    within = max(0.0, sum(value * value for value in values) - explained) / (n - k)
    size = (n - sum(one * one for one in sizes.values()) / n) / (k - 1)
    spread = between + (size - 1) * within
    alike = max(0.0, (between - within) / spread) if spread > _ROUNDING else 0.0
    error = (1 - alike) * (1 + (size - 1) * alike) * math.sqrt(2 / (size * max(size - 1, 0.1) * (k - 1)))
    return min(1.0, alike + error)


def _walk_down(
    ranked: Sequence[tuple[float, bool]], effects: Sequence[float], asked: tuple[int, float, float]
) -> float:
    start, error, confidence = asked
    threshold = NEVER
    for part in range(start, _PARTS + 1):
        count = len(ranked) * part // _PARTS
        while 0 < count < len(ranked) and ranked[count][0] == ranked[count - 1][0]:
            count += 1
        effect = effects[count - 1] if count else 1.0
        if not count or not rate_at_most(0, count / effect, error, confidence):
            continue
        if not rate_at_most(sum(not hit for _, hit in ranked[:count]) / effect, count / effect, error, confidence):
            break
        threshold = ranked[count - 1][0]
    return threshold
