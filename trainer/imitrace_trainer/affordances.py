"""Tell what each tool's arguments could take now, by what training taught of where their values come from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from imitrace_trainer.encoding import FloatArray, StateView
from imitrace_trainer.reading import Reading, Scalar, Seen, value_class, value_shape
from imitrace_trainer.schemas import enumerated, plain_schema, schema_type
from imitrace_trainer.subjects import Subject, find_subject

AFFORDANCES = 20
"""What is told of one tool (see ``Affordances.of``)."""


@dataclass(frozen=True)
class SlotOrigin:
    """Where a slot's values came from in training, and what they looked like; nothing: they may look like anything."""

    sources: frozenset[str] = frozenset()
    shapes: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()

    def suits(self, value: Scalar) -> bool:
        """Tell whether a value looks like the slot's."""
        if self.shapes:
            return value_shape(value) in self.shapes
        return not self.classes or value_class(value) in self.classes


class Origins:
    """Where the slots' values come from; what of a message suits which slot is worked out once."""

    def __init__(self, slots: Mapping[str, SlotOrigin]) -> None:
        self.slots = slots
        self._of_source: dict[str, list[tuple[str, SlotOrigin]]] = {}
        for slot, origin in slots.items():
            for source in origin.sources:
                self._of_source.setdefault(source, []).append((slot, origin))

    def __contains__(self, slot: str) -> bool:
        """Tell whether training saw a slot filled."""
        return slot in self.slots

    def suiting(self, reading: Reading) -> Mapping[str, Sequence[Seen]]:
        """Return the places of a message whose values suit a slot, by slot."""
        known = reading.kept.get(self)
        if isinstance(known, dict):
            return known
        found: dict[str, list[Seen]] = {}
        for seen in reading.seen:
            for slot, origin in self._of_source.get(seen.source, ()):
                if origin.suits(seen.value):
                    found.setdefault(slot, []).append(seen)
        reading.kept[self] = found
        return found


@dataclass
class Findings:
    """The values in one state that a slot could take, by where they stand and whether they were used."""

    any: bool = False
    unused: set[Scalar] = field(default_factory=set)
    said: set[Scalar] = field(default_factory=set)
    """Unused, and in a message of the user."""
    said_last: set[Scalar] = field(default_factory=set)
    """Unused, and in the user's last message."""
    newest: set[Scalar] = field(default_factory=set)
    """Unused, and in the newest message."""
    matched: set[Scalar] = field(default_factory=set)
    """Unused, and in a record that has a word of the user's which no record beside it has."""
    matched_used: bool = False


class Affordances:
    """What the tools' arguments could take in one state."""

    def __init__(self, view: StateView, origins: Origins, slots: Mapping[str, list[str]]) -> None:
        self.view = view
        self.subject: Subject = find_subject(view)
        suiting = enumerate(map(origins.suiting, view.readings))
        self._suiting = [(position, found) for position, found in suiting if found]
        self._slots = slots
        self._wanted = self.subject.words or frozenset(view.last_user_words)
        self._found: dict[str, Findings] = {}
        self._shared: dict[tuple[int, str], dict[str, int]] = {}

    def of(self, tool: Mapping[str, Any]) -> FloatArray:
        """Return what the arguments of a tool could take, shape (AFFORDANCES,); the first slot counts most."""
        view, name = self.view, str(tool["name"])
        result = np.zeros(AFFORDANCES, dtype=np.float32)
        called = view.actions.count(name)
        failed = bool(view.calls) and view.calls[-1].error and view.calls[-1].name == name
        result[:3] = min(called, 3) / 3, bool(view.actions) and view.actions[-1] == name, failed
        slots = self._slots.get(name) or ()
        if not slots:
            return result
        found = [self.found(slot) for slot in slots]
        first = found[0]
        unused, matched = len(first.unused), len(first.matched)
        result[3:] = (
            1,
            all(one.any for one in found),
            unused > 0,
            min(unused, 4) / 4,
            first.any and not unused,
            bool(first.said),
            min(len(first.said), 3) / 3,
            bool(first.said_last),
            bool(first.newest),
            unused == 1,
            matched > 0,
            matched == 1,
            min(matched, 3) / 3,
            first.matched_used,
            bool(first.unused) and not first.said,
            all(one.unused for one in found),
            sum(bool(one.said_last) for one in found) / len(found),
        )
        return result

    def found(self, slot: str) -> Findings:
        """Return the values that a slot could take."""
        if slot not in self._found:
            self._found[slot] = self._search(slot)
        return self._found[slot]

    def _search(self, slot: str) -> Findings:
        result, used = Findings(), self.view.used.get(slot, set())
        for position, suiting in self._suiting:
            if slot in suiting:
                self._note(result, position, suiting[slot], used)
        return result

    def _note(self, result: Findings, position: int, places: Sequence[Seen], used: set[Scalar]) -> None:
        """Note the places of one message."""
        kinds = [result.unused]
        if self.view.readings[position].role == "user":
            kinds += [result.said, result.said_last] if position == self.view.last_user else [result.said]
        if position == len(self.view.readings) - 1:
            kinds.append(result.newest)
        result.any = True
        for seen in places:
            matched = bool(seen.record) and self._matches(position, seen)
            if seen.value in used:
                result.matched_used |= matched
                continue
            for kind in kinds:
                kind.add(seen.value)
            if matched:
                result.matched.add(seen.value)

    def _matches(self, position: int, seen: Seen) -> bool:
        """Tell whether a record has a word of the user's that no record beside it has."""
        wanted = seen.record_words & self._wanted
        if not wanted:
            return False
        shared = self._shared_words(position, seen.source)
        return any(shared[word] == 1 for word in wanted)

    def _shared_words(self, position: int, source: str) -> dict[str, int]:
        """Return how many records of one answer have each of the user's words."""
        key = (position, source)
        if key not in self._shared:
            records = {seen.record: seen for seen in self.view.readings[position].seen if seen.source == source}
            counted: dict[str, int] = {}
            for seen in records.values():
                for word in seen.record_words & self._wanted:
                    counted[word] = counted.get(word, 0) + 1
            self._shared[key] = counted
        return self._shared[key]


def open_slots(tool: Mapping[str, Any]) -> list[str]:
    """Return the required scalar parameters of a tool that no enumeration closes."""
    schema = plain_schema(tool.get("parameters"))
    properties = schema.get("properties") or {}
    return [
        f"{tool['name']}.{name}"
        for name in schema.get("required") or []
        if name in properties
        and schema_type(properties[name]) in ("string", "number", "integer")
        and not enumerated(properties[name])
    ]
