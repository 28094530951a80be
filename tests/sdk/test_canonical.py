import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.canonical import canonical_json, content_hash, step_digest, text_hash
from imitrace.semconv import DIGEST_PAYLOADS, STEP_INDEX, STEP_MESSAGES

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=12,
)


@given(JSON)
def test_canonical_json_reads_back_as_what_was_written(value: object) -> None:
    assert json.loads(canonical_json(value)) == value


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": 1, "a": [1, {"d": 2, "c": 3}]}) == '{"a":[1,{"c":3,"d":2}],"b":1}'


def test_canonical_json_writes_what_json_lacks_as_text() -> None:
    assert canonical_json({"when": ValueError("x")}) == '{"when":"x"}'


def test_equal_content_has_one_hash() -> None:
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1}) == text_hash('{"a":1,"b":2}')


def test_lone_surrogates_are_hashed_and_kept_apart() -> None:
    assert text_hash("\ud800") != text_hash("\ud801")


@pytest.mark.parametrize("name", DIGEST_PAYLOADS)
def test_digest_notices_a_payload_that_was_cut(name: str) -> None:
    whole = {payload: f"payload {n}" for n, payload in enumerate(DIGEST_PAYLOADS)}
    assert step_digest(whole) != step_digest(whole | {name: whole[name][:-1]})


def test_digest_ignores_attributes_that_are_no_payload() -> None:
    assert step_digest({STEP_MESSAGES: "[]"}) == step_digest({STEP_MESSAGES: "[]", STEP_INDEX: 3})


@pytest.mark.parametrize("length", [0, 1, 2046, 2047, 2048, 2049, 4094, 10_000, 2**17, 2**17 + 1])
def test_a_hash_is_the_same_whatever_way_it_is_taken(length: int) -> None:
    text = "é" + "x" * length
    assert text_hash(text) == hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
