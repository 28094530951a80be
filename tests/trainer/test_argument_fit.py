from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace_trainer.argument_fit import all_fit, declares, misfit, misfit_of, same_value

Json = dict[str, Any]  # a JSON object

ORDER: Json = {
    "type": "object",
    "properties": {
        "order_id": {"type": "string"},
        "reason": {"type": "string", "enum": ["late", "damaged"]},
        "count": {"type": "integer", "minimum": 1},
        "box": {"type": "object", "properties": {"sku": {"type": "string"}}, "required": ["sku"]},
        "labels": {"type": "array", "items": {"$ref": "#/$defs/label"}, "maxItems": 2},
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["order_id"],
    "$defs": {"label": {"type": "string", "minLength": 2}},
}

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 2.0, "a", "bb", "late"])
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from("ab"), v, max_size=2)
)
kinds = st.sampled_from(["string", "integer", "number", "boolean", "null", "object", "array"])


def parts(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    named = st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": kinds | st.lists(kinds, min_size=1, max_size=2, unique=True),
            "properties": named,
            "required": st.lists(st.sampled_from("ab"), max_size=2, unique=True),
            "additionalProperties": st.booleans(),
            "items": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "enum": st.lists(scalars, min_size=1, max_size=3),
            "minimum": st.integers(-1, 1),
            "maxItems": st.integers(0, 2),
            "minLength": st.integers(0, 2),
        },
    )


schemas = st.recursive(st.builds(lambda kind: {"type": kind}, kinds), parts, max_leaves=4)


@given(schemas, st.dictionaries(st.sampled_from("abc"), values, max_size=3))
def test_what_fits_is_what_an_independent_judge_lets_pass(schema: Json, arguments: Json) -> None:
    valid = jsonschema.Draft202012Validator(schema).is_valid(arguments)
    assert (misfit(schema, arguments) is None) == valid


@given(schemas, st.dictionaries(st.sampled_from("abc"), values, max_size=3), st.booleans())
def test_many_calls_are_judged_as_one_is(schema: Json, arguments: Json, strict: bool) -> None:
    assert misfit_of(schema, strict=strict)(arguments) == misfit(schema, arguments, strict=strict)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "string"]),
            "properties": st.dictionaries(st.sampled_from("ab"), st.just({}) | schemas, max_size=2),
            "required": st.lists(st.sampled_from("ab"), max_size=1),
            "additionalProperties": st.booleans(),
            "minProperties": st.just(1),
        },
    ),
    st.dictionaries(st.sampled_from("abc"), values, max_size=3),
)
def test_where_all_calls_fit_each_does(schema: Json, arguments: Json) -> None:
    assert not all_fit(schema) or misfit(schema, arguments) is None


@pytest.mark.parametrize(("schema", "all_of_them"), [(None, True), ({"type": "object"}, True), (ORDER, False)])
def test_a_contract_that_asks_nothing_is_known_without_a_call(schema: object, all_of_them: bool) -> None:
    assert all_fit(schema) is all_of_them


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"order_id": "W1"}, None),
        ({"order_id": "W1", "note": None, "count": 2.0, "labels": ["cold"], "box": {"sku": "x"}}, None),
        ({}, "argument 'order_id' is missing"),
        ({"order_id": 1}, "argument 'order_id' is no string"),
        ({"order_id": "W1", "reason": "broken"}, "argument 'reason' is none of the values allowed"),
        ({"order_id": "W1", "count": True}, "argument 'count' is no integer"),
        ({"order_id": "W1", "count": 0}, "argument 'count' is beyond its minimum 1"),
        ({"order_id": "W1", "box": {}}, "argument 'box.sku' is missing"),
        ({"order_id": "W1", "labels": ["cold", "x"]}, "argument 'labels.1' is beyond its minLength 2"),
        ({"order_id": "W1", "note": 3}, "argument 'note' fits none of its alternatives"),
        ({"order_id": "W1", "coupon": "x"}, "argument 'coupon' is unknown"),
    ],
)
def test_a_misfit_is_named_with_its_argument(arguments: Json, problem: str | None) -> None:
    assert misfit(ORDER, arguments, strict=True) == problem
    assert misfit_of(ORDER, strict=True)(arguments) == problem


def test_an_argument_that_no_one_declared_only_counts_where_the_contract_is_another() -> None:
    assert misfit(ORDER, {"order_id": "W1", "coupon": "x"}) is None
    assert declares({**ORDER, "additionalProperties": {}}, "coupon") is False
    assert declares({**ORDER, "additionalProperties": True}, "coupon")
    assert declares({"anyOf": [{"properties": {"a": {}}}, {"properties": {"coupon": {}}}]}, "coupon")


@pytest.mark.parametrize("schema", [None, {}, "text", {"$ref": "#"}, {"$ref": "#/nowhere"}])
def test_a_tool_that_says_nothing_takes_everything(schema: object) -> None:
    assert misfit(schema, {"a": 1}, strict=False) is None


def test_a_schema_that_holds_itself_ends() -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#"}, "name": {"type": "string"}}}
    assert misfit(tree, {"child": {"child": {"name": 1}}}) == "argument 'child.child.name' is no string"


@pytest.mark.parametrize(
    ("first", "second", "same"), [(3, 3.0, True), (1, True, False), ("1", 1, False), ([1], [1], True)]
)
def test_equal_values_are_those_of_json(first: object, second: object, same: bool) -> None:
    assert same_value(first, second) is same
