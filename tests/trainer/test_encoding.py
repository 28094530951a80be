"""What a state is turned into: hashed features, a vocabulary of those seen, and a view of calls and values."""

import hashlib
import math
from typing import Any

import pytest

from imitrace.messages import Message
from imitrace_trainer.encoding import (
    MESSAGE,
    SEGMENTS,
    StateView,
    Vocabulary,
    description_features,
    feature_id,
    state_features,
    view_state,
)
from imitrace_trainer.reading import Reader, argument_values

PAY = {"name": "pay", "description": "Pay an order.", "parameters": {"properties": {"order": {"type": "string"}}}}


def said(content: str, role: str = "user") -> Message:
    return {"role": role, "parts": [{"type": "text", "content": content}]}


def called(name: str, arguments: dict[str, Any], call_id: str = "1") -> Message:
    return {
        "role": "assistant",
        "parts": [{"type": "tool_call", "id": call_id, "name": name, "arguments": arguments}],
    }


def answered(response: str, call_id: str = "1") -> Message:
    return {"role": "tool", "parts": [{"type": "tool_call_response", "id": call_id, "response": response}]}


def view(*messages: Message) -> StateView:
    return view_state(messages, [PAY], Reader())


def test_a_feature_is_the_hash_of_its_text_in_31_bits() -> None:
    digest = hashlib.blake2b(b"users|late", digest_size=4).digest()
    assert feature_id("users|late") == int.from_bytes(digest, "little") % 2**31
    assert feature_id("\ud800") != feature_id("\ud801")


def test_the_vocabulary_holds_what_was_seen_often_enough_with_its_inverse_document_frequency() -> None:
    vocabulary = Vocabulary.learn([[5, 7, 7], [7, 3], [3, 9], [3]])
    assert vocabulary.ids.tolist() == [3, 7]
    assert vocabulary.idf.tolist() == pytest.approx([math.log(5 / 4) + 1, math.log(5 / 3) + 1])


def test_the_vocabulary_leaves_unknown_features_out() -> None:
    vocabulary = Vocabulary.learn([[3, 7], [3, 7]])
    assert vocabulary.rows([7, 8, 3, 7]) == [1, 0, 1]


def test_a_view_holds_the_calls_that_were_made_and_whether_they_failed() -> None:
    seen = view(
        said("hi"), called("pay", {"order": "W1"}), answered("Error: none"), called("pay", {"order": "W2"}, "2")
    )
    assert [(call.name, call.arguments, call.position, call.error) for call in seen.calls] == [
        ("pay", {"order": "W1"}, 1, True),
        ("pay", {"order": "W2"}, 3, False),
    ]
    assert seen.used == {"pay.order": {"W1", "W2"}}
    assert seen.calls[0].key != seen.calls[1].key


def test_an_answer_is_read_under_the_name_of_the_tool_that_was_called() -> None:
    seen = view(called("pay", {}), answered('{"id": "P1"}'))
    assert [(position, item.source) for position, item in seen.places["P1"]] == [(1, "pay:id")]


def test_parallel_calls_meet_their_answers_by_id() -> None:
    both = {"role": "assistant", "parts": [*called("pay", {}, "1")["parts"], *called("find", {}, "2")["parts"]]}
    seen = view(both, answered("Error", "2"), answered("ok", "1"))
    assert {call.name: call.error for call in seen.calls} == {"pay": False, "find": True}
    assert seen.actions == ["pay", "find"]


def test_actions_are_tools_and_messages_in_order() -> None:
    seen = view(said("hi"), said("yes?", "assistant"), said("pay"), called("pay", {}))
    assert (seen.actions, seen.last_user) == ([MESSAGE, "pay"], 2)
    assert seen.last_user_words == ("pay",)


def test_a_state_without_messages_can_be_viewed() -> None:
    empty = view()
    assert (empty.readings, empty.actions, empty.last_user, empty.last_user_words) == ([], [], -1, ())
    assert set(state_features(empty)) == set(SEGMENTS)


def test_places_of_a_value_are_newest_first_and_equal_numbers_meet() -> None:
    seen = view(said("I want 3"), called("pay", {}), answered('{"count": 3.0}'))
    assert [(position, place.source) for position, place in seen.places[("number", 3)]] == [
        (2, "pay:count"),
        (0, "user"),
    ]


def test_argument_values_are_scalars_under_their_folded_path() -> None:
    arguments = {"order": "W1", "boxes": [{"n": 1}, {"n": 2}], "none": None, "free": True}
    assert argument_values("pay", arguments) == [
        ("pay.order", "W1"),
        ("pay.boxes.n", 1),
        ("pay.boxes.n", 2),
        ("pay.free", True),
    ]


def test_states_that_differ_in_an_identifier_alone_look_alike() -> None:
    assert state_features(view(said("order W12"))) == state_features(view(said("order W99")))
    assert state_features(view(said("order W12"))) != state_features(view(said("order late")))


@pytest.mark.parametrize(
    ("segment", "first", "second"),
    [
        ("last_user", [said("pay"), said("late")], [said("late"), said("pay")]),
        ("assistant", [said("yes?", "assistant")], [said("no", "assistant")]),
        ("observation", [called("pay", {}), answered("ok")], [called("pay", {}), answered("Error")]),
        ("facts", [called("pay", {}), answered('{"a": "x"}')], [called("pay", {}), answered('{"a": "y"}')]),
        ("history", [called("pay", {})], [called("pay", {}), called("pay", {}, "2")]),
    ],
)
def test_each_segment_tells_its_own_part_of_the_state_apart(
    segment: str, first: list[Message], second: list[Message]
) -> None:
    assert state_features(view(*first))[segment] != state_features(view(*second))[segment]


def test_the_same_word_is_another_feature_in_another_segment() -> None:
    features = state_features(view(said("late"), said("late", "assistant")))
    assert set(features["users"]).isdisjoint(features["assistant"])


def test_a_description_is_told_by_name_words_and_parameters() -> None:
    features = description_features({"name": "pay_order", "description": "Pay.", "parameters": PAY["parameters"]})
    assert features == [feature_id(f"description|{text}") for text in ("name pay", "name order", "pay", "order")]
    assert description_features({"name": "x", "description": None, "parameters": None}) == [
        feature_id("description|name x")
    ]
