from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat.chat_completion_chunk import ChoiceDelta

from imitrace.shapes.pieces import CUT, Calls, Pieces, field, listed, place


@pytest.mark.parametrize("value", [{"a": 1}, SimpleNamespace(a=1), ChoiceDelta.model_validate({"a": 1})])
def test_a_field_is_read_of_dicts_and_of_objects(value: Any) -> None:
    assert (field(value, "a"), field(value, "b"), field(None, "a")) == (1, None, None)


def test_a_field_that_is_no_list_or_no_place_is_none() -> None:
    assert (listed({"a": (1,)}, "a"), listed({"a": "x"}, "a")) == ([1], [])
    assert (place({"a": 1}, "a"), place({"a": "1"}, "a")) == (1, None)


@given(st.lists(st.text()))
def test_pieces_are_joined_over_what_stood_there(texts: list[str]) -> None:
    pieces = Pieces({"a": "old", "b": 1})
    for text in texts:
        pieces.add("a", text)
        pieces.add("a", None)
    assert pieces.whole() == {"a": "".join(texts) if texts else "old", "b": 1}


def test_a_call_without_arguments_is_cut_unless_the_stream_finished() -> None:
    calls = Calls()
    calls.add(0, "c", "now", "")
    assert [call["arguments"] for call in (*calls.whole(finished=False), *calls.whole(finished=True))] == [CUT, ""]


def test_interleaved_calls_are_told_apart_by_their_index() -> None:
    calls = Calls()
    for index, call_id, text in [(0, "a", "{"), (1, "b", "["), (0, None, "}"), (1, None, "]")]:
        calls.add(index, call_id, None, text)
    assert [(call["id"], call["arguments"]) for call in calls.whole(finished=True)] == [("a", "{}"), ("b", "[]")]
