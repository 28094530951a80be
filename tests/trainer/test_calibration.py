"""Confidence: monotone, modest where cases are few, and none where there were none."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace_trainer.calibration import Calibration, fit_calibration

evidences = st.lists(st.floats(-5, 5), min_size=1, max_size=12)


@pytest.mark.parametrize("evidence", [[0.0], [100.0, 100.0, 100.0], []])
def test_confidence_is_zero_where_nothing_was_calibrated(evidence: list[float]) -> None:
    assert Calibration().confidence(evidence) == 0.0
    assert fit_calibration([], [], []).confidence(evidence) == 0.0
    assert fit_calibration([], [], []).cases == 0


@given(evidences, st.floats(-5, 5), st.lists(st.floats(-50, 50), min_size=2, max_size=6))
def test_confidence_rises_with_evidence_that_tells_right_from_wrong(
    evidence: list[float], border: float, asked: list[float]
) -> None:
    calibration = fit_calibration([[value] for value in evidence], [value > border for value in evidence], evidence)
    told = [calibration.confidence([value]) for value in sorted(asked)]
    assert all(low <= high + 1e-12 for low, high in pairwise(told))


@given(evidences, st.lists(st.booleans(), min_size=12, max_size=12), st.floats(-1e6, 1e6))
def test_confidence_never_exceeds_what_so_many_cases_support(
    evidence: list[float], right: list[bool], asked: float
) -> None:
    count = len(evidence)
    calibration = fit_calibration([[value] for value in evidence], right[:count], [0.0] * count)
    assert 0 <= calibration.confidence([asked]) <= (count + 1) / (count + 2)


@pytest.mark.parametrize("count", [1, 3, 30])
def test_cases_that_were_all_right_support_the_rule_of_succession(count: int) -> None:
    calibration = fit_calibration([[float(n)] for n in range(count)], [True] * count, [0.0] * count)
    assert calibration.confidence([0.0]) == pytest.approx((count + 1) / (count + 2), rel=1e-4)
    assert calibration.cases == count


def test_confidence_recovers_the_probability_that_made_the_cases() -> None:
    rng = np.random.default_rng(0)
    evidence = rng.normal(size=4_000)
    right = rng.random(4_000) < 1 / (1 + np.exp(-(2 * evidence + 0.5)))
    calibration = fit_calibration(evidence[:, None].tolist(), right.tolist(), [0.0] * 4_000)
    for asked in (-1.0, 0.0, 1.0):
        assert calibration.confidence([asked]) == pytest.approx(1 / (1 + math.exp(-(2 * asked + 0.5))), abs=0.03)


def test_the_limit_is_what_all_but_one_in_a_hundred_stay_below() -> None:
    calibration = fit_calibration([[0.0]] * 101, [True, *[False] * 100], [n / 100 for n in range(101)])
    assert calibration.distance_limit == pytest.approx(0.99)
    assert calibration.relative_distance(1.98) == pytest.approx(2.0)


@pytest.mark.parametrize(("distance", "relative"), [(0.0, 0.0), (0.1, 1.0)])
def test_without_a_limit_any_distance_is_too_far(distance: float, relative: float) -> None:
    assert Calibration(distance_limit=0.0).relative_distance(distance) == relative


def test_a_calibration_survives_json() -> None:
    calibration = fit_calibration([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]], [False, True, True], [0.1, 0.2, 0.3])
    assert Calibration(**calibration.to_json()) == calibration


def test_failures_tell_what_evidence_is_worth_and_not_how_often_it_is_right() -> None:
    draw = np.random.default_rng(0)
    evidence = draw.normal(size=4_000)
    failed = draw.random(4_000) < 0.7
    right = draw.random(4_000) < 1 / (1 + np.exp(-(evidence + np.where(failed, -1.0, 1.0))))
    calibration = fit_calibration(evidence[:, None].tolist(), right.tolist(), [0.0] * 4_000, failed.tolist())
    for asked in (-1.0, 0.0, 1.0):
        assert calibration.confidence([asked]) == pytest.approx(1 / (1 + math.exp(-(asked + 1))), abs=0.04)
    assert calibration.cases == int((~failed).sum())


def test_one_success_among_failures_stays_modest_and_failures_alone_have_to_do() -> None:
    evidence, right = [[float(n % 5)] for n in range(101)], [n % 2 == 0 for n in range(101)]
    failed = [n < 100 for n in range(101)]
    alone = fit_calibration(evidence[:100], right[:100], [0.0] * 100, failed[:100])
    plain = fit_calibration(evidence[:100], right[:100], [0.0] * 100)
    assert alone == plain
    one = fit_calibration(evidence, right, [0.0] * 101, failed)
    assert plain.confidence([2.0]) < one.confidence([2.0]) <= 2 / 3


def drawn(slope: float, count: int, seed: int) -> tuple[list[list[float]], list[bool]]:
    draw = np.random.default_rng(seed)
    odds = draw.normal(1, 2, count)
    return [[value] for value in odds.tolist()], (draw.random(count) < 1 / (1 + np.exp(-slope * odds))).tolist()


def slope_of(evidence: list[list[float]], right: list[bool], own: int) -> float:
    found = fit_calibration(evidence, right, [0.0] * len(right), own=own)
    return found.weights[0] / found.scale[0]


def test_of_few_cases_an_honest_models_own_word_is_nearer_to_the_truth_than_none() -> None:
    few = [drawn(1.0, 12, seed) for seed in range(60)]
    without, with_own = (np.mean([abs(slope_of(*one, own) - 1) for one in few]) for own in (0, 1))
    assert with_own < without / 1.3


def test_many_cases_decide_against_a_model_that_boasts() -> None:
    assert [slope_of(*drawn(0.5, 4_000, 0), own) for own in (0, 1)] == pytest.approx([0.5, 0.5], abs=0.05)


@pytest.mark.parametrize("size", [0.1, 30.0, 1e4])
def test_a_model_that_boasts_beyond_measure_is_brought_down_to_what_its_cases_say(size: float) -> None:
    evidence, right = [[-size], [size]] * 40, [False, True, True, True] * 20
    calibration = fit_calibration(evidence, right, [0.0] * 80, own=1)
    assert calibration.confidence([size]) >= 0.9
    assert calibration.confidence([-size]) == pytest.approx(0.5, abs=0.05)
