"""Gather what could fill a slot of a call, as groups of a state's table of places."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from imitrace_trainer.arguments import MORE, Choice, Filling, Marker, Slot, choice_key
from imitrace_trainer.columns import CLASS, KIND, KINDS, LEAF, SHAPE, SOURCE, CountArray, HashArray, text_id, text_ids
from imitrace_trainer.conformity import CONSTRAINTS, conforms
from imitrace_trainer.places import BoolArray, Places
from imitrace_trainer.reading import Scalar, value_key
from imitrace_trainer.schemas import allows, enumerated, schema_type

MAX_OPTIONS = 250
"""Values at most, besides the markers."""


@dataclass(frozen=True)
class Habits:
    """What training data says of a slot."""

    vocabulary: Sequence[Scalar] = ()
    """Values the expert used again and again."""
    sources: frozenset[str] = frozenset()
    """Where the expert's values were seen; none: anywhere."""
    shapes: frozenset[str] = frozenset()
    """Outlines of nearly all values; none: any."""
    classes: frozenset[str] = frozenset()
    """Coarser outlines of nearly all values; none: any."""

    @cached_property
    def hashes(self) -> dict[int, list[np.uint64]]:
        """The hashes of sources, outlines and coarser outlines, by the column that they stand in."""
        texts = {SOURCE: self.sources, CLASS: self.classes, SHAPE: self.shapes}
        return {column: list(text_ids(sorted(told))) for column, told in texts.items()}


@dataclass
class Trail:
    """What was chosen for a call so far, as groups of the table; -1 for what stands nowhere in it."""

    steps: list[tuple[str, int]] = field(default_factory=list)

    def at(self, path: str) -> list[int]:
        """Return the groups chosen for one path, oldest first."""
        return [group for known, group in self.steps if known == path]

    def newest(self) -> Iterator[int]:
        """Return the groups chosen, newest first, each once."""
        return iter(dict.fromkeys(group for _, group in reversed(self.steps) if group >= 0))

    def before(self, slot: Slot) -> int:
        """Return the newest group chosen for a slot, or inside what it asks for; -1: none."""
        path = slot.path.rstrip("#")
        found = (group for known, group in reversed(self.steps) if known == path or known.startswith(path + "."))
        return next(found, -1)


@dataclass(frozen=True)
class Options:
    """What could fill a slot: markers, then values that are known by heart, then values of the state, newest first."""

    own: list[Choice]
    """The first ones: markers, and values known by heart; the others are the values of their groups."""
    groups: CountArray
    """The group of each, -1 for what stands nowhere, shape (options,)."""

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.groups)

    def value(self, index: int, table: Places) -> Choice:
        """Return the value of an option."""
        if index < len(self.own):
            return self.own[index]
        return table.seen(int(table.newest[self.groups[index]])).value

    def find(self, wanted: object, table: Places) -> int:
        """Return the index of a value or marker; -1: it is not among them."""
        if not isinstance(wanted, (Marker, str, int, float, bool)):
            return -1
        own = next((i for i, value in enumerate(self.own) if choice_key(value) == choice_key(wanted)), -1)
        if own >= 0 or isinstance(wanted, Marker):
            return own
        group = table.group_of(wanted)
        return next(iter(np.flatnonzero(self.groups == group).tolist()), -1) if group >= 0 else -1


def gather(table: Places, slot: Slot, habits: Habits, filling: Filling, trail: Trail) -> Options:
    """Return the values that could fill a slot, each once, at most ``MAX_OPTIONS`` and the markers."""
    values: list[Choice] = list(slot.markers)
    if MORE in slot.markers:
        return Options(values, np.full(len(values), -1))
    taken = {choice_key(value) for path, value in filling.chosen if path == slot.path} if slot.index else set()
    narrowed = not CONSTRAINTS.isdisjoint(slot.schema)
    groups = [-1] * len(values)
    for value in _closed(slot, habits):
        key = value_key(value)
        if key not in taken and allows(slot.schema, value) and (not narrowed or conforms(slot.schema, value)):
            values.append(value)
            groups.append(table.group_of(value))
            taken.add(key)
    if enumerated(slot.schema) or schema_type(slot.schema) == "boolean":
        return Options(values, np.array(groups, dtype=np.int64))
    open_groups = _open(table, slot, habits)
    open_groups[[group for group in (*groups, *(trail.at(slot.path) if slot.index else ())) if group >= 0]] = False
    found = np.flatnonzero(open_groups)
    if narrowed:
        fits = [conforms(slot.schema, table.seen(int(row)).value) for row in table.newest[found]]
        found = found[np.array(fits, dtype=np.bool_)]
    found = found[:MAX_OPTIONS]
    return Options(values, np.concatenate([np.array(groups, dtype=np.int64), found]))


def _closed(slot: Slot, habits: Habits) -> Sequence[Scalar]:
    if enumerated(slot.schema):
        return [value for value in enumerated(slot.schema) if not isinstance(value, (list, dict))]
    return (True, False) if schema_type(slot.schema) == "boolean" else habits.vocabulary


def _open(table: Places, slot: Slot, habits: Habits) -> BoolArray:
    """Return which groups are of the slot's type and origin; of those the ones of its finest outline that any has."""
    newest = table.newest
    fits: BoolArray = (table.counts[KIND, newest] & KINDS.get(schema_type(slot.schema), 0)) > 0
    hashes = habits.hashes
    if hashes[SOURCE]:
        rows = _among(table.hashes[SOURCE], hashes[SOURCE])
        rows |= table.hashes[LEAF] == np.uint64(text_id(slot.leaf))
        near = np.zeros(len(table), dtype=np.bool_)
        near[table.group[rows]] = True
        fits &= near
    for column in (CLASS, SHAPE):
        if hashes[column]:
            alike = fits & _among(table.hashes[column, newest], hashes[column])
            if alike.any():
                return alike
    return fits


def _among(values: HashArray, wanted: Sequence[np.uint64]) -> BoolArray:
    """Tell which values are among a few; for so few ``np.isin`` takes longer."""
    found = np.zeros(len(values), dtype=np.bool_)
    for one in wanted:
        found |= values == one
    return found
