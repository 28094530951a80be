"""Tell the ranker of a slot's options: hashed features of all of them at once.

What an option is told by: its outline, where it stands, what stands beside it, where the conversation mentions it and
the record it stands in, and how it relates to what was chosen for the call before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from imitrace_trainer.arguments import Filling, Marker, Slot
from imitrace_trainer.columns import (
    AFTER,
    BEFORE,
    FLAGS,
    KEY,
    LEAF,
    LENGTH,
    ORDINAL,
    SHAPE,
    SOURCE,
    CountArray,
    HashArray,
    mix,
    mixed,
    text_id,
    text_ids,
)
from imitrace_trainer.encoding import StateView
from imitrace_trainer.mentions import NOWHERE, Mentioned, Mentions, Wishes
from imitrace_trainer.options import Options, Trail
from imitrace_trainer.places import BoolArray, Places, spans

_MAX_WORDS = 60
_NONE = 15
_LAST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class OptionRows:
    """Hashed features of a slot's options; in any order, and some twice, unless they are ``distinct``."""

    ids: CountArray
    """Feature ids in [0, 2**31), shape (n,)."""
    owners: CountArray
    """The option each is of, shape (n,)."""

    def distinct(self) -> "OptionRows":
        """Return each option's features once, in the order of the options."""
        codes = np.sort(self.owners << 31 | self.ids)
        codes = codes[np.append(True, codes[1:] != codes[:-1])] if len(codes) else codes
        return OptionRows(codes & 0x7FFFFFFF, codes >> 31)

    def only(self, kept: Sequence[int]) -> "OptionRows":
        """Return the features of some options, in their order; of distinct ones alone."""
        starts = np.searchsorted(self.owners, kept)
        sizes = np.searchsorted(self.owners, kept, "right") - starts
        return OptionRows(self.ids[spans(starts, sizes)], np.repeat(np.arange(len(kept)), sizes))


_Codes = HashArray | CountArray | BoolArray


@dataclass
class _Sheet:
    """Features as they are told; hashed together in the end, for one by one the calls would cost more than the sums."""

    slot: int
    told: dict[int, list[tuple[CountArray, int, tuple[_Codes, ...]]]] = field(default_factory=dict)
    """By the number of codes: whose they are, what their hash begins with, and the codes."""

    def tell(self, owners: CountArray, name: str, *codes: _Codes) -> None:
        """Tell something of options, for this slot alone."""
        self._add(owners, _beginning(name, self.slot), codes)

    def tell_all(self, owners: CountArray, name: str, *codes: _Codes) -> None:
        """Tell something that counts for every slot."""
        self._add(owners, text_id(name), codes)

    def _add(self, owners: CountArray, base: int, codes: tuple[_Codes, ...]) -> None:
        self.told.setdefault(len(codes), []).append((owners, base, codes))

    def rows(self) -> OptionRows:
        """Return all that was told."""
        ids, owners = [], []
        for count, told in self.told.items():
            sizes = [len(of) for of, _, _ in told]
            joined = np.repeat(np.array([base for _, base, _ in told], dtype=np.uint64), sizes)
            for number in range(count):
                parts = [codes[number] for _, _, codes in told]
                joined = mixed(joined, np.concatenate(parts, dtype=np.uint64, casting="unsafe"))
            ids.append((joined >> np.uint64(33)).astype(np.int64))
            owners += [of for of, _, _ in told]
        return OptionRows(np.concatenate(ids), np.concatenate(owners))


@lru_cache(maxsize=50_000)
def _beginning(name: str, slot: int) -> int:
    return mix(text_id(name), slot)


