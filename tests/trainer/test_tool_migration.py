import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace.canonical import content_hash
from imitrace_trainer.argument_maps import ArgumentMap
from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.curate import Curated, curate
from imitrace_trainer.tool_contracts import find_contracts
from imitrace_trainer.tool_findings import complete_decision
from imitrace_trainer.tool_ledger import Ledger, ToolDecision, ToolRules
from imitrace_trainer.tool_migration import count_changes, migrate

Tables = dict[str, pl.DataFrame]
Desk = Callable[..., Tables]
Json = dict[str, Any]  # a JSON object

WHOLE = SplitConfig(calibration=0, gate=0)
COHORT = CohortConfig(name="desk", agent="desk", split=WHOLE)


def tool(name: str, *required: str, **properties: Any) -> Json:
    declared = {argument: {"type": "string"} for argument in required} | properties
    return {"name": name, "parameters": {"type": "object", "properties": declared, "required": [*required]}}


OLD = [tool("look", "order"), tool("refund", "order", note={"type": "string"}), tool("call")]
NEW = [tool("find", "order_id"), tool("refund", "order", "reason")]
BEFORE: Json = {"tools": OLD, "calls": [("look", {"order": "W1"}), ("refund", {"order": "W1"}), ("call", {})]}
AFTER: Json = {"tools": NEW, "calls": [("find", {"order_id": "W2"}), ("refund", {"order": "W2", "reason": "late"})]}
RENAME = ToolDecision(kind="rename", tool="look", to="find", arguments=ArgumentMap(rename={"order": "order_id"}))
RETIRE = ToolDecision(kind="deprecate", tool="call")
MAP = ToolDecision(kind="map", tool="refund", arguments=ArgumentMap(default={"reason": "unknown"}, drop=("note",)))


def lazy(tables: Tables) -> dict[str, pl.LazyFrame]:
    return {table: frame.lazy() for table, frame in tables.items()}


def rules(tables: Tables, *decisions: ToolDecision) -> ToolRules:
    contracts, ledger = find_contracts(lazy(tables)), Ledger()
    for made in decisions:
        ledger = ledger.checked(complete_decision(made, contracts))
    return ledger.rules("desk")


def calls(tables: Tables, found: ToolRules) -> list[tuple[Any, ...]]:
    steps = migrate(lazy(tables), found, "desk")["steps"].sort("trajectory_id", "step_index").collect()
    columns = ("action_name", "action_arguments", "tool_change", "tool_reason")
    return [(name, json.loads(text), *told) for name, text, *told in steps.select(columns).iter_rows()]


def test_a_renamed_call_is_rewritten_a_mapped_one_filled_and_a_retired_one_masked(make_desk: Desk) -> None:
    tables = make_desk(BEFORE, AFTER)
    assert calls(tables, rules(tables, RENAME, RETIRE, MAP)) == [
        ("find", {"order_id": "W1"}, "renamed", None),
        ("refund", {"order": "W1", "reason": "unknown"}, "mapped", None),
        ("call", {}, "retired", "tool 'call' is retired"),
        ("find", {"order_id": "W2"}, None, None),
        ("refund", {"order": "W2", "reason": "late"}, None, None),
    ]


def test_without_a_decision_a_call_stays_where_it_fits_and_is_masked_where_not(make_desk: Desk) -> None:
    noted = {"tools": OLD, "calls": [("refund", {"order": "W1", "reason": "late"}), ("refund", {"note": "x"})]}
    tables = make_desk(BEFORE, noted, AFTER)
    told = [(change, why) for _, _, change, why in calls(tables, rules(tables))]
    assert told == [
        (None, None),
        ("misfit", "refund: argument 'reason' is missing"),
        (None, None),
        ("carried", None),
        ("misfit", "refund: argument 'note' is unknown"),
        (None, None),
        (None, None),
    ]


