"""Run a clone over what it was not trained on and gather its figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from imitrace_trainer.clone_files import CloneCard
from imitrace_trainer.demonstrations import Demonstration, well_ended_rows
from imitrace_trainer.drift.visited_states import compare_states, states_by_task
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.family import Clone, Scored
from imitrace_trainer.figures import CriticFigures, Origin, Quality, Refits
from imitrace_trainer.frequency import FrequencyTable
from imitrace_trainer.policy import Decision, same_action
from imitrace_trainer.quality import (
    Judged,
    by_cohort,
    by_distance,
    by_tool,
    judge_decisions,
    promises,
    reliability,
    risk_coverage,
    unseen_confidences,
)
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.task_draws import TaskDraws, difference
from imitrace_trainer.thresholds import NEVER, Thresholds


@dataclass(frozen=True)
class Shown:
    """The decisions of an expert that a clone is measured with."""

    learnt: Sequence[Demonstration]
    """What its weights were fitted to."""
    calibration: Sequence[Demonstration]
    foretold: Sequence["Foretold"]
    """What was foretold of these before they were learnt from."""
    held_out: Sequence[Demonstration]
    """Of tasks that no other part has."""


@dataclass(frozen=True)
class Foretold:
    """What a clone that had not seen a decision's task made of it; nothing that anybody said is in it."""

    guess: str
    """The action's name."""
    right: bool
    """Whether it is exactly the expert's."""
    evidence: list[float]
    """What confidence is calibrated on."""


def foretell(clone: Clone, scored: Sequence[Scored], calibration: Sequence[Demonstration]) -> list[Foretold]:
    """Return what the clone's decisions on the calibration tasks came to."""
    return [
        Foretold(made.action.name or MESSAGE, same_action(made.action, one.action), list(clone.evidence(made)))
        for made, one in zip(scored, calibration, strict=True)
    ]


@dataclass(frozen=True)
class Extras:
    """What is measured elsewhere, where it is."""

    critic: CriticFigures | None = None
    refits: Refits | None = None


def measure(  # noqa: PLR0913 - what a clone is made of, each named at the call
    clone: Clone,
    card: CloneCard,
    shown: Shown,
    *,
    decisions: Sequence[Decision],
    thresholds: Thresholds,
    promised: RouteConfig,
    version: int | None = None,
    extras: Extras = Extras(),
) -> Quality:
    """Return every figure of a clone.

    Args:
        clone: fitted and calibrated.
        card: what it was made from.
        shown: the dataset's splits, with what was foretold of the calibration tasks.
        decisions: the clone's own on the held-out part.
        thresholds: from which confidence it may act.
        promised: what these thresholds were asked to promise.
        version: its number, where it has one.
        extras: what is measured elsewhere.
    """
    rows = judge_decisions(decisions, shown.held_out, thresholds)
    calibration, unseen = _calibrated(clone, shown)
    draws, others = TaskDraws([row.task for row in rows]), TaskDraws([row.task for row in unseen])
    agrees, exact = [row.agrees for row in rows], [row.exact for row in rows]
    said = [row.acts and row.guess == MESSAGE for row in rows] if thresholds.replies < NEVER else None
    table = FrequencyTable(shown.learnt)
    floor = [table.predict(one.state)[0] == one.label for one in shown.held_out]
    return Quality(
        origin=_origin(card, version),
        tasks=len({row.task for row in rows}),
        decisions=len(rows),
        trained_tasks=len({one.task for one in shown.learnt}),
        calibration_tasks=len({row.task for row in unseen}),
        calibration_decisions=len(unseen),
        agreement=draws.share(agrees),
        exact=draws.share(exact),
        floor=draws.share(floor),
        lead=difference(agrees, floor, draws),
        reliability=reliability(rows, draws),
        on_calibration=reliability(unseen, others),
        risk_coverage=risk_coverage(rows, draws),
        promised=promised.error,
        proof=promised.confidence,
        threshold=None if thresholds.reversible >= NEVER else thresholds.reversible,
        acted=draws.share([row.acts for row in rows]),
        acted_right=draws.share(exact, [row.acts for row in rows]),
        said=None if said is None else draws.share(said),
        said_right=None if said is None else draws.share(exact, said),
        promises=promises(calibration, rows, draws, promised.confidence),
        tools=by_tool(rows, draws),
        cohorts=by_cohort(rows, draws),
        distances=by_distance(rows, draws),
        states=compare_states(states_by_task(shown.learnt), states_by_task(shown.held_out), clone.reader),
        critic=extras.critic,
        refits=extras.refits,
    )


def _calibrated(clone: Clone, shown: Shown) -> tuple[list[Judged], list[Judged]]:
    """Return the calibration tasks' decisions by the clone's own confidence, and by one that did not see them.

    Decisions of failures help to fit that one, and are not judged.
    """
    evidence, right = [one.evidence for one in shown.foretold], [one.right for one in shown.foretold]
    failed = [one.failed for one in shown.calibration]

    def judged(confidences: Sequence[float]) -> list[Judged]:
        rows = [
            Judged(one.task, "", one.label, told.guess, told.right, sure, 0.0, acts=False)
            for told, one, sure in zip(shown.foretold, shown.calibration, confidences, strict=True)
        ]
        return [rows[row] for row in well_ended_rows(shown.calibration)]

    unseen = unseen_confidences(evidence, right, [one.task for one in shown.calibration], failed)
    return judged([clone.calibration.confidence(one) for one in evidence]), judged(unseen)


def _origin(card: CloneCard, version: int | None) -> Origin:
    return Origin(
        clone=card.name,
        version=version,
        family=str(card.training["family"]),
        dataset=card.dataset,
        dataset_version=card.dataset_version,
        dataset_hash=card.dataset_hash,
        trained_at=card.created_at,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
