"""Agreement with the expert, counted by hand."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from imitrace.messages import Action
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.evaluate import EvaluationReport, calibration_figures, difference_by_task, evaluate, share_by_task
from imitrace_trainer.frequency import FrequencyTable
from imitrace_trainer.policy import Decision, State

REPLY = Action("message", message="hello")


def pay(order: str) -> Action:
    return Action("tool_call", "pay", {"order": order})


def decision(action: Action, confidence: float = 0.5, ood: float = 0.0) -> Decision:
    return Decision(action, confidence, ood, {})


def shown(task: str, action: Action) -> Demonstration:
    return Demonstration(State([], []), action, task)


@dataclass
class Scripted:
    """Decides what it was told, one decision after the other."""

    decisions: Iterator[Decision]

    def act(self, state: State) -> Decision:
        """Return the next decision."""
        return next(self.decisions)


@pytest.fixture
def report() -> EvaluationReport:
    held_out = [shown("1", pay("A")), shown("1", REPLY), shown("2", pay("B")), shown("2", pay("C"))]
    told = [
        decision(pay("A"), 0.9),
        decision(Action("message"), 0.6, 1.5),
        decision(pay("X"), 0.8),
        decision(REPLY, 0.1),
    ]
    return evaluate(Scripted(iter(told)), held_out, FrequencyTable([shown("0", pay("Z"))]))


def test_agreement_is_what_was_counted_by_hand(report: EvaluationReport) -> None:
    assert (report.action_agreement.value, report.action_agreement.decisions) == (0.75, 4)
    assert (report.exact_agreement.value, report.exact_agreement.decisions) == (0.5, 4)
    assert (report.argument_exactness.value, report.argument_exactness.decisions) == (0.5, 2)
    assert (report.floor_agreement.value, report.tasks) == (0.75, 2)


def test_confidence_is_held_against_exact_agreement(report: EvaluationReport) -> None:
    assert report.calibration_error == pytest.approx((0.1 + 0.4 + 0.8 + 0.1) / 4)
    assert report.brier == pytest.approx((0.01 + 0.16 + 0.64 + 0.01) / 4)
    assert report.out_of_distribution == 0.25


def test_the_report_can_be_read(report: EvaluationReport) -> None:
    assert "action agreement      0.750 [0.500, 1.000] of 4" in report.render()
    assert report.to_json()["exact_agreement"]["value"] == 0.5


def test_on_failures_nothing_is_measured_unless_there_is_nothing_else(report: EvaluationReport) -> None:
    kept, failed = [shown("1", pay("A"))], [replace(shown("2", pay("B")), failed=True) for _ in range(3)]
    floor = FrequencyTable([shown("0", pay("Z"))])
    found = evaluate(Scripted(iter([decision(pay("A"))])), [*failed, *kept], floor)
    assert (found.failures, found.tasks, found.exact_agreement.value) == (3, 1, 1.0)
    assert found.render().startswith("held-out tasks        1 (3 decisions of failures are left out)\n")
    alone = evaluate(Scripted(iter([decision(pay("A"))] * 3)), failed, floor)
    assert (alone.failures, alone.exact_agreement.decisions) == (0, 3)
    assert "failures" not in report.render()


def test_nothing_held_out_says_nothing() -> None:
    report = evaluate(Scripted(iter(())), [], FrequencyTable([]))
    assert (report.tasks, report.brier, report.out_of_distribution) == (0, 0.0, 0.0)
    assert (report.action_agreement.low, report.action_agreement.high) == (0.0, 1.0)


def test_one_task_alone_says_nothing_of_others() -> None:
    share = share_by_task([True] * 9 + [False], ["only"] * 10, seed=0)
    assert (share.value, share.low, share.high, share.decisions) == (0.9, 0.0, 1.0, 10)


def test_that_twenty_tasks_went_well_does_not_make_the_next_one_sure() -> None:
    tasks = [str(number // 5) for number in range(100)]
    share, none = share_by_task([True] * 100, tasks, seed=0), share_by_task([False] * 100, tasks, seed=0)
    assert (share.value, share.high) == (1.0, 1.0)
    assert share.low == pytest.approx(0.025 ** (1 / 20))  # Clopper and Pearson 1934: no failure in 20
    assert none.low == 0.0
    assert none.high == pytest.approx(1 - share.low)
    both = difference_by_task([True] * 100, [True] * 100, tasks, seed=0)
    assert (both.low, both.high) == pytest.approx((share.low - 1, 1 - share.low))


def test_the_interval_is_over_tasks_and_not_over_decisions() -> None:
    tasks = [str(n // 50) for n in range(400)]
    by_task = share_by_task([int(task) % 2 == 0 for task in tasks], tasks, seed=0)
    by_decision = share_by_task([n % 2 == 0 for n in range(400)], [str(n) for n in range(400)], seed=0)
    assert by_task.value == by_decision.value == 0.5
    assert by_task.high - by_task.low > 3 * (by_decision.high - by_decision.low)


def test_a_seed_gives_one_interval() -> None:
    hits, tasks = [n % 3 == 0 for n in range(60)], [str(n // 3) for n in range(60)]
    assert share_by_task(hits, tasks, seed=4) == share_by_task(hits, tasks, seed=4)
    assert share_by_task(hits, tasks, seed=4).value == pytest.approx(1 / 3)


def test_calibration_is_judged_by_bins_of_equal_size() -> None:
    decisions = [decision(REPLY, confidence) for confidence in [0.2] * 10 + [0.8] * 10]
    exact = [n in (0, 5) for n in range(10)] + [n not in (0, 5) for n in range(10)]
    assert calibration_figures(decisions, exact)[0] == pytest.approx((6 * 0.2 + 4 * 0.3) / 10)
    assert calibration_figures(decisions, exact)[1] == pytest.approx(0.16)


def test_a_difference_is_of_the_same_decisions_and_its_interval_of_whole_tasks() -> None:
    tasks = [str(number // 4) for number in range(80)]
    ours, theirs = [True] * 80, [number % 4 != 0 for number in range(80)]
    told = difference_by_task(ours, theirs, tasks, 0)
    assert told.value == 0.25
    assert (told.low, told.high) == pytest.approx(
        (0.025 ** (1 / 20) - 0.75, 1.25 - 0.025 ** (1 / 20))
    )  # as in every task
    lost = difference_by_task([task < "15" for task in tasks], [True] * 80, tasks, 0)
    assert lost.low < lost.value < lost.high < 0


@pytest.mark.parametrize("decisions", [0, 3])
def test_a_difference_in_one_task_or_none_says_nothing(decisions: int) -> None:
    told = difference_by_task([True] * decisions, [False] * decisions, ["1"] * decisions, 0)
    assert (told.low, told.high) == (-1, 1)
