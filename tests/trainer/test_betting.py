"""The bet against a promise: seldom won while it holds, however often is looked; soon won where it is broken."""

import random

import pytest

from imitrace_trainer.betting import MOST, Fortune

ALPHA = 0.05


def first_alarm(rate: float, promised: float, seed: int, most: int, decisions: int = 3) -> int | None:
    """Return after how many trajectories of some decisions a fortune first reaches 1 / alpha."""
    draw, fortune = random.Random(seed), Fortune()
    for number in range(most):
        fortune = fortune.after([draw.random() < rate for _ in range(decisions)], promised)
        if fortune.size >= 1 / ALPHA:
            return number + 1
    return None


def test_a_promise_that_is_kept_is_seldom_called_broken_over_a_long_life() -> None:
    alarms = sum(first_alarm(0.02, 0.02, seed, 1_000) is not None for seed in range(200))
    assert alarms <= 0.05 * 200 + 3 * (200 * 0.05 * 0.95) ** 0.5


def test_decisions_that_depend_on_each_other_are_no_evidence_by_their_number() -> None:
    alarms = 0
    for seed in range(200):
        draw, fortune = random.Random(seed), Fortune()
        for _ in range(500):  # of a trajectory all disagree, or none
            fortune = fortune.after([draw.random() < 0.02] * 15, 0.02)
            if fortune.size >= 1 / ALPHA:
                alarms += 1
                break
    assert alarms <= 0.05 * 200 + 3 * (200 * 0.05 * 0.95) ** 0.5


@pytest.mark.parametrize(("rate", "within"), [(0.1, 80), (0.3, 15)])
def test_a_promise_that_is_broken_is_soon_found_so(rate: float, within: int) -> None:
    found = sorted(first_alarm(rate, 0.02, seed, 1_000) or 1_000 for seed in range(50))
    assert found[25] <= within


def test_a_fortune_is_worth_one_at_first_and_loses_by_what_is_promised() -> None:
    assert Fortune().size == pytest.approx(1)
    assert 0.9 < Fortune().after([False], 0.02).size < 1
    assert Fortune().after([True], 0.02).size > 1


def test_of_a_long_trajectory_the_first_decisions_count_and_none_ruins_it() -> None:
    long = Fortune().after([False] * MOST + [True] * 100, 0.3)
    assert (long.decisions, long.disagreements) == (MOST, 0)
    assert long.size > 0
    for _ in range(5_000):
        long = long.after([True] * MOST, 0.001)
    assert long.size == pytest.approx(10.0**299.6, rel=1)
