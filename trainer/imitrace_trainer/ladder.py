"""Climb the ladder: fit every family to the same lesson, let the calibration tasks choose, compare on the gate's tasks.

The gate's tasks may not choose: what was chosen by them could not be judged by them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imitrace_trainer.checkpoints import NOTHING_KEPT, Checkpoints
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.evaluate import difference_by_task, share_by_task
from imitrace_trainer.families import BEST, FAMILIES
from imitrace_trainer.family import Clone
from imitrace_trainer.fit import BCConfig, FitReport, calibrate, prepare
from imitrace_trainer.policy import Decision, same_action
from imitrace_trainer.progress import Progress, silent
from imitrace_trainer.task_draws import Share
from imitrace_trainer.training import one_thread


@dataclass(frozen=True)
class Climb:
    """The clones of one lesson, each calibrated, and the one that ships."""

    clones: Mapping[str, Clone]
    """By family."""
    chosen: str
    on_calibration: Mapping[str, Share]
    """Exact agreement with the expert on the calibration tasks, by family."""
    fit: FitReport

    @property
    def clone(self) -> Clone:
        """The one that ships."""
        return self.clones[self.chosen]


@dataclass(frozen=True)
class Rung:
    """How a family did."""

    family: str
    calibration: Share
    """Exact agreement on the calibration tasks: what the choice was made by."""
    gate: Share
    """The same on the gate's tasks."""
    behind: Share
    """By how much the clone that ships is better on the gate's tasks, in the same tasks."""


def climb(
    shown: tuple[Sequence[Demonstration], Sequence[Demonstration]],
    family: str,
    config: BCConfig,
    progress: Progress = silent,
    kept: Checkpoints = NOTHING_KEPT,
) -> Climb:
    """Fit one family, or all, and choose by the lower bound of exact agreement on the calibration tasks.

    Args:
        shown: the decisions to train on, and those to calibrate on, whose tasks must be others.
        family: a name in ``FAMILIES``, or ``BEST``.
        config: how to fit.
        progress: told how far it is.
        kept: where to keep how far the fit has come, and to take it up from.

    Raises:
        CloneError: there is nothing to learn.
    """
    learnt_from, calibration = shown
    tasks = [one.task for one in calibration]
    clones: dict[str, Clone] = {}
    shares: dict[str, Share] = {}
    with one_thread():
        lesson = prepare(learnt_from, config, progress, calibration, kept)
        for name in FAMILIES if family == BEST else (family,):
            clones[name] = FAMILIES[name].fit(lesson, config, progress)
            shares[name] = share_by_task(calibrate(clones[name], calibration), tasks, config.seed)
    chosen = max(clones, key=lambda name: shares[name].low) if calibration else list(clones)[-1]
    return Climb(clones, chosen, shares, lesson.report(clones[chosen]))


def compare(
    climbed: Climb, held_out: Sequence[Demonstration], decisions: Sequence[Decision], seed: int = 0
) -> list[Rung]:
    """Return how each family does on held-out decisions, the one that ships first; ``decisions`` are its own."""
    tasks = [held.task for held in held_out]
    ours = _right(decisions, held_out)
    rungs = []
    for name in sorted(climbed.clones, key=lambda one: (one != climbed.chosen, list(FAMILIES).index(one))):
        clone = climbed.clones[name]
        own = ours if name == climbed.chosen else _right([clone.act(held.state) for held in held_out], held_out)
        itself = Share(0.0, 0.0, 0.0, len(held_out))
        behind = itself if name == climbed.chosen else difference_by_task(ours, own, tasks, seed)
        rungs.append(Rung(name, climbed.on_calibration[name], share_by_task(own, tasks, seed), behind))
    return rungs


def _right(decisions: Sequence[Decision], held_out: Sequence[Demonstration]) -> list[bool]:
    return [same_action(made.action, held.action) for made, held in zip(decisions, held_out, strict=True)]


def render(rungs: Sequence[Rung]) -> str:
    """Return rungs as the rows of a Markdown table."""
    lines = ["| family | calibration tasks | held-out tasks | behind what ships |", "|---|---|---|---|"]
    for number, rung in enumerate(rungs):
        behind = f"{rung.behind.value:+.3f} [{rung.behind.low:+.3f}, {rung.behind.high:+.3f}]" if number else "ships"
        lines.append(f"| {rung.family} | {rung.calibration} | {rung.gate} | {behind} |")
    return "\n".join(lines)
