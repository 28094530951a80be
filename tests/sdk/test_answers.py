from types import SimpleNamespace
from typing import Any

import pytest

from imitrace.answers import (
    arguments_text,
    json_text,
    payload_text,
    plain,
    read_answer,
    tool_definitions,
    wire_message,
    wire_text,
)
from imitrace.faults import Faults
from imitrace.messages import Action

FUNCTION = {"name": "look", "arguments": '{"q":"x"}'}
MESSAGE: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": FUNCTION}]}
LOOK = Action("tool_call", "look", {"q": "x"}, call_id="c1")
SAY = Action("message", message="hello")


def as_object(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{name: as_object(item) for name, item in value.items()})
    return [as_object(item) for item in value] if isinstance(value, list) else value


class Dumped:
    """A client's object as pydantic makes them."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def model_dump(self) -> Any:
        return self._value


class Unreadable:
    """An object that fails at every touch."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(name)


@pytest.mark.parametrize("wrapped", [dict, as_object, Dumped])
def test_a_completion_is_read_as_dict_or_object(wrapped: Any) -> None:
    completion = {
        "choices": [{"message": MESSAGE}],
        "model": "m",
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }
    answer = read_answer(wrapped(completion), Faults())
    assert answer.actions == (LOOK,)
    assert (answer.model, answer.input_tokens, answer.output_tokens) == ("m", 3, 4)


@pytest.mark.parametrize(
    ("answer", "actions"),
    [
        (MESSAGE, (LOOK,)),
        (as_object(MESSAGE), (LOOK,)),
        ({"content": "hello"}, (SAY,)),
        ({"role": "assistant", "parts": [{"type": "text", "content": "hello"}]}, (SAY,)),
        ("hello", (SAY,)),
        (("look", {"q": "x"}), (Action("tool_call", "look", {"q": "x"}),)),
        (("look", '{"q":"x"}'), (Action("tool_call", "look", {"q": "x"}),)),
        (LOOK, (LOOK,)),
        ([LOOK, SAY], (LOOK, SAY)),
        ([("a", None), ("b", None)], (Action("tool_call", "a"), Action("tool_call", "b"))),
    ],
)
def test_known_shapes_become_actions(answer: Any, actions: tuple[Action, ...]) -> None:
    faults = Faults()
    assert read_answer(answer, faults).actions == actions
    assert faults.counts() == {}


@pytest.mark.parametrize("answer", [None, 3, [], {}, {"choices": []}, ("look", "not json"), object(), Unreadable()])
def test_an_unknown_shape_is_kept_as_text_marked_and_counted(answer: Any) -> None:
    faults = Faults()
    read = read_answer(answer, faults)
    assert (read.actions[0].kind, read.error_type) == ("message", "unknown_answer")
    assert faults.counts() == {"unknown_answer": 1}


def test_a_clients_message_in_the_history_reads_like_a_dict() -> None:
    assert wire_message(as_object(MESSAGE), Faults()) == wire_message(MESSAGE, Faults())


def test_a_dict_that_holds_a_clients_objects_reads_like_a_dict() -> None:
    mixed = MESSAGE | {"tool_calls": [as_object(MESSAGE["tool_calls"][0])]}
    assert wire_message(mixed, Faults()) == wire_message(MESSAGE, Faults())


def test_an_unknown_message_is_kept_as_text_and_counted() -> None:
    faults = Faults()
    broken = {"role": "assistant", "tool_calls": [{"function": {"name": "look", "arguments": "{"}}]}
    assert r"\"arguments\":\"{\"" in wire_message(broken, faults)
    assert faults.counts() == {"unknown_message": 1}


def test_a_tool_of_unknown_shape_keeps_its_kind_and_is_counted() -> None:
    faults = Faults()
    assert tool_definitions([{"type": "web_search"}], faults)[0]["name"] == "web_search"
    assert faults.counts() == {"unknown_tool": 1}


def test_plain_leaves_no_object_at_any_depth() -> None:
    assert plain(as_object({"a": [{"b": ("c", 1)}]})) == {"a": [{"b": ["c", 1]}]}


def test_lone_surrogates_survive_json_and_never_break_text() -> None:
    assert json_text(["\ud800é"]) == '["\\ud800é"]'
    assert wire_text("\ud800é") == "\ufffdé"


@pytest.mark.parametrize(("value", "text"), [("plain", "plain"), ({"b": 1}, '{"b":1}'), (None, "null")])
def test_a_result_stays_text_or_becomes_json(value: Any, text: str) -> None:
    assert payload_text(value) == text


@pytest.mark.parametrize(
    ("given", "text"), [('{"b": 1}', '{"b":1}'), ({"b": 1}, '{"b":1}'), ("no", "no"), (None, "{}")]
)
def test_arguments_are_canonical_where_they_are_json(given: Any, text: str) -> None:
    assert arguments_text(given) == text
