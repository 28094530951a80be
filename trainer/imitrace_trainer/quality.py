"""Measure how far a clone's word can be trusted: its predictions in, figures out, each with an interval by task. Pure.

An interval comes from a bootstrap over tasks, as decisions of one task are right or wrong together. Where it would be
empty, as all tasks agree, it reaches as far as the exact bound for so many tasks (Clopper & Pearson 1934).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from imitrace_trainer.calibration import fit_calibration
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.family import OWN_ODDS
from imitrace_trainer.figures import Bin, DistanceBin, Promise, Reliability, RiskPoint, Slice
from imitrace_trainer.policy import Decision, same_action
from imitrace_trainer.route import route
from imitrace_trainer.route_rules import cohort_of
from imitrace_trainer.task_draws import EDGE, Floats, Share, TaskDraws
from imitrace_trainer.thresholds import NEVER, Thresholds, choose_threshold

PROMISES = (0.01, 0.02, 0.05, 0.1)
"""Shares of wrong decisions that a threshold is asked to promise."""

_BINS = 10
_DISTANCES = 5
_STEPS = 20
_FOLDS = 5


@dataclass(frozen=True)
class Judged:
    """A clone's decision beside what the expert did."""

    task: str
    cohort: str
    label: str
    """What the expert called, or ``MESSAGE``."""
    guess: str
    exact: bool
    """The same action, arguments included; a message that is left to the expert counts as the same."""
    confidence: float
    ood: float
    acts: bool
    """The clone would act where its gate had passed."""

    @property
    def agrees(self) -> bool:
        """Tell whether the tool is the same, or both are messages."""
        return self.guess == self.label


def judge_decisions(
    decisions: Sequence[Decision], shown: Sequence[Demonstration], thresholds: Thresholds
) -> list[Judged]:
    """Return decisions beside the expert's; whether one would be acted on is told as if every gate had passed."""
    return [
        Judged(
            task=one.task,
            cohort=cohort_of(one.state.tags),
            label=one.label,
            guess=decision.action.name or MESSAGE,
            exact=same_action(decision.action, one.action),
            confidence=decision.confidence,
            ood=decision.ood,
            acts=route(decision, one.state, thresholds, (cohort_of(one.state.tags),)).actor == "clone",
        )
        for decision, one in zip(decisions, shown, strict=True)
    ]


def reliability(rows: Sequence[Judged], draws: TaskDraws) -> Reliability:
    """Return how confidence compares with being right, of ``rows`` whose tasks are those of ``draws``."""
    sure = np.array([row.confidence for row in rows])
    right = np.array([row.exact for row in rows], dtype=np.float64)
    parts = np.array_split(np.argsort(sure, kind="stable"), min(_BINS, len(rows)) or 1)
    inside = np.zeros((len(rows), len(parts)))
    for number, part in enumerate(parts):
        inside[part, number] = 1
    bins = [
        Bin(float(sure[part].mean()), draws.share(right, inside[:, number] > 0), draws.tasks(inside[:, number] > 0))
        for number, part in enumerate(parts)
        if len(part)
    ]
    return Reliability(bins, _error(sure - right, inside, draws), _by_chance(sure), draws.share(sure - right, least=-1))


def _error(gaps: Floats, inside: Floats, draws: TaskDraws) -> Share:
    """Return the calibration error; its interval is that of the same bins in each draw."""
    if not len(gaps):
        return Share(0.0, 0.0, 1.0, 0)
    value = float(np.abs(gaps @ inside).sum()) / len(gaps)
    drawn = np.abs(draws.sums(gaps[:, None] * inside)).sum(axis=1) / np.maximum(draws.sums(np.ones(len(gaps))), 1)
    low, high = np.quantile(drawn, [1 - EDGE, EDGE])
    return Share(value, min(float(low), value), max(float(high), value), len(gaps))


def _by_chance(sure: Floats) -> float:
    if not len(sure):
        return 0.0
    ordered = np.sort(sure)
    right = np.random.default_rng(0).random((200, len(ordered))) < ordered
    gaps = np.array_split(ordered - right, min(_BINS, len(ordered)), axis=1)
    return float(sum(np.abs(part.sum(axis=1)) for part in gaps).mean()) / len(ordered)


