"""Find disagreements of a clone at the support desk, and let the desk itself say which of them do harm.

In each state of the expert's own run what would have been done instead is tried, and the expert goes on to the end. It
was harmless where the task is a success all the same, which asks for exactly the right changes; and free where it took
no more steps either.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from imitrace.messages import Action, Message, action_message, from_openai, to_openai, tool_definition
from imitrace_trainer.equivalence import Made, equivalent
from imitrace_trainer.policy import Policy, State, same_action
from support_desk.conversation import Conversation
from support_desk.desk import Desk
from support_desk.expert import Expert, make_expert
from support_desk.mistakes import mistake
from support_desk.task import Task

READS = ("search_orders", "find_customer", "get_order", "get_tracking", "get_payment", "check_eligibility")
"""The desk's tools that only read, as a user would say in the tool ledger."""


@dataclass(frozen=True)
class Disagreement:
    """What could have been done instead, by whom it was thought of, what the queue says and what the desk says."""

    origin: str
    """``clone``, ``mistake``, or ``order``: a later call of the expert's, made early."""
    set_apart: str | None
    """Why the queue sets it apart; None where it does not."""
    harmless: bool
    free: bool


@dataclass
class _Turn:
    chat: list[dict[str, Any]]
    messages: list[Message]
    before: object
    action: Action
    observation: str | None = None


def disagreements(policy: Policy, tasks: Sequence[Task]) -> list[Disagreement]:
    """Return every disagreement in those of the expert's runs of tasks that are a success."""
    desk, found = Desk(), []
    tools = [tool_definition(tool) for tool in desk.tools]
    expert = make_expert(desk)
    for task in tasks:
        turns = _played(desk, expert, task)
        for place, turn in enumerate(turns if desk.info["success"] else ()):
            state = State(turn.messages, tools, task.tags)
            followed = [Made(one.action, one.observation, f"{len(one.chat)}") for one in turns[place:]]
            for origin, other in _others(policy, state, turn, turns[place + 1 :], (desk, task)):
                apart = equivalent(turn.action, other, followed, tools, READS)
                steps = _tried(desk, expert, turn, other)
                harmless = bool(desk.info["success"])
                found.append(Disagreement(origin, apart, harmless, harmless and steps <= len(turns) - place))
    return found


def _others(
    policy: Policy, state: State, turn: _Turn, later: Sequence[_Turn], at: tuple[Desk, Task]
) -> list[tuple[str, Action]]:
    """Return what could have been done instead: all of it differs from what was done."""
    desk, task = at
    desk.restore(turn.before)
    rng = Random(f"{task.id} {len(turn.chat)}")
    made: list[tuple[str, Action]] = []
    clone = policy.act(state).action
    if clone.kind == "tool_call" or clone.message:
        made.append(("clone", clone))
    wrong = mistake(turn.action, Conversation(turn.chat), rng)
    made.append(("mistake", wrong))
    made += [("order", one.action) for one in later if one.action.kind == "tool_call"]
    return [(origin, other) for origin, other in made if not same_action(other, turn.action)]


def _played(desk: Desk, expert: Expert, task: Task) -> list[_Turn]:
    """Play a task by the expert, and return its turns."""
    chat = list(desk.reset(task.id))
    messages, turns = [from_openai(message) for message in chat], list[_Turn]()
    while (action := expert.act(chat)) is not None:
        turns.append(_Turn(list(chat), list(messages), desk.snapshot(), action))
        turns[-1].observation = _on(desk, chat, messages, action)
    return turns


def _tried(desk: Desk, expert: Expert, turn: _Turn, other: Action) -> int:
    """Do something else first, let the expert go on to the end, and return how many steps it took."""
    desk.restore(turn.before)
    chat, messages, steps = list(turn.chat), list(turn.messages), 1
    _on(desk, chat, messages, other)
    while (action := expert.act(chat)) is not None:
        _on(desk, chat, messages, action)
        steps += 1
    return steps


def _on(desk: Desk, chat: list[dict[str, Any]], messages: list[Message], action: Action) -> str | None:
    """Do an action; return what its tool answered."""
    named = replace(action, call_id=f"call_{len(chat)}")
    following, _, _ = desk.step(named)
    answer = action_message(named)
    chat += [to_openai(answer), *following]
    messages += [answer, *(from_openai(message) for message in following)]
    tool = next((message for message in following if message["role"] == "tool"), None)
    return None if tool is None else str(tool.get("content"))
