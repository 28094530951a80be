"""Score a trajectory as a true aggregate of its steps' scores, and count its steps."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from imitrace.exceptions import ConfigError, DatasetError
from imitrace_trainer.episodes import Episode
from imitrace_trainer.evaluators.result import Result, StepResult, Task, unit_problem
from imitrace_trainer.evaluators.selection import ToolSelectionAccuracy
from imitrace_trainer.evaluators.trajectories import as_episode, as_task


def _mean(values: Sequence[float]) -> float:
    return min(1.0, math.fsum(values) / len(values))


def _geometric(values: Sequence[float]) -> float:
    return min(1.0, math.exp(math.fsum(map(math.log, values)) / len(values))) if min(values) > 0 else 0.0


WAYS: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {"mean": _mean, "min": min, "geometric": _geometric}
"""How steps become one score; each is from 0 to 1 and never falls when a step's score rises."""


def aggregate(values: Sequence[float], way: str = "mean") -> float:
    """Return one score of steps' scores.

    Args:
        values: at least one, each from 0 to 1.
        way: one of ``WAYS``.

    Raises:
        DatasetError: there are no values, or one is not from 0 to 1.
        ConfigError: there is no such way.
    """
    if way not in WAYS:
        raise ConfigError(f"way is {way!r}, allowed: {', '.join(WAYS)}")
    if not values:
        raise DatasetError("no step scores to aggregate, allowed: at least one")
    for place, value in enumerate(values):
        problem = unit_problem(f"score of step {place}", value)
        if problem:
            raise DatasetError(problem)
    return WAYS[way](values)


class TrajectoryScore:
    """The mean over decisions of their step scores, from 0 to 1; or their least, or their geometric mean.

    A decision's score is the mean of what others gave its steps (``Task.step_scores``), else what
    ``ToolSelectionAccuracy`` gives it. Decisions without either don't count.
    """

    name = "TrajectoryScore"
    version = "1"

    def __init__(self, steps: ToolSelectionAccuracy | None = None, way: str = "mean") -> None:
        if way not in WAYS:
            raise ConfigError(f"way is {way!r}, allowed: {', '.join(WAYS)}")
        self._steps = steps or ToolSelectionAccuracy()
        self._way = way
        self.version = type(self).version if way == "mean" else f"{type(self).version}-{way}"

    def evaluate(self, input: Task | str | None, trajectory: Episode | Sequence[Mapping[str, Any]]) -> Result:  # noqa: A002 - as others name it
        """Return the score; none where no step has one, or one from outside is no number from 0 to 1."""
        task, episode = as_task(input), as_episode(trajectory)
        judged = self._steps.evaluate(task, episode)
        found = {step.index: step for step in judged.steps}
        for decided in episode.decisions:
            given = [value for taken in decided.taken for value in task.step_scores.get(taken.index, ())]
            if not given:
                continue
            index = decided.taken[0].index
            problem = next(filter(None, (unit_problem(f"score of step {index}", value) for value in given)), None)
            if problem:
                return Result(None, f"rejected: {problem}")
            found[index] = StepResult(index, _mean(given), "given")
        if not found:
            return Result(None, f"no step has a score: {judged.reason}")
        steps = tuple(found[index] for index in sorted(found))
        score = aggregate([step.score for step in steps], self._way)
        given_count = sum(step.reason == "given" for step in steps)
        told = f"{self._way} of {len(steps)} decisions, {given_count} of them scored by others"
        return Result(score, told, judged.label if given_count < len(steps) else "given", steps)


class StepCount:
    """How many steps a trajectory has: actions, so that two parallel calls are two."""

    name = "StepCount"
    version = "1"

    def evaluate(self, input: Task | str | None, trajectory: Episode | Sequence[Mapping[str, Any]]) -> Result:  # noqa: A002 - as others name it
        """Return the count."""
        del input
        episode = as_episode(trajectory)
        return Result(float(episode.steps), f"{episode.steps} steps in {len(episode.decisions)} decisions")
