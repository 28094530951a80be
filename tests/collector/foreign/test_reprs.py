"""Values in Python's own form."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace_collector.foreign.offered import read_tools
from imitrace_collector.foreign.reprs import LONGEST, looks_like_repr, read_repr

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_what_json_can_hold_comes_back(value: Any) -> None:
    assert read_repr(repr(value)) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Call(name='f', arguments={'a': 1}, id=None)", {"name": "f", "arguments": {"a": 1}, "id": None}),
        (
            "[Tool(function=<function <lambda> at 0x7f>, role=<Role.USER: 'user'>)]",
            [{"function": None, "role": "user"}],
        ),
        ("datetime.datetime(2026, 1, 2)", {"0": 2026, "1": 1, "2": 2}),
        ("('a', {'b', 'c'}, b'd', 'e' 'f', {}, set())", ["a", ["b", "c"], "d", "ef", {}, {}]),
        ("{1: -2.5e3, None: True}", {"1": -2500.0, "None": True}),
    ],
)
def test_objects_are_their_fields_and_enumerations_their_values(text: str, value: Any) -> None:
    assert read_repr(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1, ",
        "{'a': ",
        "Call(a=",
        "<Role",
        "x",
        "1j",
        "[1] 2",
        "1e999",
        "[1 2]",
        "{'a' 1}",
        "(" * 5000,
        "1" * LONGEST + "1",
    ],
    ids=range(13),
)
def test_what_is_no_value_is_said_to_be_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_repr(text)


@given(st.text(alphabet="[](){}<>'\"=:,. ab1-N"))
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ValueError):
        json.dumps(read_repr(text))


def test_only_what_json_does_not_begin_like_looks_like_it() -> None:
    assert all(map(looks_like_repr, ("{'a': 1}", "[{'a'", "Call(a=1)", "[Call(")))
    assert not any(map(looks_like_repr, ('{"a": 1}', '["a"', "[1, 2", "plain words", "[{")))


def test_tools_in_that_form_are_read() -> None:
    text = "[Tool(name='find', description='Find it.', parameters={'type': 'object'}, function=<function f at 0x7f>)]"
    assert read_tools(text) == [{"name": "find", "description": "Find it.", "parameters": {"type": "object"}}]
