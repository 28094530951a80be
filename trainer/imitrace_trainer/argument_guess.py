"""Guess whether a call's arguments could be filled: rank what the conversation holds for each, by a linear model.

Along the expert's own call: a call is right when each choice is, given those before it. So one walk tells of each call
whether a model that never saw its task would have made it, and how sure it would have been.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from imitrace.messages import Action
from imitrace_trainer.arguments import (
    OMIT,
    STOP,
    Candidate,
    Choice,
    Filling,
    Slot,
    SlotContext,
    SlotKnowledge,
    candidates,
    fill,
    same_choice,
)
from imitrace_trainer.encoding import FloatArray, IntArray, StateView
from imitrace_trainer.reading import Scalar, Seen, argument_values, value_key, value_shape

_OTHER_TASKS: Final = 3
"""Tasks that use a value before it is offered anywhere: so many that it never comes from the judged task alone."""
_CLOSED: Final = 40
_CLOSED_SHARE: Final = 0.7
_SOURCE_SHARE: Final = 0.02
_MOST: Final = 60
_EPOCHS: Final = 4
_RATE: Final = 0.3


@dataclass(frozen=True)
class SlotChoice:
    """One argument of a call: what could fill it, by features, and which of them the expert took."""

    slot: str
    features: list[IntArray]
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


def known_slots(calls: Iterable[tuple[StateView, Action, str]]) -> dict[str, SlotKnowledge]:
    """Return by argument what many tasks gave it, and where its values were seen.

    Args:
        calls: what was seen, the call, its task.
    """
    values: dict[str, dict[Scalar, set[str]]] = defaultdict(lambda: defaultdict(set))
    sources: dict[str, Counter[str]] = defaultdict(Counter)
    for view, action, task in calls:
        for slot, value in argument_values(str(action.name), action.arguments):
            values[slot][value].add(task)
            sources[slot].update({seen.source for _, seen in view.places.get(value_key(value), ())})
    return {slot: SlotKnowledge(_closed(counted), _frequent(sources[slot])) for slot, counted in values.items()}


class Slots:
    """Walk calls argument by argument; features become numbers as they come."""

    def __init__(self, known: Mapping[str, SlotKnowledge]) -> None:
        self._known = known
        self._ids: dict[tuple[object, ...], int] = {}

    @property
    def size(self) -> int:
        """How many features there are."""
        return len(self._ids)

    def walk(self, view: StateView, tool: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[SlotChoice]:
        """Return the choices of a call in the order of its schema."""
        found: list[SlotChoice] = []

        def choose(slot: Slot, filling: Filling, gold: Any) -> Choice:
            options = candidates(view, slot, self._known.get(slot.path, SlotKnowledge()), filling)[:_MOST]
            right = next((row for row, option in enumerate(options) if same_choice(option.value, gold)), -1)
            context = SlotContext.make(view, slot, filling, options)
            found.append(SlotChoice(slot.path, [self._features(context, option) for option in options], right))
            if right < 0:
                return gold if isinstance(gold, str | int | float | bool) or gold in (OMIT, STOP) else str(gold)
            filling.note(options[right])
            return options[right].value

        fill(tool, choose, arguments)
        return found

    def _features(self, context: SlotContext, option: Candidate) -> IntArray:
        ids = self._ids
        return np.array([ids.setdefault(told, len(ids)) for told in _told(context, option)], dtype=np.int64)


def guess_calls(calls: Sequence[Sequence[SlotChoice]], folds: IntArray, size: int, seed: int = 0) -> list[Guess]:
    """Return what models that never saw a call's fold make of it.

    Args:
        calls: the choices of each call.
        folds: shape (calls,).
        size: how many features there are.
        seed: seeds the order in which calls are seen.
    """
    guesses = [Guess() for _ in calls]
    for fold in np.unique(folds):
        taught = [choice for row in np.flatnonzero(folds != fold).tolist() for choice in calls[row] if choice.gold >= 0]
        weights = _fit([choice for choice in taught if len(choice.features) > 1], size, np.random.default_rng(seed))
        for row in np.flatnonzero(folds == fold).tolist():
            for choice in calls[row]:
                _judge(guesses[row], choice, weights)
    return guesses


def _judge(guess: Guess, choice: SlotChoice, weights: FloatArray) -> None:
    if choice.gold < 0:
        guess.right = False
        guess.missing.append(choice.slot)
    if not choice.features:
        guess.probability = guess.weakest = 0.0
        return
    shares = _shares(choice, weights)
    best = int(shares.argmax())
    guess.probability *= float(shares[best])
    guess.weakest = min(guess.weakest, float(shares[best]))
    if best != choice.gold >= 0:
        guess.right = False
        guess.wrong.append(choice.slot)


def _fit(choices: Sequence[SlotChoice], size: int, draw: np.random.Generator) -> FloatArray:
    """Fit a softmax over each choice's options by AdaGrad (Duchi et al. 2011)."""
    weights, squares = np.zeros(size, dtype=np.float32), np.full(size, 1e-2, dtype=np.float32)
    for _ in range(_EPOCHS):
        for row in draw.permutation(len(choices)).tolist():
            choice = choices[row]
            error = _shares(choice, weights)
            error[choice.gold] -= 1
            lengths = [len(part) for part in choice.features]
            columns = np.concatenate(choice.features)
            gradient = np.repeat(error, lengths)
            unique, place = np.unique(columns, return_inverse=True)
            total = np.bincount(place, weights=gradient).astype(np.float32)
            squares[unique] += total * total
            weights[unique] -= _RATE * total / np.sqrt(squares[unique])
    return weights


