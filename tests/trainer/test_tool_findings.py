from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from imitrace.canonical import content_hash
from imitrace.exceptions import ConfigError
from imitrace_trainer.argument_maps import ArgumentMap
from imitrace_trainer.tool_contracts import Contracts, find_contracts
from imitrace_trainer.tool_findings import complete_decision, find_changes, unmapped
from imitrace_trainer.tool_ledger import Ledger, ToolDecision

Desk = Callable[..., dict[str, pl.DataFrame]]
Json = dict[str, Any]  # a JSON object


def tool(name: str, *required: str) -> Json:
    properties = {argument: {"type": "string"} for argument in required}
    return {"name": name, "parameters": {"type": "object", "properties": properties, "required": [*required]}}


OLD = [tool("look", "order"), tool("refund", "order"), tool("close")]
NEW = [tool("find", "order_id"), tool("refund", "order_id", "reason"), tool("close")]


@pytest.fixture
def contracts(make_desk: Desk) -> Contracts:
    before = {"tools": OLD, "calls": ["look", "refund", "close"]}
    after = {"tools": NEW, "calls": ["find", "refund", "close"]}
    tables = make_desk(*[before] * 5, *[after] * 5)
    return find_contracts({table: frame.lazy() for table, frame in tables.items()})


def decide(contracts: Contracts, *decisions: ToolDecision) -> Ledger:
    ledger = Ledger()
    for made in decisions:
        ledger = ledger.checked(complete_decision(made, contracts))
    return ledger


def opened(contracts: Contracts, *decisions: ToolDecision) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(f.tool, f.kind, f.open) for f in find_changes(contracts, decide(contracts, *decisions))]


RENAMED = ToolDecision(kind="rename", tool="look", to="find", arguments=ArgumentMap(rename={"order": "order_id"}))
MAPPED = ToolDecision(
    kind="map", tool="refund", arguments=ArgumentMap(rename={"order": "order_id"}, default={"reason": "late"})
)
BROKEN = ("order: removed", "order_id: added, required", "reason: added, required")


def test_what_vanished_or_changed_is_found_with_what_it_breaks(contracts: Contracts) -> None:
    assert opened(contracts) == [
        ("look", "vanished", ("not offered any more",)),
        ("refund", "changed", BROKEN),
    ]
    (gone, changed) = find_changes(contracts, Ledger(), "desk")
    assert (gone.called, changed.called) == (5, 5)
    assert gone.text == "not offered in 5 trajectories since 1970-01-01T00:00:00+00:00, called 5 times before"
    assert changed.to_json()["blocks"] is True


def test_what_is_decided_is_open_no_more(contracts: Contracts) -> None:
    assert opened(contracts, RENAMED, MAPPED) == [("look", "vanished", ()), ("refund", "changed", ())]
    retired = [ToolDecision(kind="deprecate", tool=tool) for tool in ("look", "refund")]
    assert opened(contracts, *retired) == [("look", "vanished", ()), ("refund", "stale", ())]


def test_a_rename_or_a_map_that_leaves_something_out_is_still_open(contracts: Contracts) -> None:
    bare = ToolDecision(kind="rename", tool="look", to="find")
    half = ToolDecision(kind="map", tool="refund", arguments=ArgumentMap(rename={"order": "order_id"}))
    assert opened(contracts, bare, half) == [
        ("look", "vanished", ()),
        ("look", "changed", ("order: removed", "order_id: added, required")),
        ("refund", "changed", ("reason: added, required",)),
    ]
    assert list(map(str, unmapped(complete_decision(half, contracts), contracts))) == ["reason: added, required"]
    accepted = ToolDecision(kind="map", tool="refund", arguments=ArgumentMap(accept=True))
    assert opened(contracts, RENAMED, accepted)[-1] == ("refund", "changed", ())


def test_a_tool_nobody_called_may_go(make_desk: Desk) -> None:
    cases = [{"tools": OLD, "calls": ["close"]}] * 5 + [{"tools": NEW, "calls": ["close"]}] * 5
    tables = make_desk(*cases)
    found = find_changes(find_contracts({table: frame.lazy() for table, frame in tables.items()}), Ledger())
    assert [(f.tool, f.kind, f.open) for f in found] == [("look", "vanished", ()), ("refund", "changed", ())]


def test_a_retired_tool_that_is_offered_still_is_told(contracts: Contracts) -> None:
    found = find_changes(contracts, decide(contracts, ToolDecision(kind="deprecate", tool="close")))
    (stale,) = [finding for finding in found if finding.kind == "stale"]
    assert stale.text == "deprecated, but offered still, last 1970-01-01T00:00:00+00:00"


def test_a_map_for_all_agents_needs_one_contract_in_force(make_desk: Desk) -> None:
    cases = [{"tools": OLD, "calls": ["look"], "agent": "shop"}, {"tools": OLD, "calls": ["look"]}]
    tables = make_desk(*cases, {"tools": NEW, "calls": ["find"]})
    both = find_contracts({table: frame.lazy() for table, frame in tables.items()})
    with pytest.raises(ConfigError, match=r"for each agent \(desk \w{9}, shop \w{9}\): name one by --agent"):
        complete_decision(MAPPED, both)
    assert complete_decision(replace(MAPPED, agent="desk"), both).sources == (content_hash(OLD[1]),)


def test_a_decision_is_completed_by_the_contracts_that_it_reads_and_writes(contracts: Contracts) -> None:
    made = complete_decision(MAPPED, contracts)
    assert (made.sources, made.target) == ((content_hash(OLD[1]),), content_hash(NEW[1]))
    assert complete_decision(RENAMED, contracts).target == content_hash(NEW[0])


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (ToolDecision(kind="deprecate", tool="lok"), "tool 'lok' was never seen, seen: close, find, look, refund"),
        (ToolDecision(kind="deprecate", tool="look", agent="shop"), "agent 'shop' was never seen, seen: desk"),
        (ToolDecision(kind="rename", tool="look", to="fnd"), "tool 'fnd' was never seen, seen: "),
        (ToolDecision(kind="map", tool="close", agent="desk"), "tool 'close' was only ever seen with one contract"),
    ],
)
def test_a_decision_on_what_was_never_seen_is_refused(contracts: Contracts, made: ToolDecision, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        complete_decision(made, contracts)
