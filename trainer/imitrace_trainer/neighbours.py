"""Tell how far a state is from those of training: by the cosine of its weighed features with the nearest ones.

What networks make of a state says little of that: they learn what tells actions apart, not what tells domains apart.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from imitrace_trainer.bags import Bags

SKETCH = 96
"""Columns that a state's features are projected to."""

_STATES = 2_000
_NEAREST = 5


class Neighbours:
    """The training states that a state is compared with."""

    def __init__(self, features: int, reference: Tensor | None = None) -> None:
        """Compare with no state, or with some.

        Args:
            features: how many features are known.
            reference: projected states, each of length 1, shape (states, SKETCH).
        """
        self.reference = torch.zeros(0, SKETCH) if reference is None else reference
        self._features = features

    @classmethod
    def learn(cls, features: int, states: Sequence[Bags], seed: int) -> "Neighbours":
        """Return up to 2,000 of the states, drawn by a seed."""
        if not states:
            return cls(features)
        kept = np.random.default_rng(seed).permutation(len(states))[:_STATES]
        return cls(features, cls(features)._sketches([states[row] for row in kept.tolist()]))

    def distance(self, state: Bags) -> float:
        """Return one minus the mean cosine with the nearest states, plus the share of unknown features."""
        if not len(self.reference):
            return state.unknown
        near = (self.reference @ self._sketches([state])[0]).topk(min(_NEAREST, len(self.reference)))
        return float(1 - near.values.mean()) + state.unknown

    @cached_property
    def _signs(self) -> Tensor:
        """Random signs, the same for as many features, shape (features, SKETCH) (Achlioptas 2003)."""
        drawn = np.random.default_rng(0).integers(0, 2, (self._features, SKETCH), dtype=np.int8)
        return torch.from_numpy(drawn).float() * 2 - 1

    def _sketches(self, states: Sequence[Bags]) -> Tensor:
        rows = torch.from_numpy(np.concatenate([state.rows for state in states]))
        weights = torch.from_numpy(np.concatenate([state.weights for state in states]))
        offsets = torch.tensor(np.cumsum([0, *(len(state.rows) for state in states)])[:-1])
        summed = nn.functional.embedding_bag(rows, self._signs, offsets, mode="sum", per_sample_weights=weights)
        return nn.functional.normalize(summed, dim=1)
