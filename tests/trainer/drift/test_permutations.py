import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace_trainer.drift.permutations import chance, deal, holm, mean_gaps, totals

CHANCES = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@given(recent=st.lists(st.booleans(), min_size=1, max_size=40), seed=st.integers(0, 1000))
def test_every_dealing_has_as_many_recent_trajectories(recent: list[bool], seed: int) -> None:
    dealt = deal(np.array(recent), 50, seed)
    assert dealt[0].tolist() == [float(one) for one in recent]
    assert dealt.sum(axis=1).tolist() == [sum(recent)] * 51
    assert np.isin(dealt, (0, 1)).all()


@given(CHANCES)
def test_a_correction_makes_no_p_value_smaller_and_keeps_their_order(chances: list[float]) -> None:
    corrected = holm(chances)
    assert all(before <= after <= 1 for before, after in zip(chances, corrected, strict=True))
    assert [corrected[place] for place in np.argsort(chances)] == sorted(corrected)
    assert min(corrected) == pytest.approx(min(1.0, min(chances) * len(chances)))


@given(st.lists(st.floats(-5, 5), min_size=30, max_size=60), st.floats(0, 50))
def test_a_larger_statistic_is_never_likelier(dealt: list[float], more: float) -> None:
    less, greater = (chance(np.array([seen, *dealt])).p for seen in (0.0, more))
    assert 0 <= greater <= less <= 1


def test_a_p_value_beyond_the_dealings_is_about_right() -> None:
    """Where a million dealings would count, a thousand tell the order of size, and rather too much than too little."""
    draws = np.random.default_rng(1).standard_normal((1_000_001, 3))
    squares = (draws**2).sum(axis=1)
    for seen in (20.0, 25.0):
        true = float((squares >= seen).mean())
        told = [chance(np.array([seen, *squares[start : start + 1000]])).p for start in range(0, 100_000, 1000)]
        assert true / 3 < math.exp(float(np.mean(np.log(told)))) < 20 * true


def test_sums_by_trajectory_give_the_difference_of_means() -> None:
    rows, owners = np.array([[1.0], [3.0], [5.0], [9.0]]), np.array([0, 0, 1, 2])
    dealt = np.array([[0, 0, 1], [1, 0, 0]], dtype=np.float32)
    found = mean_gaps(totals(rows, owners, 3), np.array([2.0, 1.0, 1.0]), dealt)
    assert found[:, 0].tolist() == [9 - 3, 2 - 7]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_statistic_that_was_reached_has_its_exact_p_value(seed: int) -> None:
    dealt = np.random.default_rng(seed).random(99)
    assert chance(np.array([np.sort(dealt)[89], *dealt])).p == pytest.approx(11 / 100)
