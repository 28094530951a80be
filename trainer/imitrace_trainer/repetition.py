"""Find loops: the same calls with the same results, over and over.

An agent that goes "forward, forward" and sees something else each time does not loop. Results that were not recorded
are never equal.
"""

from typing import Final

import polars as pl

LONGEST_PERIOD: Final = 4
"""Calls of the longest loop that is looked for."""
_DONE: Final = ("action_kind", "action_name", "action_arguments", "action_message", "observation")


def repetitions(steps: pl.LazyFrame) -> pl.LazyFrame:
    """Return each trajectory's longest repetition.

    Args:
        steps: the columns of ``schema.STEPS``, by trajectory and step.

    Returns:
        ``trajectory_id``, ``loop_times`` (how often the same one to four steps stand in a row, at least 2),
        ``loop_period`` (how many they are) and ``loop_step`` (where they begin), one row a trajectory that repeats.
    """
    unknown = (pl.col("action_kind") == "tool_call") & pl.col("observation").is_null()
    done = pl.when(unknown).then(None).otherwise(pl.struct(_DONE).hash())
    seen = steps.select("trajectory_id", "step_index", done.alias("done"))
    runs = pl.concat([_runs(seen, period) for period in range(1, LONGEST_PERIOD + 1)])
    longest = runs.sort("loop_times", "loop_period", descending=[True, False])
    return longest.unique("trajectory_id", keep="first", maintain_order=True)


def _runs(seen: pl.LazyFrame, period: int) -> pl.LazyFrame:
    before = pl.col("trajectory_id").shift(period) == pl.col("trajectory_id")
    again = (before & (pl.col("done") == pl.col("done").shift(period))).fill_null(value=False)
    times = pl.len() // period + 1
    return (
        seen.with_columns(again.alias("again"), (~again).cum_sum().alias("run"))
        .filter("again")
        .group_by("trajectory_id", "run", maintain_order=True)
        .agg(times.cast(pl.Int64).alias("loop_times"), (pl.col("step_index").first() - period).alias("loop_step"))
        .filter(pl.col("loop_times") > 1)
        .select("trajectory_id", "loop_times", pl.lit(period, pl.Int64).alias("loop_period"), "loop_step")
    )
