"""Play a ticket to its end, and keep what was seen and done at each decision."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from imitrace.messages import Action
from support_desk.desk import Desk
from support_desk.task import Task

Message = dict[str, Any]
"""A chat message in OpenAI's form."""
Act = Callable[[Sequence[Message]], Action | None]
"""Decides on what to do next, from the conversation so far; None gives up."""
Perform = Callable[[Action], Sequence[Message]]
"""Does an action, and returns the messages that follow it."""


@dataclass(frozen=True)
class Decision:
    """Hold what was visible, and what was done."""

    messages: list[Message]
    action: Action


@dataclass(frozen=True)
class Episode:
    """Hold one ticket from where it was taken up to its end."""

    task: Task
    decisions: list[Decision]
    messages: list[Message]
    info: dict[str, bool]
    """Success, lost and unsafe, as the desk says at the end."""


def play(desk: Desk, act: Act, messages: Sequence[Message], perform: Perform | None = None) -> Episode:
    """Work the ticket that the desk has open until it ends, or until ``act`` gives up.

    Args:
        desk: has the ticket open.
        act: the agent.
        messages: the conversation so far, as ``desk.reset`` began it.
        perform: does the actions, when something is to happen around ``desk.step``.
    """
    seen = list(messages)
    decisions: list[Decision] = []
    while not desk.done and (action := act(seen)) is not None:
        decisions.append(Decision(seen, action))
        following = desk.step(action)[0] if perform is None else perform(action)
        seen = [*seen, assistant_message(action), *following]
    return Episode(desk.task, decisions, seen, desk.info)


def assistant_message(action: Action) -> Message:
    """Return the chat message that an action stands for."""
    if action.kind == "message":
        return {"role": "assistant", "content": action.message}
    function = {"name": action.name, "arguments": json.dumps(action.arguments)}
    call = {"id": action.call_id, "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}
