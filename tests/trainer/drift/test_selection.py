"""What an expert's word tells beside a clone in service, where the clone chose which decisions he takes."""

import math
from collections.abc import Sequence

import numpy as np

from imitrace_trainer.drift.asking import Asked
from imitrace_trainer.drift.checking import unselected
from imitrace_trainer.thresholds import Thresholds

NAN = math.nan


def asked(agrees: Sequence[float], tools: Sequence[str | None] = ("look", "look", "look", None)) -> Asked:
    return Asked(
        trajectories=["a", "a", "b", "b"],
        cohorts=["common"] * 4,
        features=[frozenset()] * 4,
        confidence=np.array([0.95, 0.4, 0.95, 0.99]),
        distance=np.array([0.5, 0.5, 2.0, 0.5]),
        agrees=np.array(agrees, dtype=np.float64),
        tools=list(tools),
    )


def test_beside_a_clone_in_service_only_what_it_would_not_do_is_compared_on_both_sides() -> None:
    before, now = unselected((asked([1, 0, 1, 0]), asked([NAN, 0, 1, 1])), Thresholds(0.9, 0.99))
    np.testing.assert_array_equal(before.agrees, [NAN, 0, 1, 0])  # trusted; unsure; too far; a reply it may not write
    np.testing.assert_array_equal(now.agrees, [NAN, 0, 1, 1])


def test_where_experts_took_every_decision_all_are_compared() -> None:
    sides = asked([1, 0, 1, 0]), asked([1, 1, 1, 1])
    assert unselected(sides, Thresholds(0.9, 0.99)) is sides
