"""Climb the ladder: fit every family to the same lesson, let the calibration tasks choose, compare on the gate's tasks.

The gate's tasks may not choose: what was chosen by them could not be judged by them. What ships is then fitted once
more, to the calibration tasks as well: tasks are few, and what these were kept for is done. Confidence and thresholds
stay those of the first fit, the rehearsal, which had not seen them, as with scikit-learn's ``CalibratedClassifierCV``
where ``ensemble=False``. So a threshold is proven of the rehearsal alone: that more tasks make no clone worse is taken
for granted, until the gate's tasks judge the one that ships.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from imitrace_trainer.checkpoints import NOTHING_KEPT, Checkpoints
from imitrace_trainer.demonstrations import Demonstration, well_ended_rows
from imitrace_trainer.evaluate import difference_by_task, share_by_task
from imitrace_trainer.families import BEST, FAMILIES
from imitrace_trainer.family import Clone, Scored
from imitrace_trainer.fit import BCConfig, FitReport, Lesson, calibrate, prepare
from imitrace_trainer.policy import Decision, same_action
from imitrace_trainer.progress import Progress, Stage, silent
from imitrace_trainer.task_draws import Share
from imitrace_trainer.training import one_thread


@dataclass(frozen=True)
class Climb:
    """The clones of one lesson, each calibrated, and the one that ships."""

    clones: Mapping[str, Clone]
    """By family, as they ship."""
    rehearsed: Mapping[str, Clone]
    """The same as they were before they learnt from the calibration tasks; where they never did, the very same."""
    chosen: str
    scored: Sequence[Scored]
    """What the one that ships decided on the calibration tasks before it learnt from them."""
    on_calibration: Mapping[str, Share]
    """Exact agreement with the expert on the calibration tasks, by family; failures don't count, unless all failed."""
    fit: FitReport

    @property
    def clone(self) -> Clone:
        """The one that ships."""
        return self.clones[self.chosen]

    @property
    def rehearsal(self) -> Clone:
        """The one that ships, before it learnt from the calibration tasks."""
        return self.rehearsed[self.chosen]

    @property
    def refitted(self) -> bool:
        """Whether it has learnt from the calibration tasks."""
        return self.clone is not self.rehearsal

    @property
    def second(self) -> Clone | None:
        """The best of the others, a second key to what can't be undone; None where one family alone was fitted."""
        others = [name for name in self.clones if name != self.chosen]
        return self.clones[max(others, key=lambda name: self.on_calibration[name].low)] if others else None


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


def climb(  # noqa: PLR0913 - how it climbs, each named at the call
    shown: tuple[Sequence[Demonstration], Sequence[Demonstration]],
    family: str,
    config: BCConfig,
    progress: Progress = silent,
    kept: Checkpoints = NOTHING_KEPT,
    *,
    keyed: bool = False,
) -> Climb:
    """Fit one family, or all, and choose by the lower bound of exact agreement on the calibration tasks.

    Args:
        shown: the decisions to train on, and those to calibrate on, whose tasks must be others.
        family: a name in ``FAMILIES``, or ``BEST``.
        keyed: whether a second family is fitted in any case, as a second key.
        config: how to fit.
        progress: told how far it is.
        kept: where to keep how far the fit has come, and to take it up from.

    Raises:
        CloneError: there is nothing to learn.
    """
    learnt_from, calibration = shown
    told = well_ended_rows(calibration)
    tasks = [calibration[row].task for row in told]
    clones: dict[str, Clone] = {}
    scored: dict[str, list[Scored]] = {}
    shares: dict[str, Share] = {}
    with one_thread():
        lesson = prepare(learnt_from, config, progress, calibration, kept)
        for name in FAMILIES if family == BEST else _with_another(family, keyed):
            clones[name] = FAMILIES[name].fit(lesson, config, progress)
            scored[name] = calibrate(clones[name], calibration)
            right = [same_action(scored[name][row].action, calibration[row].action) for row in told]
            shares[name] = share_by_task(right, tasks, config.seed)
        shipped, whole = clones, lesson
        if config.refit and calibration:
            shipped, whole = _refitted(clones, lesson, shown, config, progress, kept)
    if family == BEST:
        chosen = max(clones, key=lambda name: shares[name].low) if calibration else list(clones)[-1]
    else:
        chosen = family
    report = replace(
        lesson.report(clones[chosen]), decisions=len(whole.train), slots=whole.slots, coverage=whole.coverage
    )
    return Climb(shipped, clones, chosen, scored[chosen], shares, report)


def _refitted(  # noqa: PLR0913 - as ``climb``
    rehearsed: Mapping[str, Clone],
    lesson: Lesson,
    shown: tuple[Sequence[Demonstration], Sequence[Demonstration]],
    config: BCConfig,
    progress: Progress,
    kept: Checkpoints,
) -> tuple[dict[str, Clone], Lesson]:
    """Return the clones fitted to all that was shown, for as many epochs, with the confidence that they had."""

    def told(stage: str, share: float) -> None:
        progress(Stage(f"refit: {stage}", getattr(stage, "note", "")), share)

    whole = prepare([*shown[0], *shown[1]], config, told, kept=kept.part("refit"), reader=lesson.caller.reader)
    long = replace(config, epochs=lesson.learnt["choose"].kept) if "choose" in lesson.learnt else config
    clones: dict[str, Clone] = {}
    for name, before in rehearsed.items():
        clones[name] = FAMILIES[name].fit(whole, long, told)
        clones[name].calibration = before.calibration
    return clones, whole


def _with_another(family: str, keyed: bool) -> tuple[str, ...]:
    if not keyed:
        return (family,)
    return (family, next(name for name in reversed(FAMILIES) if name != family))


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
