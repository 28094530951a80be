import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace.canonical import canonical_json
from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.curate import Curated, curate
from imitrace_trainer.hindsight import UNPROVEN, relabelled

Tables = dict[str, pl.DataFrame]
MakeTables = Callable[..., Tables]
Calls = list[tuple[str, str | None]]
"""Names of tools, each with what it gave."""

CONFIG = CohortConfig(
    name="desk",
    agent="desk",
    split=SplitConfig(calibration=0, gate=0),
    where=(Condition.parse("Done >= 1"),),
    hindsight=0.9,
)
FOUND: Calls = [("find", "order 1"), ("look", "late"), ("refund", "paid")]


def tables(make_tables: MakeTables, *cases: dict[str, Any]) -> Tables:
    """A case has ``calls``, and ``done``, its score."""
    whole = [
        {"id": f"t{n}", "task": "a", "roles": ["expert"] * len(case["calls"]), "scores": {"Done": case.get("done", 0)}}
        | {key: value for key, value in case.items() if key not in ("calls", "done")}
        for n, case in enumerate(cases)
    ]
    made = make_tables(*whole)
    calls = [call for case in cases for call in case["calls"]]
    steps = made["steps"].with_columns(
        pl.Series("action_name", [name for name, _ in calls], dtype=pl.String),
        pl.Series("observation", [result for _, result in calls], dtype=pl.String),
    )
    return made | {"steps": steps}


def curated(made: Tables, cohort: CohortConfig = CONFIG) -> Curated:
    return curate({table: frame.lazy() for table, frame in made.items()}, cohort)


def learnt(found: Curated) -> dict[str, list[int]]:
    steps = found.steps.filter("loss_mask").select("trajectory_id", "step_index").collect()
    by_trajectory = steps.group_by("trajectory_id", maintain_order=True).agg("step_index")
    return dict(by_trajectory.iter_rows())


@pytest.mark.parametrize(
    ("calls", "proven"),
    [
        (FOUND, [0, 1, 2]),
        ([*FOUND[:2], ("close", "ok")], [0, 1]),
        ([("find", "order 2"), *FOUND[1:]], [0]),
        ([("find", None), *FOUND[1:]], [0]),
        ([FOUND[1], FOUND[0]], []),
    ],
)
def test_what_a_success_did_too_at_the_same_point_is_learnt_from_a_failure(
    make_tables: MakeTables, calls: Calls, proven: list[int]
) -> None:
    found = curated(tables(make_tables, {"calls": FOUND, "done": 1}, {"calls": calls, "says": "in other words"}))
    assert learnt(found) == {"t0": [0, 1, 2]} | ({"t1": proven} if proven else {})
    failure = found.trajectories.filter(pl.col("trajectory_id") == "t1")
    assert len(failure) == bool(proven) and len(found.rejected) == (not proven)
    rest = found.steps.filter((pl.col("trajectory_id") == "t1") & ~pl.col("loss_mask")).collect()
    assert rest["step_index"].to_list() == ([n for n in range(len(calls)) if n not in proven] if proven else [])
    assert set(rest["mask_reason"]) <= {UNPROVEN}


def test_a_relabelled_failure_keeps_its_outcome_and_scores_and_says_from_what_and_by_what(
    make_tables: MakeTables,
) -> None:
    made = tables(make_tables, {"calls": FOUND, "done": 1}, {"calls": FOUND[:2], "outcome": "failure"})
    success, failure = curated(made).trajectories.iter_rows(named=True)
    assert (success["relabelled_from"], success["relabelled_by"]) == (None, None)
    assert failure["relabelled_from"] == "Done 0.0, wanted >= 1.0"
    assert failure["relabelled_by"] == "success t0"
    assert (failure["outcome"], json.loads(failure["scores"]), failure["split"]) == ("failure", {"Done": 0.0}, "train")


def test_nothing_is_learnt_from_failures_unless_asked_for(make_tables: MakeTables) -> None:
    made = tables(make_tables, {"calls": FOUND, "done": 1}, {"calls": FOUND})
    found = curated(made, replace(CONFIG, hindsight=0))
    assert found.trajectories["trajectory_id"].to_list() == ["t0"]
    assert found.trajectories["relabelled_by"].to_list() == [None]


def test_what_another_rule_rejects_too_or_is_of_another_task_proves_nothing(make_tables: MakeTables) -> None:
    other = {"calls": FOUND, "done": 1, "task": "b"}
    made = tables(make_tables, other, {"calls": FOUND}, {"calls": FOUND, "task": "b", "complete": False})
    assert learnt(curated(made)) == {"t0": [0, 1, 2]}


def test_a_call_of_a_success_that_is_not_learnt_proves_nothing(make_tables: MakeTables) -> None:
    success = {"calls": FOUND, "done": 1, "roles": ["expert", "clone", "expert"]}
    assert learnt(curated(tables(make_tables, success, {"calls": FOUND})))["t1"] == [0, 2]