class Ranking:
    """Tell of the options of one state's slots."""

    def __init__(self, view: StateView) -> None:
        self.view = view
        self.table: Places = view.table
        self.mentions = Mentions(view.table, view.last_user)

    @cached_property
    def shared_words(self) -> tuple[tuple[CountArray, CountArray], tuple[CountArray, CountArray]]:
        """Words that places' records share with all that the user said, and with what he said last."""
        said = self.view.user_words, frozenset(self.view.last_user_words)
        return self.table.shared_words(said[0]), self.table.shared_words(said[1])

    @cached_property
    def _words(self) -> HashArray:
        recent = dict.fromkeys((*self.view.last_user_words, *sorted(self.view.user_words)))
        return text_ids(list(recent)[:_MAX_WORDS])

    @cached_property
    def _context(self) -> HashArray:
        """What a value that is known by heart is crossed with."""
        last = self.view.readings[-1].facts[:30] if self.view.readings else ()
        return text_ids([*last, *(f"called {name}" for name in self.view.actions[-3:])])

    def features(self, slot: Slot, options: Options, filling: Filling, trail: Trail) -> OptionRows:
        """Return the features of all options of a slot."""
        sheet = _Sheet(text_id(slot.path))
        recent = [(path, str(value)) for path, value in filling.chosen[-3:]]
        after = text_ids(f"after {path}={value}" for path, value in recent if len(value) < 30)
        state = _State(self, slot, trail, options)
        closed, enumerated = [], bool(slot.schema.get("enum"))
        for row, value in enumerate(options.own):
            if isinstance(value, Marker):
                self._tell_marker(sheet, row, value, state, after)
            elif options.groups[row] < 0 or enumerated or isinstance(value, bool):
                closed.append(row)
        if closed:
            self._tell_closed(sheet, closed, options, after)
        if len(state.groups):
            state.tell_values(sheet)
            state.tell_places(sheet)
        return sheet.rows()

    def _tell_closed(self, sheet: _Sheet, closed: Sequence[int], options: Options, after: HashArray) -> None:
        rows = np.array(closed)
        keys = text_ids(repr(options.own[row]) for row in closed)
        crossed = np.concatenate([self._words, after, self._context])
        sheet.tell(rows, "closed", keys)
        sheet.tell(
            np.repeat(rows, len(crossed)), "crossed", np.repeat(keys, len(crossed)), np.tile(crossed, len(closed))
        )
        sheet.tell(rows[options.groups[rows] < 0], "unseen")

    def _tell_marker(self, sheet: _Sheet, row: int, marker: object, state: "_State", after: HashArray) -> None:
        owner, name = np.array([row]), str(marker)
        crossed = np.concatenate([self._words, after])
        sheet.tell(np.full(len(crossed), row), name, crossed)
        index = np.array([min(state.slot.index, 6)])
        for told, code in (("index", index), ("left", np.array([state.left])), ("waiting", np.array([state.waiting]))):
            sheet.tell(owner, name + told, code)
            sheet.tell_all(owner, name + told, code)
        for path, sign in state.partners_left():
            code = np.array([sign + 1])
            sheet.tell(owner, name + "partner", code, np.array([text_id(path)], dtype=np.uint64))
            sheet.tell_all(owner, name + "partner", code)


