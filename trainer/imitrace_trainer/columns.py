"""Keep what one message holds as arrays, so that all candidates of an argument are looked at together.

Texts are kept as 64-bit BLAKE2b hashes; hashes are joined by multiplying and shifting, alike on all machines.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from imitrace_trainer.reading import Reading, Scalar, Seen, shape, value_class, value_shape, words

HashArray = npt.NDArray[np.uint64]
CountArray = npt.NDArray[np.int64]

KEY, SOURCE, LEAF, BEFORE, AFTER, SHAPE, CLASS, GRAM, FLAGS = range(9)
"""Rows of ``Columns.hashes``; ``GRAM`` is a value's first words, 0 for none, ``FLAGS`` its record's booleans."""
RECORD, ORDINAL, LENGTH, KIND, VOICE = range(5)
"""Rows of ``Columns.counts``; ``KIND`` holds bits (see ``KINDS``), ``VOICE`` who says it."""
KINDS = {"string": 1, "number": 2, "integer": 4, "boolean": 8}
USER, ASSISTANT, CALL, TOOL = 1, 2, 3, 4
"""Voices."""
GRAM_WORDS = 4
"""A mention is recognised by this many of its words at most."""

_MAX_WORDS = 2_000
_LONGEST = 200
_MASK = (1 << 64) - 1
_FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93


@lru_cache(maxsize=400_000)
def text_id(text: str) -> int:
    """Return a text's 64-bit hash, never 0."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def text_ids(texts: Iterable[str]) -> HashArray:
    """Return the hashes of texts."""
    return np.fromiter(map(text_id, texts), dtype=np.uint64)


def mix(first: int, second: int) -> int:
    """Join two hashes; the order counts."""
    joined = ((first * _FIRST) & _MASK) ^ second
    joined = ((joined ^ (joined >> 29)) * _SECOND) & _MASK
    return joined ^ (joined >> 32)


def mixed(first: HashArray | int, second: HashArray) -> HashArray:
    """Join hashes element by element, as ``mix`` does."""
    left = np.uint64((first * _FIRST) & _MASK) if isinstance(first, int) else first * np.uint64(_FIRST)
    joined = left ^ second
    joined = (joined ^ (joined >> np.uint64(29))) * np.uint64(_SECOND)
    return np.asarray(joined ^ (joined >> np.uint64(32)), dtype=np.uint64)


class Columns:
    """The places and the words of one message; row ``n`` is the reading's ``seen[n]``."""

    def __init__(self, reading: Reading) -> None:
        self.hashes: HashArray = _hashes(reading.seen)
        counts = [_counts(seen) for seen in reading.seen]
        self.counts: CountArray = np.array(counts, dtype=np.int64).reshape(-1, 5).T.copy()
        self._flag()
        spoken = reading.words[:_MAX_WORDS] if reading.role in ("user", "assistant") else ()
        self.tokens = text_ids(spoken)
        self.shapes = text_ids(map(shape, spoken))
        self.grams, self.gram_starts = _grams(self.tokens)
        self.records = {seen.record: seen.record_words for seen in reading.seen if seen.record}
        """The words of each record, by its number."""

    def _flag(self) -> None:
        """Sum up the booleans of each record, for every place in it."""
        records = self.counts[RECORD]
        yes_or_no = np.flatnonzero((self.counts[KIND] == KINDS["boolean"]) & (records > 0))
        if len(yes_or_no):
            flags = np.zeros(int(records.max()) + 1, dtype=np.uint64)
            np.add.at(flags, records[yes_or_no], mixed(self.hashes[LEAF, yes_or_no], self.hashes[KEY, yes_or_no]))
            self.hashes[FLAGS] = flags[records] * (records > 0).astype(np.uint64)


def columns(reading: Reading) -> Columns:
    """Return a reading's columns, worked out once."""
    found = reading.kept.get("columns")
    if not isinstance(found, Columns):
        found = reading.kept["columns"] = Columns(reading)
    return found


@lru_cache(maxsize=200_000, typed=True)
def key_id(value: Scalar) -> int:
    """Return a hash under which the values meet that meet under ``value_key``."""
    if isinstance(value, str):
        return text_id(f"={value}")
    if isinstance(value, bool):
        return text_id(f"bool={value}")
    whole = isinstance(value, int) or value.is_integer()
    return text_id(f"number={int(value) if whole else value!r}")


@lru_cache(maxsize=200_000, typed=True)
def _gram(value: Scalar) -> int:
    if isinstance(value, bool):
        return 0
    found = words(str(value)[:_LONGEST])[:GRAM_WORDS]
    if not found:
        return 0
    joined = text_id(found[0])
    for word in found[1:]:
        joined = mix(joined, text_id(word))
    return joined


def _hashes(places: Sequence[Seen]) -> HashArray:
    values = [seen.value for seen in places]
    rows = [
        map(key_id, values),
        map(text_id, [seen.source for seen in places]),
        map(text_id, [seen.leaf for seen in places]),
        map(text_id, [seen.before for seen in places]),
        map(text_id, [seen.after for seen in places]),
        map(text_id, map(value_shape, values)),
        map(text_id, map(value_class, values)),
        map(_gram, values),
    ]
    hashes = np.zeros((len(rows) + 1, len(places)), dtype=np.uint64)
    for row, told in enumerate(rows):
        hashes[row] = np.fromiter(told, dtype=np.uint64, count=len(places))
    return hashes


def _counts(seen: Seen) -> tuple[int, ...]:
    return seen.record, seen.ordinal, len(str(seen.value)), _kind(seen.value), _voice(seen)


def _kind(value: Scalar) -> int:
    if isinstance(value, bool):
        return KINDS["boolean"]
    if isinstance(value, str):
        return KINDS["string"] if len(value) <= _LONGEST else 0
    if isinstance(value, float) and not math.isfinite(value):
        return 0
    whole = isinstance(value, int) or value.is_integer()
    return KINDS["number"] + (KINDS["integer"] if whole else 0)


def _voice(seen: Seen) -> int:
    if seen.source.startswith("args:"):
        return CALL
    if ":" in seen.source:
        return TOOL
    return USER if seen.by_user else ASSISTANT


def _grams(tokens: HashArray) -> tuple[HashArray, CountArray]:
    """Return the hashes of all runs of one to ``GRAM_WORDS`` words, and where each begins."""
    joined, parts, starts = tokens, [tokens], [np.arange(len(tokens))]
    for length in range(1, min(GRAM_WORDS, len(tokens))):
        joined = mixed(joined[:-1], tokens[length:])
        parts.append(joined)
        starts.append(np.arange(len(joined)))
    return np.concatenate(parts), np.concatenate(starts)
