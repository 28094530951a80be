"""What could fill a slot, as groups of a state's values."""

from collections.abc import Mapping
from typing import Any

import pytest

from imitrace.messages import Message
from imitrace_trainer.arguments import MORE, OMIT, STOP, Choice, Filling, Slot
from imitrace_trainer.encoding import view_state
from imitrace_trainer.options import MAX_OPTIONS, Habits, Trail, gather
from imitrace_trainer.places import Places
from imitrace_trainer.reading import Reader, value_class

TEXT, INTEGER = {"type": "string"}, {"type": "integer"}
NOTHING = Habits()


def look(response: object, said: str = "") -> Places:
    user: Message = {"role": "user", "parts": [{"type": "text", "content": said}]}
    call = {"type": "tool_call", "id": "1", "name": "look", "arguments": {}}
    answer = {"type": "tool_call_response", "id": "1", "response": response}
    messages = [user, {"role": "assistant", "parts": [call]}, {"role": "tool", "parts": [answer]}]
    return view_state(messages, [], Reader()).table


def found(table: Places, slot: Slot, habits: Habits = NOTHING, *chosen: Choice) -> list[Choice]:
    trail = Trail([(slot.path, table.group_of(value)) for value in chosen])
    options = gather(table, slot, habits, Filling([(slot.path, value) for value in chosen]), trail)
    values = [options.value(index, table) for index in range(len(options))]
    assert [options.find(value, table) for value in values if value is not None] == [
        index for index, value in enumerate(values) if value is not None
    ]
    return values


@pytest.mark.parametrize(
    ("schema", "values"),
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
        ({"type": "integer", "minimum": 5}, [7]),
    ],
)
def test_options_are_of_the_slots_type(schema: Mapping[str, Any], values: list[Choice]) -> None:
    table = look({"a": "A", "n": 1.5, "b": "B", "k": 2, "t": True, "far": float("inf")}, "look 7")
    assert set(found(table, Slot("send.x", schema))) == set(values)


def test_options_are_newest_first_each_once_behind_the_markers() -> None:
    table = look({"id": "A", "other": "B", "again": "A"}, "A c")
    assert found(table, Slot("send.id", TEXT, (OMIT,))) == [OMIT, "A", "B", "c"]
    assert found(table, Slot("send.id#", {}, (MORE, STOP))) == [MORE, STOP]


def test_known_sources_and_equal_names_bound_where_options_come_from() -> None:
    table = look({"id": "A", "other": "B", "wanted": "D"}, "C")
    habits = Habits(sources=frozenset({"look:id"}))
    assert found(table, Slot("send.wanted", TEXT), habits) == ["D", "A"]


def test_outlines_bound_the_options_where_one_fits() -> None:
    table = look({"id": "W1", "word": "last"})
    assert found(table, Slot("send.id", TEXT), Habits(shapes=frozenset({"A#"}))) == ["W1"]
    assert found(table, Slot("send.id", TEXT), Habits(shapes=frozenset({"#"}))) == ["last", "W1"]


def test_a_length_never_seen_leaves_the_outline_to_go_by() -> None:
    habits = Habits(shapes=frozenset({"A#"}), classes=frozenset({value_class("W1234")}))
    assert found(look({"id": "W12345", "word": "last"}), Slot("send.id", TEXT), habits) == ["W12345"]
    assert found(look({"id": "W12345", "word": "W4321"}), Slot("send.id", TEXT), habits) == ["W4321"]


def test_values_known_by_heart_come_only_while_the_schema_allows_them() -> None:
    habits = Habits(vocabulary=("high", 3, True))
    assert found(look({}), Slot("send.x", TEXT), habits) == ["high"]
    assert found(look({}), Slot("send.x", INTEGER), habits) == [3]
    assert found(look({}), Slot("send.x", {}), habits) == ["high", 3, True]
    assert found(look({"id": "high"}), Slot("send.x", TEXT), habits) == ["high"]


def test_a_list_takes_each_value_once() -> None:
    assert found(look({"labels": ["A", "B"]}), Slot("send.labels", TEXT, (STOP,), 1), NOTHING, "A") == [STOP, "B"]


def test_there_are_only_so_many_options() -> None:
    assert len(found(look([f"W{n}" for n in range(400)]), Slot("send.id", TEXT))) == MAX_OPTIONS


@pytest.mark.parametrize("name", ["id#", "#"])
def test_a_parameter_may_end_with_the_sign_of_a_question(name: str) -> None:
    assert found(look({}), Slot(f"send.{name}", {"enum": ["a"]})) == ["a"]


def test_what_is_no_scalar_is_never_found() -> None:
    table = look({"id": "A"})
    assert gather(table, Slot("send.id", TEXT), NOTHING, Filling(), Trail()).find({"id": "A"}, table) == -1


def test_a_trail_knows_what_was_chosen_for_a_path_and_inside_it() -> None:
    trail = Trail([("send.boxes.sku", 3), ("send.boxes.n", 5), ("send.id", -1)])
    assert trail.at("send.boxes.sku") == [3]
    assert list(trail.newest()) == [5, 3]
    assert trail.before(Slot("send.boxes#", {})) == 5
    assert trail.before(Slot("send.id", TEXT)) == -1
