import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from imitrace.exceptions import DatasetError
from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.coverage import CoverageConfig, coverage, tasks_needed, warnings
from imitrace_trainer.curate import curate
from imitrace_trainer.datasets import Dataset, write_dataset
from imitrace_trainer.intervals import paired_difference

MakeTables = Callable[..., dict[str, pl.DataFrame]]

COHORT = CohortConfig(name="desk", agent="desk")
CASES: list[dict[str, Any]] = [
    {"id": f"{kind}{n}", "task": f"{kind}{n}", "tags": {"cohort": kind}, "scores": {"s": 1.0}}
    for kind, count in {"common": 140, "rare": 10}.items()
    for n in range(count)
]


def write(home: Path, make_tables: MakeTables, cohort: CohortConfig, *cases: dict[str, Any]) -> Dataset:
    frames = {table: frame.lazy() for table, frame in make_tables(*cases).items()}
    return write_dataset(home, cohort, curate(frames, cohort), "a test")


def test_the_kind_that_lacks_most_comes_first_with_the_tasks_to_record(tmp_path: Path, make_tables: MakeTables) -> None:
    dataset = write(tmp_path, make_tables, COHORT, *CASES)
    config = CoverageConfig(margin=0.2, disagreement=0.05)
    rare, common = coverage(dataset, config)
    needed = tasks_needed(config)
    assert (rare.kind, common.kind) == ("rare", "common")
    assert rare.missing == (needed - rare.tasks["gate"]) * 5  # the gate gets a fifth
    assert (common.missing, common.needed) == (0, needed)
    assert f"{rare.missing} more tasks for a decidable gate" in str(rare)
    assert "enough" in str(common)


def test_without_a_gate_split_there_is_nothing_to_forecast(tmp_path: Path, make_tables: MakeTables) -> None:
    dataset = write(tmp_path, make_tables, replace(COHORT, split=SplitConfig(gate=0)), *CASES)
    with pytest.raises(DatasetError, match=r"dataset desk has no gate split, set cohort\.desk\.split\.gate over 0"):
        coverage(dataset, CoverageConfig())


@pytest.mark.parametrize(("margin", "disagreement"), [(0.05, 0.1), (0.1, 0.2), (0.05, 0.05)])
def test_the_number_with_which_an_equal_clone_passes_four_times_of_five_is_forecast_within_a_fifth(
    margin: float, disagreement: float
) -> None:
    needed = tasks_needed(CoverageConfig(margin=margin, disagreement=disagreement))
    passed = {size: share_passed(round(needed * size), margin, disagreement) for size in (0.8, 1.2)}
    assert passed[0.8] < 0.8 < passed[1.2]


def share_passed(cases: int, margin: float, disagreement: float) -> float:
    draw, times = random.Random(1), 300
    passed = 0
    for _ in range(times):
        drawn = [draw.random() for _ in range(cases)]
        wins = sum(value < disagreement / 2 for value in drawn)
        losses = sum(disagreement / 2 <= value < disagreement for value in drawn)
        _, low, _ = paired_difference(
            cases - wins - losses, wins, losses, 0, 0.90
        )  # its lower bound alone holds with 0.95
        passed += low > -margin
    return passed / times


def test_a_loose_cohort_is_warned_of(tmp_path: Path, make_tables: MakeTables) -> None:
    cases = [case | ({"outcome": "failure"} if n < 3 else {}) for n, case in enumerate(CASES)]
    told = warnings(write(tmp_path, make_tables, replace(COHORT, roles=("expert", "synthetic")), *cases))
    assert [line.split(":")[0] for line in told] == [
        "no score is asked for, so good and bad are learnt alike",
        "3 of 150 kept trajectories ended in failure or were abandoned",
        "synthetic steps are learnt from; nobody decided like this",
    ]


def test_splits_too_small_to_measure_on_are_warned_of(tmp_path: Path, make_tables: MakeTables) -> None:
    told = warnings(write(tmp_path, make_tables, COHORT, *CASES[:20]))[-1]
    assert told == "split gate has 4 tasks, with fewer than 30 what is measured on it says little"


def test_a_condition_that_rejects_nothing_is_warned_of_and_one_that_does_is_not(
    tmp_path: Path, make_tables: MakeTables
) -> None:
    cohort = replace(COHORT, where=(Condition.parse("s >= 0.5"),))
    assert "rejects nothing" in warnings(write(tmp_path, make_tables, cohort, *CASES))[0]
    bad = {"id": "bad", "scores": {"s": 0.0}}
    told = warnings(write(tmp_path, make_tables, cohort, *CASES, bad))
    assert not any("where" in line for line in told)