def test_the_tools_offered_are_those_of_today_and_what_was_said_is_not_touched(make_desk: Desk) -> None:
    tables = make_desk(BEFORE, AFTER)
    found = migrate(lazy(tables), rules(tables, RENAME, RETIRE, MAP), "desk")
    steps = found["steps"].collect()
    assert steps["tools_hash"].unique().to_list() == [content_hash(NEW)]
    offered = found["tools"].filter(pl.col("tools_hash") == content_hash(NEW)).sort("position").collect()
    assert [json.loads(text) for text in offered["definition"]] == NEW
    assert offered["schema_hash"].to_list() == [content_hash(tool) for tool in NEW]
    assert found["messages"].collect().equals(tables["messages"])
    kept = [column for column in tables["steps"].columns if column not in ("action_name", "action_arguments")]
    same = [column for column in kept if column != "tools_hash"]
    assert steps.select(same).equals(tables["steps"].select(same))


def test_where_the_tools_never_changed_nothing_does(make_desk: Desk) -> None:
    tables = make_desk(AFTER, AFTER)
    found = migrate(lazy(tables), ToolRules(), "desk")
    nothing = {"tool_change": pl.lit(None, pl.String), "tool_reason": pl.lit(None, pl.String)}
    assert found["steps"].collect().equals(tables["steps"].with_columns(**nothing))
    assert "JOIN" not in found["steps"].explain()  # and that costs nothing
    assert found["tools"].collect().equals(tables["tools"])


def test_steps_of_other_agents_keep_their_tools(make_desk: Desk) -> None:
    tables = make_desk({**BEFORE, "agent": "other"}, BEFORE, AFTER)
    mine = [replace(made, agent="desk") for made in (RENAME, RETIRE, MAP)]
    found = migrate(lazy(tables), rules(tables, *mine), "desk")
    other = found["steps"].filter(pl.col("agent") == "other").sort("step_index").collect()
    assert other["action_name"].to_list() == ["look", "refund", "call"]
    assert other["tools_hash"].unique().to_list() == [content_hash(OLD)]
    assert content_hash(OLD) in found["tools"].collect()["tools_hash"].to_list()


def test_a_list_of_which_every_tool_is_retired_is_empty(make_desk: Desk) -> None:
    tables = make_desk({"tools": [tool("call")], "calls": ["call", "call"]}, AFTER)
    steps = migrate(lazy(tables), rules(tables, RETIRE), "desk")["steps"].collect()
    assert steps.filter(pl.col("action_name") == "call")["tools_hash"].unique().to_list() == [content_hash([])]
    assert curate(lazy(tables), COHORT, rules(tables, RETIRE)).rejected["rule"].to_list() == ["roles"]


def test_a_call_goes_through_every_map_on_its_way_to_the_contract_in_force(make_desk: Desk) -> None:
    versions = [[tool("look", name)] for name in ("a", "b", "c")]
    tables = make_desk(
        *({"tools": tools, "calls": [("look", {name: "x"})]} for tools, name in zip(versions, "abc", strict=True))
    )
    first, second, third = (content_hash(tools[0]) for tools in versions)
    a_to_b, b_to_c = (ArgumentMap(rename={old: new}) for old, new in ("ab", "bc"))
    to_b = ToolDecision(kind="map", tool="look", sources=(first,), target=second, arguments=a_to_b)
    to_c = ToolDecision(kind="map", tool="look", sources=(first, second), target=third, arguments=b_to_c)
    found = Ledger((to_b, to_c)).rules("desk")
    assert [arguments for _, arguments, *_ in calls(tables, found)] == [{"c": "x"}] * 3
    assert [change for *_, change, _ in calls(tables, found)] == ["mapped", "mapped", None]


def test_a_rename_is_followed_to_its_end_and_to_a_retired_one(make_desk: Desk) -> None:
    tables = make_desk({"tools": [tool("a")], "calls": ["a"]}, {"tools": [tool("b"), tool("c")], "calls": ["b", "c"]})
    chain = [ToolDecision(kind="rename", tool=old, to=new) for old, new in (("a", "b"), ("b", "c"))]
    assert [name for name, *_ in calls(tables, rules(tables, *chain))] == ["c", "c", "c"]
    ended = rules(tables, *chain, ToolDecision(kind="deprecate", tool="c"))
    assert [(name, change) for name, _, change, _ in calls(tables, ended)] == [
        ("a", "retired"),
        ("b", "retired"),
        ("c", "retired"),
    ]


