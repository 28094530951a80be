import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.exceptions import ConfigError
from imitrace_trainer.argument_maps import ArgumentMap
from imitrace_trainer.tool_changes import Change

FULL = ArgumentMap(
    rename={"order": "order_id"},
    drop=("note",),
    values={"reason": (("broken", "damaged"), (1, "late"))},
    default={"amount": 0},
    constant={"currency": "EUR"},
)

names = st.sampled_from(["a", "b", "c"])
scalars = st.none() | st.booleans() | st.integers() | st.text("ab=é", max_size=3)
tables = st.dictionaries(names, scalars, max_size=2)
maps = st.builds(
    ArgumentMap,
    rename=st.dictionaries(names, names, max_size=2),
    drop=st.lists(names, max_size=2, unique=True).map(tuple),
    values=st.dictionaries(names, st.lists(st.tuples(scalars, scalars), min_size=1, max_size=2).map(tuple), max_size=2),
    default=tables,
    constant=tables,
    accept=st.booleans(),
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"order": "W1", "note": "x", "reason": "broken"}, {"order_id": "W1", "reason": "damaged"}),
        ({"order": "W1", "reason": 1.0, "amount": 5}, {"order_id": "W1", "reason": "late", "amount": 5}),
        ({"order_id": "W1", "reason": "unwanted"}, {"order_id": "W1", "reason": "unwanted"}),
        ({"currency": "USD"}, {}),
    ],
)
def test_a_call_is_renamed_stripped_and_filled(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert FULL.apply(before) == {"amount": 0, **after, "currency": "EUR"}


@given(maps)
def test_a_map_is_the_same_after_json(made: ArgumentMap) -> None:
    assert ArgumentMap.from_json(json.loads(json.dumps(made.to_json()))) == made


@given(maps, tables)
def test_a_map_never_changes_the_call_that_it_is_given(made: ArgumentMap, arguments: dict[str, Any]) -> None:
    before = json.dumps(arguments)
    after = made.apply(arguments)
    assert json.dumps(arguments) == before
    assert made.constant.items() <= after.items()


def test_options_are_read_with_values_as_json_or_text() -> None:
    options = {"argument": ["order=order_id"], "drop": ["note"], "value": ["reason:broken=damaged", 'reason:1="late"']}
    given = {**options, "default": ["amount=0"], "constant": ["currency=EUR"]}
    assert ArgumentMap.parse(given) == FULL


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"argument": ["order"]}, "--argument is 'order', expected OLD=NEW such as order=order_id"),
        ({"value": ["reason=x"]}, "--value is 'reason=x', expected NAME:OLD=NEW such as reason:broken=damaged"),
        ({"constant": ["=x"]}, "--constant is '=x', expected NAME=VALUE such as currency=EUR"),
        ({"default": ["a=1", "a=2"]}, "--default names 'a' twice, keep one"),
        ({"argument": ["a=b"], "drop": ["a"]}, "argument 'a' is named by two options that exclude each other"),
    ],
)
def test_an_option_that_can_not_be_read_is_named_with_its_form(options: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        ArgumentMap.parse(options)


def test_only_what_is_answered_is_no_open_change() -> None:
    found = [
        Change("currency", "added, required", True, absent=True),
        Change("reason", "now required", True, absent=True),
        Change("order", "removed", True),
        Change("boxes[].sku", "removed", True),
        Change("labels", "added, optional", False),
    ]
    assert [change.argument for change in FULL.lacks(found)] == ["reason", "boxes[].sku"]
    assert ArgumentMap(accept=True).lacks(found) == []
