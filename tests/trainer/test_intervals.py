"""Published values, bounds that hold for any counts, and coverage by seeded simulation."""

import random
from collections.abc import Callable
from statistics import stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace_trainer.intervals import (
    cases_for_variance,
    cases_needed,
    clopper_pearson,
    paired_difference,
    paired_mean_difference,
    rate_at_most,
    upper_bound,
    wilson,
)

confidences = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99])
counts = st.integers(0, 300)


@st.composite
def rates(draw: st.DrawFn) -> tuple[int, int]:
    n = draw(st.integers(1, 2000))
    return draw(st.integers(0, n)), n


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_values_of_newcombe_1998(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2527, 0.3676), (15, 148, 0.0578, 0.1617), (0, 10, 0.0, 0.3085), (1, 29, 0.0009, 0.1776)],
)
def test_clopper_pearson_gives_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert clopper_pearson(successes, n) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [((59, 6, 16, 80), -0.1240, -0.0054), ((1, 1, 7, 12), -0.5172, -0.0260)],
    ids=["Cavo 2012", "Bentur 2009"],
)
def test_paired_difference_gives_the_tango_values_of_fagerland_lydersen_and_laake(
    table: tuple[int, int, int, int], low: float, high: float
) -> None:
    assert paired_difference(*table)[1:] == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("n", "bound"), [(10, 0.2589), (300, 0.00994), (1000, 0.00299)])
def test_no_events_are_bounded_by_the_rule_of_three(n: int, bound: float) -> None:
    assert upper_bound(0, n) == pytest.approx(bound, abs=5e-5)
    assert bound < 3 / n


@given(rates(), confidences)
def test_intervals_of_a_rate_are_ordered_and_hold_the_rate(rate: tuple[int, int], confidence: float) -> None:
    successes, n = rate
    for low, high in (wilson(successes, n, confidence), clopper_pearson(successes, n, confidence)):
        assert 0 <= low <= successes / n + 1e-12
        assert successes / n - 1e-12 <= high <= 1


@given(rates())
def test_the_exact_interval_mirrors_when_success_and_failure_swap(rate: tuple[int, int]) -> None:
    successes, n = rate
    low, high = clopper_pearson(successes, n)
    assert clopper_pearson(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@given(counts, counts, counts, counts, confidences)
def test_paired_bounds_are_ordered_and_mirror_when_clone_and_expert_swap(
    both: int, only_clone: int, only_expert: int, neither: int, confidence: float
) -> None:
    difference, low, high = paired_difference(both + 1, only_clone, only_expert, neither, confidence)
    assert -1 <= low <= difference <= high <= 1
    swapped = paired_difference(both + 1, only_expert, only_clone, neither, confidence)
    assert swapped == pytest.approx((-difference, -high, -low), abs=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50), confidences)
def test_mean_bounds_are_ordered_and_stay_within_the_limit(values: list[float], confidence: float) -> None:
    mean, low, high = paired_mean_difference(values, confidence)
    assert -1 <= low <= mean + 1e-12
    assert mean - 1e-12 <= high <= 1


@pytest.mark.parametrize("table", [(5, 0, 0, 0), (0, 5, 0, 0), (0, 0, 5, 0), (0, 0, 0, 5)])
def test_five_cases_that_agree_never_look_certain(table: tuple[int, int, int, int]) -> None:
    _, low, high = paired_difference(*table)
    assert high - low > 0.4


@pytest.mark.parametrize(("n", "width"), [(1, 2.0), (5, 1.0), (30, 0.2), (1000, 0.007)])
def test_equal_values_keep_a_width_that_shrinks_with_their_number(n: int, width: float) -> None:
    _, low, high = paired_mean_difference([0.0] * n)
    assert high - low == pytest.approx(width, rel=0.16)


