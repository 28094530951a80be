"""Work at the demo's support desk, refunds in several turns alone: experts, one of whom misreads, and renamed tools."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final

from correcting.grounds import MISREAD, Chat, Ground
from imitrace.messages import Action
from imitrace_trainer.environment import Environment, Expert, Task
from support_desk.case import Case
from support_desk.conversation import Conversation
from support_desk.desk import Desk
from support_desk.expert import Expert as DeskExpert
from support_desk.mistakes import mistake
from support_desk.procedures import PROCEDURES, next_action
from support_desk.tools import RESOLUTIONS

NAMES: Final = {
    "get_order": "fetch_order_record",
    "search_orders": "find_orders_of_account",
    "check_eligibility": "verify_action_allowed",
    "get_tracking": "read_parcel_tracking",
}
"""Other names of tools."""


class Misreading:
    """A desk's expert who in some tasks takes the request for one of another kind, from the first step to the last."""

    def __init__(self, desk: Desk, share: float) -> None:
        self._desk = desk
        self._share = share
        self._right = DeskExpert(desk)

    def act(self, messages: Chat) -> Action | None:
        """Return what it does next."""
        task = self._desk.task
        draw = Random(f"misread/{task.id}")
        right = self._right.act(messages)
        if right is None or draw.random() >= self._share:
            return right
        others = sorted(set(PROCEDURES) - {task.kind})
        kind, resolution = draw.choice(others), draw.choice(RESOLUTIONS)
        talk = Conversation(messages)
        case: Case = replace(self._right._case(talk), kind=kind)
        try:
            action = next_action(case)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError):
            action = None
        in_vain = action is not None and action.name is not None and talk.failed(action.name, **action.arguments)
        if action is None or in_vain or talk.decisions > self._patience(draw):
            return Action("tool_call", "close_ticket", {"resolution": resolution})
        return action

    @staticmethod
    def _patience(draw: Random) -> int:
        return draw.randint(3, 8)


class RenamedDesk(Desk):
    """The desk after some of its tools were given other names; what they do and say of themselves is the same."""

    def __init__(self, renamed: int = len(NAMES)) -> None:
        super().__init__()
        self.names = dict(list(NAMES.items())[:renamed])

    @property
    def tools(self) -> list[dict[str, Any]]:  # OpenAI tool definitions
        """Return the tools under their new names."""
        return [
            {
                **tool,
                "function": {
                    **tool["function"],
                    "name": self.names.get(tool["function"]["name"], tool["function"]["name"]),
                },
            }
            for tool in super().tools
        ]

    def step(self, action: Action) -> tuple[list[dict[str, Any]], bool, dict[str, bool]]:  # OpenAI messages
        """Do what the agent does, as ``Desk.step``."""
        return super().step(replace(action, name=self.old.get(action.name or "", action.name)))

    @property
    def old(self) -> dict[str, str]:
        """Return the names of before by those of now."""
        return {new: name for name, new in self.names.items()}


class RenamingExpert:
    """An expert of the desk who calls its tools by their new names."""

    def __init__(self, expert: Expert, desk: RenamedDesk) -> None:
        self._expert = expert
        self._desk = desk

    def act(self, messages: Chat) -> Action | None:
        """Return what it does next."""
        action = self._expert.act([_renamed(message, self._desk.old) for message in messages])
        return action and replace(action, name=self._desk.names.get(action.name or "", action.name))


def _renamed(message: Mapping[str, Any], names: Mapping[str, str]) -> Mapping[str, Any]:
    calls = message.get("tool_calls")
    if not calls:
        return message
    return {
        **message,
        "tool_calls": [
            {
                **call,
                "function": {**call["function"], "name": names.get(call["function"]["name"], call["function"]["name"])},
            }
            for call in calls
        ],
    }


def _desk(setting: str) -> Environment:
    return RenamedDesk() if setting == "changed" else Desk()


def desk_expert(environment: Environment, fallible: bool) -> Expert:
    """Return who knows a desk, whatever its tools are called."""
    assert isinstance(environment, Desk)
    expert: Expert = Misreading(environment, MISREAD) if fallible else DeskExpert(environment)
    return RenamingExpert(expert, environment) if isinstance(environment, RenamedDesk) else expert


def _desk_mistake(environment: Environment, action: Action, messages: Chat, draw: Random) -> Action:
    if not isinstance(environment, RenamedDesk):
        return mistake(action, Conversation(messages), draw)
    talk = Conversation([_renamed(message, environment.old) for message in messages])
    made = mistake(replace(action, name=environment.old.get(action.name or "", action.name)), talk, draw)
    return replace(made, name=environment.names.get(made.name or "", made.name))


def _desk_tasks(environment: Environment, setting: str, count: int, seed: int) -> Sequence[Task]:
    return environment.tasks(count, seed, "multi_turn_refunds")


GROUND: Final = Ground("desk", _desk, desk_expert, _desk_mistake, 8, _desk_tasks)
