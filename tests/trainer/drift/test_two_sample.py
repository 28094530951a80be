from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from imitrace_trainer.drift.permutations import Dealings, deal, totals
from imitrace_trainer.drift.two_sample import (
    Compared,
    compare_features,
    compare_kinds,
    compare_means,
    compare_ranks,
    compare_shares,
    tell_apart,
)

DRAWS = 199


class World(NamedTuple):
    """Trajectories whose steps are nearly all alike, so that steps tell little more than trajectories."""

    owners: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]
    present: npt.NDArray[np.float32]
    recent: npt.NDArray[np.bool_]


def world(seed: int, sizes: tuple[int, int], new: float = 0.0) -> World:
    """Draw both sides; a share ``new`` of the recent trajectories is of another kind."""
    rng = np.random.default_rng(seed)
    count = sum(sizes)
    lengths = rng.integers(2, 15, count)
    owners = np.repeat(np.arange(count), lengths)
    recent = np.arange(count) >= sizes[0]
    other = np.zeros(count, dtype=bool)
    other[sizes[0] : sizes[0] + round(new * sizes[1])] = True
    level = rng.standard_normal(count) + 2 * other
    present = (rng.random((count, 60)) < 0.3).astype(np.float32)
    present[other, :6] = 1
    return World(owners, level[owners] + 0.1 * rng.standard_normal(len(owners)), present, recent)


def kinds(seen: World) -> npt.NDArray[np.int64]:
    return np.digitize(seen.values, [-1.0, 0.0, 1.0, 2.0])


TESTS: dict[str, Callable[[World, Dealings], Compared]] = {
    "kernel": lambda seen, dealt: compare_means(seen.present, dealt),
    "features": lambda seen, dealt: compare_features(seen.present, dealt),
    "classifier": lambda seen, dealt: tell_apart(seen.present, dealt, 0),
    "kinds": lambda seen, dealt: compare_kinds(kinds(seen), seen.owners, dealt),
    "ranks": lambda seen, dealt: compare_ranks(seen.values, seen.owners, dealt),
    "shares": lambda seen, dealt: compare_shares((seen.values > 1).astype(float), seen.owners, dealt),
}


@pytest.mark.parametrize("name", TESTS)
def test_with_no_drift_a_test_errs_as_often_as_it_says(name: str) -> None:
    """At 10 % and 200 worlds more than 34 rejections have a chance of 0.1 %, though steps depend on each other."""
    found = []
    for seed in range(200):
        seen = world(seed, (30, 20))
        found.append(TESTS[name](seen, deal(seen.recent, DRAWS, seed)).p)
    assert sum(p <= 0.1 for p in found) <= 34
    assert sum(p <= 0.5 for p in found) >= 70


def test_dealing_steps_would_cry_wolf() -> None:
    """The same ranks, dealt as if steps were independent: most worlds without drift would be called drifted."""
    wrong = 0
    for seed in range(60):
        seen = world(seed, (30, 20))
        alone = np.arange(len(seen.owners))
        wrong += compare_ranks(seen.values, alone, deal(seen.recent[seen.owners], DRAWS, seed)).p <= 0.1
    assert wrong > 20


@pytest.mark.parametrize("name", TESTS)
def test_a_new_kind_of_trajectories_is_found(name: str) -> None:
    seen = world(1, (200, 200), new=0.3)
    assert TESTS[name](seen, deal(seen.recent, DRAWS, 1)).p < 0.02


@pytest.mark.parametrize("name", [name for name in TESTS if name != "features"])  # whose effect is a maximum
def test_an_effect_does_not_grow_with_the_sample(name: str) -> None:
    sizes = (150, 600)
    small, large = (
        np.mean([abs(TESTS[name](seen, deal(seen.recent, DRAWS, 1)).effect) for seen in drawn])
        for drawn in ([world(seed, (size, size), new=0.2) for seed in range(6)] for size in sizes)
    )
    assert large == pytest.approx(small, rel=0.35, abs=0.02)


def test_telling_apart_reads_as_a_share_of_a_new_kind() -> None:
    seen = world(1, (400, 400), new=0.2)
    assert tell_apart(seen.present, deal(seen.recent, 10, 1), 0).effect == pytest.approx(0.6, abs=0.05)


def test_deltas_and_differences_have_the_sign_of_the_change() -> None:
    seen = world(1, (100, 100), new=0.5)
    dealt = deal(seen.recent, DRAWS, 1)
    ranks, shares = (TESTS[name](seen, dealt) for name in ("ranks", "shares"))
    assert ranks.effect > 0.2
    assert shares.effect == pytest.approx((shares.now or 0) - (shares.before or 0))
    turned = compare_ranks(-seen.values, seen.owners, dealt)
    assert [turned.effect, turned.p] == pytest.approx([-ranks.effect, ranks.p])


def test_a_change_for_the_better_is_none_where_only_the_worse_is_looked_for() -> None:
    seen = world(1, (100, 100), new=0.5)
    dealt = deal(seen.recent, DRAWS, 1)
    both, up, down = (compare_ranks(seen.values, seen.owners, dealt, worse) for worse in (0, 1, -1))
    assert both.effect == up.effect == down.effect
    assert up.p <= both.p < 0.02
    assert down.p > 0.95


def test_a_delta_is_that_of_all_pairs() -> None:
    first, second = np.array([1.0, 2.0, 2.0]), np.array([2.0, 3.0])
    dealt = deal(np.array([False] * 3 + [True] * 2), 10, 0)
    found = compare_ranks(np.concatenate([first, second]), np.arange(5), dealt)
    assert found.effect == pytest.approx(np.sign(second[:, None] - first[None]).mean(), abs=1e-6)


def test_an_association_is_cramers_v_less_what_chance_gives() -> None:
    owners, kind = np.arange(400), np.repeat([0, 1, 0, 1], [150, 50, 50, 150])
    dealt = deal(np.arange(400) >= 200, DRAWS, 0)
    assert compare_kinds(kind, owners, dealt).effect == pytest.approx(0.5, abs=0.01)


def test_what_never_differs_is_no_drift() -> None:
    dealt = deal(np.arange(40) >= 20, DRAWS, 0)
    same = np.ones((40, 3), dtype=np.float32)
    for found in (compare_means(same, dealt), compare_features(same, dealt), tell_apart(same, dealt, 0)):
        assert found.p > 0.3
    assert compare_ranks(np.ones(40), np.arange(40), dealt).effect == 0
    assert totals(np.ones((40, 1)), np.arange(40), 40).sum() == 40
