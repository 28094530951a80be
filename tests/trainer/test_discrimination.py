import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace_trainer.discrimination import auroc, auroc_by_task

JUDGED = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40)


@given(JUDGED)
def test_it_is_how_often_a_success_scores_higher_than_a_failure_ties_half(judged: list[tuple[int, bool]]) -> None:
    right = [score for score, success in judged if success]
    wrong = [score for score, success in judged if not success]
    pairs = [(one > other) + (one == other) / 2 for one in right for other in wrong]
    scores, success = (np.array(values, dtype=np.float64) for values in zip(*judged, strict=True))
    assert auroc(scores, success) == pytest.approx(sum(pairs) / len(pairs) if pairs else 0.5)


def test_tasks_are_drawn_so_that_copies_of_one_make_nothing_surer() -> None:
    rng = np.random.default_rng(1)
    tasks = [f"t{number}" for number in range(30)]
    scores, success = rng.normal(size=30), (np.arange(30) % 2).astype(np.float64)
    once = auroc_by_task(scores, success, tasks)
    often = auroc_by_task(scores.repeat(20), success.repeat(20), [task for task in tasks for _ in range(20)])
    assert (often.value, often.low, often.high) == pytest.approx((once.value, once.low, once.high))
    assert once.low < once.value < once.high


def test_one_task_says_nothing_of_others() -> None:
    found = auroc_by_task(np.array([0.0, 1.0]), np.array([0.0, 1.0]), ["a", "a"])
    assert (found.value, found.low, found.high) == (1.0, 0.0, 1.0)
