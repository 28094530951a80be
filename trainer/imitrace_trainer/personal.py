"""Count personal data that redaction left in what a clone would learn from, by the SDK's own detectors.

Only kinds and counts leave this module, and which steps hold them: what was found never does.
"""

import secrets
from collections.abc import Mapping
from typing import Final

import polars as pl

from imitrace.redaction.redactor import Redactor
from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.portions import portions
from imitrace_trainer.survey import Frames, Survey, masked

_SHOWN: Final = pl.List(pl.Struct({"step_index": pl.Int64, "kinds": pl.String}))


def personal_data(frames: Frames, found: Survey, cohort: CohortConfig) -> pl.DataFrame:
    """Return ``number``, ``personal`` and ``shown`` of trajectories in which something is found.

    ``personal`` lists ``kind`` and ``count`` over the messages that its steps see, each once, and the last decision,
    which no message repeats. ``shown`` lists ``step_index`` and ``kinds`` of the steps that see or do such a thing; it
    is empty unless the cohort masks these.

    Args:
        frames: the tables by name.
        found: one pass over the steps.
        cohort: with its redaction rules. A pseudonym that keeps its format is found like what it stands for.
    """
    redactor = Redactor(cohort.personal_data, secrets.token_bytes(16))
    messages = frames["messages"].with_row_index("message").select("message", "content")
    seen = _hits(messages, {"message": pl.UInt32}, redactor)
    done = _hits(
        _done(frames, found, cohort), {"number": pl.UInt32, "step_index": pl.Int64, "last": pl.Boolean}, redactor
    )
    used = found.uses.unique().join(seen, on="message").select(pl.col("trajectory").alias("number"), "kind", "count")
    both = (
        pl.concat([used, done.filter("last").select(used.columns)])
        .group_by("number", "kind")
        .agg(pl.col("count").sum())
    )
    held = both.sort("number", "kind").group_by("number", maintain_order=True)
    counted = held.agg(pl.struct("kind", "count").alias("personal"))
    if cohort.personal_data_action != "mask":
        return counted.with_columns(pl.lit([], _SHOWN).alias("shown"))
    steps = pl.concat([_seeing(frames, found, counted, seen), done.select("number", "step_index", "kind")]).unique()
    kinds = pl.col("kind").sort().str.join(", ").alias("kinds")
    by_step = steps.group_by("number", "step_index").agg(kinds).sort("number", "step_index")
    shown = by_step.group_by("number").agg(pl.struct("step_index", "kinds").alias("shown"))
    return shown.join(counted, on="number", how="full", coalesce=True).select("number", "personal", "shown")


def mask_personal(steps: pl.LazyFrame, judged: pl.DataFrame) -> pl.LazyFrame:
    """Set ``loss_mask`` false, and ``mask_reason``, where a step of the train split sees or does personal data.

    Args:
        steps: with ``split``, ``loss_mask`` and ``mask_reason``; their order is kept.
        judged: ``trajectory_id``, and ``shown`` as ``personal_data`` gives it, if it was asked.
    """
    if "shown" not in judged.columns:
        return steps
    rows = judged.select("trajectory_id", "shown").explode("shown").drop_nulls("shown").unnest("shown")
    found = steps.join(rows.lazy(), on=["trajectory_id", "step_index"], how="left", maintain_order="left")
    shown = pl.col("kinds").is_not_null() & (pl.col("split") == "train")
    return masked(found, shown, pl.format("shows {}", "kinds")).drop("kinds")


def count_personal(judged: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Return by kind how often it was ``found``, and in how many ``trajectories``.

    Args:
        judged: the trajectories with their ``rule``, and ``personal``, if it was asked.
    """
    if "personal" not in judged.columns:
        return {}
    reached = pl.col("rule").is_null() | (pl.col("rule") == "personal_data")
    each = judged.filter(reached).select("personal").explode("personal").drop_nulls("personal").unnest("personal")
    total = each.group_by("kind").agg(pl.col("count").sum(), pl.len()).sort("kind")
    return {kind: {"found": found, "trajectories": held} for kind, found, held in total.iter_rows()}


def _done(frames: Frames, found: Survey, cohort: CohortConfig) -> pl.LazyFrame:
    """Return what an agent did: of its last decisions, or of all steps where these are to be masked."""
    said = pl.concat_str("action_arguments", "action_message", separator="\n", ignore_nulls=True).alias("content")
    numbers = found.trajectories.lazy().select("trajectory_id", "number")
    steps = frames["steps"].join(numbers, on="trajectory_id", how="inner", maintain_order="left")
    ends = steps.group_by("trajectory_id").agg(pl.col("decision").sort_by("step_index").last())
    marked = steps.select("trajectory_id", "decision", "number", "step_index", said).join(
        ends.with_columns(pl.lit(value=True).alias("last")),
        on=["trajectory_id", "decision"],
        how="left" if cohort.personal_data_action == "mask" else "inner",
        maintain_order="left",
    )
    return marked.select("number", "step_index", pl.col("last").fill_null(value=False), "content")


def _seeing(frames: Frames, found: Survey, counted: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    """Return ``number``, ``step_index``, ``kind`` of the steps whose state holds something."""
    kinds = seen.select(found.messages["message_id"].gather(seen["message"]).alias("message_id"), "kind").unique()
    own = found.trajectories.join(counted, on="number", how="semi").lazy().select("trajectory_id", "number")
    steps = frames["steps"].join(own, on="trajectory_id", how="inner", maintain_order="left")
    parts = [pl.DataFrame(schema={"number": pl.UInt32, "step_index": pl.Int64, "kind": pl.String})]
    for portion in portions(steps.select("number", "step_index", "state"), ["state"]):
        states = portion.explode("state").rename({"state": "message_id"})
        parts.append(states.join(kinds, on="message_id").select("number", "step_index", "kind").unique())
    return pl.concat(parts)


def _hits(rows: pl.LazyFrame, keys: Mapping[str, type[pl.DataType]], redactor: Redactor) -> pl.DataFrame:
    """Return the keys of rows with ``kind`` and ``count`` of what their ``content`` holds."""
    found: list[tuple[object, ...]] = []
    for part in portions(rows, ["content"]):
        for *key, content in part.iter_rows():
            found += [(*key, kind, count) for kind, count in _counted(redactor, content)]
    return pl.DataFrame(found, schema={**keys, "kind": pl.String, "count": pl.Int64}, orient="row")


def _counted(redactor: Redactor, content: str | None) -> list[tuple[str, int]]:
    if not content:
        return []
    redactor.text(content)
    counts = redactor.counts()
    if counts:
        redactor.reset()
    return [(kind, count) for kind, count in counts.items() if count]
