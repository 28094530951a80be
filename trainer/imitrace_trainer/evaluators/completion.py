"""Score whether a task was completed: by what others declared, by a goal, by the outcome, else by how it ended."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from imitrace.messages import Action
from imitrace_trainer.episodes import Episode, Taken
from imitrace_trainer.evaluators.result import Result, Task, unit_problem
from imitrace_trainer.evaluators.trajectories import as_episode, as_task, call_key, calls_of, failed
from imitrace_trainer.policy import same_action

DECLARED: Final = ("reward", "tests")
"""Names of scores that say how the task ended; others may be named instead."""
OUTCOMES: Final = {"success": 1.0, "failure": 0.0, "abandoned": 0.0}
UNDECLARED: Final = 0.9
"""What a trajectory gets in which every sign is good: nobody said that it is right."""

_Given = Episode | Sequence[Mapping[str, Any]]


class TaskCompletion:
    """From 0 (not done) to 1 (done), by the first of four kinds of evidence that is there; the label names it.

    ``declared``: a score of one of the names given, as it is. ``goal``: the share of the goal's calls that were made
    and answered without an error, and of the expected last message. ``outcome``: 1 for success, else 0. ``signs``:
    ``TerminalSigns``.
    """

    name = "TaskCompletion"
    version = "1"

    def __init__(self, declared: Sequence[str] = DECLARED) -> None:
        self._declared = tuple(declared)
        self._signs = TerminalSigns()

    def evaluate(self, input: Task | str | None, trajectory: _Given) -> Result:  # noqa: A002 - as others name it
        """Return the score; none where a declared score is no number from 0 to 1."""
        task, episode = as_task(input), as_episode(trajectory)
        for name in self._declared:
            if name in task.declared:
                value = task.declared[name]
                problem = unit_problem(name, value)
                return (
                    Result(None, f"rejected: {problem}") if problem else Result(value, f"{name} {value:g}", "declared")
                )
        if task.goal or task.expected is not None:
            return _by_goal(task, episode)
        if episode.outcome in OUTCOMES:
            return Result(OUTCOMES[episode.outcome], f"outcome {episode.outcome}", "outcome")
        return self._signs.evaluate(task, episode)


class TerminalSigns:
    """From 0 to 0.9: what the way in which a trajectory went and ended says of its success, if nothing else is known.

    0.9, times a factor for each bad sign of ``SIGNS`` that is found. A polite ending is no sign, nor is a refusal: it
    may be what was right.
    """

    name = "TerminalSigns"
    version = "1"

    def evaluate(self, input: Task | str | None, trajectory: _Given) -> Result:  # noqa: A002 - as others name it
        """Return the score; none for a trajectory that still runs or has no steps."""
        del input
        episode = as_episode(trajectory)
        if not episode.ended:
            return Result(None, "still running")
        if not episode.decisions:
            return Result(None, "no steps")
        found = [(sign, SIGNS[sign]) for sign, there in _signs(episode).items() if there]
        score = UNDECLARED
        for _, factor in found:
            score *= factor
        told = ", ".join(sign for sign, _ in found) or "ended without a bad sign"
        return Result(score, f"nothing declared; {told}", "signs")


SIGNS: Final[Mapping[str, float]] = {
    "ends in a call without an answer": 0.3,
    "ends in an error": 0.3,
    "a failed tool never succeeded after": 0.6,
    "the same call brought the same answer twice": 0.6,
    "no tool was called although some were offered": 0.5,
}
"""Factor by bad sign."""


def _signs(episode: Episode) -> dict[str, bool]:
    last = episode.decisions[-1]
    calls = [taken for decided in episode.decisions for taken in calls_of(decided)]
    open_calls = [taken for taken in calls_of(last) if taken.observation is None]
    return dict(
        zip(
            SIGNS,
            (
                bool(open_calls),
                any(failed(taken) for taken in last.taken),
                _unmended(calls),
                _repeats(calls),
                not calls and any(decided.tools for decided in episode.decisions),
            ),
            strict=True,
        )
    )


def _unmended(calls: Sequence[Taken]) -> bool:
    broken: set[str | None] = set()
    for taken in calls:
        if failed(taken):
            broken.add(taken.action.name)
        else:
            broken.discard(taken.action.name)
    return bool(broken)


def _repeats(calls: Sequence[Taken]) -> bool:
    """Return whether a call was made again, with nothing but the same answer in return, while nothing else was new."""
    known: set[tuple[str, str | None]] = set()
    for taken in calls:
        what = (call_key(taken.action), taken.observation)
        if what in known and taken.observation:
            return True
        known.add(what)
    return False


def _by_goal(task: Task, episode: Episode) -> Result:
    calls = [taken for decided in episode.decisions for taken in calls_of(decided) if not failed(taken)]
    met = [_met(action, calls) for action in task.goal]
    missing = [str(action.name) for action, there in zip(task.goal, met, strict=True) if not there]
    if task.expected is not None:
        said = episode.decisions[-1].taken[-1].action.message if episode.decisions else None
        met.append(_folded(said or "") == _folded(task.expected))
        missing += [] if met[-1] else ["the expected last message"]
    told = f"{sum(met)} of {len(met)} parts of the goal" + (f"; missing: {', '.join(missing)}" if missing else "")
    return Result(sum(met) / len(met), told, "goal")


def _met(wanted: Action, calls: Sequence[Taken]) -> bool:
    return any(taken.observation is not None and same_action(wanted, taken.action) for taken in calls)


def _folded(text: str) -> str:
    return " ".join(text.lower().split())
