"""Find where a conversation speaks of records: objects of an answer, by the values that stand in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from imitrace_trainer.columns import CALL, KIND, KINDS, LEAF, SOURCE, VOICE, CountArray, HashArray
from imitrace_trainer.options import Trail
from imitrace_trainer.places import BoolArray, Places, spans

NOWHERE = 1 << 40
"""The word of what is mentioned nowhere."""
_WINDOW = 16
"""Words within which the values of one record are spoken of."""
_WISH = 40
_SUBJECTS = 8
_FAINT = 3
"""A mention that is so many times weaker than the strongest is none."""
_PARTS = 2
"""Strengths are counted in halves."""


class Mentions:
    """Where one state's conversation mentions values and records."""

    def __init__(self, table: Places, last_user: int) -> None:
        self.table = table
        roles = np.array([reading.role == "user" for reading in table.readings], dtype=np.bool_)
        self.users: BoolArray = roles[table.spoken] if len(roles) else np.zeros(0, dtype=np.bool_)
        self.last_user: BoolArray = table.spoken == last_user
        said = table.spoken[~self.users]
        self.last_assistant: BoolArray = (table.spoken == said[-1]) & ~self.users if len(said) else ~self.users

    def of(self, groups: CountArray) -> "Mentioned":
        """Return where groups are mentioned."""
        return Mentioned(*self.table.mentions_of(groups), len(groups))

    def scope(self, trail: Trail) -> BoolArray | None:
        """Return the words that are about the first value chosen that is named, else about the state's subject."""
        found = self.table.scope(group for _, group in trail.steps if group >= 0)
        return self.subject if found is None else found

    def near(self, trail: Trail) -> BoolArray | None:
        """Return the words that are about the newest value chosen that is named."""
        return self.table.scope(trail.newest())

    @cached_property
    def subject(self) -> BoolArray | None:
        """The words about the newest argument of a call that is named."""
        called = self.table.group[self.table.counts[VOICE] == CALL]
        newest = list(dict.fromkeys(called.tolist()))[:_SUBJECTS]
        return self.table.scope(newest)

    def hits(self, records: CountArray, among: BoolArray | None) -> "Hits":
        """Return where values of some records are mentioned; ``records`` ascending."""
        table = self.table
        near = np.minimum(records.searchsorted(table.record), len(records) - 1)
        rows = np.flatnonzero((records[near] == table.record) & (table.counts[KIND] == KINDS["string"]))
        words, starts, ends = table.mentions
        groups = table.group[rows]
        sizes = ends[groups] - starts[groups]
        at = words[spans(starts[groups], sizes)]
        row = rows.repeat(sizes)
        if among is not None:
            row, at = row[among[at]], at[among[at]]
        number = np.searchsorted(records, table.record[row])
        order = np.lexsort((at, number))
        return Hits(number[order], at[order], 1 / table.alike[row[order]], table.hashes[LEAF, row[order]], len(records))

    def of_groups(
        self, rows: CountArray, of_row: CountArray, count: int, among: BoolArray | None
    ) -> tuple[CountArray, CountArray, HashArray]:
        """Return where the records that groups stand in are mentioned at their best.

        Args:
            rows: places of the groups.
            of_row: the group that each place is of.
            count: how many groups there are.
            among: which words count; None: all of the user's.

        Returns:
            Strength in halves, word (``NOWHERE``: none, or one that is rather about another group's record), and the
            leaf that the mention begins with.
        """
        strength, word = np.zeros(count, dtype=np.int64), np.full(count, NOWHERE)
        lead, end = np.zeros(count, dtype=np.uint64), np.full(count, -1)
        inside = self.table.record[rows] >= 0
        if not inside.any():
            return strength, word, lead
        owners, own = of_row[inside], self.table.record[rows[inside]]
        records = np.unique(own)
        found = self.hits(records, self.users if among is None else among).best()
        number = np.searchsorted(records, own)
        order = np.lexsort((found.word[number], -found.strength[number], owners))
        _, first = np.unique(owners[order], return_index=True)
        kept = order[first]
        chosen, groups = number[kept], owners[kept]
        strength[groups], word[groups] = found.strength[chosen], found.word[chosen]
        lead[groups], end[groups] = found.lead[chosen], found.end[chosen]
        stronger = (strength[:, None] < strength[None, :]) & (word[:, None] >= word[None, :])
        covered = (stronger & (word[:, None] <= end[None, :])).any(axis=1)
        weak = strength * _FAINT < strength.max()
        return strength, np.where(covered | weak, NOWHERE, word), lead


@dataclass(frozen=True)
class Mentioned:
    """The words at which some groups are mentioned: by group, each group's oldest first."""

    at: CountArray
    """Words, shape (mentions,)."""
    owner: CountArray
    """Index of the group each mentions, ascending."""
    groups: int

    def first(self, among: BoolArray) -> CountArray:
        """Return the first word among some at which each group is mentioned, -1: at none; shape (groups,)."""
        inside = among[self.at]
        result = np.full(self.groups, -1)
        result[self.owner[inside][::-1]] = self.at[inside][::-1]  # of equal indices the last one counts
        return result

    def last(self) -> CountArray:
        """Return the last word at which each group is mentioned, -1: at none; shape (groups,)."""
        result = np.full(self.groups, -1)
        result[self.owner] = self.at
        return result