class _State:
    """What is known while one slot is filled."""

    def __init__(self, ranking: Ranking, slot: Slot, trail: Trail, options: Options) -> None:
        self.table, self.mentions, self.view = ranking.table, ranking.mentions, ranking.view
        self.shared_words = ranking.shared_words
        self.slot, self.trail = slot, trail
        self.owners: CountArray = np.flatnonzero(options.groups >= 0)
        self.groups: CountArray = options.groups[self.owners]
        self.by_heart: BoolArray = self.owners < len(options.own)
        groups = self.groups
        self.rows, self.of_row = self.table.rows(groups)
        self.scope = self.mentions.scope(trail)
        self.used = self.table.used(SOURCE, text_id(f"args:{slot.path.rstrip('#')}"))[groups]
        self.handled = self.table.used(LEAF, text_id(slot.leaf))[groups]
        chosen = trail.at(slot.path)
        self.taken: BoolArray = np.isin(groups, chosen) if chosen else np.zeros(len(groups), dtype=np.bool_)

    @cached_property
    def _kind(self) -> CountArray:
        """The source of each place, by its number among the options'."""
        return np.asarray(np.unique(self.table.hashes[SOURCE, self.rows], return_inverse=True)[1])

    @cached_property
    def left(self) -> int:
        """How many values stand behind the slot's value before, where most do; _NONE: there was none before."""
        before = self.trail.before(self.slot)
        if before < 0:
            return _NONE
        table = self.table
        counts = [0]
        for row in table.rows(np.array([before]))[0].tolist():
            beside = (table.position == table.position[row]) & (table.hashes[SOURCE] == table.hashes[SOURCE, row])
            if table.counts[4, row] == 4:
                counts.append(int((beside & (table.counts[ORDINAL] > table.counts[ORDINAL, row])).sum()))
        return min(max(counts), 4)

    @cached_property
    def records(self) -> tuple[CountArray, CountArray, HashArray]:
        """Strength, word and leading leaf of where each option's records are mentioned."""
        return self.mentions.of_groups(self.rows, self.of_row, len(self.groups), self.scope)

    @cached_property
    def waiting(self) -> int:
        """How many options are mentioned in scope and not taken yet."""
        return min(int(((self.records[1] != NOWHERE) & ~self.taken).sum()), 4) if len(self.groups) else 0

    def partners_left(self) -> list[tuple[str, int]]:
        """Return for each other list of the call whether it is longer (1), as long (0) or shorter (-1)."""
        tool = self.slot.path.split(".", 1)[0]
        paths = dict.fromkeys(path for path, _ in self.trail.steps if path.startswith(tool + "."))
        own = self.slot.path.rstrip("#")
        sizes = {path: len(self.trail.at(path)) for path in paths if path != own and not path.startswith(own + ".")}
        return [(path, int(np.sign(size - self.slot.index))) for path, size in sizes.items()]

    def partner(self) -> tuple[str, int]:
        """Return the path and the group of the newest other list's element of the same index, -1: there is none."""
        own, index = self.slot.path, self.slot.index
        for path in dict.fromkeys(path for path, _ in reversed(self.trail.steps)):
            found = self.trail.at(path)
            if path != own and len(found) > index and found[index] >= 0 and "#" not in path:
                return path, found[index]
        return "", -1

    def tell_values(self, sheet: _Sheet) -> None:
        """Tell of the values themselves, wherever they stand."""
        table, owners, mentions = self.table, self.owners, self.mentions
        newest = table.newest[self.groups]
        length = np.minimum(table.counts[LENGTH, newest], 40) // 4
        sheet.tell(owners, "shape", table.hashes[SHAPE, newest])
        sheet.tell(owners, "length", length)
        mentioned = mentions.of(self.groups)
        said, said_last = mentioned.first(mentions.users), mentioned.first(mentions.last_user)
        asked = mentioned.first(mentions.last_assistant)
        for name, code in (("used", self.used), ("handled", self.handled), ("again", self.taken)):
            sheet.tell(owners, name, code)
            sheet.tell_all(owners, name, code)
        said_code = (said >= 0) * 4 + (said_last >= 0) * 2 + (asked >= 0)
        sheet.tell(owners, "said", said_code)
        sheet.tell_all(owners, "said", said_code)
        sheet.tell(owners[self.by_heart], "value", table.hashes[KEY, newest[self.by_heart]])
        at = {"said rank": said, "said last rank": said_last, "asked rank": asked, "newest rank": mentioned.last()}
        scopes = {"scope": self.scope, "near": mentions.near(self.trail)}
        inside = {name: scope for name, scope in scopes.items() if scope is not None}
        at |= {name: mentioned.first(scope) for name, scope in inside.items()}
        words = np.stack(list(at.values()))
        order = words * np.array([[-1 if name == "newest rank" else 1] for name in at])
        ranks = _ranks(order, (words >= 0) & ~self.used & ~self.taken)
        for name, rank in zip(at, ranks, strict=True):
            sheet.tell(owners, name, rank)
            sheet.tell_all(owners, name, rank)
            if name in inside:
                self._tell_scope(sheet, name, mentioned, inside[name], rank)

    def _tell_scope(self, sheet: _Sheet, name: str, mentioned: Mentioned, scope: BoolArray, rank: CountArray) -> None:
        """Tell of the words in front of mentions in scope."""
        inside = scope[mentioned.at] & (mentioned.at > 0)
        before, owner = self.table.tokens[mentioned.at[inside] - 1], mentioned.owner[inside]
        sheet.tell(self.owners[owner], name + " before", before)
        sheet.tell(self.owners[owner], name + " rank before", rank[owner], before)

    def tell_places(self, sheet: _Sheet) -> None:
        """Tell of the places at which the values stand."""
        table, rows, slot = self.table, self.rows, self.slot
        owners = self.owners[self.of_row]
        source, leaf, position = table.hashes[SOURCE, rows], table.hashes[LEAF, rows], table.position[rows]
        same_leaf = leaf == np.uint64(text_id(slot.leaf))
        ordinal = table.counts[ORDINAL, rows]
        step, latest, same = self._near()
        strength, _, lead = (part[self.of_row] for part in self.records)
        free = ~self.used & ~self.taken
        first = _ranks_within(mixed(source, position.astype(np.uint64)), ordinal, free[self.of_row])
        rank = _ranks(self.records[1], (self.records[1] != NOWHERE) & free)[self.of_row]
        best = (strength == strength.max(initial=0)) & (strength > 0)
        distance = np.minimum(len(table.readings) - position, 12)
        newest = position == _highest(self._kind, position)
        near = np.minimum(ordinal, 5)
        for name, codes in (
            ("step", (step,)),
            ("latest", (latest, leaf)),
            ("leaf", (leaf,)),
            ("source", (source,)),
            ("source step", (source, step)),
            ("source newest", (source, newest)),
            ("source ordinal", (source, near)),
            ("source record", (source, same)),
            ("source distance", (source, distance)),
            ("source index", (source, near, np.full(len(rows), min(slot.index, 4)))),
            ("source first", (source, first)),
            ("source flags", (source, table.hashes[FLAGS, rows])),
            ("record rank", (source, rank)),
            ("record strength", (source, best, np.minimum(strength, 6))),
            ("record lead", (source, lead, np.minimum(rank, 2))),
            ("before", (table.hashes[BEFORE, rows],)),
            ("after", (table.hashes[AFTER, rows],)),
        ):
            sheet.tell(owners, name, *codes)
        for name, codes in (
            ("latest", (latest, same_leaf)),
            ("same leaf", (same_leaf,)),
            ("same record", (same, same_leaf)),
            ("first", (first,)),
            ("record rank", (rank,)),
        ):
            sheet.tell_all(owners, name, *codes)
        self._tell_words(sheet)
        path, group = self.partner()
        if group >= 0:
            self._tell_wishes(sheet, path, group)

    def _tell_words(self, sheet: _Sheet) -> None:
        """Tell which records have single words of the user's."""
        source, owners = self.table.hashes[SOURCE, self.rows], self.owners[self.of_row]
        (shared, own), (last, own_last) = ((part[self.rows] for part in pair) for pair in self.shared_words)
        most = (shared > 0) & (shared == _highest(self._kind, shared))
        sheet.tell(owners, "source words", source, most, np.minimum(shared, 4))
        sheet.tell(owners, "source own words", source, most, np.minimum(own, 3))
        sheet.tell(owners, "source last words", source, np.minimum(last, 4), np.minimum(own_last, 3))
        sheet.tell_all(owners, "own words", most, own > 0)

    def _tell_wishes(self, sheet: _Sheet, path: str, group: int) -> None:
        others = self.trail.at(path)
        wishes = Wishes(self.mentions, group, [other for other in others if other >= 0], self.scope)
        fit = wishes.fit(self.rows)
        owners = self.owners[self.of_row]
        own = np.full(len(self.rows), text_id(path), dtype=np.uint64)
        score = fit.covered - fit.lacking - fit.unwished
        best = fit.alongside & (score == score[fit.alongside].max(initial=-99))
        codes = (fit.alongside, np.minimum(fit.covered, 3), np.minimum(fit.lacking, 2), np.minimum(fit.unwished, 2))
        for tell in (sheet.tell, sheet.tell_all):
            tell(owners, "wishes", *codes)
            tell(owners, "best wish", fit.alongside, best)
            tell(owners, "unwished", fit.alongside, np.minimum(fit.unwished, 3))
            tell(owners, "lacking", fit.alongside, np.minimum(fit.lacking, 3))
        sheet.tell(owners, "partner", own, fit.alongside, best)
        sheet.tell(owners, "best flags", best, self.table.hashes[FLAGS, self.rows])

    def _near(self) -> tuple[CountArray, BoolArray, BoolArray]:
        """Return how each place stands to the slot's value before, to the value chosen last, and to all chosen."""
        table, rows = self.table, self.rows
        step = np.full(len(rows), _NONE)
        before = self.trail.before(self.slot)
        if before >= 0:
            for row in table.rows(np.array([before]))[0].tolist():
                beside = (table.position[rows] == table.position[row]) & (
                    table.hashes[SOURCE, rows] == table.hashes[SOURCE, row]
                )
                gap = np.clip(table.counts[ORDINAL, rows] - table.counts[ORDINAL, row], -1, 3) + 1
                step = np.where(beside, gap, step)
        chosen = list(self.trail.newest())
        latest, same = np.zeros(len(rows), dtype=np.bool_), np.zeros(len(rows), dtype=np.bool_)
        record = table.object[rows]
        for index, group in enumerate(chosen):
            beside = (record >= 0) & np.isin(record, table.object[table.rows(np.array([group]))[0]])
            latest = beside if index == 0 else latest
            same |= beside
        return step, latest, same


