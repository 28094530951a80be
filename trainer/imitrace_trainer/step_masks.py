"""Mask the steps that scores call wrong: they stay as context for the steps after them, and are not learnt from.

Only the train split is masked. A gate that left out what the expert did badly would judge clones on easier decisions.
"""

from collections.abc import Sequence
from typing import Final

import polars as pl

from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.survey import mark_steps, masked, newest

_STEP: Final = ["trajectory_id", "step_index"]


def satisfied(scores: pl.LazyFrame, conditions: Sequence[Condition]) -> pl.LazyFrame:
    """Return ``trajectory_id``, ``step_index`` and ``condition``, the first that a step's scores satisfy.

    Of a name the newest score of that very step counts; an absent score and NaN satisfy nothing.

    Args:
        scores: the table.
        conditions: at least one.
    """
    names = {condition.score for condition in conditions}
    of_steps = scores.filter(pl.col("step_index").is_not_null() & pl.col("name").is_in(list(names)))
    told = newest(of_steps, [*_STEP, "name"])
    found = [
        told.filter((pl.col("name") == condition.score) & condition.met()).select(
            *_STEP, pl.lit(str(condition)).alias("condition")
        )
        for condition in conditions
    ]
    return pl.concat(found).unique(_STEP, keep="first", maintain_order=True)


def mask_wrong(steps: pl.LazyFrame, cohort: CohortConfig, scores: pl.LazyFrame) -> pl.LazyFrame:
    """Set ``loss_mask`` false, and ``mask_reason``, where a step of the train split is called wrong.

    Args:
        steps: with ``split``, ``loss_mask`` and ``mask_reason``; their order is kept.
        cohort: whose ``mask_where`` says what is wrong.
        scores: the table.
    """
    if not cohort.mask_where:
        return steps
    found = steps.join(satisfied(scores, cohort.mask_where), on=_STEP, how="left", maintain_order="left")
    wrong = (pl.col("split") == "train") & pl.col("condition").is_not_null()
    return masked(found, wrong, pl.format("masked by {}", "condition")).drop("condition")


def right_steps(steps: pl.LazyFrame, cohort: CohortConfig, scores: pl.LazyFrame) -> pl.LazyFrame:
    """Return the steps that may be trained on and that no score calls wrong, in their order.

    Args:
        steps: columns of ``schema.STEPS``, and ``tool_reason``.
        cohort: what may be trained on.
        scores: the table.
    """
    marked = mark_steps(steps, cohort, scores).filter("loss_mask")
    if not cohort.mask_where:
        return marked
    return marked.join(satisfied(scores, cohort.mask_where), on=_STEP, how="anti", maintain_order="left")


def count_wrong(steps: pl.LazyFrame, cohort: CohortConfig, scores: pl.LazyFrame) -> pl.LazyFrame:
    """Return ``trajectory_id`` and ``steps_wrong``, of how many steps that may be trained on a score says so.

    Args:
        steps: columns of ``schema.STEPS``, and ``tool_reason``.
        cohort: what may be trained on, and what is wrong.
        scores: the table.
    """
    marked = mark_steps(steps, cohort, scores).filter("loss_mask").select(_STEP)
    wrong = marked.join(satisfied(scores, cohort.mask_where), on=_STEP, how="inner")
    return wrong.group_by("trajectory_id").agg(pl.len().cast(pl.Int64).alias("steps_wrong"))
