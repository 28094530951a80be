import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace.exceptions import DatasetError
from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.curate import Curated, curate, split_tasks

Tables = dict[str, pl.DataFrame]
MakeTables = Callable[..., Tables]

WHOLE = SplitConfig(calibration=0, gate=0)
GOOD = {"id": "good", "task": "a", "scores": {"TaskCompletion": 1.0}}
CONFIG = CohortConfig(name="desk", agent="desk", split=WHOLE)
STRICT = CohortConfig(
    name="desk", agent="desk", split=WHOLE, where=(Condition.parse("TaskCompletion >= 0.8"),), tags={}, min_steps=2
)


def lazy(tables: Tables) -> dict[str, pl.LazyFrame]:
    return {table: frame.lazy() for table, frame in tables.items()}


def verdicts(curated: Curated) -> list[tuple[str, str, str]]:
    return curated.rejected.select("trajectory_id", "rule", "reason").rows()


@pytest.mark.parametrize(
    ("case", "rule", "reason"),
    [
        ({"complete": False, "incomplete_reason": "digest mismatch"}, "complete", "digest mismatch"),
        ({"complete": False, "ended_at": None}, "complete", "still running"),
        ({"complete": False}, "complete", "marked incomplete"),
        ({"ended_at": None}, "complete", "still running"),
        ({"step": {"complete": False, "incomplete_reason": "cut"}}, "complete", "step 0: cut"),
        ({"step": {"state": ["gone"]}}, "complete", "step 0: message gone is not in the source"),
        ({"step": {"tools_hash": "gone"}}, "complete", "step 0: tools gone are not in the source"),
        ({"roles": []}, "steps", "no steps"),
        ({"step_count": 5}, "steps", "2 of 5 steps are in the source"),
        (
            {"roles": ["synthetic", "clone", "synthetic"]},
            "roles",
            "no step to learn from: by synthetic (2); by a clone, not confirmed (1)",
        ),
        ({"step": {"agent": "other"}}, "roles", "no step to learn from: by agent other (2)"),
        ({"step": {"error_type": "timeout"}}, "roles", "no step to learn from: error timeout (2)"),
        ({"scores": {}}, "scores", "TaskCompletion missing"),
        ({"scores": {"TaskCompletion": None}}, "scores", "TaskCompletion has no value"),
        ({"scores": {"TaskCompletion": float("nan")}}, "scores", "TaskCompletion is NaN"),
        ({"scores": {"TaskCompletion": 0.5}}, "scores", "TaskCompletion 0.5, wanted >= 0.8"),
        ({"roles": ["expert"]}, "min_steps", "1 steps, wanted at least 2"),
        ({"complete": False, "incomplete_reason": "cut", "scores": {}}, "complete", "cut"),
    ],
)
def test_a_trajectory_is_rejected_by_the_first_rule_with_its_reason(
    make_tables: MakeTables, case: dict[str, Any], rule: str, reason: str
) -> None:
    curated = curate(lazy(make_tables(GOOD, {**GOOD, "id": "bad", **case})), STRICT)
    assert curated.trajectories["trajectory_id"].to_list() == ["good"]
    assert verdicts(curated) == [("bad", rule, reason)]


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"intent": "cancel"}, "tag intent 'cancel', wanted 'refund'"),
        ({"other": "refund"}, "tag intent missing, wanted 'refund'"),
    ],
)
def test_a_trajectory_without_the_cohorts_tag_is_rejected(
    make_tables: MakeTables, tags: dict[str, str], reason: str
) -> None:
    cohort = CohortConfig(name="desk", agent="desk", split=WHOLE, tags={"intent": "refund"})
    tables = make_tables({"id": "good", "tags": {"intent": "refund"}}, {"id": "bad", "tags": tags})
    assert verdicts(curate(lazy(tables), cohort)) == [("bad", "tags", reason)]


@pytest.mark.parametrize(
    ("condition", "kept"),
    [
        ("s >= 0.8", ["at", "above"]),
        ("s > 0.8", ["above"]),
        ("s <= 0.8", ["below", "at"]),
        ("s < 0.8", ["below"]),
        ("s == 0.8", ["at"]),
        ("s != 0.8", ["below", "above"]),
    ],
)
def test_a_value_on_the_boundary_is_kept_where_the_operator_says_so(
    make_tables: MakeTables, condition: str, kept: list[str]
) -> None:
    values = {"below": 0.79, "at": 0.8, "above": 0.81}
    tables = make_tables(
        *({"id": case, "scores": {"s": value}, "started_at": int(100 * value)} for case, value in values.items())
    )
    cohort = CohortConfig(name="desk", agent="desk", split=WHOLE, where=(Condition.parse(condition),))
    assert curate(lazy(tables), cohort).trajectories["trajectory_id"].to_list() == kept