@dataclass(frozen=True)
class Best:
    """The strongest mention of each record, shape (records,)."""

    strength: CountArray
    word: CountArray
    end: CountArray
    lead: HashArray


@dataclass(frozen=True)
class Hits:
    """Mentions of values of records, by record and word."""

    record: CountArray
    word: CountArray
    weight: np.ndarray[tuple[int], np.dtype[np.float64]]
    leaf: HashArray
    records: int

    def best(self) -> Best:
        """Return where the most is said of each record within a few words; the first of equals."""
        strength, word = np.zeros(self.records, dtype=np.int64), np.full(self.records, NOWHERE)
        end, lead = np.full(self.records, -1), np.zeros(self.records, dtype=np.uint64)
        if not len(self.word):
            return Best(strength, word, end, lead)
        code = self.record * (1 << 32) + self.word
        until = np.searchsorted(code, code + _WINDOW)
        total = np.concatenate([[0.0], np.cumsum(self.weight)])
        sums = np.round((total[until] - total[np.arange(len(code))]) * _PARTS).astype(np.int64)
        order = np.lexsort((self.word, -sums, self.record))
        present, first = np.unique(self.record[order], return_index=True)
        top = order[first]
        strength[present], word[present] = sums[top], self.word[top]
        end[present], lead[present] = self.word[until[top] - 1], self.leaf[top]
        return Best(strength, word, end, lead)


@dataclass(frozen=True)
class Fit:
    """How well places fit what is wished of a partner, shape (places,)."""

    alongside: BoolArray
    """The place stands in the same list as a place of the partner."""
    covered: CountArray
    """Wished values that its record has and the partner's has not."""
    lacking: CountArray
    """Wished values that it has not."""
    unwished: CountArray
    """Values that differ from the partner's and are not wished."""


class Wishes:
    """What is said behind a value's record, up to the next of its kind: what to have instead of it."""

    def __init__(self, mentions: Mentions, partner: int, others: Sequence[int], scope: BoolArray | None) -> None:
        self.mentions, self.table = mentions, mentions.table
        self.partner = partner
        table = self.table
        groups = np.array([partner, *(other for other in others if other != partner)])
        _, words, _ = mentions.of_groups(*table.rows(groups), len(groups), scope)
        self.said = np.zeros(len(table), dtype=np.bool_)
        start = int(words[0])
        if start == NOWHERE:
            return
        end = min([start + _WISH, *(int(word) for word in words[1:] if start < word != NOWHERE)])
        among = np.zeros(len(table.tokens), dtype=np.bool_)
        among[start:end] = True
        if scope is not None:
            among &= scope
        at, starts, ends = table.mentions
        inside = np.concatenate([[0], np.cumsum(among[at])])
        self.said = inside[ends] > inside[starts]

    def fit(self, rows: CountArray) -> Fit:
        """Return how well places fit."""
        table, count = self.table, len(rows)
        own = table.rows(np.array([self.partner]))[0]
        alongside, covered = np.zeros(count, dtype=np.bool_), np.zeros(count, dtype=np.int64)
        lacking, unwished = covered.copy(), covered.copy()
        for row in own[table.record[own] >= 0].tolist():
            beside = (
                (table.position[rows] == table.position[row])
                & (table.hashes[SOURCE, rows] == table.hashes[SOURCE, row])
                & (table.record[rows] >= 0)
                & ~alongside
            )
            if beside.any():
                alongside |= beside
                covered[beside], lacking[beside], unwished[beside] = self._compare(row, table.record[rows[beside]])
        return Fit(alongside, covered, lacking, unwished)

    def _compare(self, row: int, records: CountArray) -> tuple[CountArray, CountArray, CountArray]:
        """Compare records of one answer with the record of the partner's place ``row``."""
        table = self.table
        here = np.flatnonzero(
            (table.position == table.position[row]) & (table.record >= 0) & (table.counts[KIND] == KINDS["string"])
        )
        group, record = table.group[here], table.record[here]
        old = np.zeros(len(table), dtype=np.bool_)
        old[group[record == table.record[row]]] = True
        wished, common = self.said[group] & ~old[group], table.alike[here] > 2
        known, number = np.unique(records, return_inverse=True)
        slot = np.minimum(np.searchsorted(known, record), len(known) - 1)
        ours = known[slot] == record
        pairs = np.unique(np.where(ours & wished, slot * len(table) + group, -1))
        covered = np.bincount(pairs[pairs >= 0] // len(table), minlength=len(known))
        total = len(np.unique(group[wished]))
        strange = np.unique(np.where(ours & ~old[group] & ~self.said[group] & common, slot * len(table) + group, -1))
        unwished = np.bincount(strange[strange >= 0] // len(table), minlength=len(known))
        return covered[number], (total - covered)[number], unwished[number]
