"""Messages as arrays: one row a place, hashes that meet where values meet."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.messages import Message
from imitrace_trainer.columns import (
    FLAGS,
    GRAM,
    KEY,
    KIND,
    VOICE,
    Columns,
    columns,
    key_id,
    mix,
    mixed,
    text_id,
)
from imitrace_trainer.reading import Scalar, read_message, value_key

VALUES = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))


def answer(response: object) -> Message:
    return {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": response}]}


def said(text: str, role: str = "user") -> Message:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


@given(VALUES, VALUES)
def test_keys_meet_where_values_meet(first: Scalar, second: Scalar) -> None:
    assert (key_id(first) == key_id(second)) == (value_key(first) == value_key(second))


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1), st.integers(0, 2**64 - 1))
def test_arrays_are_mixed_as_numbers_are(many: list[int], one: int) -> None:
    found = mixed(one, np.array(many, dtype=np.uint64))
    assert found.tolist() == [mix(one, other) for other in many]
    assert mixed(np.array(many, dtype=np.uint64), np.array(many, dtype=np.uint64)).tolist() == [
        mix(other, other) for other in many
    ]


def test_there_is_one_row_a_place() -> None:
    reading = read_message(answer({"id": "A", "n": 3, "open": True}), "look", "")
    found = Columns(reading)
    assert found.hashes[KEY].tolist() == [key_id(seen.value) for seen in reading.seen]
    assert found.counts[KIND].tolist() == [1, 6, 8]
    assert set(found.counts[VOICE].tolist()) == {4}


@pytest.mark.parametrize(("number", "kind"), [(2.0, 6), (2.5, 2), (float("inf"), 0)])
def test_numbers_are_of_the_kinds_of_json_schema(number: float, kind: int) -> None:
    assert Columns(read_message(answer([number]), "look", "")).counts[KIND].tolist() == [kind]


def test_a_records_booleans_are_told_at_all_its_places() -> None:
    found = Columns(read_message(answer([{"id": "A", "open": True}, {"id": "B", "open": False}]), "look", ""))
    first, same, second, _ = found.hashes[FLAGS].tolist()
    assert first == same != second != 0


def test_a_mention_is_recognised_by_its_first_words() -> None:
    name = Columns(read_message(answer({"name": "Desk Lamp"}), "look", "")).hashes[GRAM, 0]
    spoken = Columns(read_message(said("that desk lamp, please"), "", ""))
    assert spoken.gram_starts[spoken.grams == name].tolist() == [1]


def test_what_is_said_by_nobody_has_no_words() -> None:
    assert len(Columns(read_message(answer("done"), "look", "")).tokens) == 0
    assert len(Columns(read_message(said("hi there", "assistant"), "", "")).tokens) == 2


def test_the_columns_of_a_reading_are_worked_out_once() -> None:
    reading = read_message(said("hi"), "", "")
    assert columns(reading) is columns(reading)
    assert text_id("hi") in columns(reading).tokens.tolist()
