"""What the other package gives on the cases that it was run on."""

from collections.abc import Callable

import pytest

from imitrace_trainer.episodes import Episode
from imitrace_trainer.evaluators import futureagi
from imitrace_trainer.evaluators.futureagi import FutureAgiTask

Make = Callable[..., Episode]
FIND = ("find", {"id": "A1"}, "{}")
PAY = ("pay", {"id": "A1", "amount": 5}, "ok")
NONE = FutureAgiTask()


def test_a_refund_without_expected_result_and_criteria_reaches_at_most_seven_tenths(episode: Make) -> None:
    done = episode([FIND], [PAY], "The refund of order A1 is done.")
    assert futureagi.TaskCompletion().evaluate(NONE, done).score == 0.7
    met = FutureAgiTask(criteria=["refund done"])
    assert futureagi.TaskCompletion().evaluate(met, done).score == 0.8


def test_the_expected_result_is_half_of_it(episode: Make) -> None:
    done = episode([PAY], "Done.")
    assert futureagi.TaskCompletion().evaluate(FutureAgiTask(expected="done."), done).score == 0.9
    assert futureagi.TaskCompletion().evaluate(FutureAgiTask(expected="Refund was paid"), done).score == 0.4


@pytest.mark.parametrize(
    ("task", "calls"),
    [
        (FutureAgiTask(required_tools=["find", "pay"]), []),
        (NONE, [("delete_account", {}, "ok")]),
        (FutureAgiTask(required_tools=["pay"], available_tools=["pay"]), [("pay", {"id": "WRONG", "amount": 1}, "ok")]),
    ],
)
def test_what_should_not_score_fully_does(episode: Make, task: FutureAgiTask, calls: list[object]) -> None:
    told = episode(*[[call] for call in calls], "Done.")
    assert futureagi.ToolSelectionAccuracy().evaluate(task, told).score == 1.0


def test_weights_are_shared_out_over_what_is_known(episode: Make) -> None:
    told = episode([FIND], [("pay", {}, "Error: no")], "Done.")
    task = FutureAgiTask(required_tools=["find", "look"], available_tools=["find"])
    expected = 0.4 * 0.5 + 0.3 * 0.5 + 0.3 * 0.5
    assert futureagi.ToolSelectionAccuracy().evaluate(task, told).score == pytest.approx(expected)


def test_the_trajectory_score_is_a_mix_of_three(episode: Make) -> None:
    told = episode([FIND], [PAY], "Done.")
    assert futureagi.StepEfficiency().evaluate(NONE, told).score == 1.0
    assert futureagi.TrajectoryScore().evaluate(NONE, told).score == pytest.approx(0.4 * 0.7 + 0.3 + 0.3)


def test_three_thoughts_of_connectives_score_nine_tenths(episode: Make) -> None:
    padding = "so but then if because therefore"
    told = episode([padding, FIND], [padding, FIND], [padding, FIND], "Done.")
    assert futureagi.ReasoningQuality().evaluate(NONE, told).score == 0.91
    assert futureagi.ReasoningQuality().evaluate(NONE, episode([FIND])).score == 0.3


def test_nothing_scores_nothing(episode: Make) -> None:
    for metric in (futureagi.TaskCompletion(), futureagi.StepEfficiency(), futureagi.ReasoningQuality()):
        assert metric.evaluate(None, episode()).score == 0
