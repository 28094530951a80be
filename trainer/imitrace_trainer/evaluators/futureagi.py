"""Reproduce the definitions that the package ``ai-evaluation`` of Future AGI gives to the same names, to compare with.

Written from its behaviour at commit a13cd0d (7 May 2026): per-trajectory tool selection, a 40/30/30 mix, and counted
connectives. Values agree with it on the cases of ``docs/scores.md``; they are not what this package would call right.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from imitrace.messages import message_text
from imitrace_trainer.episodes import Decided, Episode, answers_of
from imitrace_trainer.evaluators.result import Result, Task
from imitrace_trainer.evaluators.trajectories import as_episode, as_task, call_key, calls_of, failed, request_of

EVALUATOR: Final = "futureagi-compat"
_INDICATORS: Final = (
    *("because", "therefore", "since", "so", "thus", "need to", "should", "will", "going to"),
    *("first", "then", "next", "finally", "if", "however", "but", "although"),
)
_NO_KEYWORDS: Final = frozenset(
    """the a an is are was were be been being have has had do does did will would should could may might must and or
    but if then so that this it to of in for on with at by from as""".split()  # noqa: SIM905 - as one reads it
)
_WORD = re.compile(r"\b\w+\b")

_Given = Episode | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class FutureAgiTask(Task):
    """A task with what these definitions ask for besides."""

    criteria: Sequence[str] = ()
    required_tools: Sequence[str] = ()
    available_tools: Sequence[str] = ()
    max_steps: int | None = None


class _Metric:
    name: str
    version = "a13cd0d"

    def evaluate(self, input: Task | str | None, trajectory: _Given) -> Result:  # noqa: A002 - as others name it
        """Return the score by the other definition."""
        task, episode = as_task(input), as_episode(trajectory)
        score, reason = self._compute(_asked(task, episode), episode)
        return Result(round(score, 4), reason, "futureagi")

    def _compute(self, task: FutureAgiTask, episode: Episode) -> tuple[float, str]:
        raise TypeError(f"{type(self).__name__} computes nothing")


class TaskCompletion(_Metric):
    """0.2 for a final message, up to 0.5 for the expected result (0.3 where none is known), 0.3 for criteria (0.2)."""

    name = "FutureAGI.TaskCompletion"

    def _compute(self, task: FutureAgiTask, episode: Episode) -> tuple[float, str]:
        if not episode.decisions:
            return 0.0, "empty trajectory"
        result = _final(episode)
        score = 0.2 if result is not None else 0.0
        if task.expected is not None:
            score += 0.5 * _match(result, task.expected)
        elif result is not None:
            score += 0.3
        score += 0.3 * _criteria(result, episode, task.criteria) if task.criteria else 0.2
        return min(1.0, score), "final step, result and criteria"


class StepEfficiency(_Metric):
    """0.4 for few steps, 0.3 for no repeated call, 0.3 for no failed one."""

    name = "FutureAGI.StepEfficiency"

    def _compute(self, task: FutureAgiTask, episode: Episode) -> tuple[float, str]:
        count = len(episode.decisions)
        if not count:
            return 0.0, "empty trajectory"
        most = len(task.reference) or task.max_steps or 10
        calls = [taken for decided in episode.decisions for taken in calls_of(decided)]
        repeated = len(calls) - len({call_key(taken.action) for taken in calls})
        broken = sum(map(failed, calls)) / len(calls) if calls else 0.0
        score = 0.4 * min(1.0, most / count) + 0.3 * (1 - repeated / count) + 0.3 * (1 - broken)
        return score, f"{count} steps, {repeated} repeated calls"


class ToolSelectionAccuracy(_Metric):
    """Per trajectory: required tools used (0.4), only available ones (0.3), share not failed (0.3); 1 without calls."""

    name = "FutureAGI.ToolSelectionAccuracy"

    def _compute(self, task: FutureAgiTask, episode: Episode) -> tuple[float, str]:
        calls = [taken for decided in episode.decisions for taken in calls_of(decided)]
        if not calls:
            return 1.0, "no tool calls made"
        used = {taken.action.name or "" for taken in calls}
        parts = [(0.3, sum(not failed(taken) for taken in calls) / len(calls))]
        if task.required_tools:
            required = set(task.required_tools)
            parts.append((0.4, len(used & required) / len(required)))
        if task.available_tools:
            parts.append((0.3, 1 - len(used - set(task.available_tools)) / len(used)))
        weight = sum(part for part, _ in parts)
        return sum(part * value for part, value in parts) / weight, f"{len(calls)} calls"


class TrajectoryScore(_Metric):
    """0.4 completion, 0.3 efficiency, 0.3 tool selection."""

    name = "FutureAGI.TrajectoryScore"

    def _compute(self, task: FutureAgiTask, episode: Episode) -> tuple[float, str]:
        found = [
            float(metric.evaluate(task, episode).score or 0.0)
            for metric in (TaskCompletion(), StepEfficiency(), ToolSelectionAccuracy())
        ]
        told = ", ".join(f"{value:.2f}" for value in found)
        return 0.4 * found[0] + 0.3 * found[1] + 0.3 * found[2], f"completion, efficiency, tool selection: {told}"


class ReasoningQuality(_Metric):
    """0.3 for thoughts of 10 to 29 words, 0.4 for connectives in them, as substrings, 0.3 for three thoughts."""

    name = "FutureAGI.ReasoningQuality"

    def _compute(self, task: FutureAgiTask, episode: Episode) -> tuple[float, str]:
        if not episode.decisions:
            return 0.0, "empty trajectory"
        thoughts = [thought for thought in _thoughts(episode) if thought.strip()]
        if not thoughts:
            actions = [_action_text(decided) for decided in episode.decisions]
            implicit = any(word in text.lower() for text in actions for word in _INDICATORS)
            return (0.5 if implicit else 0.3), "no explicit thoughts"
        mean = sum(len(thought.split()) for thought in thoughts) / len(thoughts)
        length = 0.4 if mean < 5 else 0.7 if mean < 10 else 1.0 if mean < 30 else 0.8
        count = sum(word in thought.lower() for thought in thoughts for word in _INDICATORS)
        density = min(1.0, count / (2 * len(thoughts)))
        score = 0.3 * length + 0.4 * density + 0.3 * min(1.0, len(thoughts) / 3)
        return score, f"{len(thoughts)} thoughts, {count} indicators"


METRICS: Final = (TaskCompletion, StepEfficiency, ToolSelectionAccuracy, TrajectoryScore, ReasoningQuality)


def _asked(task: Task, episode: Episode) -> FutureAgiTask:
    if isinstance(task, FutureAgiTask):
        return task
    offered = {str(tool["name"]) for decided in episode.decisions for tool in decided.tools}
    return FutureAgiTask(
        request=task.request or request_of(episode),
        expected=task.expected,
        reference=task.reference,
        required_tools=sorted({action.name or "" for calls in task.reference for action in calls if action.name}),
        available_tools=sorted(offered),
    )


def _final(episode: Episode) -> str | None:
    """Return the last message, which is both their final step and their final result."""
    last = episode.decisions[-1].taken[-1].action
    return last.message if last.kind == "message" else None


def _keywords(text: str) -> set[str]:
    return set(_WORD.findall(text.lower())) - _NO_KEYWORDS


def _match(result: str | None, expected: str) -> float:
    if result is None:
        return 0.0
    ours, theirs = result.lower().strip(), expected.lower().strip()
    if ours == theirs:
        return 1.0
    if theirs in ours or ours in theirs:
        return 0.9
    wanted = _keywords(expected)
    return len(_keywords(result) & wanted) / len(wanted) if wanted else 0.0


def _criteria(result: str | None, episode: Episode, criteria: Sequence[str]) -> float:
    seen = " ".join(taken.observation or "" for decided in episode.decisions for taken in decided.taken)
    texts = ((result or "").lower(), f"{seen} {' '.join(_thoughts(episode))}".lower())
    met = 0
    for criterion in criteria:
        words = _keywords(criterion)
        met += not words or any(sum(word in text for word in words) >= len(words) / 2 for text in texts)
    return met / len(criteria)


def _thoughts(episode: Episode) -> list[str]:
    return [
        "\n".join(str(part.get("content") or "") for part in answer["parts"] if part.get("type") == "reasoning")
        or (message_text(answer) if calls_of(decided) else "")
        for decided, answer in zip(episode.decisions, answers_of(episode), strict=True)
    ]


def _action_text(decided: Decided) -> str:
    return " ".join(taken.action.message or taken.action.name or "" for taken in decided.taken)
