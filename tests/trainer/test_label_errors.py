from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from imitrace_trainer import label_errors
from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.curate import Curated, curate
from imitrace_trainer.label_errors import doubted

MakeTables = Callable[..., dict[str, pl.DataFrame]]

WISHES = {"refund": "please pay back what I spent", "cancel": "stop that booking at once", "track": "where is it now"}
WRONG = frozenset({4, 31, 62, 77, 100, 111})


def case(number: int, wrong: frozenset[int]) -> dict[str, Any]:
    wish = list(WISHES)[number % 3]
    done = list(WISHES)[(number + 1) % 3] if number in wrong else wish
    told = f"{WISHES[wish]} number {number}"
    step = {"action_name": done, "agent": "desk"}
    return {"id": f"t{number:03}", "task": f"t{number:03}", "says": told, "roles": ["expert"], "step": step}


def curated(make_tables: MakeTables, most: float | None, wrong: frozenset[int] = WRONG) -> Curated:
    tables = make_tables(*(case(number, wrong) for number in range(120)))
    cohort = CohortConfig(name="desk", agent="desk", label_errors=most)
    return curate({table: frame.lazy() for table, frame in tables.items()}, cohort)


def doubts(curated: Curated) -> pl.DataFrame:
    return curated.steps.filter(pl.col("mask_reason").is_not_null()).collect()


def test_planted_mistakes_of_the_train_split_are_masked_and_nothing_else(make_tables: MakeTables) -> None:
    found = curated(make_tables, 0.1)
    trained = found.trajectories.filter(pl.col("split") == "train")["trajectory_id"]
    planted = {f"t{number:03}" for number in WRONG} & set(trained)
    masked = doubts(found)
    assert planted
    assert set(masked["trajectory_id"]) == planted
    assert set(masked["split"]) == {"train"}
    assert not masked["loss_mask"].any()
    assert masked["mask_reason"].str.contains(r"^label error: \w+ is likelier than \w+$").all()


def test_models_are_fitted_to_some_tasks_and_find_the_mistakes_of_all(
    make_tables: MakeTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = set(doubts(curated(make_tables, 0.1))["trajectory_id"])
    monkeypatch.setattr(label_errors, "STEPS_FITTED", 45)  # of 72 in the train split, one a task
    found = doubts(curated(make_tables, 0.1))
    assert set(found["trajectory_id"]) == everything
    assert set(found["split"]) == {"train"}


def test_nothing_is_masked_unless_asked_for_or_where_nothing_is_wrong(make_tables: MakeTables) -> None:
    assert doubts(curated(make_tables, None)).is_empty()
    assert doubts(curated(make_tables, 0.1, frozenset())).is_empty()


def test_no_more_than_the_allowed_share_is_masked(make_tables: MakeTables) -> None:
    found = curated(make_tables, 0.02)
    trained = found.trajectories.filter(pl.col("split") == "train")
    assert len(doubts(found)) == int(0.02 * len(trained))


def test_too_few_tasks_to_say_anything_mask_nothing(make_tables: MakeTables) -> None:
    tables = make_tables(*(case(number, frozenset({1})) for number in range(9)))
    cohort = CohortConfig(name="desk", agent="desk", label_errors=0.5)
    found = curate({table: frame.lazy() for table, frame in tables.items()}, cohort)
    assert doubts(found).is_empty()


@pytest.mark.parametrize(("own", "expected"), [(0.01, [(20, 1)]), (0.45, [])])
def test_a_step_is_doubted_only_where_its_action_is_far_below_its_mean(
    own: float, expected: list[tuple[int, int]]
) -> None:
    shares = np.array([[0.8, 0.2]] * 20 + [[own, 1 - own]] + [[0.45, 0.55]] * 20, dtype=np.float32)
    labels = np.array([0] * 21 + [1] * 20)
    assert doubted(shares, labels, 0.5) == expected


def test_an_action_of_few_steps_is_never_doubted() -> None:
    shares = np.array([[0.9, 0.1]] * 40 + [[0.99, 0.01]] * 3, dtype=np.float32)
    assert doubted(shares, np.array([0] * 40 + [1] * 3), 1.0) == []
