"""Hold all values of a state in one table: where each stands, and where the conversation mentions it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from imitrace_trainer.columns import (
    CALL,
    GRAM,
    KEY,
    RECORD,
    TOOL,
    VOICE,
    Columns,
    CountArray,
    HashArray,
    columns,
    key_id,
)
from imitrace_trainer.reading import Reading, Seen

BoolArray = npt.NDArray[np.bool_]

_MAX_PLACES = 4_000
_KEPT = 6
"""Places of one value that are looked at, the newest."""
_MAX_RECORDS = 4_096
_REACH = 160
"""Words behind a mention that are still about it."""
_LEAD = 1
"""Words in front of the next mention that are about that one already."""
_RARE = 8
"""A word mentioned more often than this names nothing."""


class Places:
    """All places of a state's values, newest first; equal values are one *group*, numbered newest first too."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self.readings = readings
        blocks = [columns(reading) for reading in readings] or [Columns(Reading("", "", (), ()))]
        sizes = np.array([block.counts.shape[1] for block in blocks])
        newest = slice(None, -_MAX_PLACES - 1, -1)
        self.hashes: HashArray = np.concatenate([block.hashes for block in blocks], axis=1)[:, newest]
        self.counts: CountArray = np.concatenate([block.counts for block in blocks], axis=1)[:, newest]
        self.position: CountArray = np.repeat(np.arange(len(blocks)), sizes)[newest]
        self._within: CountArray = (np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes))[newest]
        record = self.counts[RECORD]
        self.record: CountArray = np.where(record > 0, self.position * _MAX_RECORDS + record % _MAX_RECORDS, -1)
        answered = (record > 0) | (self.counts[VOICE] == TOOL)
        self.object: CountArray = np.where(answered, self.position * _MAX_RECORDS + record % _MAX_RECORDS, -1)
        """As ``record``, an answer as a whole being an object too."""
        self._blocks = blocks
        self._group()

    def _group(self) -> None:
        _, first, group = np.unique(self.hashes[KEY], return_index=True, return_inverse=True)
        order = np.argsort(first)
        number = np.empty(len(first), dtype=np.int64)
        number[order] = np.arange(len(first))
        self.group: CountArray = number[group]
        self.newest: CountArray = first[order]
        """Row of each group's newest place, shape (groups,)."""
        rows = np.argsort(self.group, kind="stable")
        sizes = np.bincount(self.group, minlength=len(first))
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        self.kept: CountArray = rows[rank < _KEPT]
        """Rows that are looked at, by group."""
        kept = np.minimum(sizes, _KEPT)
        self.kept_ends: CountArray = np.cumsum(kept)
        self.kept_starts: CountArray = self.kept_ends - kept

    def __len__(self) -> int:
        """Return how many different values there are."""
        return len(self.newest)

    def seen(self, row: int) -> Seen:
        """Return the place of a row."""
        return self.readings[int(self.position[row])].seen[int(self._within[row])]

    @cached_property
    def numbers(self) -> dict[int, int]:
        """The number of each group by its key."""
        return {key: number for number, key in enumerate(self.hashes[KEY, self.newest].tolist())}

    def group_of(self, value: object) -> int:
        """Return the group of a value, -1 where it stands nowhere."""
        return self.numbers.get(key_id(value), -1) if isinstance(value, (str, int, float, bool)) else -1

    def rows(self, groups: CountArray) -> tuple[CountArray, CountArray]:
        """Return the kept rows of groups, and for each row the index in ``groups`` it belongs to."""
        starts, sizes = self.kept_starts[groups], self.kept_ends[groups] - self.kept_starts[groups]
        return self.kept[spans(starts, sizes)], np.arange(len(groups)).repeat(sizes)

    def used(self, column: int, text: int) -> BoolArray:
        """Return which groups an earlier call took, by the argument's ``SOURCE`` or ``LEAF``; shape (groups,)."""
        found = np.zeros(len(self), dtype=np.bool_)
        called = (self.counts[VOICE] == CALL) & (self.hashes[column] == np.uint64(text))
        found[self.group[called]] = True
        return found

    @cached_property
    def alike(self) -> CountArray:
        """How many places of the same message hold the same value, shape (rows,)."""
        _, inverse, counts = np.unique(self.position * len(self) + self.group, return_inverse=True, return_counts=True)
        return np.asarray(counts[inverse])

    @cached_property
    def tokens(self) -> HashArray:
        """All words that were spoken, oldest first."""
        return np.concatenate([block.tokens for block in self._blocks])

    @cached_property
    def shapes(self) -> HashArray:
        """Outlines of all words that were spoken."""
        return np.concatenate([block.shapes for block in self._blocks])

    @cached_property
    def spoken(self) -> CountArray:
        """In which message each word was spoken."""
        return np.repeat(np.arange(len(self._blocks)), [len(block.tokens) for block in self._blocks])

    @cached_property
    def mentions(self) -> tuple[CountArray, CountArray, CountArray]:
        """Where each group's first words are spoken: words, oldest first, and each group's start and end in them."""
        before = np.cumsum([0, *(len(block.tokens) for block in self._blocks)])
        grams = np.concatenate([block.grams for block in self._blocks])
        places = np.concatenate([block.gram_starts + start for block, start in zip(self._blocks, before, strict=False)])
        order = np.lexsort((places, grams))
        grams, places = grams[order], places[order]
        wanted = self.hashes[GRAM, self.newest]
        left, right = np.searchsorted(grams, wanted, "left"), np.searchsorted(grams, wanted, "right")
        sizes = np.where(wanted == 0, 0, right - left)
        ends = np.cumsum(sizes)
        return places[spans(left, sizes)], ends - sizes, ends

    def shared_words(self, spoken: frozenset[str]) -> tuple[CountArray, CountArray]:
        """Return how many of some words each place's record has, and how many of those no record beside it has."""
        shared, own = np.zeros(len(self.record), dtype=np.int64), np.zeros(len(self.record), dtype=np.int64)
        for position, block in enumerate(self._blocks):
            found = {number: common for number, words in block.records.items() if (common := words & spoken)}
            counted = Counter(word for common in found.values() for word in common)
            for number, common in found.items():
                rows = self.record == position * _MAX_RECORDS + number % _MAX_RECORDS
                shared[rows] = len(common)
                own[rows] = sum(counted[word] == 1 for word in common)
        return shared, own

    def mentioned(self, group: int) -> CountArray:
        """Return the words at which a group is mentioned, oldest first."""
        words, starts, ends = self.mentions
        return words[starts[group] : ends[group]]

    def mentions_of(self, groups: CountArray) -> tuple[CountArray, CountArray]:
        """Return the words at which groups are mentioned, and for each the index in ``groups`` it belongs to."""
        words, starts, ends = self.mentions
        sizes = ends[groups] - starts[groups]
        return words[spans(starts[groups], sizes)], np.arange(len(groups)).repeat(sizes)

    def scope(self, groups: Iterable[int]) -> BoolArray | None:
        """Return which words are about the first of some groups that one rare word with a digit names; None: none."""
        for group in groups:
            found = self.mentioned(group)
            token = self.hashes[GRAM, self.newest[group]]
            if not 0 < len(found) <= _RARE or self.tokens[found[0]] != token or not self._has_digit(found[0], token):
                continue
            outline = self.shapes[found[0]]
            others = np.flatnonzero((self.shapes == outline) & (self.tokens != token))
            inside = np.zeros(len(self.tokens), dtype=np.bool_)
            for start in found.tolist():
                following = others[np.searchsorted(others, start) :][:1]
                end = min(start + _REACH, *(max(start + 1, int(other) - _LEAD) for other in following), len(inside))
                inside[max(0, start - 1) : end] = True
            return inside
        return None

    def _has_digit(self, word: int, token: np.uint64) -> bool:
        """Tell whether a word has a digit: then its outline is another text."""
        return bool(self.shapes[word] != token)


def spans(starts: CountArray, sizes: CountArray) -> CountArray:
    """Return ``start, start + 1, ...`` of each size, one behind the other."""
    ends = sizes.cumsum()
    return np.asarray(np.arange(int(ends[-1]) if len(ends) else 0) + (starts - ends + sizes).repeat(sizes))