@pytest.mark.parametrize(
    ("condition", "kept", "reasons"),
    [
        ('s == "ok"', ["a"], ["s 'bad', wanted == \"ok\"", "s has no label, only value 1.0", "s has no label"]),
        ('s != "bad"', ["a"], ["s 'bad', wanted != \"bad\"", "s has no label, only value 1.0", "s has no label"]),
        ('s in ["ok", "bad"]', ["a", "b"], ["s has no label, only value 1.0", "s has no label"]),
        ("s >= 1", ["c"], ["s has no value, only label 'ok'", "s has no value, only label 'bad'", "s has no value"]),
    ],
)
def test_a_condition_asks_for_the_label_or_the_value_and_says_where_there_is_only_the_other(
    make_tables: MakeTables, condition: str, kept: list[str], reasons: list[str]
) -> None:
    said = {"a": "ok", "b": "bad", "c": 1.0, "d": None}
    tables = make_tables(*({"id": name, "scores": {"s": score}} for name, score in said.items()))
    cohort = CohortConfig(name="desk", agent="desk", split=WHOLE, where=(Condition.parse(condition),))
    curated = curate(lazy(tables), cohort)
    assert curated.trajectories["trajectory_id"].to_list() == kept
    assert curated.rejected["reason"].to_list() == reasons


def test_the_newest_score_of_a_trajectory_wins_and_scores_of_steps_are_not_asked(make_tables: MakeTables) -> None:
    tables = make_tables(GOOD, {**GOOD, "id": "bad"})
    later = tables["scores"].with_columns(
        pl.col("scored_at") + 1, value=pl.when(pl.col("trajectory_id") == "bad").then(0.5).otherwise(0.9)
    )
    of_step = later.with_columns(pl.col("scored_at") + 1, step_index=pl.lit(0, pl.Int64), value=pl.lit(0.0))
    tables["scores"] = pl.concat([later, of_step.select(later.columns), tables["scores"]])
    curated = curate(lazy(tables), STRICT)
    assert verdicts(curated) == [("bad", "scores", "TaskCompletion 0.5, wanted >= 0.8")]
    assert [json.loads(text) for text in curated.trajectories["scores"]] == [{"TaskCompletion": 0.9}]


def test_steps_of_other_roles_are_context(make_tables: MakeTables) -> None:
    steps = curate(
        lazy(make_tables({"id": "t", "roles": ["expert", "clone", "human", "synthetic"]})), CONFIG
    ).steps.collect()
    assert steps.select("step_index", "loss_mask").rows() == [(0, True), (1, False), (2, True), (3, False)]


def test_steps_with_an_error_are_context(make_tables: MakeTables) -> None:
    tables = make_tables({"id": "t", "roles": ["expert", "expert"]})
    doubtful = pl.when(pl.col("step_index") == 0).then(pl.lit("unknown_answer"))
    tables["steps"] = tables["steps"].with_columns(error_type=doubtful)
    assert curate(lazy(tables), CONFIG).steps.collect().select("step_index", "loss_mask").rows() == [
        (0, False),
        (1, True),
    ]


def test_other_agents_are_counted_and_not_rejected(make_tables: MakeTables) -> None:
    curated = curate(lazy(make_tables({"id": "t"}, {"id": "u", "agent": "x"}, {"id": "v", "agent": "y"})), CONFIG)
    assert (curated.other_agents, len(curated.rejected), len(curated.trajectories)) == (2, 0, 1)
    assert curated.steps.collect()["trajectory_id"].unique().to_list() == ["t"]


def test_only_messages_and_tools_that_kept_steps_name_are_kept(make_tables: MakeTables) -> None:
    curated = curate(lazy(make_tables({"id": "t", "says": "hello"}, {"id": "u", "agent": "x"})), CONFIG)
    assert [json.loads(text)["parts"][0]["content"] for text in curated.messages.collect()["content"]] == ["hello"]
    assert curated.tools.collect()["name"].to_list() == ["lookup"]


def test_a_step_that_is_offered_no_tools_is_complete(make_tables: MakeTables) -> None:
    bare = {"id": "none", "step": {"tools_hash": None}}
    curated = curate(lazy(make_tables(bare)), CONFIG)
    assert (len(curated.trajectories), len(curated.tools.collect())) == (1, 0)


def test_the_task_key_is_the_task_or_else_the_first_user_message_or_else_the_trajectory(
    make_tables: MakeTables,
) -> None:
    same = {"says": "Where is my order?"}
    tables = make_tables(
        {"id": "1", "task": "a"},
        {"id": "2", **same},
        {"id": "3", "task": "", **same},
        {"id": "4", "step": {"state": []}},
    )
    kept = curate(lazy(tables), CONFIG).trajectories
    keys = dict(kept.select("trajectory_id", "task_key").iter_rows())
    assert (keys["1"], keys["4"]) == ("a", "4")
    assert keys["2"] == keys["3"] not in ("2", "3")


