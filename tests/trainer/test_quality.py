"""The figures of a clone: each from predictions alone, and each with an interval by task."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace.messages import Action
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.evaluate import share_by_task
from imitrace_trainer.figures import CriticFigures
from imitrace_trainer.policy import Decision, State
from imitrace_trainer.quality import (
    Judged,
    by_cohort,
    by_distance,
    by_tool,
    judge_decisions,
    promises,
    reliability,
    risk_coverage,
    unseen_confidences,
)
from imitrace_trainer.task_draws import Share, TaskDraws, difference
from imitrace_trainer.thresholds import Thresholds

LOOK, REPLY = Action("tool_call", "look", {"order": 1}), Action("message", None, {})


def row(task: int, hit: bool = True, sure: float = 0.9, label: str = "look", **changed: object) -> Judged:
    told = {"cohort": "all", "guess": label if hit else "other", "exact": hit, "ood": 0.0, "acts": sure > 0.8} | changed
    return Judged(task=str(task), label=label, confidence=sure, **told)  # type: ignore[arg-type]  # named by the test


def draws(rows: list[Judged]) -> TaskDraws:
    return TaskDraws([one.task for one in rows])


rows_of = st.lists(
    st.builds(
        row,
        st.integers(0, 9),
        st.booleans(),
        st.floats(0, 1),
        st.sampled_from(["look", "refund", MESSAGE]),
        cohort=st.sampled_from(["common", "safety"]),
        ood=st.floats(0, 3),
    ),
    min_size=1,
    max_size=60,
)


@given(rows_of)
@settings(max_examples=25, deadline=None)
def test_every_figure_lies_within_its_interval_and_its_interval_within_what_can_be(rows: list[Judged]) -> None:
    drawn = draws(rows)
    found = reliability(rows, drawn)
    shares = [found.error, *(one.right for one in found.bins), *(one.risk for one in risk_coverage(rows, drawn))]
    shares += [one.exact for one in by_tool(rows, drawn)] + [one.acted for one in by_cohort(rows, drawn)]
    assert all(0 <= one.low <= one.value <= one.high <= 1 for one in shares if one.decisions)
    assert -1 <= found.excess.low <= found.excess.value <= found.excess.high <= 1


@given(rows_of)
@settings(max_examples=25, deadline=None)
def test_every_decision_is_in_one_bin_one_tool_and_one_cohort(rows: list[Judged]) -> None:
    drawn = draws(rows)
    parts = ([one.right for one in reliability(rows, drawn).bins], [one.exact for one in by_tool(rows, drawn)])
    of_groups = ([one.exact for one in by_cohort(rows, drawn)], [one.exact for one in by_distance(rows, drawn)])
    for part in (*parts, *of_groups):
        assert sum(share.decisions for share in part) == len(rows)
        assert sum(share.decisions * share.value for share in part) == pytest.approx(sum(one.exact for one in rows))


def test_a_share_is_that_of_the_evaluation_with_the_same_interval() -> None:
    rows = [row(task, hit=(task + turn) % 3 > 0) for task in range(12) for turn in range(task % 4 + 1)]
    hits, tasks = [one.exact for one in rows], [one.task for one in rows]
    assert draws(rows).share(hits) == share_by_task(hits, tasks, 0)


def test_where_all_tasks_agree_the_interval_is_the_exact_bound_of_so_many_tasks() -> None:
    rows = [row(task) for task in range(30) for _ in range(5)]
    share = draws(rows).share([True] * len(rows))
    assert (share.value, share.high) == (1, 1)
    assert share.low == pytest.approx(0.025 ** (1 / 30))


def test_one_task_says_nothing_of_others_and_no_decision_says_nothing() -> None:
    rows = [row(1), row(1, hit=False)]
    assert draws(rows).share([True, False]) == Share(0.5, 0, 1, 2)
    assert draws(rows).share([True, True], [False, False]) == Share(0, 0, 1, 0)


def test_a_difference_is_of_the_same_decisions() -> None:
    rows = [row(task) for task in range(20)]
    ours, theirs = [True] * 20, [task % 2 == 0 for task in range(20)]
    found = difference(ours, theirs, draws(rows))
    assert (found.value, found.low > 0) == (0.5, True)
    assert difference(theirs, ours, draws(rows)).value == -0.5
    assert difference(ours, ours, draws(rows)).low == -difference(ours, ours, draws(rows)).high < 0


def test_agreement_is_told_by_distance_in_fifths_from_the_nearest_to_the_farthest() -> None:
    rows = [row(task, hit=task % 10 >= far, ood=far + task / 50) for task in range(10) for far in (4, 0, 2, 1, 3)]
    found = by_distance(rows, draws(rows))
    assert [round(one.agreement.value, 6) for one in found] == [1, 0.9, 0.8, 0.7, 0.6]
    assert [(one.least, one.most) for one in found] == [(far, far + 9 / 50) for far in range(5)]
    assert {(one.tasks, one.exact.decisions) for one in found} == {(10, 10)}
    assert found[-1].agreement.low < 0.6 < found[-1].agreement.high < 1
    assert [one.exact.decisions for one in by_distance(rows[:3], draws(rows[:3]))] == [1, 1, 1]
    assert by_distance([], draws([])) == []


def test_a_boasting_confidence_is_off_by_as_much_as_it_boasts() -> None:
    rows = [row(task, hit=turn < 5, sure=0.9) for task in range(40) for turn in range(10)]
    found = reliability(rows, draws(rows))
    assert found.excess.value == pytest.approx(0.4)
    assert found.excess.low > 0
    honest = [row(task, hit=turn < 5, sure=0.5) for task in range(40) for turn in range(10)]
    assert reliability(honest, draws(honest)).excess.value == pytest.approx(0)
    assert reliability(honest, draws(honest)).by_chance == pytest.approx(0.06, abs=0.02)


def test_the_curve_goes_from_the_surest_calls_to_all_of_them_and_never_over_replies() -> None:
    rows = [row(task, hit=task >= 10, sure=task / 40) for task in range(40)]
    rows += [row(task, label=MESSAGE, sure=1.0) for task in range(10)]
    points = risk_coverage(rows, draws(rows))
    assert [one.coverage for one in points] == sorted(one.coverage for one in points)
    assert (points[0].risk.value, points[-1].coverage, points[-1].risk.value) == (0, 0.8, 0.25)
    assert risk_coverage([row(1, label=MESSAGE)], draws([row(1)])) == []


def test_promises_are_chosen_on_one_part_and_measured_on_the_other() -> None:
    calibration = [row(task, hit=sure > 0.5, sure=sure) for task in range(200) for sure in (0.95, 0.3)]
    held_out = [row(task, hit=task % 10 > 0, sure=sure) for task in range(100) for sure in (0.97, 0.4)]
    found = {one.error: one for one in promises(calibration, held_out, draws(held_out), 0.9)}
    assert found[0.05].threshold == 0.95
    assert (found[0.05].coverage.value, found[0.05].risk.value) == (0.5, 0.1)
    (nothing, *_) = promises(calibration[:4], held_out, draws(held_out), 0.9)
    assert (nothing.threshold, nothing.coverage.value, nothing.risk.decisions) == (None, 0, 0)
    assert all(one.threshold is None for one in promises([], held_out, draws(held_out), 0.9))


def test_a_tool_is_judged_by_when_it_was_due_and_by_when_it_was_chosen() -> None:
    rows = [row(task, label="look") for task in range(4)]
    rows += [row(task, hit=False, label="refund", guess="look", sure=0.1) for task in range(2)]
    look, refund = by_tool(rows, draws(rows))
    assert (look.name, look.agreement.value) == ("look", 1)
    assert look.chosen_right.value == pytest.approx(4 / 6)
    assert (refund.tasks, refund.agreement.value, refund.chosen_right.decisions, refund.acted.value) == (2, 0, 0, 0)


def test_a_decision_is_acted_on_where_the_route_would_once_its_gate_passed() -> None:
    tools = [{"name": "look"}]
    shown = [
        Demonstration(State([], tools, {"cohort": "common"}), LOOK, "a"),
        Demonstration(State([], tools), LOOK, "b"),
        Demonstration(State([], tools), REPLY, "c"),
        Demonstration(State([], []), LOOK, "d"),
    ]
    decisions = [
        Decision(LOOK, 0.95, 0.5, {}),
        Decision(LOOK, 0.95, 1.5, {}),
        Decision(REPLY, 0.95, 0.5, {}),
        Decision(LOOK, 0.95, 0.5, {}),
    ]
    rows = judge_decisions(decisions, shown, Thresholds(0.9, 0.9))
    assert [one.acts for one in rows] == [True, False, False, False]
    assert [one.exact for one in rows] == [True] * 4
    assert [(one.cohort, one.label) for one in rows][::2] == [("common", "look"), ("all", MESSAGE)]


def test_no_task_calibrates_the_confidence_that_it_is_judged_by() -> None:
    evidence = [[float(task % 2)] for task in range(40)]
    right = [task % 2 == 1 for task in range(40)]
    tasks = [str(task) for task in range(40)]
    found = unseen_confidences(evidence, right, tasks, [False] * 40)
    assert min(found[1::2]) > 0.8 > 0.2 > max(found[::2])
    lying = unseen_confidences([[0.0]] * 10, [True] * 5 + [False] * 5, ["0"] * 5 + ["1"] * 5, [False] * 10)
    assert max(lying[:5]) < 0.2 < 0.8 < min(lying[5:])
    assert unseen_confidences([[1.0]], [True], ["only"], [False]) == [0]


def test_a_critics_own_report_gives_its_figures() -> None:
    figure = {"value": 0.7, "low": 0.6, "high": 0.8}
    found = CriticFigures.from_json(
        {"refused": None, "report": {"auroc": figure, "by_length": figure | {"value": 0.6}}}
    )
    assert found is not None
    assert (found.auroc.value, found.by_length.value, found.refused) == (0.7, 0.6, None)
    assert CriticFigures.from_json({"refused": "3 training tasks failed, needed 5", "report": {}}) is None
