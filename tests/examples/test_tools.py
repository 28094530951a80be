from collections.abc import Sequence
from typing import Any

import pytest

from imitrace.messages import tool_definition
from support_desk import IRREVERSIBLE, TOOLS, Episode
from support_desk.tools import argument_error

JSON_TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "number": (int, float)}


def violations(schema: dict[str, Any], arguments: dict[str, Any]) -> list[str]:
    """Check arguments against a JSON schema of the desk's kind, written apart from the desk's own check."""
    found = [key for key in schema["required"] if key not in arguments]
    for key, value in arguments.items():
        rule = schema["properties"].get(key)
        fits = rule and isinstance(value, JSON_TYPES[rule["type"]]) and ("enum" not in rule or value in rule["enum"])
        found += [] if fits else [key]
    return found


def test_there_are_tools_enough_and_two_are_irreversible() -> None:
    names = [tool_definition(tool)["name"] for tool in TOOLS]
    assert len(set(names)) == len(names) >= 14
    assert set(names) >= IRREVERSIBLE == {"process_refund", "cancel_order"}


def test_every_call_of_the_expert_fits_its_schema(faultless: Sequence[Episode]) -> None:
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
    actions = [decision.action for episode in faultless for decision in episode.decisions]
    for action in actions:
        if action.kind == "tool_call":
            assert violations(schemas[action.name or ""], action.arguments) == [], action


def test_the_expert_uses_every_tool(faultless: Sequence[Episode]) -> None:
    used = {decision.action.name for episode in faultless for decision in episode.decisions}
    assert used >= {tool["function"]["name"] for tool in TOOLS}


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("fly", {}, "unknown tool"),
        (None, {}, "unknown tool"),
        ("get_order", {}, "needs order_id as a string"),
        ("get_order", {"order_id": 7}, "needs order_id as a string"),
        ("get_order", {"order_id": "A-1", "colour": "red"}, "takes no argument 'colour'"),
        ("issue_store_credit", {"customer_id": "C-1", "amount": True}, "needs amount as a number"),
        ("close_ticket", {"resolution": "whatever"}, "takes resolution as one of told_processing"),
    ],
)
def test_a_wrong_call_is_named(name: str | None, arguments: dict[str, Any], error: str) -> None:
    assert error in str(argument_error(name, arguments))


def test_a_right_call_passes() -> None:
    assert argument_error("issue_store_credit", {"customer_id": "C-1", "amount": 5}) is None
