"""Find steps whose recorded action is likely a mistake: confident learning over out-of-fold guesses.

Source: Northcutt, Jiang, Chuang (2021), Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70. An
action's threshold is its mean probability over the steps recorded as it. A step is doubted where another action reaches
its threshold and the recorded one stays far below its own.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

import numpy as np
import polars as pl

from imitrace.canonical import text_hash
from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.encoding import FloatArray, IntArray
from imitrace_trainer.out_of_fold import FOLDS, fit_folds, fold_of, guesses
from imitrace_trainer.sketched_steps import SketchedStep, sketched
from imitrace_trainer.step_masks import right_steps
from imitrace_trainer.survey import Frames

_FAR: Final = 0.5
"""Of a class's mean probability, the share below which a recorded action is doubted."""
_LEAST: Final = 10
"""Steps of an action below which nothing is said of it."""
_TASKS: Final = 2 * FOLDS
"""Tasks below which nothing is said at all."""
STEPS_FITTED: Final = 50_000
"""Steps that models are fitted to at most, those of tasks drawn by the seed: for memory, some 3 kB each, and time."""
_AT_ONCE: Final = 1_000
"""Further steps that are sketched and guessed at once."""
_NONE: Final = {"trajectory_id": pl.String, "step_index": pl.Int64, "label_error": pl.String}


def label_errors(frames: Frames, cohort: CohortConfig, kept: pl.DataFrame) -> pl.DataFrame:
    """Return ``trajectory_id``, ``step_index`` and ``label_error``, why, of steps that likely have the wrong action.

    Only steps of the train split are looked at, by models fitted to that split alone.

    Args:
        frames: the tables of ``schema.TABLES`` by name.
        cohort: which steps may be trained on, and what share of them may be called wrong at most.
        kept: the kept trajectories, with ``task_key`` and ``split``.
    """
    train = kept.filter(pl.col("split") == "train").select("trajectory_id", "task_key", "step_count")
    fitted, rest = _drawn(train, cohort.split.seed)
    found = list(_sketches(frames, cohort, fitted))
    if len({step.task for step in found}) < _TASKS:
        return pl.DataFrame(schema=_NONE)
    names = sorted({step.action for step in found})
    labels = np.array([names.index(step.action) for step in found], dtype=np.int64)
    folds = fold_of([step.task for step in found], cohort.split.seed)
    sketches = [step.sketch for step in found]
    models = fit_folds(sketches, labels, folds, cohort.split.seed)
    steps, shares = [_recorded(step) for step in found], [guesses(models, sketches, folds)]
    del found, sketches  # most of the memory
    for some in _by_number(_sketches(frames, cohort, rest)) if len(rest) else ():
        known = [step for step in some if step.action in names]
        steps += map(_recorded, known)
        shares.append(models[0].probabilities([step.sketch for step in known]))  # none saw their tasks: any will do
    labels = np.array([names.index(name) for *_, name in steps], dtype=np.int64)
    rows = [
        (*steps[row][:2], f"label error: {names[likely]} is likelier than {steps[row][2]}")
        for row, likely in doubted(np.concatenate(shares), labels, cohort.label_errors or 0)
    ]
    return pl.DataFrame(rows, schema=_NONE, orient="row")


def doubted(shares: FloatArray, labels: IntArray, most: float) -> list[tuple[int, int]]:
    """Return the steps whose label is likely wrong with the likelier one, the surest first.

    Args:
        shares: out-of-fold probabilities, shape (n, actions).
        labels: of the recorded actions, shape (n,).
        most: share of all steps that may be returned.
    """
    counts = np.bincount(labels, minlength=shares.shape[1])
    means = np.array([shares[labels == one, one].mean() if counts[one] else 2.0 for one in range(shares.shape[1])])
    known = counts >= _LEAST
    own = shares[np.arange(len(labels)), labels]
    other: FloatArray = np.where((shares >= means) & known, shares, 0)
    other[np.arange(len(labels)), labels] = 0
    likely = other.argmax(axis=1)
    lead = other.max(axis=1) - own
    wrong = (own < _FAR * means[labels]) & known[labels] & (lead > 0)
    rows = sorted(np.flatnonzero(wrong).tolist(), key=lambda row: (own[row] / means[labels[row]], row))
    return [(row, int(likely[row])) for row in rows[: int(most * len(labels))]]


def _sketches(frames: Frames, cohort: CohortConfig, train: pl.DataFrame) -> Iterator[SketchedStep]:
    """Yield each step that may be trained on, a portion at a time."""
    right = right_steps(frames["steps"], cohort, frames["scores"])
    wanted = right.join(train.lazy(), on="trajectory_id", how="inner", maintain_order="left")
    return sketched(wanted, frames["messages"])


def _recorded(step: SketchedStep) -> tuple[str, int, str]:
    return step.trajectory_id, step.step_index, step.action


def _drawn(train: pl.DataFrame, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the trajectories of as many tasks as models are fitted to, and the others."""
    sizes = train.group_by("task_key").agg(pl.col("step_count").sum())
    shuffled = sorted(sizes.iter_rows(), key=lambda task: (text_hash(f"look {seed}:{task[0]}"), task[0]))
    ends = np.cumsum([size for _, size in shuffled])
    count = max(_TASKS, int((ends <= STEPS_FITTED).sum()))
    drawn = pl.col("task_key").is_in([task for task, _ in shuffled[:count]])
    return train.filter(drawn).drop("step_count"), train.filter(~drawn).drop("step_count")


def _by_number(steps: Iterator[SketchedStep]) -> Iterator[list[SketchedStep]]:
    while some := list(islice(steps, _AT_ONCE)):
        yield some