@pytest.mark.parametrize(("theirs", "same"), [('{ "order":1 }', True), ('{"order":2}', False), ("{", False)])
def test_arguments_are_compared_as_json(make_tables: MakeTables, theirs: str, same: bool) -> None:
    made = tables(make_tables, {"calls": FOUND[:1], "done": 1}, {"calls": FOUND[:1]})
    given = pl.Series("action_arguments", ['{"order":1}', theirs])
    found = curated(made | {"steps": made["steps"].with_columns(given)})
    assert len(found.trajectories) == 1 + same


def test_a_step_called_wrong_is_not_learnt_though_a_success_did_it(make_tables: MakeTables) -> None:
    cohort = replace(CONFIG, mask_where=(Condition.parse("Right < 1"),), mask_cap=1.0)
    failure = {"calls": FOUND, "step_scores": {"Right": [1, 0, 1]}}
    assert learnt(curated(tables(make_tables, {"calls": FOUND, "done": 1}, failure), cohort))["t1"] == [0, 2]


def test_scores_of_steps_prove_them_right_where_the_cohort_says_so(make_tables: MakeTables) -> None:
    cohort = replace(CONFIG, hindsight_where=(Condition.parse('Judge == "fine"'),))
    failure = {"calls": [("find", "order 1"), ("ask", "no"), ("ask", "no")], "step_scores": {"Judge": [None, "fine"]}}
    found = curated(tables(make_tables, {"calls": FOUND, "done": 1}, failure), cohort)
    assert learnt(found)["t1"] == [0, 1]
    assert found.trajectories["relabelled_by"].to_list() == [None, 'Judge == "fine", success t0']


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_no_more_than_the_share_of_what_is_learnt_comes_of_failures(make_tables: MakeTables, share: float) -> None:
    cases = [{"calls": FOUND, "done": int(n < 10), "started_at": n} for n in range(40)]
    made = tables(make_tables, *cases)
    found = curated(made, replace(CONFIG, hindsight=share))
    steps = found.steps.filter("loss_mask").collect()
    again = set(found.trajectories.filter(pl.col("relabelled_by").is_not_null())["trajectory_id"])
    failed = len(steps.filter(pl.col("trajectory_id").is_in(again)))
    assert share - 3 / len(steps) < failed / len(steps) <= share
    backwards = {name: frame.reverse() if name == "trajectories" else frame for name, frame in made.items()}
    assert curated(backwards, replace(CONFIG, hindsight=share)).trajectories.equals(found.trajectories)


def test_calibration_and_gate_never_have_a_failure_nor_its_task(make_tables: MakeTables) -> None:
    cases = [{"calls": FOUND, "done": n % 2, "task": f"task {n // 2}"} for n in range(40)]
    made = tables(make_tables, *cases)
    for by in ("task", "trajectory"):
        split = SplitConfig(by=by)
        found, plain = (curated(made, replace(CONFIG, split=split, hindsight=share)) for share in (0.9, 0.0))
        again = found.trajectories.filter(pl.col("relabelled_by").is_not_null())
        judged = found.trajectories.filter(pl.col("split") != "train")
        assert len(again) > 0
        assert set(again["split"]) == {"train"}
        assert not set(again["task_key"]) & set(judged["task_key"])
        held_out = pl.col("split") != "train"
        assert found.steps.filter(held_out).collect().equals(plain.steps.filter(held_out).collect())


STEP = st.tuples(st.sampled_from(["find", "look"]), st.sampled_from([None, "x", "y"]))


@settings(max_examples=40, deadline=None)
@given(success=st.lists(STEP, min_size=1, max_size=5), failure=st.lists(STEP, min_size=1, max_size=5))
def test_what_is_proven_is_the_common_beginning_up_to_the_first_other_or_unknown_result(
    success: Calls, failure: Calls
) -> None:
    def steps(name: str, calls: Calls) -> list[dict[str, Any]]:
        return [
            {
                "trajectory_id": name,
                "step_index": index,
                "agent": "desk",
                "policy_role": "expert",
                "error_type": None,
                "tool_reason": None,
                "action_kind": "tool_call",
                "action_name": call,
                "action_arguments": canonical_json({"order": 1}),
                "observation": result,
            }
            for index, (call, result) in enumerate(calls)
        ]

    kinds = dict.fromkeys(("error_type", "tool_reason", "observation"), pl.String)
    frame = pl.DataFrame(steps("bad", failure) + steps("good", success), schema_overrides=kinds).lazy()
    frames = {"steps": frame, "scores": pl.LazyFrame()}
    kept = pl.DataFrame({"trajectory_id": ["good"], "task_key": ["a"], "split": ["train"]})
    failed = pl.DataFrame({"trajectory_id": ["bad"], "task_key": ["a"], "reason": ["Done 0.0, wanted >= 1.0"]})
    found = relabelled(frames, replace(CONFIG, hindsight=0.99), failed, kept)
    expected = []
    for index, (mine, theirs) in enumerate(zip(failure, success, strict=False)):
        if mine[0] != theirs[0]:
            break
        expected.append(index)
        if mine[1] is None or mine[1] != theirs[1]:
            break
    assert found.steps["step_index"].to_list() == expected
    assert len(found.trajectories) == bool(expected)
