"""Look at what was said and done as far as a cohort's rules ask, and give each trajectory what was found."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final

import polars as pl

from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.frames import gather
from imitrace_trainer.likeness import packed, signatures, words_done, words_said
from imitrace_trainer.personal import personal_data
from imitrace_trainer.quarantine import orders, triggers
from imitrace_trainer.repetition import repetitions
from imitrace_trainer.step_masks import count_wrong
from imitrace_trainer.survey import Frames, Survey, mark_steps

_NUMBER: Final = "number"


def clues(frames: Frames, cohort: CohortConfig, found: Survey, tasks: pl.Series) -> list[pl.DataFrame]:
    """Return tables by ``number`` of a trajectory or by ``trajectory_id``, one for each rule that needs one.

    Args:
        frames: the tables by name.
        cohort: whose rules ask.
        found: one pass over the steps.
        tasks: each trajectory's task key, in the order of their numbers.
    """
    tables = []
    if cohort.licences:
        tables.append(
            gather({"forbidden": forbidden_steps(mark_steps(frames["steps"], cohort, frames["scores"]), cohort)})[
                "forbidden"
            ]
        )
    if cohort.mask_where:
        tables.append(gather({"wrong": count_wrong(frames["steps"], cohort, frames["scores"])})["wrong"])
    if cohort.personal_data:
        tables.append(personal_data(frames, found, cohort))
    if cohort.max_repeats is not None:
        own = frames["steps"].join(
            found.trajectories.lazy().select("trajectory_id"), on="trajectory_id", how="semi", maintain_order="left"
        )
        tables.append(gather({"loops": repetitions(own)})["loops"])
    if cohort.quarantine or cohort.duplicates is not None:
        said, done = words_said(frames, found), words_done(frames, found)
        if cohort.quarantine:
            tables += [orders(frames, found), triggers(frames, found, said, done, tasks)]
        if cohort.duplicates is not None:
            marks = packed(signatures(pl.concat([said, done]), len(found.trajectories)))
            tables.append(pl.DataFrame({_NUMBER: found.trajectories[_NUMBER], "marks": marks}))
    return tables


def forbidden_steps(steps: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Return ``trajectory_id`` and ``forbidden``: the first step to learn from by a policy that is no teacher.

    Args:
        steps: with ``loss_mask``, by trajectory and step.
        cohort: whose ``licences`` say which policies are forbidden.
    """
    name = pl.col("policy_name").fill_null("")
    barred = name.map_elements(lambda policy: not allowed(policy, cohort.licences), return_dtype=pl.Boolean)
    distinct = steps.select(name.unique()).filter(barred)
    own = (
        steps.filter("loss_mask").with_columns(name).join(distinct, on="policy_name", how="semi", maintain_order="left")
    )
    first = own.unique("trajectory_id", keep="first", maintain_order=True)
    return first.select("trajectory_id", pl.format("step {} by {}", "step_index", "policy_name").alias("forbidden"))


def allowed(policy: str, licences: Mapping[str, str]) -> bool:
    """Return whether a policy may be learnt from: what the first fitting pattern says, or yes."""
    fitting = (verdict for pattern, verdict in licences.items() if fnmatchcase(policy, pattern))
    return next(fitting, "allowed") == "allowed"
