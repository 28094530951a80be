"""Choose the failures that a dataset version keeps for the critic alone: no step of theirs is ever learnt as an action.

They are trajectories that only the rule ``scores`` rejects and whose outcome is a failure. None is of a task that the
gate judges, so what judges a clone and its critic is seen by neither.
"""

from typing import Final

import polars as pl

from imitrace.canonical import text_hash
from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.personal import mask_personal
from imitrace_trainer.survey import Frames, mark_steps

FAILED: Final = "failed: for the critic only"
"""Why a step of these is not learnt from; those that no clone could learn anyway have their own reason."""
OUTCOMES: Final = ("failure", "abandoned")


def failures(judged: pl.DataFrame, kept: pl.DataFrame, cohort: CohortConfig) -> pl.DataFrame:
    """Return the failed trajectories to keep, by start, each with the ``split`` of its task.

    Tasks that no kept trajectory has are dealt to training and calibration in the shares of the cohort's split. Where
    alike tasks stay together they are left out: they could be like one of the gate's.

    Args:
        judged: the agent's trajectories with their rules, ``only_scores`` and ``task_key``, by start.
        kept: the kept ones with ``task_key`` and ``split``.
        cohort: whose ``failures`` says how many at most, drawn by the split's seed.
    """
    failed = judged.filter(pl.col("only_scores") & pl.col("outcome").is_in(list(OUTCOMES)))
    failed = failed.join(kept, on="trajectory_id", how="anti", maintain_order="left")
    splits = dict(kept.group_by("task_key").agg(pl.col("split").unique().sort()).iter_rows())
    dealt = [_split(key, splits.get(key), cohort) for key in failed["task_key"]]
    drawn = [text_hash(f"failures {cohort.split.seed}:{name}") for name in failed["trajectory_id"]]
    columns = (pl.Series("split", dealt, dtype=pl.String), pl.Series("draw", drawn, dtype=pl.String))
    known = failed.with_columns(columns).drop_nulls("split")
    chosen = known.sort("draw", "trajectory_id").head(cohort.failures)
    return chosen.sort("started_at", "trajectory_id").drop("draw")


def failed_steps(frames: Frames, cohort: CohortConfig, failed: pl.DataFrame, judged: pl.DataFrame) -> pl.LazyFrame:
    """Return the steps of failures with the columns of a dataset's steps; ``loss_mask`` is false in all of them.

    Args:
        frames: the tables of ``schema.TABLES`` by name, as ``migrate`` gives them.
        cohort: says which of the steps it would learn from, had they succeeded: the critic learns from these.
        failed: what ``failures`` returned.
        judged: the trajectories with what was found of personal data.
    """
    of_trajectory = failed.lazy().select(
        "trajectory_id", pl.col("task_key").alias("task"), "tags", "outcome", "split", pl.lit(1.0).alias("weight")
    )
    marked = mark_steps(frames["steps"], cohort, frames["scores"])
    own = mask_personal(marked.join(of_trajectory, on="trajectory_id", how="inner", maintain_order="left"), judged)
    why = pl.when("loss_mask").then(pl.lit(FAILED)).otherwise("mask_reason")
    return own.with_columns(why.alias("mask_reason"), pl.lit(value=False).alias("loss_mask"))


def _split(task: str, splits: list[str] | None, cohort: CohortConfig) -> str | None:
    """Return the part that a task belongs to, None where it must not be used."""
    if splits is not None:
        return splits[0] if splits[1:] == [] and splits[0] != "gate" else None
    if cohort.split.near is not None:
        return None
    draw = int(text_hash(f"failures {cohort.split.seed}:{task}")[:8], 16) / 2**32
    return "calibration" if draw < cohort.split.calibration / (1 - cohort.split.gate) else "train"