def _shares(choice: SlotChoice, weights: FloatArray) -> FloatArray:
    lengths = np.array([len(part) for part in choice.features])
    flat = weights[np.concatenate(choice.features)]
    scores = np.add.reduceat(flat, np.concatenate([[0], np.cumsum(lengths)[:-1]]))
    shifted = np.exp(scores - scores.max())
    return np.asarray(shifted / shifted.sum(), dtype=np.float32)


def _told(context: SlotContext, option: Candidate) -> list[tuple[object, ...]]:
    slot, value = context.slot.path, option.value
    if not isinstance(value, str | int | float | bool):
        mark, index = str(value), min(context.slot.index, 6)
        return [(slot, mark), (slot, mark, index), *((slot, mark, word) for word in context.closed_words[:30])]
    told: list[tuple[object, ...]] = [(slot, "shape", value_shape(value)), (slot, "used", value in context.used)]
    lowered = str(value).lower()
    told.append((slot, "said", lowered in context.users, lowered in context.last_user))
    if len(lowered) <= 30:
        told.append((slot, "value", lowered))
    if not option.places:
        told += [(slot, "unseen"), *((slot, lowered, word) for word in context.closed_words[:30])]
    for position, seen in option.places[:3]:
        told += _place(context, position, seen)
    return list(dict.fromkeys(told))


def _place(context: SlotContext, position: int, seen: Seen) -> list[tuple[object, ...]]:
    slot, source = context.slot.path, seen.source
    overlap = len(seen.record_words & context.users)
    best = bool(overlap) and overlap == context.overlaps.get(source)
    same = bool(seen.record) and (position, seen.record) in context.filling.records
    newest = position == context.newest.get(source)
    return [
        (slot, "leaf", seen.leaf),
        ("same name", seen.leaf == context.slot.leaf),
        (slot, source),
        (slot, source, "newest", newest),
        (slot, source, "ordinal", min(seen.ordinal, 5), min(context.slot.index, 4)),
        (slot, source, "best", best, min(overlap, 4)),
        (slot, source, "record", same),
        ("record", same, seen.leaf == context.slot.leaf),
        (slot, source, "last", min(len(seen.record_words & context.last_user), 4)),
        (slot, "before", seen.before),
    ]


def _closed(counted: Mapping[Scalar, set[str]]) -> list[Scalar]:
    repeated = [value for value, tasks in counted.items() if len(tasks) >= _OTHER_TASKS and len(str(value)) <= _MOST]
    kept = sorted(repeated, key=lambda value: (-len(counted[value]), str(value)))[:_CLOSED]
    covered = sum(len(counted[value]) for value in kept)
    return kept if covered >= _CLOSED_SHARE * sum(map(len, counted.values())) else []


def _frequent(counted: Counter[str]) -> frozenset[str]:
    total = max(counted.values(), default=0)
    return frozenset(source for source, count in counted.items() if count >= max(1.0, math.ceil(_SOURCE_SHARE * total)))
