"""Err the way agents do: a needless question, the wrong tool, another id, another word of a list, a hasty end."""

from collections.abc import Callable
from random import Random
from typing import Any, Final

from imitrace.messages import Action
from support_desk.conversation import Conversation
from support_desk.tools import ELIGIBILITY_ACTIONS, QUESTIONS, RESOLUTIONS, TOOLS

_PROPERTIES: Final = {tool["function"]["name"]: tool["function"]["parameters"]["properties"] for tool in TOOLS}
_READS: Final = {"get_order": "order_id", "get_payment": "payment_id", "get_tracking": "tracking_number"}
_SHARES: Final = {"question": 30, "tool": 25, "id": 20, "word": 15, "end": 10}


def mistake(right: Action, talk: Conversation, rng: Random) -> Action:
    """Return a plausible wrong action in place of the right one; it uses nothing that can't be seen."""
    while True:
        way = rng.choices(list(_SHARES), list(_SHARES.values()))[0]
        name, arguments = _WAYS[way](right, talk, rng)
        if name and (name, arguments) != (right.name, right.arguments):
            return Action("tool_call", name, arguments, call_id=f"call_{talk.decisions}")


_Wrong = tuple[str | None, dict[str, Any]]  # a tool's name and arguments


def _question(right: Action, talk: Conversation, rng: Random) -> _Wrong:
    return "ask_customer", {"question": rng.choice(QUESTIONS)}


def _tool(right: Action, talk: Conversation, rng: Random) -> _Wrong:
    name = rng.choice([*_READS, "check_eligibility"])
    ids = talk.ids(_READS.get(name, "order_id"))
    if not ids:
        return None, {}
    if name == "check_eligibility":
        return name, {"order_id": rng.choice(ids), "action": rng.choice(ELIGIBILITY_ACTIONS)}
    return name, {_READS[name]: rng.choice(ids)}


def _id(right: Action, talk: Conversation, rng: Random) -> _Wrong:
    keys = [key for key in right.arguments if key.endswith("_id") and len(talk.ids(key)) > 1]
    if not keys:
        return None, {}
    key = rng.choice(keys)
    return right.name, right.arguments | {key: rng.choice(talk.ids(key))}


def _word(right: Action, talk: Conversation, rng: Random) -> _Wrong:
    choices = {key: _PROPERTIES[right.name or ""][key].get("enum") for key in right.arguments}
    keys = [key for key, values in choices.items() if values]
    if not keys:
        return None, {}
    key = rng.choice(keys)
    return right.name, right.arguments | {key: rng.choice(choices[key])}


def _end(right: Action, talk: Conversation, rng: Random) -> _Wrong:
    return "close_ticket", {"resolution": rng.choice(RESOLUTIONS)}


_WAYS: Final[dict[str, Callable[[Action, Conversation, Random], _Wrong]]] = {
    "question": _question,
    "tool": _tool,
    "id": _id,
    "word": _word,
    "end": _end,
}
