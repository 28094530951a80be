"""Of several that said the same, which one is gone on from."""

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace_collector.foreign.matching import FORKS, NEAR, End, goes_on_from, is_about

Choose = Callable[[Sequence[End], int], str | None]


def ends(written: str) -> list[End]:
    """Return a side for each bracket, named by its place: ``(`` said it, ``)`` saw it."""
    return [End(place, str(place), one == "(") for place, one in enumerate(written)]


def chosen(written: str, choose: Choose = goes_on_from) -> dict[int, str | None]:
    found = ends(written)
    return {place: choose(found, place) for place, one in enumerate(written) if one == ")"}


@pytest.mark.parametrize(
    ("written", "pairs"),
    [
        pytest.param("()", {1: "0"}, id="the one before"),
        pytest.param("()()", {1: "0", 3: "2"}, id="one after the other"),
        pytest.param("(())", {2: "1", 3: "0"}, id="two at once stay apart"),
        pytest.param("())", {1: "0", 2: "0"}, id="an answer that was asked for again"),
        pytest.param("(()))", {2: "1", 3: "0", 4: "1"}, id="all gone on from: the nearest"),
        pytest.param(")(", {0: None}, id="what was said later is none"),
    ],
)
def test_each_goes_on_from_the_last_that_nobody_went_on_from(written: str, pairs: dict[int, str | None]) -> None:
    assert chosen(written) == pairs


def test_not_too_many_go_on_from_one() -> None:
    found = chosen("(" + ")" * (FORKS + 3))
    assert list(found.values()) == ["0"] * (FORKS + 1) + [None, None]


def test_a_score_is_about_the_nearest_before_it_else_after_it() -> None:
    assert chosen(")(()))(", is_about) == {0: "1", 3: "2", 4: "2", 5: "2"}


@given(seed=st.integers(0, 2**32), choose=st.sampled_from([goes_on_from, is_about]))
def test_what_is_far_changes_nothing(seed: int, choose: Choose) -> None:
    rng = random.Random(seed)
    whole = ends("".join(rng.choice("(()") for _ in range(3 * NEAR)))
    place = next(place for place in range(NEAR + NEAR // 2, 2 * NEAR) if not whole[place].provides)
    some = whole[place - NEAR : place + NEAR + 1]
    assert choose(whole, place) == choose(some, NEAR)
