"""The linear family: it finds its optimum, decides as the expert, and is the same after reading."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from imitrace_trainer.clone_files import CloneCard, read_clone, write_clone
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.fit import BCConfig, Lesson, calibrate, prepare
from imitrace_trainer.linear import RIDGE, LinearPolicy, fit_linear
from imitrace_trainer.policy import State, same_action
from imitrace_trainer.progress import silent

Play = Callable[[int, int], list[Demonstration]]
CONFIG = BCConfig(device="cpu", batch=4)


@pytest.fixture(scope="module")
def lesson(play_shop: Play) -> Lesson:
    torch.set_num_threads(1)
    return prepare(play_shop(24, 1), CONFIG)


@pytest.fixture(scope="module")
def clone(lesson: Lesson, play_shop: Play) -> LinearPolicy:
    fitted = fit_linear(lesson, CONFIG, silent)
    calibrate(fitted, play_shop(12, 2))
    return fitted


def test_it_decides_as_the_expert_in_conversations_it_never_saw(clone: LinearPolicy, play_shop: Play) -> None:
    shown = play_shop(20, 3)
    right = [same_action(clone.act(one.state).action, one.action) for one in shown]
    assert sum(right) / len(right) > 0.9


def test_no_small_change_of_the_weights_fits_better(clone: LinearPolicy, lesson: Lesson) -> None:
    def loss(weights: torch.Tensor) -> float:
        total = RIDGE / 2 * float(weights[:-1].square().sum())
        for row in lesson.choices:
            counts = torch.from_numpy(row.bags.weights) / 6**0.5
            logits = counts @ weights[torch.from_numpy(row.bags.rows)] + weights[-1]
            total -= float(torch.log_softmax(logits, dim=0)[row.label])
        return total

    torch.manual_seed(0)
    least = loss(clone.weights)
    for _ in range(5):
        nudge = torch.randn_like(clone.weights)
        assert loss(clone.weights + 0.05 * nudge / nudge.norm()) > least - 0.01


def test_the_shares_of_what_is_offered_sum_to_1(clone: LinearPolicy, play_shop: Play) -> None:
    state = play_shop(1, 3)[0].state
    unseen = {"name": "close", "description": "Close an order.", "parameters": {"properties": {"order_id": {}}}}
    for offered in ([], state.tools[:1], [*state.tools, unseen]):
        shares = clone.act(State(state.messages, offered)).tools
        assert shares.keys() == {"message", *(tool["name"] for tool in offered)}
        assert sum(shares.values()) == pytest.approx(1)


def test_states_of_another_domain_are_out_of_distribution(clone: LinearPolicy, play_shop: Play) -> None:
    words = "the seismograph recorded tremors beneath the northern glacier throughout winter"
    far = State([{"role": "user", "parts": [{"type": "text", "content": words}]}], play_shop(1, 3)[0].state.tools)
    near = [clone.act(one.state).ood for one in play_shop(8, 3)]
    assert clone.act(far).ood > max(1, sorted(near)[len(near) // 2])


def test_a_clone_that_was_read_back_decides_exactly_as_before(
    clone: LinearPolicy, play_shop: Play, tmp_path: Path
) -> None:
    card = CloneCard("shop", "shop", 3, "abc", "2026-03-01T00:00:00Z", "0.1.0", {"seed": 0}, {"reversible": 0.9})
    write_clone(tmp_path, clone, card)
    again, read = read_clone(tmp_path)
    states = [one.state for one in play_shop(8, 3)]
    assert isinstance(again, LinearPolicy)
    assert [again.act(state) for state in states] == [clone.act(state) for state in states]
    assert read == card
