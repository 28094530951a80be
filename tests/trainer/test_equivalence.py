from typing import Any

import pytest

from imitrace.messages import Action
from imitrace_trainer.equivalence import (
    OTHER_ORDER,
    SAME_ANSWER,
    SAME_CALL,
    SAME_RESULT,
    SAME_TEXT,
    Made,
    equivalent,
    normalised,
)

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["order"],
    "properties": {
        "order": {"type": "string"},
        "count": {"type": "integer", "default": 1},
        "fast": {"type": "boolean"},
        "reason": {"type": "string", "enum": ["late", "broken"]},
        "labels": {"type": "array", "uniqueItems": True, "items": {"type": "string"}},
        "items": {"type": "array", "items": {"type": "string"}},
        "to": {"$ref": "#/$defs/place"},
    },
    "$defs": {"place": {"type": "object", "properties": {"zip": {"type": "string"}, "floor": {"default": 0}}}},
}
NAMES = ("look", "user", "refund")
TOOLS = [{"name": name, "parameters": SCHEMA} for name in NAMES]
READS = {"look", "user"}


def call(name: str, **arguments: object) -> Action:
    return Action("tool_call", name, arguments)


def made(action: Action, observation: str | None = "{}", decision: str = "") -> Made:
    return Made(action, observation, decision)


def asked(acted: Action, other: Action, *after: Made, observation: str | None = "first") -> str | None:
    return equivalent(acted, other, [made(acted, observation, "d"), *after], TOOLS, READS)


LOOK, USER = call("look", order="A1"), call("user", order="A1")
REFUND = call("refund", order="A1")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"order": "A1", "count": 1}, {"order": "A1"}),
        ({"order": "A1", "count": "3"}, {"order": "A1", "count": 3.0}),
        ({"order": "A1", "fast": None}, {"order": "A1"}),
        ({"order": "A1", "fast": "true"}, {"order": "A1", "fast": True}),
        ({"order": " A1 "}, {"order": "A1"}),
        ({"order": "A1", "reason": "LATE"}, {"order": "A1", "reason": "late"}),
        ({"order": "A1", "labels": ["x", "y"]}, {"order": "A1", "labels": ["y", "x"]}),
        ({"order": "A1", "to": {"zip": "1", "floor": 0}}, {"order": "A1", "to": {"zip": "1"}}),
    ],
)
def test_a_call_written_in_another_way_is_the_same_call(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert asked(call("refund", **one), call("refund", **other)) == SAME_CALL


@pytest.mark.parametrize(
    "other",
    [
        {"order": "A1", "count": "3"},
        {"order": "A1", "count": 3, "fast": None},
        {"order": " A1 ", "count": 3},
        {"order": "A1", "count": 3, "reason": None},
        {"order": "A1", "count": 3, "more": "x"},
    ],
)
def test_what_the_tool_might_refuse_is_not_the_same_as_what_it_took(other: dict[str, Any]) -> None:
    assert asked(call("refund", order="A1", count=3), call("refund", **other)) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"order": "A1", "count": 2}, {"order": "A1"}),
        ({"order": "A1"}, {"order": "a1"}),
        ({"order": "A1", "items": ["x", "y"]}, {"order": "A1", "items": ["y", "x"]}),
        ({"order": "A1", "fast": False}, {"order": "A1"}),
        ({"order": None}, {}),
        ({"order": "A1", "count": "x"}, {"order": "A1", "count": 1}),
        ({"order": "A1", "unknown": 1}, {"order": "A1"}),
    ],
)
def test_what_the_schema_does_not_say_is_the_same_is_different(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert asked(call("refund", **one), call("refund", **other)) is None


def test_texts_are_the_same_but_for_case_space_and_points() -> None:
    done = Action("message", message="Done, Ann.")
    assert asked(done, Action("message", message="done  ann")) == SAME_TEXT
    assert asked(done, Action("message", message="Done, Ben.")) is None
    assert asked(done, LOOK) is None


def test_a_call_that_stands_in_the_same_answer_is_harmless_whatever_it_does() -> None:
    assert asked(LOOK, REFUND, made(REFUND, decision="d")) == SAME_ANSWER
    assert asked(LOOK, REFUND, made(REFUND, decision="e")) is None


def test_reads_in_another_order_are_harmless_while_nothing_changes_between() -> None:
    assert asked(LOOK, USER, made(USER)) == OTHER_ORDER
    assert asked(LOOK, USER, made(call("look", order="B2")), made(USER)) == OTHER_ORDER
    assert asked(LOOK, USER, made(REFUND), made(USER)) is None
    assert asked(LOOK, USER, made(Action("message", message="Which?")), made(USER)) is None
    assert asked(LOOK, USER) is None


def test_two_reads_with_one_result_are_told() -> None:
    assert asked(LOOK, USER, made(USER, "first")) == SAME_RESULT
    assert asked(LOOK, USER, made(USER, None), observation=None) == OTHER_ORDER


def test_nobody_guesses_from_a_name_what_only_reads() -> None:
    assert equivalent(LOOK, USER, [made(LOOK), made(USER)], TOOLS, ()) is None
    assert asked(REFUND, USER, made(USER)) is None
    assert asked(LOOK, REFUND, made(REFUND)) is None


def test_without_a_schema_only_numbers_and_the_space_around_nothing_are_folded() -> None:
    assert normalised({"a": 3.0, "b": " x "}, None) == {"a": 3, "b": " x "}
    assert normalised({"a": " 3 "}, {"properties": {"a": {"type": "integer"}}}, loose=True) == {"a": 3}
    assert normalised({"a": None}, {"type": "object"}) == {}
