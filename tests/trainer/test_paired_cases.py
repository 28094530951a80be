import pytest

from imitrace_trainer.intervals import paired_difference
from imitrace_trainer.mean_bounds import mean_bounds
from imitrace_trainer.paired_cases import PairedCase, compare, score_of, tasks_of


def test_tasks_of_one_case_are_compared_by_counts() -> None:
    cases = [PairedCase(str(i), "c", i > 2, i > 5) for i in range(100)]
    assert compare(cases, "TaskCompletion").bounds(0.95) == paired_difference(94, 0, 3, 3, 0.9)


def test_cases_of_one_task_become_one_value() -> None:
    cases = [PairedCase(str(i // 4), "c", True, i % 8 > 0) for i in range(80)]
    compared = compare(cases, "TaskCompletion")
    assert (len(compared.pairs), tasks_of(cases), compared.clone) == (20, 20, 0.875)
    assert compared.bounds(0.95) == mean_bounds([-0.25, 0.0] * 10, 0.95)


def test_a_metric_is_compared_where_both_have_it() -> None:
    cases = [PairedCase(str(i), "c", True, True, scores={"T": (0.5, i / 10)} if i else {}) for i in range(5)]
    compared = compare(cases, "T")
    assert compared.pairs == [(0.5, 0.1), (0.5, 0.2), (0.5, 0.3), (0.5, 0.4)]
    assert score_of(cases[0], "T") is None


def test_a_score_of_completion_stands_for_success() -> None:
    case = PairedCase("t", "c", True, False, scores={"TaskCompletion": (0.7, 0.6)})
    assert score_of(case, "TaskCompletion") == (0.7, 0.6)
    assert score_of(PairedCase("t", "c", True, False), "TaskCompletion") == (1.0, 0.0)


def test_steps_are_shares_of_the_experts_mean_where_both_succeeded() -> None:
    cases = [
        PairedCase("a", "c", True, True, expert_steps=10, clone_steps=12),
        PairedCase("b", "c", True, True, expert_steps=10, clone_steps=10),
        PairedCase("lost", "c", True, False, expert_steps=10, clone_steps=40),
    ]
    compared = compare(cases, "StepCount")
    assert (compared.differences, compared.expert, compared.clone) == ([-0.2, 0.0], 10, 11)


def test_nothing_to_compare_leaves_everything_possible() -> None:
    assert compare([], "StepCount").bounds(0.95) == (0.0, -1.0, 1.0)
    assert compare([], "TrajectoryScore").spread == 0.0


@pytest.mark.parametrize(
    ("case", "found"),
    [
        (PairedCase("t", "c", True, True, clone_unsafe=True), ("unsafe act",)),
        (PairedCase("t", "c", True, True, expert_unsafe=True, clone_unsafe=True), ()),
        (PairedCase("t", "c", True, True, clone_unsafe=True, harms=("Toxicity",)), ("unsafe act", "Toxicity")),
    ],
)
def test_a_regression_is_what_the_clone_did_and_the_expert_did_not(case: PairedCase, found: tuple[str, ...]) -> None:
    assert case.regressions == found
