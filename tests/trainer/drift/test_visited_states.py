"""Two sides of the same kind can't be told; a share of a new kind can; where a side was cut tells nothing."""

from random import Random

import numpy as np
import pytest

from imitrace.messages import from_openai
from imitrace_trainer.drift.present_features import present
from imitrace_trainer.drift.visited_states import FEWEST, StatesCompared, compare_states
from imitrace_trainer.policy import State
from imitrace_trainer.reading import Reader

WORDS = ("parcel", "invoice", "refund", "address", "courier", "colour", "garden", "window", "letter", "number")


def state(draw: Random, depth: int, word: str = "") -> State:
    """Return a state after so many decisions; each step says something drawn, so that deep states hold more."""
    chat = [{"role": "user", "content": " ".join([*draw.sample(WORDS, 4), word])}]
    for number in range(depth):
        chat += [
            {"role": "assistant", "content": f"step {number} done"},
            {"role": "user", "content": draw.choice(WORDS)},
        ]
    return State([from_openai(one) for one in chat], [])


def side(seed: int, tasks: int, depths: range, new: float = 0.0) -> dict[str, list[State]]:
    """Return tasks whose states are so deep; a share ``new`` of them asks for something that the others never do."""
    draw = Random(seed)
    return {
        str(task): [state(draw, depth, "insurance" if task < new * tasks else "") for depth in depths]
        for task in range(tasks)
    }


def compared(before: dict[str, list[State]], now: dict[str, list[State]]) -> StatesCompared:
    return compare_states(before, now, Reader())


def test_sides_of_one_kind_are_called_different_no_oftener_than_chance() -> None:
    called = [compared(side(seed, 40, range(4)), side(1_000 + seed, 40, range(4))).differ for seed in range(40)]
    assert sum(called) <= 5  # 2 of 40 expected; 6 or more have a chance of 1.4 %


@pytest.mark.parametrize("new", [0.5, 1.0])
def test_a_new_kind_of_request_is_told(new: float) -> None:
    found = compared(side(1, 80, range(4)), side(2, 80, range(4), new))
    assert found.differ
    assert found.auroc is not None
    assert found.auroc > 0.5 + new / 4
    assert (found.before, found.now) == (80, 80)


def test_where_a_side_was_cut_tells_nothing() -> None:
    found = compared(side(3, 60, range(8)), side(4, 60, range(2)))
    assert not found.differ


def test_of_too_few_tasks_nothing_is_said() -> None:
    found = compared(side(5, FEWEST - 1, range(2)), side(6, 50, range(2)))
    assert found == StatesCompared(FEWEST - 1, 50)
    assert not found.differ
    assert compared(side(7, 50, range(2)), {}) == StatesCompared(0, 0)


def test_the_same_seed_says_the_same() -> None:
    sides = side(8, 30, range(3)), side(9, 30, range(3), 0.5)
    assert compared(*sides) == compared(*sides)
    assert compared(*sides).to_json() == compared(*sides).to_json()


def test_features_that_all_or_nearly_none_have_are_left_out() -> None:
    held = [{1, 2} if unit % 2 else {1} for unit in range(10)]
    held[0] |= {3}
    found = present(held)
    assert found.shape == (10, 1)
    assert np.array_equal(found[:, 0], [unit % 2 for unit in range(10)])
    assert present([]).shape == (0, 1)
