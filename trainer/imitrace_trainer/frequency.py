"""The frequency family, the floor of the ladder: what usually followed, counted, arguments included."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imitrace.canonical import canonical_json
from imitrace.messages import Action, Message, message_actions
from imitrace_trainer.argument_fit import misfit
from imitrace_trainer.calibration import Calibration
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.family import Parts, Scored
from imitrace_trainer.fit import BCConfig, Lesson
from imitrace_trainer.policy import Decision, State
from imitrace_trainer.progress import Progress
from imitrace_trainer.reading import Reader

INTENT_TAG = "intent"
"""The tag that says what a trajectory is about, where somebody sets it."""
_START = "<start>"
_TINY = 1e-9
_STRANGE = 2.0
"""Distance of a situation that was never seen; 0 is that of one that was."""


class FrequencyTable:
    """Count which action followed in which situation: P(action | intent, previous action), the likeliest table."""

    def __init__(self, demonstrations: Iterable[Demonstration] = ()) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.arguments: dict[str, Counter[str]] = {}
        """By situation and tool: the arguments that it was called with, as JSON."""
        for demonstration in demonstrations:
            key = situation(demonstration.state)
            self.counts.setdefault(key, Counter())[demonstration.label] += 1
            if demonstration.action.kind == "tool_call":
                called = canonical_json(demonstration.action.arguments)
                self.arguments.setdefault(_slot(key, demonstration.label), Counter())[called] += 1

    def predict(self, state: State) -> tuple[str | None, float]:
        """Return the likeliest next action's name and its share; None and 0 in a situation never seen."""
        shares = self.shares(state)
        name = max(shares, key=lambda one: shares[one], default=None)
        return name, shares.get(name, 0.0) if name else 0.0

    def shares(self, state: State) -> dict[str, float]:
        """Return the share of each action that was taken in a situation, count over total; none: it was never seen."""
        counted = self.counts.get(situation(state), Counter())
        return {name: count / counted.total() for name, count in counted.most_common()}

    def usual(self, state: State, tool: str) -> Counter[str]:
        """Return how often a tool was called with which arguments in a situation."""
        return self.arguments.get(_slot(situation(state), tool), Counter())


class FrequencyPolicy:
    """Do what was done most often after the same action, with the arguments given most often then."""

    family = "frequency"

    def __init__(self, table: FrequencyTable, tools: Iterable[Mapping[str, Any]]) -> None:
        self.table = table
        self.tools = [dict(tool) for tool in tools]
        self.calibration = Calibration()
        self.reader = Reader()

    def act(self, state: State) -> Decision:
        """Return the decision for a state; in a situation never seen its confidence is 0."""
        scored, shares, distance = self._decide(state)
        confidence = 0.0 if distance else self.calibration.confidence(self.evidence(scored))
        tools = {("message" if name == MESSAGE else name): share for name, share in shares.items()}
        return Decision(scored.action, confidence, distance, tools)

    def score(self, state: State) -> tuple[Scored, float]:
        """Return the action with its raw shares, and 0, or 2 in a situation that was never seen."""
        scored, _, distance = self._decide(state)
        return scored, distance

    def evidence(self, scored: Scored) -> list[float]:
        """Return what confidence is calibrated on: the log-odds of the tool's share and the log of its arguments'."""
        share = min(max(scored.tool_probability, _TINY), 1 - 1e-3)
        return [math.log(share / (1 - share)), math.log(max(scored.argument_probability, _TINY))]

    def parts(self) -> Parts:
        """Return the counts; there are no weights."""
        counted = {"counts": self.table.counts, "arguments": self.table.arguments}
        return Parts({}, {"table": counted, "tools": self.tools})

    @classmethod
    def of_parts(cls, parts: Parts) -> "FrequencyPolicy":
        """Return the policy whose ``parts`` these are."""
        table = FrequencyTable()
        for name in ("counts", "arguments"):
            setattr(table, name, {key: Counter(counts) for key, counts in parts.record["table"][name].items()})
        return cls(table, parts.record["tools"])

    def _decide(self, state: State) -> tuple[Scored, dict[str, float], float]:
        offered = {tool["name"]: tool for tool in state.tools}
        seen = {name: share for name, share in self.table.shares(state).items() if name == MESSAGE or name in offered}
        total = sum(seen.values())
        shares = {name: seen.get(name, 0.0) / total if total else 0.0 for name in (*offered, MESSAGE)}
        if not total:
            shares[MESSAGE] = 1.0
        for name in sorted(seen, key=lambda one: -seen[one]):
            if name == MESSAGE:
                break
            usual = self.table.usual(state, name)
            for written, count in usual.most_common():
                arguments = json.loads(written)
                if misfit(offered[name].get("parameters"), arguments) is None:
                    action, share = Action("tool_call", name, arguments), count / usual.total()
                    return Scored(action, shares[name], share, share), shares, 0.0
        message = Scored(Action("message", message=""), shares[MESSAGE], 1.0, 1.0)
        return message, shares, 0.0 if total else _STRANGE


def fit_frequency(lesson: Lesson, config: BCConfig, progress: Progress) -> FrequencyPolicy:
    """Count the lesson's decisions; nothing is to be set."""
    return FrequencyPolicy(FrequencyTable(lesson.train), lesson.caller.tools)


def situation(state: State) -> str:
    """Return what the table is looked up by: the trajectory's intent, if it is tagged, and the last thing done."""
    return canonical_json([state.tags.get(INTENT_TAG, ""), previous_action(state.messages)])


def _slot(key: str, tool: str) -> str:
    return f"{key} {tool}"


def previous_action(messages: Sequence[Message]) -> str:
    """Return the name of the last thing the agent did: a tool, ``MESSAGE``, or ``<start>``."""
    for message in reversed(messages):
        if message["role"] == "assistant":
            return message_actions(message)[-1].name or MESSAGE
    return _START