@pytest.mark.parametrize(("n", "t"), [(31, 2.0423), (61, 2.0003), (121, 1.9799)])
def test_mean_interval_uses_the_tabled_quantiles_of_student(n: int, t: float) -> None:
    values = [0.5 * (-1) ** case for case in range(n)]
    mean, low, high = paired_mean_difference(values)
    assert (high - mean) / (stdev(values) / n**0.5) == pytest.approx(t, abs=1e-4)
    assert mean - low == pytest.approx(high - mean)


def test_values_beyond_the_limit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"values reach -1\.5, allowed: -1\.0 to 1\.0"):
        paired_mean_difference([0.5, -1.5])


@pytest.mark.parametrize(
    ("margin", "disagreement", "cases"),
    [(0.01, 0.05, 3092), (0.01, 0.02, 1363), (0.02, 0.05, 803), (0.03, 0.05, 385), (0.01, 0.0, 299)],
)
def test_cases_needed_follow_the_exact_power_where_few_disagree_else_the_normal_plan_or_the_rule_of_three(
    margin: float, disagreement: float, cases: int
) -> None:
    assert cases_needed(margin, disagreement) == cases


def test_real_valued_cases_needed_are_those_of_the_same_variance() -> None:
    assert cases_for_variance(0.01, 0.05**0.5) == cases_needed(0.01, 0.05)


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.9])
def test_the_exact_interval_covers_at_least_as_often_as_it_says(rate: float) -> None:
    covered = _coverage(lambda hits: clopper_pearson(hits, 60), 60, rate)
    assert covered >= 0.95 - 0.014  # two standard errors of 1,000 simulations


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_wilson_covers_about_as_often_as_it_says(rate: float) -> None:
    assert _coverage(lambda hits: wilson(hits, 60), 60, rate) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize(("wins", "losses"), [(0.05, 0.05), (0.02, 0.08), (0.3, 0.1)])
def test_paired_interval_covers_about_as_often_as_it_says(wins: float, losses: float) -> None:
    rng, covered = random.Random(7), 0
    for _ in range(1000):
        drawn = rng.choices(["win", "loss", "same"], [wins, losses, 1 - wins - losses], k=120)
        only_clone, only_expert = drawn.count("win"), drawn.count("loss")
        _, low, high = paired_difference(120 - only_clone - only_expert, only_clone, only_expert, 0)
        covered += low <= wins - losses <= high
    assert covered / 1000 == pytest.approx(0.95, abs=0.025)


def test_mean_interval_covers_about_as_often_as_it_says() -> None:
    rng, covered = random.Random(7), 0
    for _ in range(1000):
        _, low, high = paired_mean_difference([rng.uniform(-0.9, 1.0) for _ in range(40)])
        covered += low <= 0.05 <= high
    assert covered / 1000 == pytest.approx(0.95, abs=0.02)


@given(rate=rates(), limit=st.floats(0.001, 0.999), confidence=confidences)
def test_a_rate_is_at_most_a_limit_where_its_upper_bound_is(
    rate: tuple[int, int], limit: float, confidence: float
) -> None:
    bound = upper_bound(*rate, confidence)
    assert rate_at_most(*rate, limit, confidence) == (bound <= limit) or abs(bound - limit) < 1e-9


def test_a_limit_that_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match="limit is 1, allowed: over 0 and under 1"):
        rate_at_most(0, 5, 1)


@pytest.mark.parametrize(("successes", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    for bounds in (wilson, clopper_pearson, upper_bound):
        with pytest.raises(ValueError, match="allowed: 0 to n, and n at least 1"):
            bounds(successes, n)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_that_is_no_share_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match=f"confidence is {confidence}, allowed: over 0 and under 1"):
        paired_difference(5, 0, 0, 0, confidence)


def _coverage(bounds: Callable[[int], tuple[float, float]], n: int, rate: float) -> float:
    rng = random.Random(7)
    hits = [sum(rng.random() < rate for _ in range(n)) for _ in range(1000)]
    known = {hit: bounds(hit) for hit in set(hits)}
    return sum(known[hit][0] <= rate <= known[hit][1] for hit in hits) / len(hits)
