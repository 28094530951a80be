"""Bounds that agree with exact ones where there are any, hold for other distributions, and are ordered."""

import random
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from imitrace_trainer.intervals import upper_bound
from imitrace_trainer.mean_bounds import mean_bounds, values_needed

levels = st.sampled_from([0.9, 0.95, 0.99])
values = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=1, max_size=40)


@pytest.mark.parametrize(("n", "hits"), [(1, 0), (1, 1), (20, 0), (20, 3), (250, 0), (250, 10), (100, 50), (30, 29)])
@pytest.mark.parametrize("level", [0.95, 0.99])
def test_of_values_that_are_one_of_two_the_bounds_are_those_of_clopper_and_pearson(
    n: int, hits: int, level: float
) -> None:
    _, low, high = mean_bounds([1.0] * hits + [-1.0] * (n - hits), level)
    exact = 1 - 2 * upper_bound(n - hits, n, level), 2 * upper_bound(hits, n, level) - 1
    assert (low, high) == pytest.approx(exact, abs=0.015 if n < 20 else 0.002)


@settings(max_examples=40, deadline=None)
@given(values, levels)
@example([0.9999999999999999], 0.9)
@example([-0.9999999999999999], 0.9)
def test_bounds_are_ordered_mirror_and_stay_within_the_limit(given_values: list[float], level: float) -> None:
    mean, low, high = mean_bounds(given_values, level)
    assert -1 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= 1
    mirrored = mean_bounds([-value for value in given_values], level)
    assert mirrored == pytest.approx((-mean, -high, -low), abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(values)
def test_a_higher_level_never_narrows(given_values: list[float]) -> None:
    loose, strict = mean_bounds(given_values, 0.9), mean_bounds(given_values, 0.99)
    assert strict[1] <= loose[1] + 1e-9 and loose[2] <= strict[2] + 1e-9


def test_a_larger_limit_stretches_the_bounds_of_values_that_stretch() -> None:
    small, large = mean_bounds([0.1, -0.2, 0.3], 0.95), mean_bounds([1.0, -2.0, 3.0], 0.95, 10.0)
    assert large == pytest.approx([10 * bound for bound in small])


def rare(rng: random.Random) -> float:
    return -1.0 if rng.random() < 0.02 else 0.0


def rare_under_noise(rng: random.Random) -> float:
    return max(-1.0, min(1.0, rng.gauss(0, 0.1))) if rng.random() < 0.98 else -1.0


def skewed(rng: random.Random) -> float:
    return 0.1 - rng.random() ** 8


def even(rng: random.Random) -> float:
    return rng.uniform(-1, 1)


@pytest.mark.parametrize(
    ("draw", "truth"), [(rare, -0.02), (rare_under_noise, -0.02), (skewed, 0.1 - 1 / 9), (even, 0.0)]
)
def test_a_bound_is_wrong_at_most_as_often_as_it_says(draw: Callable[[random.Random], float], truth: float) -> None:
    rng = random.Random(3)
    bounds = [mean_bounds([draw(rng) for _ in range(120)], 0.95) for _ in range(200)]
    assert sum(low > truth for _, low, _ in bounds) / 200 <= 0.05 + 0.03  # two standard errors of 200 simulations
    assert sum(high < truth for _, _, high in bounds) / 200 <= 0.05 + 0.03


@pytest.mark.parametrize(("gap", "deviation"), [(0.02, 0.1), (0.03, 0.15), (0.05, 0.02)])
def test_as_many_values_as_are_needed_show_the_gap_four_times_in_five(gap: float, deviation: float) -> None:
    rng, n = random.Random(5), values_needed(gap, deviation, 0.95)
    shown = sum(mean_bounds([rng.gauss(0, deviation) for _ in range(n)], 0.95)[1] > -gap for _ in range(100))
    assert shown / 100 >= 0.7


def test_of_equal_values_as_many_are_needed_as_the_exact_rule_asks() -> None:
    assert values_needed(0.02, 0.0, 0.95) == 149
    assert mean_bounds([0.0] * 149, 0.95)[1] >= -0.0201


@pytest.mark.parametrize(
    ("given_values", "level", "message"),
    [
        ([], 0.95, "values reach none, allowed: one or more from -1.0 to 1.0"),
        ([0.5, -1.5], 0.95, "values reach -1.5, allowed: one or more from -1.0 to 1.0"),
        ([0.5], 95, "level is 95, allowed: over 0.5 and under 1"),
    ],
)
def test_what_can_not_be_bounded_is_refused(given_values: list[float], level: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_bounds(given_values, level)
