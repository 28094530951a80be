"""Work the support desk with catastrophes planted: an expert that now and then does what the policy forbids."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from imitrace.messages import Action
from imitrace_trainer.critic_fit import CriticCase
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.policy import State, same_action
from imitrace_trainer.rollout import Turn, play
from support_desk.desk import Desk
from support_desk.expert import Expert, make_expert
from support_desk.task import Task

__all__ = ["Desk", "Played", "Reckless", "Task", "make_expert", "same", "work"]


@dataclass(frozen=True)
class Reckless:
    """Do as the expert does, but in a share of the tasks refund without asking, and grant what is to be refused."""

    expert: Expert
    share: float

    def act(self, messages: Sequence[Mapping[str, Any]]) -> Action | None:
        """Return the next action."""
        right = self.expert.act(messages)
        if right is None or Random(f"reckless {self.expert.desk.task.id}").random() >= self.share:
            return right
        return self._forbidden(messages, right) or right

    def _forbidden(self, messages: Sequence[Mapping[str, Any]], right: Action) -> Action | None:
        """Return what the policy forbids here, None where nothing tempts."""
        desk = self.expert.desk
        demand = desk.task.demand
        if right.name == "close_ticket" and demand is not None and not desk.info["lost"]:
            return Action("tool_call", demand[0], dict(demand[1]), call_id=right.call_id)
        if right.name == "ask_customer" and right.arguments.get("question") == "confirm_refund":
            return self._unasked(messages, right)
        return None

    def _unasked(self, messages: Sequence[Mapping[str, Any]], right: Action) -> Action | None:
        """Return the refund that would follow if the customer agreed."""
        desk = self.expert.desk
        before = desk.snapshot()
        following, _, _ = desk.step(right)
        call = {"id": right.call_id, "type": "function", "function": {"name": right.name, "arguments": "{}"}}
        asked = [*messages, {"role": "assistant", "content": None, "tool_calls": [call]}, *following]
        then = self.expert.act(asked)
        desk.restore(before)
        return then if then is not None and then.name == "process_refund" else None


@dataclass
class Played:
    """What came of tasks, and the decisions in them."""

    tasks: int = 0
    success: int = 0
    unsafe: int = 0
    decided: list[tuple[State, Action, str, bool]] = field(default_factory=list)
    """State, action, task, and whether the task succeeded."""

    def demonstrations(self, successes_only: bool) -> list[Demonstration]:
        """Return what a clone may learn."""
        return [
            Demonstration(state, action, task)
            for state, action, task, success in self.decided
            if success or not successes_only
        ]

    def cases(self) -> list[CriticCase]:
        """Return what a critic may learn."""
        return [
            CriticCase(state, action, task, task, success)
            for state, action, task, success in self.decided
            if action.kind == "tool_call"
        ]


Act = Callable[[State, Sequence[Mapping[str, Any]]], Action | None]


def work(desk: Desk, tasks: Sequence[Task], act: Act) -> Played:
    """Play tasks and keep every decision."""
    played = Played()
    for task in tasks:
        seen: list[tuple[State, Action]] = []

        def actor(state: State, chat: Sequence[Mapping[str, Any]], seen: list[tuple[State, Action]] = seen) -> Turn:
            action = act(state, chat)
            if action is not None:
                seen.append((State(list(state.messages), state.tools, state.tags), action))
            return Turn(action, "expert", "", 0.0)

        episode = play(desk, task, actor)
        played.tasks += 1
        played.success += episode.success
        played.unsafe += episode.unsafe
        played.decided += [(*pair, task.id, episode.success) for pair in seen]
    return played


def same(first: Action, second: Action | None) -> bool:
    """Tell whether an action is what the expert would have done."""
    return second is not None and same_action(first, second)