def test_a_call_of_unknown_contract_is_mapped_only_where_it_does_not_fit_as_it_is(make_desk: Desk) -> None:
    untold = {"tools": None, "calls": [("refund", {"order": "W", "reason": "x"}), ("refund", {"order": "W"})]}
    tables = make_desk(BEFORE, AFTER, untold)
    found = [(arguments, change) for _, arguments, change, _ in calls(tables, rules(tables, MAP))[-2:]]
    assert found == [
        ({"order": "W", "reason": "x"}, "carried"),
        ({"order": "W", "reason": "unknown"}, "mapped"),
    ]


def test_calls_nobody_can_judge_are_left_alone(make_desk: Desk) -> None:
    tables = make_desk({"tools": None, "calls": [("guess", {"a": 1}), "guess"]})
    assert calls(tables, ToolRules()) == [("guess", {"a": 1}, None, None), ("guess", {}, None, None)]


def curated(make_desk: Desk, **cohort: Any) -> Curated:
    tables = make_desk(BEFORE, AFTER, {**BEFORE, "calls": BEFORE["calls"][:2]})
    config = CohortConfig(name="desk", agent="desk", split=WHOLE, **cohort)
    return curate(lazy(tables), config, rules(tables, RENAME, RETIRE, MAP))


def test_what_is_masked_is_context_and_what_is_mapped_is_trained_on(make_desk: Desk) -> None:
    steps = curated(make_desk).steps.collect()
    assert count_changes(steps) == {"renamed": 2, "mapped": 2, "retired": 1}
    assert steps.filter(~pl.col("loss_mask"))["mask_reason"].to_list() == ["tool 'call' is retired"]


def test_a_cohort_may_drop_trajectories_that_call_what_is_retired(make_desk: Desk) -> None:
    found = curated(make_desk, retired_tools="drop")
    assert found.rejected.rows() == [("t0", "t0", "retired_tools", "step 2: tool 'call' is retired")]
    assert count_changes(found.steps.collect()) == {"renamed": 1, "mapped": 1}


names = st.sampled_from(["look", "find", "refund", "call", "guess"])
arguments = st.dictionaries(st.sampled_from(["order", "order_id", "reason", "note"]), st.sampled_from(["x", "y"]))
trajectories = st.fixed_dictionaries(
    {
        "tools": st.sampled_from([None, OLD, NEW, OLD + NEW[:1]]),
        "calls": st.lists(st.tuples(names, arguments), min_size=1, max_size=3),
    }
)
decisions = st.lists(st.sampled_from([RENAME, RETIRE, MAP, ToolDecision(kind="deprecate", tool="find")]), unique_by=id)


@settings(max_examples=40, deadline=None)
@given(st.lists(trajectories, min_size=1, max_size=3), decisions)
def test_whatever_was_recorded_no_step_is_lost_and_no_trained_call_is_dead(
    make_desk: Desk, cases: list[Json], made: list[ToolDecision]
) -> None:
    tables = make_desk(BEFORE, *cases, AFTER)
    found = rules(tables, *made)
    changed = migrate(lazy(tables), found, "desk")
    steps, tools = changed["steps"].collect(), changed["tools"].collect()
    key = ["trajectory_id", "step_index"]
    assert steps.select(key).sort(key).equals(tables["steps"].select(key).sort(key))
    offered = set(tools.filter(pl.col("tools_hash").is_in(steps["tools_hash"].drop_nulls().implode()))["name"])
    assert not offered & found.retired
    assert not set(steps.filter(pl.col("tool_reason").is_null())["action_name"]) & found.retired
    again = migrate({**changed, "steps": steps.drop("tool_change", "tool_reason").lazy()}, found, "desk")
    kept = steps.filter(pl.col("tool_reason").is_null()).select(*key, "action_name", "action_arguments").sort(key)
    twice = again["steps"].filter(pl.col("tool_reason").is_null()).join(kept.lazy(), on=key, how="semi").collect()
    assert twice.select(*key, "action_name", "action_arguments").sort(key).equals(kept)


@pytest.mark.parametrize("text", ["[]", "{", '"x"'])
def test_arguments_that_are_no_object_cost_only_themselves(make_desk: Desk, text: str) -> None:
    tables = make_desk(AFTER)
    tables["steps"] = tables["steps"].with_columns(pl.lit(text).alias("action_arguments"))
    steps = migrate(lazy(tables), ToolRules(), "desk")["steps"].collect()
    assert steps["tool_change"].to_list() == ["misfit", "misfit"]