def test_equal_requests_without_a_task_are_in_one_split(make_tables: MakeTables) -> None:
    tables = make_tables(*({"id": f"t{n}", "says": f"request {n % 5}"} for n in range(30)))
    kept = curate(lazy(tables), CohortConfig(name="desk", agent="desk")).trajectories
    assert kept.group_by("task_key").agg(pl.col("split").n_unique())["split"].to_list() == [1] * 5


def test_trajectories_of_one_task_may_be_split_when_asked(make_tables: MakeTables) -> None:
    tables = make_tables(*({"id": f"t{n}", "task": "a"} for n in range(10)))
    cohort = CohortConfig(name="desk", agent="desk", split=SplitConfig(by="trajectory"))
    counts = dict(curate(lazy(tables), cohort).trajectories["split"].value_counts().iter_rows())
    assert counts == {"train": 6, "calibration": 2, "gate": 2}


@pytest.mark.parametrize(
    ("tasks", "split", "wanted"),
    [
        (100, SplitConfig(), (60, 20, 20)),
        (3, SplitConfig(), (1, 1, 1)),
        (3, SplitConfig(calibration=0.05, gate=0.9), (1, 1, 1)),
        (7, SplitConfig(calibration=0.01, gate=0.5), (2, 1, 4)),
        (1, SplitConfig(calibration=0, gate=0), (1, 0, 0)),
        (2, SplitConfig(calibration=0, gate=0.5), (1, 0, 1)),
    ],
)
def test_shares_are_rounded_with_a_task_for_each_split(
    tasks: int, split: SplitConfig, wanted: tuple[int, int, int]
) -> None:
    found = list(split_tasks([f"task {n}" for n in range(tasks)], split).values())
    assert tuple(found.count(name) for name in ("train", "calibration", "gate")) == wanted


def test_another_seed_is_another_split() -> None:
    keys = [f"task {n}" for n in range(40)]
    first, again, other = (split_tasks(keys, SplitConfig(seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ([], "cohort 'desk': no trajectory of agent 'desk', the source holds: no trajectory at all"),
        ([{"id": "1", "agent": "x"}], "no trajectory of agent 'desk', the source holds: x 1"),
        (
            [{"id": "1"}, {"id": "2"}, {"id": "3", "ended_at": None}],
            "none of 3 trajectories is kept, rejected by rule: complete 1, scores 2; loosen",
        ),
    ],
)
def test_an_empty_cohort_says_what_rejected_it(
    make_tables: MakeTables, cases: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        curate(lazy(make_tables(*cases)), STRICT)


def test_too_few_tasks_to_split_says_how_many_there_are(make_tables: MakeTables) -> None:
    cases = [{"id": f"t{n}", "task": str(n % 2)} for n in range(9)]
    with pytest.raises(
        DatasetError, match="cohort 'desk': 9 trajectories kept, but 2 tasks can't be split into 3 parts"
    ):
        curate(lazy(make_tables(*cases)), CohortConfig(name="desk", agent="desk"))


CASES = st.lists(
    st.fixed_dictionaries(
        {"task": st.none() | st.sampled_from("abcdef"), "says": st.sampled_from(["hi", "refund", "cancel", "change"])},
        optional={
            "agent": st.just("other"),
            "complete": st.booleans(),
            "roles": st.lists(st.sampled_from(["expert", "clone"]), max_size=3),
            "scores": st.fixed_dictionaries({"TaskCompletion": st.sampled_from([0.5, 0.8, float("nan"), None])}),
        },
    ),
    max_size=20,
)
GOOD_TASKS = [{**GOOD, "id": f"good {task}", "task": task} for task in "abc"]


@given(cases=CASES, seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_every_trajectory_is_kept_or_rejected_once_and_no_task_is_in_two_splits(
    make_tables: MakeTables, cases: list[dict[str, Any]], seed: int
) -> None:
    named = GOOD_TASKS + [{"scores": GOOD["scores"], **case, "id": f"t{n}"} for n, case in enumerate(cases)]
    cohort = CohortConfig(name="desk", agent="desk", where=STRICT.where, split=SplitConfig(seed=seed))
    curated = curate(lazy(make_tables(*named)), cohort)
    seen = curated.trajectories["trajectory_id"].to_list() + curated.rejected["trajectory_id"].to_list()
    assert sorted(seen) == sorted(case["id"] for case in named if "agent" not in case)
    by_task = curated.steps.collect().group_by("task").agg(pl.col("split").n_unique())
    assert set(by_task["split"]) == {1}
    assert set(curated.trajectories["split"]) == {"train", "calibration", "gate"}
