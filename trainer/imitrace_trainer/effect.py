"""Measure what further steps do to a model of the usual ones: whether a loose filter harms, and how much.

Small models guess the next action on tasks that they never saw, once with and once without the further steps.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import numpy as np
import polars as pl

from imitrace.canonical import text_hash
from imitrace.exceptions import DatasetError
from imitrace_trainer.datasets import Dataset
from imitrace_trainer.encoding import FloatArray, IntArray
from imitrace_trainer.frames import gather
from imitrace_trainer.intervals import paired_mean_difference
from imitrace_trainer.out_of_fold import FOLDS, fold_of, out_of_fold
from imitrace_trainer.sketched_steps import SketchedStep, sketched

_DRAWS: Final = 3
"""How often tasks are dealt into folds; the mean counts, as one deal says little."""
_MOST: Final = 10_000
"""Steps that are looked at, by whole tasks drawn by the split's seed."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """How often the next action is guessed right, with and without some steps to learn from; each task counts once."""

    tasks: int
    """On how many it is judged."""
    steps: int
    """On how many it is judged."""
    further: int
    """The steps in question."""
    without: float
    """Share guessed right by models that never saw them, nor the step's task."""
    along: float
    """Share guessed right by models that learnt from them too."""
    difference: float
    """``along`` less ``without``."""
    low: float
    """Of its 95 % interval over the tasks, by Student's t."""
    high: float

    def __str__(self) -> str:
        found = "they harm" if self.high < 0 else "they help" if self.low > 0 else "neither harm nor use is shown"
        return (
            f"next action guessed right on held-out tasks: {self.without:.1%} without, {self.along:.1%} with them; "
            f"{100 * self.difference:+.1f} points [{100 * self.low:+.1f}, {100 * self.high:+.1f}], {found}"
        )


def effect(usual: Sequence[SketchedStep], further: Sequence[SketchedStep], seed: int = 0) -> Effect:
    """Return what further steps do to guesses of the usual ones.

    Args:
        usual: what is learnt from in any case, and judged on; of ten tasks at least.
        further: what is learnt from once and once not; of a task held out it never is.
        seed: of the folds, and of the order in which steps are seen.

    Raises:
        DatasetError: there are too few tasks.
    """
    tasks = [step.task for step in usual]
    if len(set(tasks)) < 2 * FOLDS:
        raise DatasetError(
            f"{len(set(tasks))} tasks can't be guessed apart, expected at least {2 * FOLDS}: record more"
        )
    names = sorted({step.action for step in (*usual, *further)})
    place = {name: number for number, name in enumerate(names)}
    told: list[FloatArray] = []
    for arm in ([*usual], [*usual, *further]):
        labels = np.array([place[step.action] for step in arm], dtype=np.int64)
        hits = np.zeros(len(usual))
        for draw in range(_DRAWS):
            folds = _folds(usual, arm, seed + draw)
            shares = out_of_fold([step.sketch for step in arm], labels, folds, seed + draw)
            hits += (shares.argmax(axis=1) == labels)[: len(usual)] / _DRAWS
        told.append(hits.astype(np.float32))
    by_task = [_by_task(tasks, hits) for hits in told]
    difference, low, high = paired_mean_difference([after - before for before, after in zip(*by_task, strict=True)])
    return Effect(
        tasks=len(by_task[0]),
        steps=len(usual),
        further=len(further),
        without=fmean(by_task[0]),
        along=fmean(by_task[1]),
        difference=difference,
        low=low,
        high=high,
    )


def effect_of_failures(dataset: Dataset) -> Effect:
    """Return what the failed trajectories that a version's train split keeps do to guesses of what the others did.

    What is learnt in hindsight is none of them. Calibration and gate are not looked at.

    Raises:
        DatasetError: there are none, there are too few other tasks, or a file is broken.
    """
    failed = pl.col("outcome").is_in(["failure", "abandoned"]).fill_null(value=False)
    train = dataset.frame("trajectories").filter((pl.col("split") == "train") & pl.col("relabelled_by").is_null())
    facts = gather({"train": train.select("trajectory_id", "task_key", "step_count", failed.alias("failed"))})["train"]
    if not facts["failed"].any():
        raise DatasetError(
            f"dataset {dataset.name} v{dataset.version} keeps no failed trajectory to train on, so none can harm"
        )
    seed = int(dataset.manifest["cohort"]["split"]["seed"])
    wanted = facts.join(_drawn(facts, seed), on="task_key", how="semi").select("trajectory_id", "task_key")
    steps = dataset.frame("steps").filter("loss_mask").join(wanted.lazy(), on="trajectory_id", maintain_order="left")
    bad = set(facts.filter("failed")["trajectory_id"])
    found = list(sketched(steps, dataset.frame("messages")))
    usual = [step for step in found if step.trajectory_id not in bad]
    return effect(usual, [step for step in found if step.trajectory_id in bad], seed)


def _folds(usual: Sequence[SketchedStep], arm: Sequence[SketchedStep], seed: int) -> IntArray:
    """Return the fold of each step of an arm; a task of which nothing is judged is never held out."""
    tasks = [step.task for step in usual]
    of_task = dict(zip(tasks, fold_of(tasks, seed).tolist(), strict=True))
    return np.array([of_task.get(step.task, -1) for step in arm], dtype=np.int64)


def _by_task(tasks: Sequence[str], hits: FloatArray) -> list[float]:
    found: dict[str, list[float]] = defaultdict(list)
    for task, hit in zip(tasks, hits.tolist(), strict=True):
        found[task].append(hit)
    return [fmean(found[task]) for task in sorted(found)]


def _drawn(facts: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return as many tasks as have no more steps than are looked at."""
    counts = facts.group_by("task_key").agg(pl.col("step_count").sum()).sort("task_key")
    draw = [text_hash(f"effect {seed}:{task}") for task in counts["task_key"]]
    drawn = counts.with_columns(pl.Series("draw", draw, dtype=pl.String)).sort("draw", "task_key")
    return drawn.filter(pl.col("step_count").cum_sum() <= _MOST).select("task_key")
