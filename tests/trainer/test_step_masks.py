import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.schema import SCORES
from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.curate import Curated, curate
from imitrace_trainer.frames import empty
from imitrace_trainer.step_masks import mask_wrong, satisfied

MakeTables = Callable[..., dict[str, pl.DataFrame]]

WRONG = (Condition.parse("Right < 0.5"), Condition.parse('Review == "bad"'))
CONFIG = CohortConfig(
    name="desk", agent="desk", split=SplitConfig(calibration=0, gate=0), mask_where=WRONG, mask_cap=0.5
)
SCORED = st.tuples(
    st.sampled_from("ab"),
    st.none() | st.integers(0, 3),
    st.sampled_from(["Right", "Review", "Other"]),
    st.sampled_from([None, 0.0, 0.5, 1.0, math.nan]),
    st.sampled_from([None, "bad", "good"]),
    st.integers(0, 3),
)


def curated(make_tables: MakeTables, cohort: CohortConfig, *cases: dict[str, Any]) -> Curated:
    return curate({table: frame.lazy() for table, frame in make_tables(*cases).items()}, cohort)


def masked(found: Curated) -> list[tuple[str, int, str]]:
    keys = ["trajectory_id", "step_index", "mask_reason"]
    return found.steps.filter(~pl.col("loss_mask")).select(keys).collect().rows()


def test_a_step_satisfied_stays_as_context_with_the_condition_as_its_reason(make_tables: MakeTables) -> None:
    case = {
        "id": "t",
        "roles": ["expert"] * 6,
        "step_scores": {"Right": [0.4, 0.5, None, math.nan, 1.0], "Review": [None, "bad", None, None, "good"]},
    }
    found = curated(make_tables, CONFIG, case)
    assert masked(found) == [("t", 0, "masked by Right < 0.5"), ("t", 1, 'masked by Review == "bad"')]
    assert found.steps.collect()["step_index"].to_list() == list(range(6))


def test_the_newest_score_of_that_very_step_counts(make_tables: MakeTables) -> None:
    tables = make_tables(
        {"id": "t", "roles": ["expert"] * 3, "scores": {"Right": 0.0}, "step_scores": {"Right": [0.0]}}
    )
    later = tables["scores"].drop_nulls("step_index").with_columns(value=pl.lit(1.0), scored_at=pl.lit(2, pl.Int64))
    tables["scores"] = pl.concat([later, tables["scores"]])
    assert masked(curate({table: frame.lazy() for table, frame in tables.items()}, CONFIG)) == []


@pytest.mark.parametrize(("cap", "kept"), [(0.5, ["half"]), (0.75, ["half", "most"]), (0.25, []), (0.0, [])])
def test_too_many_wrong_steps_keep_the_whole_trajectory_out(
    make_tables: MakeTables, cap: float, kept: list[str]
) -> None:
    good = {"id": "good", "roles": ["expert"] * 4}
    half = good | {"id": "half", "step_scores": {"Right": [0, 0, 1, 1]}}
    most = good | {"id": "most", "step_scores": {"Right": [0, 0, 0, 1]}}
    found = curated(make_tables, replace(CONFIG, mask_cap=cap), good, half, most)
    assert found.trajectories["trajectory_id"].to_list() == ["good", *kept]
    if "most" not in kept:
        said = f"3 of 4 steps are called wrong by their scores, allowed is a share of {cap:g}"
        assert found.rejected.rows()[-1] == ("most", None, "step_scores", said)


def test_steps_that_are_not_learnt_from_anyway_do_not_count(make_tables: MakeTables) -> None:
    roles = ["clone", "expert", "expert"]
    found = curated(make_tables, CONFIG, {"id": "t", "roles": roles, "step_scores": {"Right": [0, 0, 1]}})
    assert masked(found) == [("t", 0, "by a clone, not confirmed"), ("t", 1, "masked by Right < 0.5")]


