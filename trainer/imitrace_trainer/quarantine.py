"""Keep injected and poisoned traces out of training: texts that give orders to the model, and planted triggers."""

import math
import zlib
from typing import Final

import polars as pl

from imitrace_trainer.frames import gather
from imitrace_trainer.orders import ORDERS
from imitrace_trainer.portions import portions
from imitrace_trainer.survey import Frames, Survey

FEWEST_TASKS: Final = 3
"""Tasks in which a word must come with a call to be a trigger."""
RARE_WORD, RARE_CALL = 0.05, 0.10
"""Shares of the tasks up to which a word, and a call, are rare."""
FOLLOWED: Final = 0.8
"""Share of a trigger's tasks in which the call is made."""
CHANCE: Final = 0.001
"""How likely one such word or more would be if words and calls came independently (Bonferroni, a binomial tail)."""


def orders(frames: Frames, found: Survey) -> pl.DataFrame:
    """Return ``number`` and ``order`` (which, and in which message) of trajectories that were given one."""
    said = frames["messages"].with_row_index("message")
    heard = pl.col("role").is_in(["user", "tool"])
    names = [pl.when(pl.col("content").str.contains(f"(?i){text}")).then(pl.lit(name)) for name, text in ORDERS.items()]
    hits = [
        part.filter(heard).select("message", "message_id", pl.coalesce(names).alias("kind")).drop_nulls("kind")
        for part in portions(said, ["content"])
    ]
    if not hits:
        return pl.DataFrame(schema={"number": pl.UInt32, "order": pl.String})
    found_in = found.uses.join(pl.concat(hits), on="message").sort("trajectory", "message")
    first = found_in.unique("trajectory", keep="first", maintain_order=True)
    why = pl.format("{} in message {}", "kind", "message_id").alias("order")
    return first.select(pl.col("trajectory").alias("number"), why)


def triggers(frames: Frames, found: Survey, said: pl.DataFrame, done: pl.DataFrame, tasks: pl.Series) -> pl.DataFrame:
    """Return trajectories in which a rare word comes with a call that is hardly made without it.

    A word that a tool's definition has, or that stands in the call's arguments, explains the call; it is no trigger.

    Args:
        frames: the tables by name.
        found: one pass over the steps.
        said: ``trajectory`` and ``word``, from users.
        done: the same, of calls.
        tasks: each trajectory's task key, in the order of their numbers; a task counts once however often it was done.

    Returns:
        ``number``, ``word`` (CRC-32) and ``call``.
    """
    numbers = found.trajectories.lazy().select("trajectory_id", pl.col("number").alias("trajectory"))
    calls = frames["steps"].filter(pl.col("action_kind") == "tool_call").select("trajectory_id", "action_name")
    tables = {
        "calls": calls.join(numbers, on="trajectory_id").select("trajectory", "action_name").unique(),
        "tools": frames["tools"].select(
            pl.col("definition").str.to_lowercase().str.extract_all(r"[\p{L}\p{N}_@#-]{2,}")
        ),
    }
    small = gather(tables)
    units = pl.DataFrame({"trajectory": found.trajectories["number"], "task": tasks.cast(pl.Categorical).to_physical()})
    total = units["task"].n_unique()
    known = {zlib.crc32(word.encode()) for word in small["tools"]["definition"].explode().drop_nulls().unique()}
    words = said.join(done, on=["trajectory", "word"], how="anti").join(units, on="trajectory")
    words = words.filter(~pl.col("word").is_in(list(known)))
    called = small["calls"].join(units, on="trajectory")
    made = called.group_by("action_name").agg(pl.col("task").n_unique().alias("made"))
    rare = made.filter(pl.col("made") <= RARE_CALL * total)
    carried = words.group_by("word").agg(pl.col("task").n_unique().alias("carried"))
    few = carried.filter(pl.col("carried").is_between(FEWEST_TASKS, max(FEWEST_TASKS, RARE_WORD * total)))
    both = words.join(few, on="word").join(called.join(rare, on="action_name"), on="trajectory")
    pairs = both.group_by("word", "action_name", "carried", "made").agg(pl.col("task").n_unique().alias("both"))
    limit = CHANCE / max(1, len(few) * len(rare))
    sure = [
        (word, call)
        for word, call, carriers, makers, together in pairs.iter_rows()
        if together >= max(FEWEST_TASKS, FOLLOWED * carriers) and _tail(together, carriers, makers / total) <= limit
    ]
    kept = pl.DataFrame(sure, schema={"word": pl.UInt32, "action_name": pl.String}, orient="row")
    hits = both.join(kept, on=["word", "action_name"]).sort("trajectory", "word", "action_name")
    first = hits.unique("trajectory", keep="first", maintain_order=True)
    return first.select(pl.col("trajectory").alias("number"), "word", pl.col("action_name").alias("call"))


def _tail(hits: int, draws: int, share: float) -> float:
    """Return how likely so many hits or more are."""
    return sum(math.comb(draws, k) * share**k * (1 - share) ** (draws - k) for k in range(hits, draws + 1))
