"""How a schema is walked and what could fill each slot."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from imitrace.messages import Message
from imitrace_trainer.arguments import (
    MAX_CANDIDATES,
    MAX_ITEMS,
    MORE,
    OMIT,
    STOP,
    Choice,
    Filling,
    Slot,
    SlotKnowledge,
    candidates,
    fill,
    same_choice,
)
from imitrace_trainer.encoding import StateView, view_state
from imitrace_trainer.reading import Reader

TEXT, INTEGER = {"type": "string"}, {"type": "integer"}
BOX = {
    "type": "object",
    "properties": {"sku": TEXT, "count": INTEGER, "gift": {"type": "boolean"}},
    "required": ["sku"],
}
NOTHING = SlotKnowledge()


def tool(*required: str, **properties: Any) -> dict[str, Any]:
    return {"name": "send", "parameters": {"type": "object", "properties": properties, "required": list(required)}}


def look(response: object, *, said: str = "") -> StateView:
    user: Message = {"role": "user", "parts": [{"type": "text", "content": said}]}
    call = {"type": "tool_call", "id": "1", "name": "look", "arguments": {}}
    answer = {"type": "tool_call_response", "id": "1", "response": response}
    messages = [user, {"role": "assistant", "parts": [call]}, {"role": "tool", "parts": [answer]}]
    return view_state(messages, [], Reader())


def options(view: StateView, slot: Slot, known: SlotKnowledge = NOTHING, *chosen: Choice) -> list[Choice]:
    filling = Filling([(slot.path, value) for value in chosen])
    return [candidate.value for candidate in candidates(view, slot, known, filling)]


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
    ("schema", "found"),
    [
        (TEXT, ["B", "A", "look", "7"]),
        (INTEGER, [2, 7]),
        ({"type": "number"}, [2, 1.5, 7]),
        ({"type": ["null", "integer"]}, [2, 7]),
        ({"type": "boolean"}, [True, False]),
        ({"enum": ["A", 2, None, "C"]}, ["A", 2, None, "C"]),
        ({"type": "string", "enum": ["A", 2, None]}, ["A"]),
        ({"const": "C"}, ["C"]),
        ({"type": "null"}, []),
        ({"enum": [["A"], {"b": 1}]}, []),
    ],
)
def test_candidates_are_of_the_slots_type(schema: dict[str, Any], found: list[Choice]) -> None:
    view = look({"a": "A", "n": 1.5, "b": "B", "k": 2, "t": True, "far": float("inf")}, said="look 7")
    assert set(options(view, Slot("send.x", schema))) == set(found)


def test_candidates_are_newest_first_each_once_behind_the_markers() -> None:
    view = look({"id": "A", "other": "B", "again": "A"}, said="A c")
    assert options(view, Slot("send.id", TEXT, (OMIT,))) == [OMIT, "A", "B", "c"]


def test_known_sources_and_equal_names_bound_where_candidates_come_from() -> None:
    view = look({"id": "A", "other": "B", "wanted": "D"}, said="C")
    known = SlotKnowledge(sources=frozenset({"look:id"}))
    assert options(view, Slot("send.wanted", TEXT), known) == ["D", "A"]


def test_repeated_values_are_candidates_only_while_the_schema_allows_them() -> None:
    known = SlotKnowledge(vocabulary=("high", 3, True))
    assert options(look({}), Slot("send.x", TEXT), known) == ["high"]
    assert options(look({}), Slot("send.x", INTEGER), known) == [3]
    assert options(look({}), Slot("send.x", {}), known) == ["high", 3, True]


def test_a_list_takes_each_value_once() -> None:
    view = look({"labels": ["A", "B"]})
    assert options(view, Slot("send.labels", TEXT, (STOP,), 1), NOTHING, "A") == [STOP, "B"]


def test_there_are_only_so_many_candidates() -> None:
    assert len(options(look([f"W{n}" for n in range(400)]), Slot("send.id", TEXT))) == MAX_CANDIDATES


@pytest.mark.parametrize("name", ["id#", "#"])
def test_a_parameter_may_end_with_the_sign_of_a_question(name: str) -> None:
    assert options(look({}), Slot(f"send.{name}", {"enum": ["a"]})) == ["a"]


@pytest.mark.parametrize(
    ("first", "second", "same"), [(3, 3.0, True), (1, True, False), (OMIT, OMIT, True), (OMIT, None, False)]
)
def test_choices_are_compared_as_json_values(first: Choice, second: object, same: bool) -> None:
    assert same_choice(first, second) is same
