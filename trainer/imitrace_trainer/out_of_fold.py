"""Guess each decision's action by a model that never saw its task: a linear softmax over hashed features, in numpy.

It is small and quick, a look before any training, and not what a clone is made of.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from imitrace.canonical import text_hash
from imitrace_trainer.encoding import FloatArray, IntArray

WIDTH: Final = 4_096
"""Columns that features are folded to."""
FOLDS: Final = 5
_EPOCHS: Final = 6
_BATCH: Final = 128
_RATE: Final = 0.02
_DECAY: Final = 1.0


@dataclass(frozen=True)
class Sketch:
    """A state's features, folded: which columns, and how much each counts."""

    columns: npt.NDArray[np.int16]
    weights: FloatArray


def sketch(segments: Mapping[str, Sequence[int]]) -> Sketch:
    """Fold a state's hashed features; each segment counts the same, as L2-normalised 1 + log of its counts."""
    columns, weights = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
    for features in segments.values():
        found, counts = np.unique(np.asarray(features, dtype=np.int64) % WIDTH, return_counts=True)
        weight = 1 + np.log(counts)
        columns.append(found)
        weights.append(weight / max(1e-9, float(np.linalg.norm(weight))))
    unique, place = np.unique(np.concatenate(columns), return_inverse=True)
    total = np.bincount(place, weights=np.concatenate(weights), minlength=len(unique))
    return Sketch(unique.astype(np.int16), total.astype(np.float32))


def fold_of(tasks: Sequence[str], seed: int = 0, folds: int = FOLDS) -> IntArray:
    """Return each decision's fold; decisions of one task share it, and folds have as many tasks each."""
    shuffled = sorted(set(tasks), key=lambda task: (text_hash(f"fold {seed}:{task}"), task))
    fold = {task: place % folds for place, task in enumerate(shuffled)}
    return np.array([fold[task] for task in tasks], dtype=np.int64)


def out_of_fold(sketches: Sequence[Sketch], labels: IntArray, folds: IntArray, seed: int = 0) -> FloatArray:
    """Return the probability of each action for each decision, by models that never saw the decision's fold.

    Args:
        sketches: the states.
        labels: index of the action taken, shape (n,).
        folds: shape (n,); what is in a negative one is always learnt from and never guessed.
        seed: seeds the order in which decisions are seen.

    Returns:
        Shape (n, actions); rows sum to 1, or are 0 where nothing is guessed. An action that only one fold has gets
        next to nothing there.
    """
    return guesses(fit_folds(sketches, labels, folds, seed), sketches, folds)


def fit_folds(sketches: Sequence[Sketch], labels: IntArray, folds: IntArray, seed: int = 0) -> dict[int, "Linear"]:
    """Return for each fold a model of the others' decisions; the arguments are those of ``out_of_fold``."""
    actions = int(labels.max()) + 1 if len(labels) else 0
    models = {}
    for fold in np.unique(folds[folds >= 0]).tolist():
        train = np.flatnonzero(folds != fold)
        models[fold] = _fit([sketches[row] for row in train.tolist()], labels[train], actions, seed)
    return models


def guesses(models: Mapping[int, "Linear"], sketches: Sequence[Sketch], folds: IntArray) -> FloatArray:
    """Return the probability of each action for each decision by its own fold's model, shape (n, actions)."""
    actions = max((model.weights.shape[1] for model in models.values()), default=0)
    found = np.zeros((len(sketches), actions), dtype=np.float32)
    for fold, model in models.items():
        own = np.flatnonzero(folds == fold)
        for part in np.array_split(own, max(1, len(own) // 1_000)):
            found[part] = model.probabilities([sketches[row] for row in part.tolist()])
    return found


@dataclass(frozen=True)
class Linear:
    """A fitted model."""

    idf: FloatArray
    weights: FloatArray
    """Shape (WIDTH + 1, actions); the last row is the bias."""

    def probabilities(self, sketches: Sequence[Sketch]) -> FloatArray:
        """Return the probability of each action for each decision, shape (n, actions)."""
        return _softmax(_dense(sketches, self.idf) @ self.weights)


def _fit(sketches: Sequence[Sketch], labels: IntArray, actions: int, seed: int) -> Linear:
    """Fit by Adam with decoupled decay (Loshchilov & Hutter 2019), the rate falling along a cosine."""
    idf = _idf(sketches)
    weights = np.zeros((WIDTH + 1, actions), dtype=np.float32)
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    room = np.zeros((_BATCH, WIDTH + 1), dtype=np.float32)
    batches = list(_batches(len(sketches), np.random.default_rng(seed)))
    for step, batch in enumerate(batches, start=1):
        dense = _dense([sketches[row] for row in batch.tolist()], idf, room)
        error = _softmax(dense @ weights)
        error[np.arange(len(batch)), labels[batch]] -= 1
        gradient = dense.T @ error / len(batch)
        mean += 0.1 * (gradient - mean)
        square += 0.01 * (gradient * gradient - square)
        rate = _RATE * (0.55 + 0.45 * np.cos(np.pi * step / len(batches)))
        weights *= 1 - rate * _DECAY
        weights -= rate / (1 - 0.9**step) * mean / (np.sqrt(square / (1 - 0.99**step)) + 1e-6)
    return Linear(idf, weights)


def _batches(rows: int, draw: np.random.Generator) -> Iterator[IntArray]:
    for _ in range(_EPOCHS):
        order = draw.permutation(rows)
        yield from (order[start : start + _BATCH] for start in range(0, rows, _BATCH))


def _idf(sketches: Sequence[Sketch]) -> FloatArray:
    counts = np.zeros(WIDTH)
    for one in sketches:
        counts[one.columns] += 1
    return np.append(np.log((1 + len(sketches)) / (1 + counts)) + 1, 1.0).astype(np.float32)


def _dense(sketches: Sequence[Sketch], idf: FloatArray, room: FloatArray | None = None) -> FloatArray:
    if room is None:
        room = np.zeros((len(sketches), WIDTH + 1), dtype=np.float32)
    dense = room[: len(sketches)]
    dense[:, :WIDTH] = 0
    dense[:, WIDTH] = 1
    for row, one in enumerate(sketches):
        dense[row, one.columns] = one.weights * idf[one.columns]
    return dense


def _softmax(logits: FloatArray) -> FloatArray:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float32)
