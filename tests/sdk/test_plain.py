from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage

from imitrace.shapes.plain import any_text, json_text, mapping, payload_text, plain, short, wire_text


@dataclass(slots=True)
class Slotted:
    value: Any


class Silent:
    """An object that can't even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_plain_leaves_no_object_at_any_depth() -> None:
    value = {"a": [SimpleNamespace(b=("c", Slotted(1)))]}
    assert plain(value) == {"a": [{"b": ["c", {"value": 1}]}]}


def test_a_pydantic_object_that_breaks_its_own_model_is_dumped_without_a_warning() -> None:
    message = ChatCompletionMessage.model_construct(role="assistant", content=3)
    assert plain(message)["content"] == 3


@pytest.mark.parametrize(
    ("value", "found"), [({"a": 1}, {"a": 1}), (Slotted(1), {"value": 1}), ("a", None), ([], None)]
)
def test_a_mapping_is_made_of_objects_alone(value: Any, found: Any) -> None:
    assert mapping(value) == found


def test_lone_surrogates_survive_json_and_never_break_text() -> None:
    assert json_text(["\ud800é"]) == '["\\ud800é"]'
    assert wire_text("\ud800é") == "\ufffdé"


@pytest.mark.parametrize(("value", "text"), [("plain", "plain"), ({"b": 1}, '{"b":1}'), (None, "null")])
def test_a_result_stays_text_or_becomes_json(value: Any, text: str) -> None:
    assert payload_text(value) == text


def test_any_value_has_some_text() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert [any_text(value) for value in ("a", [1], circle)] == ["a", "[1]", "[[...]]"]
    assert any_text({1: Silent(), "a": 2}) == "<dict>"


def test_a_long_value_is_shown_short() -> None:
    assert len(short("x" * 100)) == 80
