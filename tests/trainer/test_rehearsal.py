import numpy as np
import pytest

from imitrace_trainer.cohort import SplitConfig
from imitrace_trainer.rehearsal import Judged, rehearse, tasks_needed
from imitrace_trainer.thresholds import NEVER

SPLIT = SplitConfig()


def judged(tasks: int, right: float, seed: int = 0) -> Judged:
    """Return four decisions a task: one a message, the others calls, the more confident ones more often right."""
    draw = np.random.default_rng(seed)
    count = 4 * tasks
    confidence = draw.random(count)
    return Judged(
        tasks=[f"t{row // 4}" for row in range(count)],
        call=np.arange(count) % 4 > 0,
        again=np.zeros(count, dtype=np.bool_),
        right=draw.random(count) < np.where(confidence > 0.5, 1.0, right),
        confidence=confidence,
    )


def test_what_is_covered_is_called_judged_apart_and_as_right_as_promised() -> None:
    found = rehearse(judged(400, 0.5), 0.1, 0.9, SPLIT)
    every = np.ones(1_600, dtype=np.bool_)
    coverage = found.coverage(every)
    assert found.decided == 1
    assert 0.35 < coverage.low < coverage.value < coverage.high < 0.55  # half of three quarters, and a little more
    assert found.agreement(judged(400, 0.5).right).value > 0.9
    assert not found.acted[:, ::4].any()
    assert (found.acted <= found.held_out).all()


def test_a_split_of_the_same_kind_lands_within_the_interval_as_often_as_it_says() -> None:
    one, every = judged(300, 0.5), np.ones(1_200, dtype=np.bool_)
    coverage = rehearse(one, 0.1, 0.9, SPLIT).coverage(every)
    other = rehearse(one, 0.1, 0.9, SplitConfig(seed=7))
    shares = other.acted.sum(axis=1) / other.held_out.sum(axis=1)
    assert ((shares >= coverage.low) & (shares <= coverage.high)).mean() > 0.85


def test_what_was_done_before_is_left_to_the_expert() -> None:
    one = judged(400, 1.0)
    again = Judged(**{**vars(one), "again": np.arange(1_600) % 4 == 1})
    assert not rehearse(again, 0.1, 0.9, SPLIT).acted[:, 1::4].any()


def test_few_tasks_prove_nothing_and_more_of_them_would() -> None:
    few = judged(20, 1.0)
    assert rehearse(few, 0.05, 0.9, SPLIT).decided == 0
    needed = tasks_needed(few, 0.05, 0.9, SPLIT)
    assert needed is not None
    assert 60 <= needed <= 160
    assert rehearse(judged(needed, 1.0), 0.05, 0.9, SPLIT).decided > 0.5


@pytest.mark.parametrize(("tasks", "right", "needed"), [(400, 1.0, 400)])
def test_enough_tasks_need_no_more(tasks: int, right: float, needed: int) -> None:
    assert tasks_needed(judged(tasks, right), 0.05, 0.9, SPLIT) == needed


def test_a_model_that_errs_where_it_is_surest_is_not_helped_by_more_tasks() -> None:
    one = judged(50, 0.5)
    wrong = Judged(**{**vars(one), "right": np.arange(200) % 2 == 0})
    found = rehearse(wrong, 0.02, 0.9, SPLIT)
    assert (found.thresholds == NEVER).all()
    assert tasks_needed(wrong, 0.02, 0.9, SPLIT) is None
