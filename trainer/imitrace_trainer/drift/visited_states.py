"""Compare the states of two sides, one state a task: can those of one be told from those of the other?"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from random import Random
from typing import Any, Final

import numpy as np

from imitrace.messages import Message
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.drift.permutations import deal
from imitrace_trainer.drift.present_features import present
from imitrace_trainer.drift.two_sample import tell_apart
from imitrace_trainer.encoding import state_features, view_state
from imitrace_trainer.policy import State
from imitrace_trainer.reading import Reader

FEWEST: Final = 20
"""Tasks of a side, under which nothing is said."""
APART: Final = 0.55
"""AUROC from which a difference matters: a tenth of the states are of a wholly new kind."""
SURE: Final = 0.05
"""Chance of a false word, up to which a difference is called one."""
_MOST: Final = 300
_DRAWS: Final = 500


@dataclass(frozen=True)
class StatesCompared:
    """Whether the states of two sides can be told apart."""

    before: int
    """Tasks of the first side that gave a state."""
    now: int
    """The same of the second."""
    auroc: float | None = None
    """How often a classifier ranks a state of the second side above one of the first, by five folds; 0.5: it can't tell
    them. None: there are too few tasks."""
    p: float | None = None
    """How likely chance alone reaches that."""

    @property
    def differ(self) -> bool:
        """Whether they do, beyond chance and by as much as matters."""
        return self.auroc is not None and self.p is not None and self.auroc >= APART and self.p <= SURE

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)


def states_by_task(shown: Iterable[Demonstration]) -> dict[str, list[State]]:
    """Return the states of decisions, by task."""
    found: dict[str, list[State]] = {}
    for one in shown:
        found.setdefault(one.task, []).append(one.state)
    return found


def compare_states(
    before: Mapping[str, Sequence[State]], now: Mapping[str, Sequence[State]], reader: Reader, seed: int = 0
) -> StatesCompared:
    """Return the classifier two-sample test (Lopez-Paz and Oquab 2017) of one state of each task.

    A task gives one state, since those of one task depend on each other; the first side's are taken as deep in their
    tasks as the second side's are, so that a side is not told by where it was cut.

    Args:
        before: by task, the states of the first side, such as those that a clone was trained on.
        now: the same of the second, such as those that it came to.
        reader: reads messages, such as the clone's.
        seed: draws tasks and states, and how they are dealt anew.
    """
    draw = Random(seed)
    recent = [draw.choice(now[task]) for task in _some(now, draw)]
    depths = [_depth(state.messages) for state in recent]
    older = [min(before[task], key=_nearness(draw.choice(depths))) for task in _some(before, draw)] if depths else []
    counts = (len(older), len(recent))
    if min(counts) < FEWEST:
        return StatesCompared(*counts)
    views = (view_state(one.messages, one.tools, reader) for one in [*older, *recent])
    held = present([set(chain.from_iterable(state_features(view).values())) for view in views])
    dealings = deal(np.repeat([False, True], counts), _DRAWS, seed)
    found = tell_apart(held, dealings, seed)
    return StatesCompared(*counts, found.effect, found.p)


def _some(side: Mapping[str, Sequence[State]], draw: Random) -> list[str]:
    tasks = sorted(side)
    return draw.sample(tasks, min(_MOST, len(tasks)))


def _depth(messages: Sequence[Message]) -> int:
    return sum(one["role"] == "assistant" for one in messages)


def _nearness(depth: int) -> Callable[[State], int]:
    return lambda state: abs(_depth(state.messages) - depth)
