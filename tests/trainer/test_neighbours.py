"""How far a state is from those of training."""

import numpy as np
import pytest
import torch

from imitrace_trainer.bags import Bags
from imitrace_trainer.neighbours import SKETCH, Neighbours

FEATURES = 400


def state(first: int, unknown: float = 0.0) -> Bags:
    """Return a state of 20 features beginning with one."""
    return Bags(np.arange(first, first + 20), np.full(20, 20**-0.5, dtype=np.float32), [20], unknown)


def test_a_state_of_other_features_is_farther() -> None:
    known = Neighbours.learn(FEATURES, [state(first) for first in range(8)], seed=0)
    near, far = known.distance(state(3)), known.distance(state(300))
    assert near < 0.2 < 0.7 < far
    assert known.distance(state(3, 0.5)) == pytest.approx(near + 0.5)


def test_without_training_states_the_distance_is_the_share_of_unknown_features() -> None:
    assert Neighbours(FEATURES).distance(state(3, 0.25)) == 0.25
    assert Neighbours.learn(FEATURES, [], seed=0).distance(state(3, 0.25)) == 0.25


def test_only_so_many_states_are_kept_the_same_for_a_seed() -> None:
    states = [state(first % 300) for first in range(2_500)]
    kept = [Neighbours.learn(FEATURES, states, seed).reference for seed in (1, 1, 2)]
    assert kept[0].shape == (2_000, SKETCH)
    assert kept[0].norm(dim=1).numpy() == pytest.approx(1, abs=1e-5)
    assert torch.equal(kept[0], kept[1])
    assert not torch.equal(kept[0], kept[2])


def test_what_was_kept_tells_the_same_distances() -> None:
    known = Neighbours.learn(FEATURES, [state(first) for first in range(8)], seed=0)
    again = Neighbours(FEATURES, known.reference.clone())
    assert [again.distance(state(n)) for n in range(0, 200, 20)] == [
        known.distance(state(n)) for n in range(0, 200, 20)
    ]
