"""Learn from failed trajectories what a success proves right: a demonstration of how far they came.

A call is proven where a success of the same task made it too, after the same calls with the same results; users put
their words otherwise each time, so those are not compared. Nothing is invented: no goal is written, no step changed.

After: Andrychowicz et al. (2017), Hindsight Experience Replay, NeurIPS 30; Hu et al. (2025), Sample-Efficient Online
Learning in LM Agents via Hindsight Trajectory Rewriting, arXiv:2510.10304, which lets a model write the goals.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import polars as pl

from imitrace.canonical import canonical_json, text_hash
from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.frames import gather
from imitrace_trainer.portions import portions
from imitrace_trainer.step_masks import right_steps, satisfied
from imitrace_trainer.survey import Frames, masked

COLUMNS: Final = ("relabelled_from", "relabelled_by")
"""Of trajectories: why they were failures, and what proves their steps; null where they are none."""
UNPROVEN: Final = "of a failure, not proven right"
_STEP: Final = ["trajectory_id", "step_index"]
_CALLS: Final = (*_STEP, "action_kind", "action_name", "action_arguments", "observation")
_PROVEN: Final = {"trajectory_id": pl.String, "step_index": pl.Int64, "proof": pl.String}


@dataclass(frozen=True)
class Relabelled:
    """Failed trajectories that are learnt from in part."""

    trajectories: pl.DataFrame
    """Columns as those of the kept ones, all of the train split."""
    steps: pl.DataFrame
    """``trajectory_id`` and ``step_index`` of what is proven right."""


NOTHING: Final = Relabelled(pl.DataFrame(), pl.DataFrame())


def relabelled(frames: Frames, cohort: CohortConfig, failed: pl.DataFrame, kept: pl.DataFrame) -> Relabelled:
    """Return the failed trajectories with steps that are proven right, as many as the cohort's share allows.

    They are of tasks that stand in the train split alone, so calibration and gate know nothing of them.

    Args:
        frames: the tables of ``schema.TABLES`` by name, as ``migrate`` gives them.
        cohort: with its ``hindsight`` share and ``hindsight_where``.
        failed: what only the rule ``scores`` rejects, with ``task_key`` and the ``reason``.
        kept: the kept trajectories, with ``task_key`` and ``split``.
    """
    judged = kept.filter(pl.col("split") != "train")
    train = kept.filter(pl.col("split") == "train").join(judged, on="task_key", how="anti")
    tried = failed.join(train, on="task_key", how="semi")
    proven = _proven(frames, cohort, tried, train.join(tried, on="task_key", how="semi"))
    chosen = _drawn(proven, cohort, _learnt(frames, cohort, kept))
    by = chosen.group_by("trajectory_id").agg(pl.col("proof").unique().sort().str.join(", ").alias("relabelled_by"))
    told = tried.join(by, on="trajectory_id").with_columns(
        pl.lit("train").alias("split"), pl.col("reason").alias("relabelled_from")
    )
    return Relabelled(told.select(*(name for name in kept.columns if name not in COLUMNS), *COLUMNS), chosen)


def mask_unproven(steps: pl.LazyFrame, found: Relabelled) -> pl.LazyFrame:
    """Set ``loss_mask`` false, and ``mask_reason``, on the steps of relabelled trajectories that nothing proves.

    Args:
        steps: with ``loss_mask`` and ``mask_reason``; their order is kept.
        found: which trajectories, and which of their steps are proven.
    """
    if found.trajectories.is_empty():
        return steps
    failed = found.trajectories.lazy().select("trajectory_id", pl.lit(value=True).alias("failed"))
    proven = found.steps.lazy().select(*_STEP, pl.lit(value=True).alias("proven"))
    told = steps.join(failed, on="trajectory_id", how="left", maintain_order="left")
    told = told.join(proven, on=_STEP, how="left", maintain_order="left")
    unproven = pl.col("failed").is_not_null() & pl.col("proven").is_null()
    return masked(told, unproven, pl.lit(UNPROVEN)).drop("failed", "proven")


def _proven(frames: Frames, cohort: CohortConfig, tried: pl.DataFrame, train: pl.DataFrame) -> pl.DataFrame:
    """Return the steps of failures that a success, or a score, proves right, and which."""
    witness: dict[bytes, str] = {}
    for trajectory, _, _, point in points(frames, cohort, train):
        witness[point] = min(witness.get(point, trajectory), trajectory)
    rows = [
        (trajectory, step, f"success {witness[point]}")
        for trajectory, step, _, point in points(frames, cohort, tried)
        if point in witness
    ]
    by_success = pl.DataFrame(rows, schema=_PROVEN, orient="row")
    if not cohort.hindsight_where:
        return by_success
    right = right_steps(_of(frames, tried), cohort, frames["scores"]).select(_STEP)
    scored = satisfied(frames["scores"], cohort.hindsight_where).rename({"condition": "proof"})
    by_score = gather({"scored": right.join(scored, on=_STEP, how="inner", maintain_order="left")})["scored"]
    return pl.concat([by_success, by_score]).unique(_STEP, keep="first", maintain_order=True)


def points(frames: Frames, cohort: CohortConfig, own: pl.DataFrame) -> Iterator[tuple[str, int, bytes, bytes]]:
    """Yield of each call that may be learnt its trajectory and step, a name of where it stood, and one of that and it.

    Where it stood is its task and all calls so far with their results. After a result that was not recorded nobody
    knows that, so nothing more comes of the trajectory.

    Args:
        frames: the tables by name.
        cohort: what may be trained on.
        own: ``trajectory_id`` and ``task_key`` of the trajectories.
    """
    tasks = dict(own.select("trajectory_id", "task_key").iter_rows())
    steps = _of(frames, own)
    right = right_steps(steps, cohort, frames["scores"]).select(*_STEP, pl.lit(value=True).alias("right"))
    calls = steps.select(_CALLS).filter(pl.col("action_kind") == "tool_call")
    told = calls.join(right, on=_STEP, how="left", maintain_order="left").drop("action_kind")
    last, before = None, b""
    for portion in portions(told, ["action_arguments", "observation"]):
        for trajectory, step, name, arguments, observation, learnt in portion.iter_rows():
            if trajectory != last:
                last, before = trajectory, _chained(b"", tasks[trajectory])
            if not before:
                continue
            point = _chained(before, _call(name, arguments or "{}"))
            if learnt:
                yield trajectory, step, before, point
            before = _chained(point, observation) if observation is not None else b""


def _call(name: str, arguments: str) -> str:
    try:
        return canonical_json([name, json.loads(arguments)])
    except ValueError:  # no JSON: equal where it is so letter by letter
        return canonical_json([name, None, arguments])


def _chained(before: bytes, text: str) -> bytes:
    return hashlib.blake2b(before + text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _of(frames: Frames, own: pl.DataFrame) -> pl.LazyFrame:
    return frames["steps"].join(
        own.lazy().select("trajectory_id"), on="trajectory_id", how="semi", maintain_order="left"
    )


def _learnt(frames: Frames, cohort: CohortConfig, kept: pl.DataFrame) -> int:
    """Return how many steps the train split has to learn from without any hindsight."""
    train = kept.filter(pl.col("split") == "train")
    right = right_steps(_of(frames, train), cohort, frames["scores"])
    return int(gather({"count": right.select(pl.len())})["count"].item())


def _drawn(proven: pl.DataFrame, cohort: CohortConfig, learnt: int) -> pl.DataFrame:
    """Return the steps of as many trajectories, drawn by the seed, as the share to learn from allows."""
    counts = proven.group_by("trajectory_id").len().sort("trajectory_id")
    drawn = [text_hash(f"hindsight {cohort.split.seed}:{name}") for name in counts["trajectory_id"]]
    most = int(cohort.hindsight * learnt / (1 - cohort.hindsight))
    ordered = counts.with_columns(pl.Series("draw", drawn, dtype=pl.String)).sort("draw", "trajectory_id")
    chosen = ordered.filter(pl.col("len").cum_sum() <= most)
    return proven.join(chosen, on="trajectory_id", how="semi", maintain_order="left")
