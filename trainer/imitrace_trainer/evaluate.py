"""Compare a clone with the expert, decision by decision, on tasks it never saw."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from imitrace_trainer.demonstrations import Demonstration, well_ended
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.frequency import FrequencyTable
from imitrace_trainer.policy import Decision, Policy, same_action
from imitrace_trainer.task_draws import Share, TaskDraws, difference

_BINS = 10


@dataclass(frozen=True)
class EvaluationReport:
    """How a clone's decisions compare with the expert's."""

    tasks: int
    action_agreement: Share
    """The same tool, or both a message."""
    floor_agreement: Share
    """The same by the frequency table of the previous action: what any clone must beat."""
    argument_exactness: Share
    """All arguments equal, where the tool was the same and it was a tool call."""
    exact_agreement: Share
    """The same action, arguments included; a message left to the expert counts as the same."""
    calibration_error: float
    """Mean gap between confidence and exact agreement over ten bins of equal size (ECE)."""
    brier: float
    """Mean squared error of confidence against exact agreement."""
    out_of_distribution: float
    """Share of states beyond the accepted distance."""
    failures: int = 0
    """Held-out decisions of failures, on which nothing is measured."""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)

    def render(self) -> str:
        """Return the report as text, a line a figure."""
        failures = f" ({self.failures:,} decisions of failures are left out)" if self.failures else ""
        return "\n".join(
            [
                f"held-out tasks        {self.tasks}{failures}",
                f"action agreement      {self.action_agreement}",
                f"  frequency floor     {self.floor_agreement}",
                f"argument exactness    {self.argument_exactness}",
                f"exact agreement       {self.exact_agreement}",
                f"calibration error     {self.calibration_error:.3f}   Brier {self.brier:.3f}",
                f"out of distribution   {self.out_of_distribution:.3f}",
            ]
        )


def evaluate(
    policy: Policy, held_out: Sequence[Demonstration], floor: FrequencyTable, seed: int = 0
) -> EvaluationReport:
    """Return how ``policy`` compares with the expert on held-out decisions; the floor is told beside it.

    Nothing is measured on those of failures, unless there are no others.
    """
    judged = well_ended(held_out)
    decisions = [policy.act(held.state) for held in judged]
    return evaluate_decisions(decisions, judged, floor, len(held_out) - len(judged), seed)


def evaluate_decisions(
    decisions: Sequence[Decision],
    held_out: Sequence[Demonstration],
    floor: FrequencyTable,
    failures: int = 0,
    seed: int = 0,
) -> EvaluationReport:
    """Return the same of decisions that were taken already, where ``failures`` more were left out."""
    tasks = [demonstration.task for demonstration in held_out]
    named = [(decision.action.name or MESSAGE) for decision in decisions]
    same = [name == demonstration.label for name, demonstration in zip(named, held_out, strict=True)]
    exact = [same_action(decision.action, held.action) for decision, held in zip(decisions, held_out, strict=True)]
    floored = [floor.predict(held.state)[0] == held.label for held in held_out]
    calls = [agrees and held.action.kind == "tool_call" for agrees, held in zip(same, held_out, strict=True)]
    error, brier = calibration_figures(decisions, exact)
    return EvaluationReport(
        tasks=len(set(tasks)),
        action_agreement=share_by_task(same, tasks, seed),
        floor_agreement=share_by_task(floored, tasks, seed),
        argument_exactness=share_by_task(
            [hit for hit, call in zip(exact, calls, strict=True) if call],
            [task for task, call in zip(tasks, calls, strict=True) if call],
            seed,
        ),
        exact_agreement=share_by_task(exact, tasks, seed),
        calibration_error=error,
        brier=brier,
        out_of_distribution=sum(decision.ood > 1 for decision in decisions) / max(1, len(decisions)),
        failures=failures,
    )


def share_by_task(hits: Sequence[bool], tasks: Sequence[str], seed: int) -> Share:
    """Return a share with its interval from a cluster bootstrap: tasks are drawn, never single decisions.

    One task alone says nothing of others: its interval is [0, 1]. Where all tasks say the same it reaches as far as the
    exact bound of Clopper and Pearson for so many.
    """
    return TaskDraws(tasks, seed).share(hits)


def difference_by_task(ours: Sequence[bool], theirs: Sequence[bool], tasks: Sequence[str], seed: int) -> Share:
    """Return our share less theirs on the same decisions, in [-1, 1], with its interval from the same bootstrap."""
    return difference(ours, theirs, TaskDraws(tasks, seed))


def calibration_figures(decisions: Sequence[Decision], exact: Sequence[bool]) -> tuple[float, float]:
    """Return the expected calibration error (Guo et al. 2017, bins of equal size) and the Brier score."""
    if not decisions:
        return 0.0, 0.0
    confidence = np.array([decision.confidence for decision in decisions])
    right = np.array(exact, dtype=float)
    order = np.argsort(confidence, kind="stable")
    gaps = [
        abs(float(confidence[part].mean() - right[part].mean())) * len(part)
        for part in np.array_split(order, min(_BINS, len(order)))
    ]
    return sum(gaps) / len(order), float(((confidence - right) ** 2).mean())
