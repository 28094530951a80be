"""Tell how alike trajectories are by the words that users said and the calls that were made, by MinHash.

A word is a number, CRC-32 of its letters, which stays the same from run to run and from version to version.
"""

import hashlib
import zlib
from typing import Any, Final

import numpy
import polars as pl

from imitrace_trainer.portions import portions
from imitrace_trainer.survey import Frames, Survey

HASHES: Final = 64
"""Of a signature; the share of equal ones differs from the true share of words by 0.04 at 0.9 (one sigma)."""
BAND: Final = 4
"""Hashes that must be equal for two to be compared: of two that share 0.8 of their words, 99.98 % are."""

_ROWS: Final = 4_096
"""Texts that are cut into words at once, which takes many times their own memory."""
_WORD: Final = r"[\p{L}\p{N}_@#-]{2,}"
_FRAME: Final = ["role", "parts", "type", "text", "content", "user"]
_UNIT: Final = {"trajectory": pl.UInt32, "word": pl.UInt32}
_DRAWN: Final = [hashlib.blake2b(str(number).encode(), digest_size=8).digest() for number in range(2 * HASHES)]
_FACTORS: Final = numpy.frombuffer(b"".join(_DRAWN[:HASHES]), dtype="<u8") | numpy.uint64(1)
_TERMS: Final = numpy.frombuffer(b"".join(_DRAWN[HASHES:]), dtype="<u8")
"""Of h(x) = (a x + b) >> 32 modulo 2**64, a odd: multiply-shift hashing (Dietzfelbinger and others, 1997)."""


def words_said(frames: Frames, found: Survey) -> pl.DataFrame:
    """Return ``trajectory`` and ``word`` for each word that users said in it; some stand twice."""
    said = frames["messages"].with_row_index("message").select("message", "role", "content")
    of_users = found.uses.filter(found.messages["role"].gather(found.uses["message"]) == "user").unique()
    pieces = [  # filtered here: rows that a plan filters out would stay in memory as long as those beside them
        _numbered(part.filter(pl.col("role") == "user"), "message").join(of_users, on="message")
        for part in portions(said, ["content"])
    ]
    return _units(pieces)


def words_done(frames: Frames, found: Survey) -> pl.DataFrame:
    """Return ``trajectory`` and ``word`` for each word of its calls, the tools' names among them; some stand twice."""
    parts = pl.concat_str("action_name", "action_arguments", "action_message", separator=" ", ignore_nulls=True)
    numbers = found.trajectories.lazy().select("trajectory_id", pl.col("number").alias("trajectory"))
    steps = frames["steps"].select("trajectory_id", parts.alias("content"))
    done = steps.join(numbers, on="trajectory_id", maintain_order="left").select("trajectory", "content")
    return _units([_numbered(part, "trajectory") for part in portions(done, ["content"])])


def signatures(words: pl.DataFrame, trajectories: int) -> Any:  # an array of numbers
    """Return the MinHash signature of each trajectory's words, a row each; without words all its hashes are 0."""
    found = numpy.zeros((trajectories, HASHES), dtype=numpy.uint32)
    ordered = words.sort("trajectory")
    if ordered.is_empty():
        return found
    numbers = ordered["trajectory"].to_numpy()
    starts = numpy.flatnonzero(numpy.r_[True, numbers[1:] != numbers[:-1]])
    values = ordered["word"].to_numpy().astype(numpy.uint64)
    for place, (factor, term) in enumerate(zip(_FACTORS, _TERMS, strict=True)):
        hashed = ((values * factor + term) >> numpy.uint64(32)).astype(numpy.uint32)
        found[numbers[starts], place] = numpy.minimum.reduceat(hashed, starts)
    return found


def packed(marks: Any) -> pl.Series:  # an array of numbers
    """Return signatures as a column."""
    return pl.Series("marks", [row.tobytes() for row in marks], dtype=pl.Binary)


def unpacked(marks: pl.Series) -> Any:  # an array of numbers
    """Return the signatures of a column."""
    return numpy.frombuffer(b"".join(marks), dtype=numpy.uint32).reshape(len(marks), HASHES)


def first_alike(marks: Any, least: float) -> list[int | None]:  # an array of numbers
    """Return for each signature the row of an earlier one that it is alike to, or None.

    Args:
        marks: signatures, a row each, in the order in which the first is to be kept.
        least: share of equal hashes from which two are alike, in (0, 1].
    """
    alike: list[int | None] = [None] * len(marks)
    for start in range(0, HASHES, BAND):
        band = marks[:, start : start + BAND]
        _, keys, counts = numpy.unique(band, axis=0, return_inverse=True, return_counts=True)
        shared = numpy.flatnonzero((counts[keys.reshape(-1)] > 1) & band.any(axis=1))  # the others meet nobody
        seen: dict[int, list[int]] = {}
        for row, key in zip(shared.tolist(), keys.reshape(-1)[shared].tolist(), strict=True):
            if alike[row] is not None:
                continue
            others = seen.setdefault(key, [])
            shares = (marks[others] == marks[row]).mean(axis=1) if others else ()
            close = numpy.flatnonzero(numpy.asarray(shares) >= least)
            if len(close):
                alike[row] = others[close[0]]
            else:
                others[_MOST - 1 :] = [row]
    return alike


def alike_tasks(frames: Frames, found: Survey, tasks: pl.DataFrame, least: float) -> dict[str, str]:
    """Return for each task the one that stands for all that are alike to it, by the words that users said.

    Args:
        frames: the tables by name.
        found: one pass over the steps.
        tasks: ``trajectory_id`` and ``task_key``, the earliest first.
        least: share of words from which two tasks are alike.
    """
    keys = tasks["task_key"].unique(maintain_order=True)
    place = pl.DataFrame({"task_key": keys, "unit": pl.int_range(len(keys), dtype=pl.UInt32, eager=True)})
    numbers = found.trajectories.select("trajectory_id", pl.col("number").alias("trajectory"))
    of_task = tasks.join(place, on="task_key").join(numbers, on="trajectory_id").select("trajectory", "unit")
    said = words_said(frames, found).join(of_task, on="trajectory")
    words = said.select(pl.col("unit").alias("trajectory"), "word").unique()
    roots: list[int] = []
    for row, first in enumerate(first_alike(signatures(words, len(keys)), least)):
        roots.append(row if first is None else roots[first])  # the first always stands before
    return {key: keys[root] for key, root in zip(keys, roots, strict=True)}


_MOST: Final = 32
"""Unlike ones of one band that a further one is compared with, so that the work stays linear."""


def _numbered(rows: pl.DataFrame, key: str) -> pl.DataFrame:
    return pl.concat([_words(part, key) for part in rows.iter_slices(_ROWS)]) if len(rows) else _words(rows, key)


def _words(rows: pl.DataFrame, key: str) -> pl.DataFrame:
    texts = pl.col("content").str.to_lowercase().str.extract_all(_WORD).list.unique()
    words = rows.select(key, texts.alias("text")).explode("text").drop_nulls("text")
    words = words.filter(~pl.col("text").is_in(_FRAME))
    distinct = words["text"].unique()
    codes = pl.Series([zlib.crc32(text.encode("utf-8", "surrogatepass")) for text in distinct], dtype=pl.UInt32)
    return words.select(key, pl.col("text").replace_strict(distinct, codes, return_dtype=pl.UInt32).alias("word"))


def _units(pieces: list[pl.DataFrame]) -> pl.DataFrame:
    if not pieces:
        return pl.DataFrame(schema=_UNIT)
    return pl.concat([piece.select("trajectory", "word").unique() for piece in pieces])
