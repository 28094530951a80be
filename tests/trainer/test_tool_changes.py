from typing import Any

import pytest

from imitrace_trainer.tool_changes import changes

Json = dict[str, Any]  # a JSON object


def tool(required: tuple[str, ...] = (), **properties: Any) -> Json:
    return {"name": "refund", "parameters": {"type": "object", "properties": properties, "required": [*required]}}


TEXT, NUMBER, WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer"}


@pytest.mark.parametrize(
    ("old", "new", "text", "breaking"),
    [
        (tool(), tool(("a",), a=TEXT), "a: added, required", True),
        (tool(), tool(a=TEXT), "a: added, optional", False),
        (tool(a=TEXT), tool(), "a: removed", True),
        (tool(a=TEXT), tool(("a",), a=TEXT), "a: now required", True),
        (tool(("a",), a=TEXT), tool(a=TEXT), "a: now optional", False),
        (tool(a=TEXT), tool(a=WHOLE), "a: type changed from string to integer", True),
        (tool(a=WHOLE), tool(a=NUMBER), "a: type changed from integer to number", False),
        (tool(a=TEXT), tool(a={"type": ["string", "null"]}), "a: type changed from string to null or string", False),
        (
            tool(a={"anyOf": [TEXT, {"type": "null"}]}),
            tool(a=TEXT),
            "a: type changed from null or string to string",
            True,
        ),
        (tool(a=TEXT), tool(a={}), "a: type changed from string to any", False),
        (tool(a={"enum": ["x", "y"]}), tool(a={"enum": ["x"]}), 'a: values gone: "y"', True),
        (tool(a={"enum": ["x"]}), tool(a={"enum": ["x", "z"]}), 'a: values added: "z"', False),
        (tool(a=TEXT), tool(a={**TEXT, "enum": ["x"]}), 'a: values are limited to "x" now', True),
        (tool(a={**TEXT, "const": "x"}), tool(a=TEXT), "a: values are free now", False),
        (tool(b=tool(s=TEXT)["parameters"]), tool(b=tool()["parameters"]), "b.s: removed", True),
        (
            tool(b={"type": "array", "items": tool(s=TEXT)["parameters"]}),
            tool(b={"type": "array", "items": tool(s=WHOLE)["parameters"]}),
            "b[].s: type changed from string to integer",
            True,
        ),
        ({**tool(), "description": "x"}, {**tool(), "description": "y"}, "description changed", False),
    ],
)
def test_a_change_is_named_and_breaks_old_calls_or_not(old: Json, new: Json, text: str, breaking: bool) -> None:
    (change,) = changes(old, new)
    assert (str(change), change.breaking) == (text, breaking)


def test_equal_contracts_have_no_changes_and_a_removed_argument_may_still_be_welcome() -> None:
    assert changes(tool(("a",), a=TEXT), tool(("a",), a=TEXT)) == []
    open_tool = tool()
    open_tool["parameters"]["additionalProperties"] = True
    assert [change.breaking for change in changes(tool(a=TEXT), open_tool)] == [False]


def test_references_are_followed() -> None:
    old, new = tool(a={"$ref": "#/$defs/kind"}), tool(a={"$ref": "#/$defs/kind"})
    old["parameters"]["$defs"] = {"kind": {"enum": ["x", "y"]}}
    new["parameters"]["$defs"] = {"kind": {"enum": ["x"]}}
    assert [str(change) for change in changes(old, new)] == ['a: values gone: "y"']
