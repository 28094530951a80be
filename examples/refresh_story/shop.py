"""Be a support desk that changes: one day a tool is retired for a successor, and customers ask for something new."""

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import count as count_from
from typing import Any, Final

from imitrace.messages import Action
from support_desk import Desk, tasks
from support_desk.expert import Expert, make_expert

RETIRED: Final = "change_address"
SUCCESSOR: Final = "set_shipping_address"
RENAMED: Final = {"zip": "postcode"}
"""Arguments of the retired tool that the successor calls otherwise."""
COHORTS: Final = {"orders": ("order_status", "cancel_order"), "accounts": ("address_change",)}
"""Intents by cohort of this story."""
NEW_INTENT: Final = "update_email"
"""Belongs to the accounts once the shop has changed."""
_SLICES: Final = {"order_status": "common", "cancel_order": "common", "address_change": "common"}
_DRAWN: Final = 120
_SEEDS: Final = 1_000_000


@dataclass(frozen=True)
class Ticket:
    """A task of the desk under the story's own cohort."""

    id: str
    cohort: str
    intent: str

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags that its trajectory carries."""
        return {"cohort": self.cohort, "intent": self.intent}


class Before(Desk):
    """The shop as the clone first learns it."""

    intents: Mapping[str, Sequence[str]] = COHORTS

    def tasks(self, count: int, seed: int, cohort: str | None = None) -> list[Ticket]:  # type: ignore[override]
        """Return tickets of a seed, of one cohort or of all in turn, as many of each intent."""
        wanted = [(name, intent) for name in ([cohort] if cohort else self.intents) for intent in self.intents[name]]
        each = -(-count // len(wanted))
        drawn = [[Ticket(one, name, intent) for one in _ids(intent, each, seed)] for name, intent in wanted]
        return [ticket for row in zip(*drawn, strict=True) for ticket in row][:count]


class After(Before):
    """The shop once it has changed."""

    intents: Mapping[str, Sequence[str]] = {**COHORTS, "accounts": ("address_change", NEW_INTENT)}

    @property
    def tools(self) -> list[dict[str, Any]]:  # OpenAI tool definitions
        """Return the tools offered now: the successor in the retired one's place."""
        return [_successor(tool) if tool["function"]["name"] == RETIRED else tool for tool in super().tools]

    def step(self, action: Action) -> tuple[list[dict[str, Any]], bool, dict[str, bool]]:  # OpenAI messages
        """Do what the agent does; a call of the retired tool does nothing."""
        if action.name == RETIRED:
            return super().step(replace(action, name="retired"))
        return super().step(_in_old_words(action))


class ShopExpert:
    """The desk's expert, who uses the successor where that is what the shop offers."""

    def __init__(self, desk: Before, error_rate: float = 0.0) -> None:
        self._expert: Expert = make_expert(desk, error_rate)
        self._changed = isinstance(desk, After)

    def act(self, messages: Sequence[Mapping[str, Any]]) -> Action | None:  # OpenAI messages
        """Return what the expert does next."""
        if not self._changed:
            return self._expert.act(messages)
        action = self._expert.act([_message_in_old_words(message) for message in messages])
        return None if action is None else _in_new_words(action)


def make_shop_expert(desk: Before, error_rate: float = 0.0) -> ShopExpert:
    """Return an expert for the tickets of a shop."""
    return ShopExpert(desk, error_rate)


def _ids(intent: str, count: int, seed: int) -> list[str]:
    """Return as many of the desk's task ids as asked for; other seeds share none."""
    found: list[str] = []
    for number in count_from(1):
        drawn = tasks(_DRAWN, seed * _SEEDS + number, _SLICES.get(intent, "long_tail"))
        found += [task.id for task in drawn if task.tags["intent"] == intent]
        if len(found) >= count:
            break
    return found[:count]


def _successor(tool: Mapping[str, Any]) -> dict[str, Any]:  # OpenAI tool definitions
    changed = deepcopy(dict(tool))
    function = changed["function"]
    function |= {"name": SUCCESSOR, "description": "Set where an order that has not shipped is sent."}
    parameters = function["parameters"]
    parameters["properties"] = {RENAMED.get(name, name): kind for name, kind in parameters["properties"].items()}
    parameters["required"] = list(parameters["properties"])
    return changed


def _in_new_words(action: Action) -> Action:
    if action.name != RETIRED:
        return action
    arguments = {RENAMED.get(name, name): value for name, value in action.arguments.items()}
    return replace(action, name=SUCCESSOR, arguments=arguments)


def _in_old_words(action: Action) -> Action:
    if action.name != SUCCESSOR:
        return action
    return replace(action, name=RETIRED, arguments=_old(action.arguments))


def _old(arguments: Mapping[str, Any]) -> dict[str, Any]:
    old = {new: name for name, new in RENAMED.items()}
    return {old.get(name, name): value for name, value in arguments.items()}


def _message_in_old_words(message: Mapping[str, Any]) -> dict[str, Any]:  # OpenAI messages
    changed = deepcopy(dict(message))
    for call in changed.get("tool_calls") or ():
        if call["function"]["name"] == SUCCESSOR:
            arguments = _old(json.loads(call["function"]["arguments"]))
            call["function"] = {"name": RETIRED, "arguments": json.dumps(arguments)}
    return changed