def _ranks(order: CountArray, valid: BoolArray) -> CountArray:
    """Return the rank of each by ``order`` among the valid ones of its row, at most 6; _NONE for the others."""
    ranks = np.where(valid, order, _LAST).argsort(axis=-1, kind="stable").argsort(axis=-1, kind="stable")
    return np.where(valid, np.minimum(ranks, 6), _NONE)


def _ranks_within(kind: HashArray, order: CountArray, valid: BoolArray) -> CountArray:
    """Return the rank of each by ``order`` among the valid ones of its kind, at most 4; _NONE for the others."""
    result = np.full(len(order), _NONE)
    kept = np.flatnonzero(valid)
    if len(kept):
        sorted_rows = kept[np.lexsort((order[kept], kind[kept]))]
        fresh = np.concatenate([[True], kind[sorted_rows][1:] != kind[sorted_rows][:-1]])
        starts = np.maximum.accumulate(np.where(fresh, np.arange(len(sorted_rows)), 0))
        result[sorted_rows] = np.minimum(np.arange(len(sorted_rows)) - starts, 4)
    return result


def _highest(kind: CountArray, count: CountArray) -> CountArray:
    """Return the highest count of each one's kind, kinds being numbered from 0."""
    highest = np.full(int(kind.max(initial=-1)) + 1, -1)
    np.maximum.at(highest, kind, count)
    return np.asarray(highest[kind])
