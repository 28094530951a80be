import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.exceptions import ConfigError, DatasetError
from imitrace_trainer.episodes import Episode
from imitrace_trainer.evaluators.aggregate import WAYS, StepCount, TrajectoryScore, aggregate
from imitrace_trainer.evaluators.result import Task

Make = Callable[..., Episode]
FIND = ("find", {"id": "A1"}, "{}")
SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(SHARES, st.sampled_from(sorted(WAYS)))
def test_an_aggregate_lies_between_its_least_and_its_greatest_step(values: list[float], way: str) -> None:
    found = aggregate(values, way)
    assert 0 <= found <= 1
    assert min(values) - 1e-9 <= found <= max(values) + 1e-9


@given(SHARES, st.data(), st.sampled_from(sorted(WAYS)))
def test_an_aggregate_never_falls_when_a_step_rises(values: list[float], data: st.DataObject, way: str) -> None:
    place = data.draw(st.integers(0, len(values) - 1))
    raised = [*values[:place], data.draw(st.floats(values[place], 1)), *values[place + 1 :]]
    assert aggregate(raised, way) >= aggregate(values, way) - 1e-12


@given(SHARES, st.randoms())
def test_the_order_of_steps_does_not_matter(values: list[float], rng: object) -> None:
    assert aggregate(sorted(values)) == pytest.approx(aggregate(values))


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.01, 1.01])
def test_a_step_score_that_is_no_share_is_refused(value: float) -> None:
    with pytest.raises(DatasetError, match=r"score of step 1 is .*, allowed: 0 to 1"):
        aggregate([0.5, value])


def test_nothing_can_be_aggregated_of_no_steps_or_by_no_known_way() -> None:
    with pytest.raises(DatasetError, match="no step scores"):
        aggregate([])
    with pytest.raises(ConfigError, match="way is 'sum', allowed: mean, min, geometric"):
        TrajectoryScore(way="sum")


def test_a_trajectory_score_is_the_mean_of_its_decisions(episode: Make) -> None:
    broken = ("pay", {"id": "A1"}, "ok")
    result = TrajectoryScore().evaluate(None, episode([FIND], [FIND, broken], "Done."))
    assert [step.score for step in result.steps] == [1.0, 0.0]  # the second repeats, and lacks an argument
    assert result.score == 0.5


def test_scores_that_others_gave_steps_count_before_those_computed(episode: Make) -> None:
    task = Task(step_scores={0: [0.2, 0.4], 1: [0.8]})
    result = TrajectoryScore().evaluate(task, episode([FIND], "Done."))
    assert result.score == pytest.approx((0.3 + 0.8) / 2)
    assert result.label == "given"


def test_a_step_score_from_outside_that_is_nan_is_rejected_with_a_reason(episode: Make) -> None:
    result = TrajectoryScore().evaluate(Task(step_scores={0: [math.nan]}), episode([FIND], "Done."))
    assert (result.score, result.reason) == (None, "rejected: score of step 0 is nan, allowed: 0 to 1")


def test_a_trajectory_of_which_no_step_can_be_judged_has_no_score(episode: Make) -> None:
    assert TrajectoryScore().evaluate(None, episode("Hello.")).score is None


def test_parallel_calls_are_several_steps_of_one_decision(episode: Make) -> None:
    result = StepCount().evaluate(None, episode([FIND, FIND], "Done."))
    assert (result.score, result.reason) == (3.0, "3 steps in 2 decisions")
