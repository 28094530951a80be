"""Lay out which features each side's units hold, trajectories or states, as a table of ones and zeros."""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import chain
from typing import Final

import numpy as np

from imitrace_trainer.drift.permutations import Floats

_FEWEST: Final = 3
_MOST: Final = 4_096


def present(held: Sequence[Collection[int]]) -> Floats:
    """Return which features units hold, of those that neither all have nor nearly none.

    Of very many those are taken whose share is nearest to a half, of both sides together, so that who is recent has no
    part in the choice.

    Args:
        held: of each unit, its features.

    Returns:
        1 where a unit has a feature, shape (units, features).
    """
    counts = Counter(chain.from_iterable(held))
    told = {one: count for one, count in counts.items() if _FEWEST <= count <= len(held) - _FEWEST}
    kept = sorted(told, key=lambda one: (abs(2 * told[one] - len(held)), one))[:_MOST]
    places = {one: place for place, one in enumerate(kept)}
    rows = np.zeros((len(held), max(1, len(kept))), dtype=np.float32)
    for row, own in enumerate(held):
        rows[row, [places[one] for one in own if one in places]] = 1
    return rows
