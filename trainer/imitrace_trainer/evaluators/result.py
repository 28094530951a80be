"""Say what an evaluator is: it takes a task and a trajectory, and returns a score with its reason."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from imitrace.exceptions import DatasetError
from imitrace.messages import Action
from imitrace_trainer.episodes import Episode

Calls = tuple[Action, ...]
"""What one decision did: one message, or one or more calls."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What was to be done, and what others know about how it went; all of it may be left out."""

    request: str = ""
    """What was asked for, in words."""
    expected: str | None = None
    """The last message that is wanted; equal but for case and space."""
    goal: Sequence[Action] = ()
    """The goal state, as calls that must have been made and answered without an error."""
    declared: Mapping[str, float | None] = field(default_factory=dict)
    """Scores of the whole trajectory that others gave, by name: a reward, the share of tests passed."""
    step_scores: Mapping[int, Sequence[float]] = field(default_factory=dict)
    """Scores of single steps that others gave, by step index, each from 0 to 1."""
    reference: Sequence[Calls] = ()
    """What an expert decided in this task, from first to last."""


@dataclass(frozen=True)
class StepResult:
    """The score of one decision."""

    index: int
    """Index of its first step."""
    score: float
    reason: str

    def __post_init__(self) -> None:
        check_score(f"score of step {self.index}", self.score)


@dataclass(frozen=True)
class Result:
    """A score and why; unpacks as ``score, reason``."""

    score: float | None
    """None: there is nothing to judge by."""
    reason: str
    label: str | None = None
    """What the score rests on, in a word."""
    steps: tuple[StepResult, ...] = ()

    def __post_init__(self) -> None:
        if self.score is not None:
            check_score("score", self.score)

    def __iter__(self) -> Iterator[Any]:  # a float or None, then a text
        return iter((self.score, self.reason))


class Evaluator(Protocol):
    """Anything that scores."""

    @property
    def name(self) -> str:
        """The name of the score that it gives."""

    @property
    def version(self) -> str:
        """Changes whenever the same trajectory might get another score."""

    def evaluate(self, input: Task | str | None, trajectory: Episode | Sequence[Mapping[str, Any]]) -> Result:  # noqa: A002 - as others name it
        """Return the score of a trajectory and the reason for it.

        Args:
            input: the task, or only the request in words.
            trajectory: an episode, or chat messages in OpenAI's or our own form.
        """


def check_score(name: str, value: float) -> None:
    """Refuse what is no score.

    Raises:
        DatasetError: the value is NaN or infinite.
    """
    if not math.isfinite(value):
        raise DatasetError(f"{name} is {value}, allowed: a finite number; where nothing can be said return None")


def unit_problem(name: str, value: float | None) -> str | None:
    """Return why a value from outside is no score from 0 to 1, or None where it is one."""
    if value is None:
        return f"{name} has no value"
    return None if 0 <= value <= 1 else f"{name} is {value:g}, allowed: 0 to 1"  # NaN is no number of this range
