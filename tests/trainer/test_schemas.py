"""What a tool's schema is narrowed to, and which values it allows."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from imitrace_trainer.schemas import allows, blank, enumerated, plain_schema, schema_type

INTEGER, NULL, TEXT = {"type": "integer"}, {"type": "null"}, {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "plain"),
    [
        (True, {}),
        (None, {}),
        ({"anyOf": [NULL, INTEGER]}, INTEGER),
        ({"oneOf": [INTEGER, TEXT], "title": "n"}, {"type": "integer", "title": "n"}),
        ({"anyOf": [NULL]}, NULL),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": TEXT}}, {"type": "string", "$defs": {"a/b": TEXT}}),
        ({"type": "array", "items": {"anyOf": [TEXT, NULL]}}, {"type": "array", "items": TEXT}),
        (
            {"allOf": [{"properties": {"a": TEXT}, "required": ["a"]}, {"properties": {"b": INTEGER}}]},
            {"properties": {"a": TEXT, "b": INTEGER}, "required": ["a"]},
        ),
    ],
)
def test_references_and_alternatives_are_resolved(schema: Any, plain: dict[str, Any]) -> None:
    assert plain_schema(schema) == plain


def test_a_schema_without_either_is_left_as_it_is() -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, None]}, "b": INTEGER}, "required": ["a"]}
    before = json.dumps(schema)
    assert plain_schema(schema) == schema
    assert json.dumps(schema) == before


def test_what_refers_to_itself_ends_where_it_may() -> None:
    node = {"$ref": "#/$defs/node"}
    properties = {
        "name": TEXT,
        "children": {"type": "array", "items": node},
        "next": {"anyOf": [node, NULL]},
        "b": node,
    }
    schema = {"$defs": {"node": {"properties": properties, "required": ["name", "next"]}}, "properties": {"root": node}}
    root = plain_schema(schema)["properties"]["root"]
    assert root["properties"]["children"]["maxItems"] == 0
    assert root["properties"]["next"] == NULL
    assert "b" not in root["properties"]


def test_what_refers_to_itself_for_ever_is_left_open() -> None:
    assert plain_schema({"$ref": "#"}) == {}


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({}, "string"),
        ({"type": ["null", "integer"]}, "integer"),
        ({"type": ["null"]}, "null"),
        ({"properties": {}}, "object"),
        ({"type": "array"}, "array"),
    ],
)
def test_a_schema_has_one_type(schema: dict[str, Any], kind: str) -> None:
    assert schema_type(schema) == kind


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_numbers_that_json_cannot_write_are_never_allowed(value: float) -> None:
    assert not any(allows({"type": kind}, value) for kind in ("number", "integer"))
    assert not allows({}, value)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
kinds = st.sampled_from(["string", "integer", "number", "boolean", "null"])


@given(scalars, kinds | st.lists(kinds, min_size=1, unique=True))
def test_a_scalar_is_allowed_exactly_when_a_validator_says_so(value: object, kind: str | list[str]) -> None:
    assert allows({"type": kind}, value) == Draft202012Validator({"type": kind}).is_valid(value)


@pytest.mark.parametrize("kind", ["string", "integer", "number", "boolean", "null"])
def test_a_blank_is_valid(kind: str) -> None:
    assert Draft202012Validator({"type": kind}).is_valid(blank({"type": kind}))


def test_a_blank_of_an_enumeration_is_its_first_value() -> None:
    assert blank({"enum": [["a"], 1]}) == ["a"]
    assert (blank({"const": None}), enumerated({"const": None})) == (None, [None])
