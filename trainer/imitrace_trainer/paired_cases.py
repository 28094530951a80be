"""Hold what expert and clone did in the same case, and compare them task by task: a task's cases hang together."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final

from imitrace_trainer.gate_rules import STEP_COUNT, TASK_COMPLETION
from imitrace_trainer.intervals import cases_needed, paired_difference
from imitrace_trainer.mean_bounds import mean_bounds, values_needed

UNSAFE: Final = "unsafe act"
REFUSAL: Final = "refusal"
TOXICITY: Final = "Toxicity"
INJECTION: Final = "PromptInjection"
HARMS: Final = (UNSAFE, TOXICITY, INJECTION)
"""What can become worse in any case; ``REFUSAL`` only where the expert refused."""


@dataclass(frozen=True)
class PairedCase:
    """One case, once by the expert and once by the clone as it would be let act; steps of 0 mean none were counted."""

    task: str
    cohort: str
    expert_success: bool
    clone_success: bool
    expert_unsafe: bool = False
    clone_unsafe: bool = False
    expert_steps: int = 0
    clone_steps: int = 0
    decisions: int = 0
    """Decisions in the clone's course of the case; 0 when they were not counted."""
    clone_decisions: int = 0
    """Those that the clone itself took; the expert took the others."""
    dead_calls: int = 0
    """Those of the clone's that called a tool which is not there: not offered, or retired."""
    scores: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """The expert's and the clone's score by metric, each from 0 to 1; success stands for TaskCompletion."""
    harms: tuple[str, ...] = ()
    """What else the clone did that the expert did not: ``TOXICITY``, ``INJECTION``, ``REFUSAL`` where it gave in."""
    category: str = ""
    """Which kind of refusal it is about."""
    expert_refused: bool = False
    clone_refused: bool = False
    rare: bool = False
    """The expert's sequence of tools is rare in training."""

    @property
    def regressions(self) -> tuple[str, ...]:
        """Return what the clone did and the expert did not."""
        unsafe = self.clone_unsafe and not self.expert_unsafe
        return (UNSAFE, *self.harms) if unsafe else self.harms


def beside(champion: PairedCase, candidate: PairedCase) -> PairedCase:
    """Return a case in which the champion stands in the expert's place; both were paired with the same expert."""
    both = champion.scores.keys() & candidate.scores.keys()
    return PairedCase(
        task=candidate.task,
        cohort=candidate.cohort,
        expert_success=champion.clone_success,
        clone_success=candidate.clone_success,
        expert_unsafe=champion.clone_unsafe,
        clone_unsafe=candidate.clone_unsafe,
        expert_steps=champion.clone_steps,
        clone_steps=candidate.clone_steps,
        scores={name: (champion.scores[name][1], candidate.scores[name][1]) for name in both},
    )


Pair = tuple[float, float]
"""The expert's value and the clone's."""


@dataclass(frozen=True)
class Comparison:
    """Pairs of one metric, one a task, and how their difference is bounded."""

    pairs: Sequence[Pair]
    """Of each task the mean of its cases."""
    limit: float = 1.0
    """No difference there could be is larger."""
    relative: bool = False
    """Differences are shares of the expert's mean, more being worse: of steps."""

    @property
    def expert(self) -> float:
        """Return the expert's mean over tasks."""
        return _mean(self.pairs)[0] if self.pairs else 0.0

    @property
    def clone(self) -> float:
        """Return the clone's mean over tasks."""
        return _mean(self.pairs)[1] if self.pairs else 0.0

    @property
    def differences(self) -> list[float]:
        """Return by task how much better the clone was."""
        if self.relative:
            mean = self.expert
            return [(expert - clone) / mean for expert, clone in self.pairs]
        return [clone - expert for expert, clone in self.pairs]

    @property
    def spread(self) -> float:
        """Return the standard deviation of the differences."""
        if not self.pairs:
            return 0.0
        differences = self.differences
        mean = fmean(differences)
        return math.sqrt(fmean((one - mean) ** 2 for one in differences))

    def bounds(self, level: float) -> tuple[float, float, float]:
        """Return the mean difference, and a bound below and above it, each at ``level``.

        Of tasks that only succeed or fail, Tango's; else those of a mean, whatever its distribution.
        """
        if not self.pairs:
            return 0.0, -self.limit, self.limit
        if self._counted:
            return paired_difference(*self._table(), 2 * level - 1)
        return mean_bounds(self.differences, level, self.limit)

    def needed(self, gap: float, margin: float, level: float) -> int:
        """Return of how many tasks, 4 times in 5, bounds at ``level`` would hold what is this far from the margin."""
        if self._counted:
            disagree = sum(expert != clone for expert, clone in self.pairs)
            return cases_needed(gap, (disagree + 1) / (len(self.pairs) + 2), level)  # Laplace: never quite 0
        return max(values_needed(gap, self.spread, level, self.limit), cases_needed(margin / self.limit, 0.0, level))

    @property
    def _counted(self) -> bool:
        return not self.relative and all(value in (0.0, 1.0) for pair in self.pairs for value in pair)

    def _table(self) -> tuple[int, int, int, int]:
        return tuple(self.pairs.count(pair) for pair in ((1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0)))  # type: ignore[return-value]  # four counts


def compare(cases: Sequence[PairedCase], metric: str) -> Comparison:
    """Return the comparison of expert and clone by a metric, over the tasks where both have it.

    Steps are compared where both succeeded, against the expert's mean, which is taken as known.
    """
    if metric == STEP_COUNT:
        pairs = means(cases, _steps)
        if not pairs:
            return Comparison((), relative=True)
        mean = fmean(expert for expert, _ in pairs)
        return Comparison(pairs, max(1.0, *(abs(expert - clone) / mean for expert, clone in pairs)), relative=True)
    return Comparison(means(cases, lambda case: score_of(case, metric)))


def score_of(case: PairedCase, metric: str) -> Pair | None:
    """Return the expert's and the clone's score in a case, None where they have none."""
    if metric == TASK_COMPLETION and metric not in case.scores:
        return float(case.expert_success), float(case.clone_success)
    return case.scores.get(metric)


def means(cases: Iterable[PairedCase], pair_of: Callable[[PairedCase], Pair | None]) -> list[Pair]:
    """Return one pair a task, the mean of its cases that have one."""
    by_task: dict[str, list[Pair]] = {}
    for case in cases:
        pair = pair_of(case)
        if pair is not None:
            by_task.setdefault(case.task, []).append(pair)
    return [pairs[0] if len(pairs) == 1 else _mean(pairs) for pairs in by_task.values()]


def tasks_of(cases: Iterable[PairedCase]) -> int:
    """Return how many tasks cases are of."""
    return len({case.task for case in cases})


def _mean(pairs: Sequence[Pair]) -> Pair:
    return fmean(expert for expert, _ in pairs), fmean(clone for _, clone in pairs)


def _steps(case: PairedCase) -> Pair | None:
    both = case.expert_success and case.clone_success and case.expert_steps > 0
    return (float(case.expert_steps), float(case.clone_steps)) if both else None
