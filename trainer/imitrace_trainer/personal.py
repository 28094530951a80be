"""Count personal data that redaction left in what a clone would learn from, by the SDK's own detectors."""

import secrets
from collections.abc import Sequence

import polars as pl

from imitrace.redaction.redactor import Redactor
from imitrace_trainer.portions import portions
from imitrace_trainer.survey import Frames, Survey


def personal_data(frames: Frames, found: Survey, kinds: Sequence[str]) -> pl.DataFrame:
    """Return ``number`` and ``personal`` (``email 2, phone 1``) of trajectories whose messages hold such data.

    Args:
        frames: the tables by name.
        found: one pass over the steps.
        kinds: names of redaction rules. A pseudonym that keeps its format is found like what it stands for.
    """
    redactor = Redactor(kinds, secrets.token_bytes(16))
    rows: list[tuple[int, str, int]] = []
    for part in portions(frames["messages"].with_row_index("message").select("message", "content"), ["content"]):
        for message, content in part.iter_rows():
            redactor.text(content)
            counts = redactor.counts()
            if counts:
                rows += [(message, kind, count) for kind, count in counts.items() if count]
                redactor.reset()
    hits = pl.DataFrame(rows, schema={"message": pl.UInt32, "kind": pl.String, "count": pl.Int64}, orient="row")
    used = found.uses.unique().join(hits, on="message").group_by("trajectory", "kind").agg(pl.col("count").sum())
    told = pl.format("{} {}", "kind", "count").str.join(", ").alias("personal")
    by_trajectory = used.sort("trajectory", "kind").group_by("trajectory", maintain_order=True).agg(told)
    return by_trajectory.select(pl.col("trajectory").alias("number"), "personal")
