import json
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace_trainer.intervals import upper_bound
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.thresholds import NEVER, Call, Thresholds, choose_threshold, design_effects, thresholds_for

THRESHOLDS = Thresholds(0.6, 0.9, ("cancel",), cohorts={"rare": (0.7, NEVER)})
PROMISE = RouteConfig(error=0.02, irreversible_error=0.01, confidence=0.9)
JUDGED = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=80)


def test_thresholds_come_back_from_json() -> None:
    assert Thresholds.from_json(json.loads(json.dumps(THRESHOLDS.to_json()))) == THRESHOLDS


def provable_share(confidences: Sequence[float], right: Sequence[bool], error: float, confidence: float) -> float:
    """Search by the definition: from the surest quarter and from the surest half, by fortieths until one fails."""
    found, ranked, each = [NEVER], sorted(confidences, reverse=True), (1 + confidence) / 2
    for start in (10, 20):
        for value in (ranked[len(ranked) * part // 40 - 1] for part in range(start, 41) if len(ranked) * part >= 40):
            above = [hit for sure, hit in zip(confidences, right, strict=True) if sure >= value]
            if upper_bound(0, len(above), each) > error:
                continue
            if upper_bound(above.count(False), len(above), each) > error:
                break
            found.append(value)
    return min(found)


@settings(max_examples=60, deadline=None)
@given(judged=JUDGED, error=st.sampled_from([0.05, 0.2, 0.5]), confidence=st.sampled_from([0.3, 0.8, 0.95]))
def test_the_threshold_is_that_of_a_search_by_the_definition(
    judged: list[tuple[float, bool]], error: float, confidence: float
) -> None:
    confidences, right = [round(value, 1) for value, _ in judged], [hit for _, hit in judged]
    expected = provable_share(confidences, right, error, confidence)
    assert choose_threshold(confidences, right, error, confidence) == expected


@settings(max_examples=60, deadline=None)
@given(judged=JUDGED, error=st.floats(0.01, 0.6), confidence=st.floats(0.5, 0.99))
def test_above_the_threshold_the_data_never_break_the_promise(
    judged: list[tuple[float, bool]], error: float, confidence: float
) -> None:
    confidences, right = [value for value, _ in judged], [hit for _, hit in judged]
    threshold = choose_threshold(confidences, right, error, confidence)
    above = [hit for value, hit in judged if value >= threshold]
    assert above.count(False) <= error * len(above)
    assert (threshold == NEVER) == (not above)


@pytest.mark.parametrize(
    ("cases", "wrong", "threshold"),
    [(0, 0, NEVER), (148, 0, NEVER), (149, 0, 0.5), (149, 1, NEVER), (235, 1, NEVER), (236, 1, 0.5)],
)
def test_two_percent_take_149_faultless_cases_or_236_with_one_fault(cases: int, wrong: int, threshold: float) -> None:
    right = [number >= wrong for number in range(cases)]
    assert choose_threshold([0.5] * cases, right, 0.02, 0.9) == threshold


def test_faults_among_the_surest_half_stop_the_search_whatever_comes_after() -> None:
    confidences = [0.9] * 200 + [0.5] * 200
    assert choose_threshold(confidences, [False] * 15 + [True] * 385, 0.1, 0.9) == NEVER
    assert choose_threshold([0.5] * 400, [False] * 15 + [True] * 385, 0.1, 0.9) == 0.5


def test_a_fault_at_the_very_top_does_not() -> None:
    confidences = [0.9] + [0.5] * 399
    assert choose_threshold(confidences, [False] + [True] * 399, 0.1, 0.9) == 0.5


def test_the_promise_holds_at_least_as_often_as_its_confidence_says() -> None:
    draw, runs, broken, used = random.Random(5), 300, 0, 0
    for _ in range(runs):
        confidences = [draw.random() for _ in range(300)]
        right = [draw.random() < sure**0.2 for sure in confidences]  # P(right) at confidence c is c ** 0.2
        threshold = choose_threshold(confidences, right, 0.08, 0.8)
        used += threshold < 1
        broken += threshold < 1 and 1 - (1 - threshold**1.2) / 1.2 / (1 - threshold) > 0.08  # its integral above
    assert used / runs > 0.6
    assert broken / runs < 0.2 + 0.05


def drawn_in_tasks(draw: random.Random, tasks: int) -> tuple[list[float], list[bool], list[int]]:
    """Return twelve decisions a task; about one task in nine gets all of them wrong, the others all right."""
    confidences, right = [], []
    for _ in range(tasks):
        lost = draw.random() < 0.11
        for _ in range(12):
            confidences.append(draw.random())
            right.append(not lost)
    return confidences, right, [number // 12 for number in range(12 * tasks)]


def test_the_promise_holds_as_often_where_the_decisions_of_a_task_fail_together() -> None:
    draw, runs = random.Random(5), 150
    broken = {True: 0, False: 0}  # 11 % are wrong above every threshold, so each one breaks the promise of 10 %
    for _ in range(runs):
        confidences, right, tasks = drawn_in_tasks(draw, 40)
        for known in broken:
            broken[known] += choose_threshold(confidences, right, 0.1, 0.8, tasks if known else None) < 1
    assert broken[True] / runs < 0.2 + 0.05
    assert broken[False] / runs > 0.25


def test_decisions_of_one_task_count_as_many_where_they_do_not_resemble_each_other() -> None:
    surprises = [0.5, -0.5] * 300
    apart = design_effects(surprises, range(600))
    together = design_effects(surprises, [number // 6 for number in range(600)])
    assert set(apart) == {1.0}
    assert together[0] == 1.0
    assert 1.0 < together[-1] < 1.2


def test_decisions_of_one_task_that_are_all_alike_count_as_one() -> None:
    tasks = [number // 6 for number in range(600)]
    assert design_effects([float(task % 2) for task in tasks], tasks)[-1] == pytest.approx(6)
    assert design_effects([0.5, -0.5, 0.5], ["a"] * 3) == [1, 2, 3]


@pytest.mark.parametrize("confidence", [0.1, 0.5])
def test_a_modest_confidence_is_allowed_too(confidence: float) -> None:
    assert choose_threshold([0.5] * 100, [True] * 100, 0.1, confidence) == 0.5


@pytest.mark.parametrize("value", [0.1, 0.9, -0.3, 1 / 3])
@pytest.mark.parametrize("size", [2, 3, 7])
def test_decisions_that_surprise_equally_count_for_one_at_most_a_task(value: float, size: int) -> None:
    tasks = [f"t{number}" for number in range(5) for _ in range(size)]
    effects = design_effects([value] * len(tasks), tasks)
    assert min(effects) == 1.0
    assert max(effects) <= size


def calls(cohort: str, count: int, wrong: int = 0, confidence: float = 0.9) -> list[Call]:
    """Return so many calls of one cohort, each of a task of its own, the first ones wrong."""
    return [Call(confidence, number >= wrong, f"{cohort}-{number}", cohort) for number in range(count)]


def test_a_cohort_that_is_good_has_a_lower_threshold_than_all_together() -> None:
    found = thresholds_for(calls("good", 300, confidence=0.5) + calls("bad", 300, wrong=60, confidence=0.6), PROMISE)
    assert found.reversible == NEVER
    assert found.of("look", "good") == 0.5
    assert found.of("look", "bad") == NEVER


def test_a_lent_threshold_is_raised_until_a_cohorts_own_calls_do_not_speak_against_it() -> None:
    own = [*calls("few", 20, confidence=0.98), *calls("few", 10, wrong=4, confidence=0.92)]
    found = thresholds_for([*calls("many", 600), *own], PROMISE)
    assert (found.of("look", "many"), found.of("look", "few")) == (0.9, 0.98)


def test_a_cohort_with_few_calls_is_lent_the_threshold_of_all_unless_they_speak_against_it() -> None:
    many = calls("many", 600)
    assert thresholds_for(many + calls("few", 20), PROMISE).of("look", "few") == 0.9
    assert thresholds_for(many + calls("few", 20, wrong=1), PROMISE).of("look", "few") == NEVER


def test_what_can_not_be_undone_is_never_easier_in_a_cohort_than_what_can() -> None:
    found = thresholds_for(calls("many", 600) + calls("half", 200), replace(PROMISE, irreversible=("cancel",)))
    assert all(strict >= loose for loose, strict in found.cohorts.values())
    assert found.of("cancel", "half") >= found.of("look", "half")


def test_one_cohort_has_the_thresholds_of_all() -> None:
    found = thresholds_for(calls("all", 300), PROMISE)
    assert (found.cohorts, found.of("look", "all"), found.of("look", "other")) == ({}, 0.9, 0.9)


def test_a_reply_has_a_threshold_of_its_own_in_every_cohort() -> None:
    assert THRESHOLDS.of(None, "rare") == NEVER
    assert replace(THRESHOLDS, replies=0.95).of(None, "rare") == 0.95