def risk_coverage(rows: Sequence[Judged], draws: TaskDraws) -> list[RiskPoint]:
    """Return what thresholds give, from the surest calls to all of them (El-Yaniv & Wiener 2010)."""
    calls = np.array([row.guess != MESSAGE for row in rows], dtype=bool)
    sure = np.array([row.confidence for row in rows])
    wrong = np.array([not row.exact for row in rows], dtype=np.float64)
    ranked = np.sort(sure[calls])[::-1]
    cuts = (
        dict.fromkeys(float(ranked[max(0, len(ranked) * part // _STEPS - 1)]) for part in range(1, _STEPS + 1))
        if (len(ranked))
        else {}
    )
    points = []
    for cut in cuts:
        taken = calls & (sure >= cut)
        points.append(RiskPoint(cut, float(taken.mean()), draws.share(wrong, taken.tolist())))
    return points


def promises(
    calibration: Sequence[Judged], held_out: Sequence[Judged], draws: TaskDraws, confidence: float
) -> list[Promise]:
    """Return what thresholds that the calibration tasks chose give on the held-out ones.

    Args:
        calibration: what the thresholds are chosen on, as the route's own are.
        held_out: what they are measured on; its tasks are those of ``draws``.
        draws: for the intervals.
        confidence: of the proof of each promise.
    """
    known = [row for row in calibration if row.guess != MESSAGE]
    sure, right = [row.confidence for row in known], [row.exact for row in known]
    wrong = np.array([not row.exact for row in held_out], dtype=np.float64)
    found = []
    for error in PROMISES:
        threshold = choose_threshold(sure, right, error, confidence, [row.task for row in known]) if known else NEVER
        taken = [row.guess != MESSAGE and row.confidence >= threshold for row in held_out]
        covered = draws.share(np.array(taken, dtype=np.float64))
        kept = None if threshold == NEVER else threshold
        found.append(Promise(error, kept, covered, draws.share(wrong, taken)))
    return found


def by_tool(rows: Sequence[Judged], draws: TaskDraws) -> list[Slice]:
    """Return how the clone does by what the expert did, the most frequent first."""
    labels = [row.label for row in rows]
    names = sorted(set(labels), key=lambda name: (-labels.count(name), name))
    return [
        _slice(name, rows, ([row.label == name for row in rows], [row.guess == name for row in rows]), draws)
        for name in names
    ]


def by_cohort(rows: Sequence[Judged], draws: TaskDraws) -> list[Slice]:
    """Return how the clone does by cohort, the largest first."""
    cohorts = [row.cohort for row in rows]
    names = sorted(set(cohorts), key=lambda name: (-cohorts.count(name), name))
    found = []
    for name in names:
        inside = [cohort == name for cohort in cohorts]
        found.append(_slice(name, rows, (inside, inside), draws))
    return found


def _slice(name: str, rows: Sequence[Judged], masks: tuple[list[bool], list[bool]], draws: TaskDraws) -> Slice:
    inside, chosen = masks
    acted = [row.acts and picked for row, picked in zip(rows, inside, strict=True)]
    agrees, exact = [row.agrees for row in rows], [row.exact for row in rows]
    return Slice(
        name=name,
        tasks=draws.tasks(np.array(inside, dtype=bool)),
        agreement=draws.share(agrees, inside),
        exact=draws.share(exact, inside),
        chosen_right=draws.share(agrees, chosen),
        acted=draws.share([row.acts for row in rows], inside),
        acted_right=draws.share(exact, acted),
        strange=draws.share([row.ood > 1 for row in rows], inside),
    )


def by_distance(rows: Sequence[Judged], draws: TaskDraws) -> list[DistanceBin]:
    """Return how the clone does by how far a state is from those of training, in five bins of equal size."""
    far = np.array([row.ood for row in rows])
    agrees, exact = [row.agrees for row in rows], [row.exact for row in rows]
    found = []
    for part in np.array_split(np.argsort(far, kind="stable"), min(_DISTANCES, len(rows)) or 1):
        if len(part):
            inside = np.isin(np.arange(len(rows)), part)
            shares = draws.share(agrees, inside), draws.share(exact, inside)
            found.append(DistanceBin(float(far[part].min()), float(far[part].max()), *shares, draws.tasks(inside)))
    return found


def unseen_confidences(
    evidence: Sequence[Sequence[float]], right: Sequence[bool], tasks: Sequence[str], failed: Sequence[bool]
) -> list[float]:
    """Return the confidence of each decision by a calibration that was fitted to other tasks, in five folds.

    Those by the calibration that ships were fitted to the very decisions that they would be judged by. Of one task
    alone nothing can be said: 0 for all.
    """
    names = {name: number % _FOLDS for number, name in enumerate(sorted(set(tasks)))}
    folds = [names[task] for task in tasks]
    found = [0.0] * len(evidence)
    for fold in set(folds):
        others = [row for row, of in enumerate(folds) if of != fold]
        hits, lost = [right[row] for row in others], [failed[row] for row in others]
        fitted = fit_calibration([evidence[row] for row in others], hits, [0.0] * len(others), lost, OWN_ODDS)
        for row, of in enumerate(folds):
            if of == fold:
                found[row] = fitted.confidence(evidence[row])
    return found
