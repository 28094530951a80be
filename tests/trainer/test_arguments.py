"""How a schema is walked."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from imitrace_trainer.arguments import (
    MAX_ITEMS,
    MORE,
    OMIT,
    STOP,
    Choice,
    Filling,
    Slot,
    choice_key,
    fill,
)

TEXT, INTEGER = {"type": "string"}, {"type": "integer"}
BOX = {
    "type": "object",
    "properties": {"sku": TEXT, "count": INTEGER, "gift": {"type": "boolean"}},
    "required": ["sku"],
}


def tool(*required: str, **properties: Any) -> dict[str, Any]:
    return {"name": "send", "parameters": {"type": "object", "properties": properties, "required": list(required)}}


def as_shown(slot: Slot, filling: Filling, gold: Any) -> Choice:  # the expert's JSON value
    assert gold is not None
    choice: Choice = gold
    return choice


def always(*preferred: Choice) -> Callable[[Slot, Filling, Any], Choice]:
    return lambda slot, filling, gold: next((mark for mark in preferred if mark in slot.markers), slot.leaf)


@pytest.mark.parametrize(
    "arguments",
    [
        {"id": "W1"},
        {"id": "W1", "note": "soon", "labels": ["a", "b"]},
        {"id": "W1", "labels": [], "boxes": [{"sku": "A"}, {"sku": "B", "count": 2, "gift": False}]},
        {"id": "W1", "to": {"street": "Low Rd", "floor": 3}, "grid": [[1, 2], [], [3]]},
    ],
)
def test_asking_the_expert_gives_the_experts_arguments(arguments: dict[str, Any]) -> None:
    to = {"type": "object", "properties": {"street": TEXT, "floor": INTEGER}}
    grid = {"type": "array", "items": {"type": "array", "items": INTEGER}}
    lists = {"labels": {"type": "array", "items": TEXT}, "boxes": {"type": "array", "items": BOX}, "grid": grid}
    assert fill(tool("id", id=TEXT, note=TEXT, to=to, **lists), as_shown, arguments) == arguments


def test_what_the_schema_lacks_is_left_out() -> None:
    assert fill(tool("id", id=TEXT), as_shown, {"id": "W1", "other": 1}) == {"id": "W1"}


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object"}])
def test_a_tool_without_parameters_is_called_without(parameters: Mapping[str, Any] | None) -> None:
    assert fill({"name": "send", "parameters": parameters}, always()) == {}


def test_optional_parameters_can_be_omitted_and_required_ones_cannot() -> None:
    schema = tool("id", id=TEXT, note=TEXT, box=BOX, labels={"type": "array", "items": TEXT})
    assert fill(schema, always(OMIT, STOP)) == {"id": "id"}


def test_lists_end_at_the_latest_after_a_dozen() -> None:
    made = fill(tool("boxes", boxes={"type": "array", "items": BOX}), always(MORE, OMIT))
    assert made == {"boxes": [{"sku": "sku"}] * MAX_ITEMS}


@pytest.mark.parametrize(("preferred", "count"), [(STOP, 2), (MORE, 3)])
@pytest.mark.parametrize("items", [BOX, TEXT])
def test_lists_are_as_long_as_the_schema_asks(preferred: Choice, count: int, items: dict[str, Any]) -> None:
    labels = {"type": "array", "items": items, "minItems": 2, "maxItems": 3}
    assert len(fill(tool("labels", labels=labels), always(preferred, OMIT))["labels"]) == count


def test_references_are_followed() -> None:
    schema = tool("box", box={"$ref": "#/$defs/box"}, n={"anyOf": [INTEGER, {"type": "null"}]})
    schema["parameters"]["$defs"] = {"box": BOX}
    assert fill(schema, always(OMIT)) == {"box": {"sku": "sku"}}


@pytest.mark.parametrize(
    ("first", "second", "same"), [(3, 3.0, True), (1, True, False), (1, "1", False), (OMIT, OMIT, True)]
)
def test_choices_are_compared_as_json_values(first: Choice, second: Choice, same: bool) -> None:
    assert (choice_key(first) == choice_key(second)) is same
