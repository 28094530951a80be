from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
import pytest

from imitrace.canonical import canonical_json, content_hash
from imitrace_trainer.tool_contracts import Contracts, find_contracts, moment

Tables = dict[str, pl.DataFrame]
Desk = Callable[..., Tables]
Json = dict[str, Any]  # a JSON object

LOOK = {"name": "look", "parameters": {"properties": {"order": {"type": "string"}}}}
LOOK_NEW = {"name": "look", "parameters": {"properties": {"order_id": {"type": "string"}}}}
FIND = {"name": "find"}


def of(tables: Tables) -> Contracts:
    return find_contracts({table: frame.lazy() for table, frame in tables.items()})


def test_each_contract_is_counted_with_its_first_and_last_sight(make_desk: Desk) -> None:
    tables = make_desk(
        {"tools": [LOOK, FIND], "calls": ["look", "look", "find"]},
        {"tools": [LOOK_NEW, FIND], "calls": ["look", "say"]},
        {"tools": [FIND], "calls": ["find"], "agent": "other"},
    )
    rows = [
        (c.agent, c.name, c.schema_hash, c.offered, c.called, c.first_seen, c.last_seen) for c in of(tables).of("desk")
    ]
    assert rows == [
        ("desk", "find", content_hash(FIND), 5, 1, 0, 11),
        ("desk", "look", content_hash(LOOK), 3, 2, 0, 2),
        ("desk", "look", content_hash(LOOK_NEW), 2, 1, 10, 11),
        ("desk", "say", None, 0, 1, 11, 11),
    ]
    assert of(tables).agents() == ["desk", "other"]


def test_a_call_without_known_tools_has_no_contract(make_desk: Desk) -> None:
    (only,) = of(make_desk({"tools": None, "calls": ["look"]})).all
    assert (only.name, only.schema_hash, only.definition, only.offered, only.called) == ("look", None, None, 0, 1)


@pytest.mark.parametrize(
    ("told", "newest"),
    [
        ("oo nn", LOOK_NEW),
        ("oooooooooooo nnn o nn", LOOK_NEW),  # a deployment that is half done counts as done
        ("ooo nn oooooooooooo", LOOK),  # one that was taken back does not
    ],
)
def test_the_contract_in_force_is_the_last_that_came_among_those_in_use(
    make_desk: Desk, told: str, newest: Mapping[str, Any]
) -> None:
    tools = {"o": [LOOK], "n": [LOOK_NEW]}
    contracts = of(make_desk(*({"tools": tools[each], "calls": ["look"]} for each in told.replace(" ", ""))))
    assert contracts.current("desk")["look"].definition == newest
    other = {"look": [content_hash(newest)]}
    assert contracts.current("desk", other)["look"].definition != newest


@pytest.mark.parametrize(
    ("before", "after", "gone"),
    [(4, 3, True), (1, 1, False), (2, 1, False), (20, 2, True), (5, 0, False), (1, 40, True)],
)
def test_a_tool_has_vanished_when_its_absence_is_no_chance(
    make_desk: Desk, before: int, after: int, gone: bool
) -> None:
    there, not_there = {"tools": [LOOK, FIND], "calls": ["look"]}, {"tools": [FIND], "calls": ["find"]}
    contracts = of(make_desk(*[there] * before, *[not_there] * after))
    assert contracts.vanished("desk") == ({"look": after} if gone else {})


def test_a_tool_that_is_offered_now_and_then_has_not_vanished(make_desk: Desk) -> None:
    often, rare = {"tools": [FIND], "calls": ["find"]}, {"tools": [FIND, LOOK], "calls": ["look"]}
    cases: list[Json] = [often, often, often, rare] * 10 + [often] * 6
    assert of(make_desk(*cases)).vanished("desk") == {}
    assert of(make_desk(*cases, *[often] * 30)).vanished("desk") == {"look": 36}


def test_other_tools_of_one_name_in_a_list_are_not_counted_twice(make_desk: Desk) -> None:
    tables = make_desk({"tools": [LOOK, LOOK_NEW], "calls": ["look"]})
    assert [(c.definition, c.called) for c in of(tables).all] == [(LOOK, 1)]


def test_a_contract_is_told_as_json(make_desk: Desk) -> None:
    (contract,) = of(make_desk({"tools": [LOOK], "calls": ["look"]})).all
    told = contract.to_json()
    assert (told["first_seen"], told["definition"]) == ("1970-01-01T00:00:00+00:00", LOOK)
    assert canonical_json(told)
    assert moment(1_790_000_000 * 10**9) == "2026-09-21T14:13:20+00:00"
