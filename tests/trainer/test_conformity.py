"""Whether a value is what a schema asks for, against a validator of others."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from imitrace_trainer.conformity import conforms

MOMENT = "2026-02-28T10:00:00Z"


@pytest.mark.parametrize(
    ("schema", "right", "wrong"),
    [
        ({"type": "string", "format": "date"}, "2026-02-28", "2026-02-30"),
        ({"type": "string", "format": "date-time"}, MOMENT, "2026-02-28 10:00"),
        ({"type": "string", "format": "email"}, "a@b.org", "a b@c"),
        ({"type": "string", "format": "uuid"}, "12345678-1234-5678-1234-567812345678", "1234"),
        ({"type": "string", "format": "ipv4"}, "127.0.0.1", "127.0.0.256"),
        ({"type": "string", "format": "uri"}, "https://a.org/b", "a b"),
        ({"type": "string", "format": "time"}, "10:00:00Z", "25:00:00Z"),
        ({"type": "string", "format": "hostname"}, "a-b.org", "-a.org"),
        ({"type": "string", "format": "colour"}, "anything", 3),
        ({"type": "string", "pattern": "^W[0-9]+$"}, "W12", "V12"),
        ({"type": "number", "multipleOf": 0.5}, 1.5, 1.25),
        ({"const": {"a": 1}}, {"a": 1.0}, {"a": True}),
        ({"type": "object", "additionalProperties": False, "properties": {"a": {}}}, {"a": None}, {"b": None}),
    ],
)
def test_what_conforms_and_what_does_not(schema: dict[str, Any], right: object, wrong: object) -> None:
    assert conforms(schema, right)
    assert not conforms(schema, wrong)


def test_nothing_conforms_to_a_pattern_that_cannot_be_read() -> None:
    assert not conforms({"type": "string", "pattern": "("}, "(")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "ab", 1.5, 2.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=5,
)
bounds = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(
            ["string", "integer", "number", "boolean", "null", "array", "object", ["null", "array"]]
        ),
        "minLength": st.integers(0, 2),
        "maxLength": st.integers(0, 2),
        "minimum": st.integers(-3, 3),
        "exclusiveMaximum": st.integers(-3, 3),
        "multipleOf": st.integers(1, 3),
        "minItems": st.integers(0, 2),
        "maxItems": st.integers(0, 2),
        "uniqueItems": st.booleans(),
        "minProperties": st.integers(0, 2),
        "maxProperties": st.integers(0, 2),
        "required": st.just(["a"]),
        "enum": st.lists(values, min_size=1, max_size=3),
    },
)
schemas = st.recursive(
    bounds,
    lambda inner: st.builds(
        lambda own, items, a, extra: own | {"items": items, "properties": {"a": a}, "additionalProperties": extra},
        bounds, inner, inner, st.booleans(),
    ),
    max_leaves=4,
)  # fmt: skip


@settings(max_examples=300, deadline=None, derandomize=True)
@given(schemas, values)
def test_what_conforms_is_valid_by_the_standards_own_rules(schema: dict[str, Any], value: object) -> None:
    assert conforms(schema, value) == Draft202012Validator(schema).is_valid(value)
