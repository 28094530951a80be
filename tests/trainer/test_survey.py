from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace_trainer import portions
from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.survey import Known, additions, mark_steps, survey

Tables = dict[str, pl.DataFrame]
MakeTables = Callable[..., Tables]

STATES = st.lists(st.lists(st.sampled_from("abcdef"), max_size=6), max_size=8)


def with_reason(steps: pl.DataFrame, reason: str | None = None) -> pl.LazyFrame:
    return steps.lazy().with_columns(tool_reason=pl.lit(reason, pl.String))


@given(trajectories=st.lists(STATES, max_size=4))
@settings(max_examples=80, deadline=None)
def test_additions_name_every_message_of_every_state(trajectories: list[list[list[str]]]) -> None:
    rows = [(f"t{n}", index, state) for n, states in enumerate(trajectories) for index, state in enumerate(states)]
    schema = {"trajectory_id": pl.String(), "step_index": pl.Int64(), "state": pl.List(pl.String)}
    new = additions(pl.DataFrame(rows, schema=schema, orient="row").lazy()).collect()
    assert set(new.select("trajectory_id", "message_id").iter_rows()) == {
        (name, message) for name, _, state in rows for message in state
    }


def test_a_state_that_goes_on_adds_only_what_is_new() -> None:
    states = [["a"], ["a", "b", "c"], ["a", "b", "c"], ["x", "c"], ["x", "c", "d"]]
    frame = pl.DataFrame({"trajectory_id": ["t"] * 5, "step_index": range(5), "state": states})
    new = additions(frame.lazy()).select("step_index", "message_id").collect().rows()
    assert new == [(0, "a"), (1, "b"), (1, "c"), (3, "x"), (3, "c"), (4, "d")]


@given(ids=st.sets(st.text(max_size=3), max_size=20), wanted=st.lists(st.text(max_size=3), max_size=20))
@settings(max_examples=80, deadline=None)
def test_a_message_is_found_again_by_its_id_and_an_unknown_one_is_not(ids: set[str], wanted: list[str]) -> None:
    ordered = pl.Series("message_id", sorted(ids), dtype=pl.String).sort()
    known = Known(pl.DataFrame([ordered, pl.Series("role", ["user"] * len(ids), dtype=pl.Categorical)]))
    asked = pl.Series([*wanted, *ids], dtype=pl.String)
    rows = {name: row for row, name in enumerate(ordered)}
    assert known.places(asked).to_list() == [rows.get(name) for name in asked]


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_what_is_found_does_not_depend_on_the_portions(
    make_tables: MakeTables, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    cut = {"id": "cut", "roles": ["expert"] * 5, "step": {"complete": False, "incomplete_reason": "cut"}}
    tables = make_tables(cut, {"id": "lost", "step": {"state": ["gone"]}}, {"id": "t", "roles": ["expert", "clone"]})
    frames = {table: frame.lazy() for table, frame in tables.items()} | {
        "messages": tables["messages"].lazy().sort("message_id"),
        "steps": with_reason(tables["steps"]),
    }
    monkeypatch.setattr(portions, "ROWS_AT_ONCE", rows)
    found = survey(frames, CohortConfig(name="desk", agent="desk"))
    facts = found.trajectories.select("trajectory_id", "steps_found", "steps_trainable", "gap").rows()
    gone = "step 0: message gone is not in the source"
    assert facts == [("cut", 5, 5, "step 0: cut"), ("lost", 2, 2, gone), ("t", 2, 1, None)]
    assert found.trajectories["request"].null_count() == 1
    assert set(found.uses["trajectory"]) == {0, 2}  # the lost one sees no message


@pytest.mark.parametrize(
    ("evaluator", "value", "trained"),
    [("human", 1.0, True), ("expert", 1.0, True), ("human", 0.0, False), ("clone", 1.0, False), (None, 1.0, False)],
)
def test_a_clones_own_action_is_learnt_only_where_a_teacher_confirmed_it(
    make_tables: MakeTables, evaluator: str | None, value: float, trained: bool
) -> None:
    tables = make_tables({"id": "t", "roles": ["expert", "clone"], "scores": {"Right": value}})
    of_step = tables["scores"].with_columns(step_index=pl.lit(1, pl.Int64), evaluator=pl.lit(evaluator, pl.String))
    roles = ("expert", "clone")
    cohort = CohortConfig(name="desk", agent="desk", roles=roles, confirmed=Condition.parse("Right >= 1"))
    steps = with_reason(tables["steps"])
    marked = mark_steps(steps, cohort, of_step.lazy()).collect()
    reason = None if trained else "by a clone, not confirmed"
    assert marked.select("loss_mask", "mask_reason").rows() == [(True, None), (trained, reason)]
    never = CohortConfig(name="desk", agent="desk", roles=roles)
    assert mark_steps(steps, never, of_step.lazy()).collect()["loss_mask"].to_list() == [True, False]


def test_a_call_that_its_tools_of_today_would_not_take_is_context(make_tables: MakeTables) -> None:
    tables = make_tables({"id": "t"}, {"id": "u", "agent": "other"})
    steps = with_reason(tables["steps"], "tool 'call' is retired")
    marked = mark_steps(steps, CohortConfig(name="desk", agent="desk"), tables["scores"].lazy()).collect()
    assert not marked["loss_mask"].any()
    assert set(marked["mask_reason"]) == {"tool 'call' is retired", "by agent other"}
