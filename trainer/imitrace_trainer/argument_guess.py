"""Guess whether a call's arguments could be filled: rank what the conversation holds for each, by a linear model.

Along the expert's own call: a call is right when each choice is, given those before it. So one walk tells of each call
whether a model that never saw its task would have made it, and how sure it would have been.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from imitrace_trainer.arguments import OMIT, STOP, Choice, Filling, Slot, fill
from imitrace_trainer.columns import CountArray
from imitrace_trainer.encoding import FloatArray, IntArray, StateView
from imitrace_trainer.knowledge import Knowledge
from imitrace_trainer.options import Trail, gather
from imitrace_trainer.ranking import OptionRows, Ranking

_MOST: Final = 60
"""Options that are looked at, the newest."""
_WIDTH: Final = 1 << 18
"""Columns that features are folded to."""
_NOTHING: Final = OptionRows(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
_EPOCHS: Final = 4
_RATE: Final = 0.3


@dataclass(frozen=True)
class SlotChoice:
    """One argument of a call: what could fill it, by features, and which of them the expert took."""

    slot: str
    options: int
    columns: CountArray
    """The features' columns, each once, shape (columns,)."""
    places: CountArray
    """Where each feature of each option stands among them, shape (n,)."""
    owners: CountArray
    """The option each is of, shape (n,)."""
    gold: int
    """-1: the expert's value is none of them."""


@dataclass
class Guess:
    """What a model makes of one call."""

    right: bool = True
    probability: float = 1.0
    weakest: float = 1.0
    missing: list[str] = field(default_factory=list)
    """Arguments whose value is nowhere to be found, as ``TOOL.parameter``."""
    wrong: list[str] = field(default_factory=list)
    """Arguments for which another value was likelier."""


def walk(
    knowledge: Knowledge, view: StateView, tool: Mapping[str, Any], arguments: Mapping[str, Any]
) -> list[SlotChoice]:
    """Return the choices of a call in the order of its schema, each told by what a clone is told."""
    found: list[SlotChoice] = []
    ranking, trail = Ranking(view), Trail()

    def choose(slot: Slot, filling: Filling, gold: Any) -> Choice:
        options = gather(ranking.table, slot, knowledge.slot(slot.path), filling, trail)
        right = options.find(gold, ranking.table)
        kept = [*range(min(len(options), _MOST)), *([right] if right >= _MOST else [])]
        one = len(kept) < 2  # of which nothing has to be told
        told = _NOTHING if one else ranking.features(slot, options, filling, trail).distinct().only(kept)
        columns, places = np.unique(told.ids % _WIDTH, return_inverse=True)
        taken = kept.index(right) if right >= 0 else -1
        found.append(SlotChoice(slot.path, len(kept), columns, places, told.owners, taken))
        if right < 0:
            trail.steps.append((slot.path, ranking.table.group_of(gold)))
            return gold if isinstance(gold, str | int | float | bool) or gold in (OMIT, STOP) else str(gold)
        trail.steps.append((slot.path, int(options.groups[right])))
        return options.value(right, ranking.table)

    fill(tool, choose, arguments)
    return found


def guess_calls(calls: Sequence[Sequence[SlotChoice]], folds: IntArray, seed: int = 0) -> list[Guess]:
    """Return what models that never saw a call's fold make of it.

    Args:
        calls: the choices of each call.
        folds: shape (calls,).
        seed: seeds the order in which calls are seen.
    """
    guesses = [Guess() for _ in calls]
    for fold in np.unique(folds):
        taught = [choice for row in np.flatnonzero(folds != fold).tolist() for choice in calls[row] if choice.gold >= 0]
        weights = _fit([choice for choice in taught if choice.options > 1], np.random.default_rng(seed))
        for row in np.flatnonzero(folds == fold).tolist():
            for choice in calls[row]:
                _judge(guesses[row], choice, weights)
    return guesses


def _judge(guess: Guess, choice: SlotChoice, weights: FloatArray) -> None:
    if choice.gold < 0:
        guess.right = False
        guess.missing.append(choice.slot)
    if not choice.options:
        guess.probability = guess.weakest = 0.0
        return
    shares = _shares(choice, weights)
    best = int(shares.argmax())
    guess.probability *= float(shares[best])
    guess.weakest = min(guess.weakest, float(shares[best]))
    if best != choice.gold >= 0:
        guess.right = False
        guess.wrong.append(choice.slot)


def _fit(choices: Sequence[SlotChoice], draw: np.random.Generator) -> FloatArray:
    """Fit a softmax over each choice's options by AdaGrad (Duchi et al. 2011)."""
    weights, squares = np.zeros(_WIDTH, dtype=np.float32), np.full(_WIDTH, 1e-2, dtype=np.float32)
    for _ in range(_EPOCHS):
        for row in draw.permutation(len(choices)).tolist():
            choice = choices[row]
            error = _shares(choice, weights)
            error[choice.gold] -= 1
            total = np.bincount(choice.places, error[choice.owners], len(choice.columns)).astype(np.float32)
            squares[choice.columns] += total * total
            weights[choice.columns] -= _RATE * total / np.sqrt(squares[choice.columns])
    return weights


def _shares(choice: SlotChoice, weights: FloatArray) -> FloatArray:
    flat = weights[choice.columns][choice.places]
    scores = np.bincount(choice.owners, flat, choice.options)
    shifted = np.exp(scores - scores.max())
    return np.asarray(shifted / shifted.sum(), dtype=np.float32)