def test_the_good_half_of_a_failed_trajectory_is_learnt_where_the_conditions_let_it_in(make_tables: MakeTables) -> None:
    case = {"id": "t", "outcome": "failure", "scores": {"s": 0.0}, "step_scores": {"Right": [1, 0]}}
    assert masked(curated(make_tables, CONFIG, case)) == [("t", 1, "masked by Right < 0.5")]


def test_calibration_and_gate_are_never_masked(make_tables: MakeTables) -> None:
    cases = [{"id": f"t{n}", "task": f"t{n}", "step_scores": {"Right": [0, 1]}} for n in range(20)]
    found = curated(make_tables, replace(CONFIG, split=SplitConfig()), *cases).steps.collect()
    plain = curated(make_tables, replace(CONFIG, split=SplitConfig(), mask_where=()), *cases).steps.collect()
    wrong = found.filter(~pl.col("loss_mask"))
    assert set(wrong["split"]) == {"train"}
    assert len(wrong) == found.filter(pl.col("split") == "train")["trajectory_id"].n_unique()
    others = pl.col("split") != "train"
    assert found.filter(others).equals(plain.filter(others))


@given(st.lists(SCORED, max_size=12, unique_by=lambda row: row[:3] + row[5:]))
def test_what_is_satisfied_is_what_going_through_the_scores_one_by_one_finds(rows: list[tuple[Any, ...]]) -> None:
    names = ["trajectory_id", "step_index", "name", "value", "label", "scored_at"]
    blank = empty(SCORES)
    said = pl.DataFrame(rows, schema={name: blank.schema[name] for name in names}, orient="row")
    scores = pl.concat([blank, said], how="diagonal")
    newest: dict[tuple[str, int, str], tuple[Any, Any]] = {}
    for trajectory, step, name, value, label, _ in sorted(rows, key=lambda row: row[5]):
        if step is not None:
            newest[trajectory, step, name] = value, label
    expected = {}
    for (trajectory, step, name), (value, label) in newest.items():
        if name == "Right" and value == 0:
            expected[trajectory, step] = "Right < 0.5"
        elif name == "Review" and label == "bad":
            expected.setdefault((trajectory, step), 'Review == "bad"')
    found = {row[:2]: row[2] for row in satisfied(scores.lazy(), WRONG).collect().iter_rows()}
    assert {key: found.get(key) for key in expected} == expected
    assert found.keys() == expected.keys()


@given(st.lists(st.tuples(st.sampled_from(["train", "gate"]), st.booleans(), st.sampled_from([0.0, 1.0, None]))))
def test_masking_only_ever_takes_and_keeps_the_order(rows: list[tuple[str, bool, float | None]]) -> None:
    steps = pl.DataFrame(
        [("t", n, split, mask, None if mask else "by a clone") for n, (split, mask, _) in enumerate(rows)],
        schema=["trajectory_id", "step_index", "split", "loss_mask", "mask_reason"],
        orient="row",
    ).cast({"trajectory_id": pl.String, "step_index": pl.Int64, "loss_mask": pl.Boolean, "mask_reason": pl.String})
    said = pl.DataFrame({"step_index": range(len(rows)), "value": [value for *_, value in rows]})
    scores = pl.concat(
        [
            empty(SCORES),
            said.cast({"step_index": pl.Int64, "value": pl.Float64}).with_columns(
                trajectory_id=pl.lit("t"), name=pl.lit("Right"), scored_at=pl.lit(1, pl.Int64)
            ),
        ],
        how="diagonal",
    )
    found = mask_wrong(steps.lazy(), CONFIG, scores.lazy()).collect()
    assert found["step_index"].to_list() == list(range(len(rows)))
    wrong = [mask and split == "train" and value == 0 for split, mask, value in rows]
    assert found["loss_mask"].to_list() == [mask and not bad for (_, mask, _), bad in zip(rows, wrong, strict=True)]
    assert (found["mask_reason"].is_null() == found["loss_mask"]).all()
