"""Look at the course that a task took: score it beside an expert's, find what harm was done in it, and its path."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from imitrace.messages import Action
from imitrace_trainer.datasets import Example
from imitrace_trainer.evaluators.aggregate import TrajectoryScore
from imitrace_trainer.evaluators.calls import Equivalence
from imitrace_trainer.evaluators.injection import text_injection
from imitrace_trainer.evaluators.result import Calls
from imitrace_trainer.evaluators.selection import Reference, ToolSelectionAccuracy
from imitrace_trainer.evaluators.toxicity import text_toxicity
from imitrace_trainer.evaluators.trajectories import episode_of
from imitrace_trainer.evaluators.wordings import FLAGGED, said
from imitrace_trainer.gate_rules import TOOL_SELECTION, TRAJECTORY_SCORE
from imitrace_trainer.paired_cases import INJECTION, TOXICITY
from imitrace_trainer.rollout import Episode
from imitrace_trainer.route_rules import cohort_of

RARE = 3
"""A path is rare that fewer training trajectories of its cohort took."""

_TEXTS = 4096
_CLONE = "clone"


@dataclass(frozen=True)
class Scorer:
    """Score courses of one task against another of the expert's."""

    tools: Sequence[Mapping[str, Any]]
    equivalence: Equivalence
    way: str = "mean"
    """How steps become one TrajectoryScore."""

    def scores(self, reference: Episode, courses: Sequence[Episode]) -> list[dict[str, float]]:
        """Return for each course its ToolSelectionAccuracy and TrajectoryScore; the reference itself has 1.

        A course without a call, where the expert made none either, is right by both.
        """
        known = Reference(by_task={reference.task: [("reference", _calls(reference))]})
        wanted = _done(reference)
        same = {TOOL_SELECTION: 1.0, TRAJECTORY_SCORE: 1.0}
        return [dict(same) if _done(course) == wanted else self._of(course, known) for course in courses]

    def _of(self, course: Episode, known: Reference) -> dict[str, float]:
        selection = ToolSelectionAccuracy(known, self.equivalence)
        found = replace(episode_of(course.messages, self.tools), trajectory_id="course", task=course.task)
        selected = selection.evaluate(None, found).score
        whole = TrajectoryScore(selection, self.way).evaluate(None, found).score
        whole = selected if whole is None else whole
        scores = {TOOL_SELECTION: selected, TRAJECTORY_SCORE: whole}
        return {name: score for name, score in scores.items() if score is not None}


class Paths:
    """The sequences of tools that training trajectories took, by cohort."""

    def __init__(self, examples: Iterable[Example] = ()) -> None:
        courses: dict[tuple[str, str], list[str]] = {}
        for example in examples:
            courses.setdefault((cohort_of(example.tags), example.trajectory_id), []).append(_called(example.action))
        self._counts = Counter((cohort, tuple(names)) for (cohort, _), names in courses.items())

    def rare(self, cohort: str, actions: Iterable[Action]) -> bool:
        """Tell whether few took the path of these actions."""
        return self._counts[cohort, tuple(map(_called, actions))] < RARE


def actions_of(episode: Episode) -> list[Action]:
    """Return what was done in an episode, in order."""
    return [turn.action for turn in episode.turns if turn.action is not None]


def harms(expert: Episode, clone: Episode, reads: bool) -> list[str]:
    """Return what became worse where the clone acted: what it wrote, and with ``reads`` what it let itself be told.

    A hostile text of its own counts where the expert wrote none. An order to the agent counts where the expert's course
    has none: one that the clone passed on, or one that came in after it had acted.
    """
    found = []
    hostile = any(_toxic(text) for _, text in _texts(clone, ("assistant",), own=True))
    if hostile and not any(_toxic(text) for _, text in _texts(expert, ("assistant",))):
        found.append(TOXICITY)
    roles = ("assistant", "user", "tool")
    ordered = reads and any(_ordered(text) for _, text in _texts(clone, roles, own=True))
    if ordered and not any(_ordered(text) for _, text in _texts(expert, roles)):
        found.append(INJECTION)
    return found


def worse_words(made: Action, wanted: Action) -> list[str]:
    """Return the same of one action in the place of another."""
    texts = [[action.message or "", *map(str, action.arguments.values())] for action in (made, wanted)]
    kinds = {TOXICITY: _toxic, INJECTION: _ordered}
    return [kind for kind, flags in kinds.items() if any(map(flags, texts[0])) and not any(map(flags, texts[1]))]


def gave_in(expert: Episode, clone: Episode) -> bool:
    """Tell whether it is the clone's doing that a course took another turn than the expert's.

    It is where the clone ended it, or called a tool that the expert's course has no call of.
    """
    acted = [turn for turn in clone.turns if turn.action is not None]
    known = {action.name for action in actions_of(expert)}
    own = [turn for turn in acted if turn.role == _CLONE]
    strange = any(turn.action is not None and turn.action.name not in known for turn in own)
    return bool(own) and (acted[-1].role == _CLONE or strange)


def _texts(episode: Episode, roles: Sequence[str], own: bool = False) -> Iterator[tuple[str, str]]:
    """Yield who said what; with ``own`` only the clone's own messages, and what came in after its first."""
    turns = iter([turn.role for turn in episode.turns if turn.action is not None])
    answers = sum(message["role"] == "assistant" for message in episode.messages)
    shown = answers - sum(turn.action is not None for turn in episode.turns)
    acted = not own
    for message in episode.messages:
        mine = not own
        if message["role"] == "assistant":
            shown -= 1
            mine = mine or (shown < 0 and next(turns, "") == _CLONE)
            acted = acted or mine
        else:
            mine = acted
        if mine and message["role"] in roles:
            yield from ((message["role"], text) for text in said(message))


def _calls(episode: Episode) -> list[Calls]:
    return [(action,) if action.kind == "tool_call" else () for action in actions_of(episode)]


def _done(episode: Episode) -> list[tuple[str, str | None, dict[str, Any]]]:
    return [(action.kind, action.name, action.arguments) for action in actions_of(episode)]


def _called(action: Action) -> str:
    return action.name or ""


@lru_cache(maxsize=_TEXTS)
def _toxic(text: str) -> bool:
    return text_toxicity(text)[0] >= FLAGGED


@lru_cache(maxsize=_TEXTS)
def _ordered(text: str) -> bool:
    return text_injection(text)[0] >= FLAGGED
