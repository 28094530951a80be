import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from imitrace.exceptions import DatasetError
from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.curate import Curated, curate
from imitrace_trainer.dataset_changes import Row, add_row
from imitrace_trainer.datasets import Dataset, open_dataset, write_dataset
from imitrace_trainer.failures import FAILED

Tables = dict[str, pl.DataFrame]
MakeTables = Callable[..., Tables]

COHORT = CohortConfig(
    name="desk", agent="desk", where=(Condition.parse("Done >= 1"),), split=SplitConfig(calibration=0.2, gate=0.4)
)


def cases(failed: int = 20, **changed: Any) -> list[dict[str, Any]]:
    """Return ten successes of tasks of their own, and failures: of these tasks, and of others."""
    good = [{"id": f"g{n}", "task": f"task {n}", "scores": {"Done": 1}, "outcome": "success"} for n in range(10)]
    bad = [
        {"id": f"b{n}", "task": f"task {n}", "scores": {"Done": 0}, "outcome": "failure", "says": f"no {n}"} | changed
        for n in range(failed)
    ]
    return [*good, *bad]


def curated(made: Tables, cohort: CohortConfig = COHORT) -> Curated:
    return curate({table: frame.lazy() for table, frame in made.items()}, cohort)


def failed_ids(found: Curated) -> list[str]:
    return [] if found.failures is None else found.failures.collect()["trajectory_id"].unique().sort().to_list()


def written(home: Path, made: Tables, cohort: CohortConfig = COHORT) -> Dataset:
    return write_dataset(home, cohort, curated(made, cohort), "a test")


def test_failures_are_kept_and_no_step_of_theirs_is_learnt(make_tables: MakeTables, tmp_path: Path) -> None:
    dataset = written(tmp_path, make_tables(*cases()))
    rows = dataset.frame("failures").collect()
    assert (rows["loss_mask"].any(), set(rows["mask_reason"])) == (False, {FAILED})
    kept = [*dataset.failures("train"), *dataset.failures("calibration")]
    assert {(one.outcome, one.loss_mask) for one in kept} == {("failure", False)}
    assert len(kept) == len(rows)
    assert all(one.state for one in kept)
    assert {one.outcome for one in dataset.examples()} == {"success"}
    assert {one.trajectory_id for one in kept}.isdisjoint(one.trajectory_id for one in dataset.examples())


@pytest.mark.parametrize("seed", range(5))
def test_no_failure_is_of_a_task_that_the_gate_judges(make_tables: MakeTables, tmp_path: Path, seed: int) -> None:
    dataset = written(tmp_path, make_tables(*cases()), replace(COHORT, split=replace(COHORT.split, seed=seed)))
    assert dataset.failures("gate") == []
    for split in ("train", "calibration"):
        tasks = {one.task for one in dataset.failures(split)}
        assert tasks & dataset.tasks() <= dataset.tasks(split)
        assert tasks - dataset.tasks(), "tasks that only failures have are dealt to both"


def test_where_alike_tasks_stay_together_unknown_ones_are_left_out(make_tables: MakeTables) -> None:
    found = curated(make_tables(*cases()), replace(COHORT, split=replace(COHORT.split, near=0.9)))
    assert found.failures is not None
    known = set(found.trajectories["task_key"])
    assert set(found.failures.collect()["task"]) <= known


@pytest.mark.parametrize(
    "changed",
    [
        {"outcome": "success"},
        {"outcome": None},
        {"scores": {}, "outcome": None},
        {"tags": {"intent": "refund"}, "complete": False, "incomplete_reason": "lost"},
        {"roles": ["clone", "clone"]},
    ],
)
def test_only_what_nothing_but_its_scores_rejects_and_is_known_to_have_failed_is_kept(
    make_tables: MakeTables, changed: dict[str, Any]
) -> None:
    assert failed_ids(curated(make_tables(*cases(**changed)))) == []
    assert failed_ids(curated(make_tables(*cases(outcome="abandoned")))) != []


def test_steps_that_nobody_could_learn_are_none_for_the_critic_either(make_tables: MakeTables, tmp_path: Path) -> None:
    dataset = written(tmp_path, make_tables(*cases(roles=["expert", "clone"])))
    assert {one.step_index for one in dataset.failures("train")} == {0}
    assert set(dataset.frame("failures").collect()["mask_reason"]) == {FAILED, "by a clone, not confirmed"}


def test_there_are_no_more_than_asked_and_the_seed_draws_them(make_tables: MakeTables) -> None:
    made = make_tables(*cases())
    all_of_them = failed_ids(curated(made))
    few = [failed_ids(curated(made, replace(COHORT, failures=3))) for _ in range(2)]
    assert (len(few[0]), few[0]) == (3, few[1])
    assert set(few[0]) < set(all_of_them)


def test_without_failures_a_version_is_named_as_before(make_tables: MakeTables, tmp_path: Path) -> None:
    alone = written(tmp_path / "alone", make_tables(*cases(failed=0)))
    none = written(tmp_path / "none", make_tables(*cases(failed=0)), replace(COHORT, failures=0))
    assert "failures" not in alone.manifest["counts"]
    assert not (alone.path / "failures.parquet").exists()
    assert (none.failures("train"), alone.failures("train")) == ([], [])
    assert alone.frame("failures").collect().columns == alone.frame("steps").collect().columns


def test_kept_steps_are_the_same_with_failures_and_without(make_tables: MakeTables, tmp_path: Path) -> None:
    made = make_tables(*cases())
    found = [written(tmp_path / str(most), made, replace(COHORT, failures=most)) for most in (0, 300)]
    rows = [dataset.frame("steps").collect() for dataset in found]
    assert rows[0].equals(rows[1])
    assert found[0].hash != found[1].hash


def test_a_row_added_by_hand_leaves_the_failures_and_cant_be_judged_on_their_tasks(
    make_tables: MakeTables, tmp_path: Path
) -> None:
    written(tmp_path, make_tables(*cases()))
    dataset = open_dataset(tmp_path, "desk")
    shown = dataset.examples("train")[0]
    (known, *_) = sorted({one.task for one in dataset.failures("train")} - dataset.tasks())
    row = Row(
        task="by hand", state=shown.state, tools=shown.tools, action=shown.action, policy_role="human", split="train"
    )
    with pytest.raises(DatasetError, match=f"task '{known}' is in split train already"):
        add_row(tmp_path, dataset, replace(row, task=known, split="gate"), "ann")
    later = add_row(tmp_path, dataset, row, "ann")
    assert later.frame("failures").collect().equals(dataset.frame("failures").collect())
    assert json.loads((later.path / "manifest.json").read_text())["counts"]["failures"] > 0
