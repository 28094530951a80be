"""Tell what each tool's arguments could take now, by what training taught of where their values come from."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imitrace_trainer.encoding import StateView
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

    def suiting(self, reading: Reading) -> "Mapping[str, Suiting]":
        """Return what of a message suits a slot, by slot."""
        known = reading.kept.get(self)
        if isinstance(known, dict):
            return known
        places: dict[str, list[Seen]] = {}
        for seen in reading.seen:
            for slot, origin in self._of_source.get(seen.source, ()):
                if origin.suits(seen.value):
                    places.setdefault(slot, []).append(seen)
        found = {slot: Suiting({s.value for s in some}, [s for s in some if s.record]) for slot, some in places.items()}
        reading.kept[self] = found
        return found


@dataclass(frozen=True)
class Suiting:
    """What of one message suits a slot."""

    values: set[Scalar]
    in_records: Sequence[Seen]
    """The places that stand in records."""


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
        self._suiting: dict[str, list[tuple[int, Suiting]]] = {}
        for position, reading in enumerate(view.readings):
            for slot, suiting in origins.suiting(reading).items():
                self._suiting.setdefault(slot, []).append((position, suiting))
        self._slots = slots
        self._wanted = self.subject.words or frozenset(view.last_user_words)
        self._found: dict[str, Findings] = {}
        self._shared: dict[tuple[int, str], dict[str, int]] = {}

    def of(self, tool: Mapping[str, Any]) -> list[float]:
        """Return what the arguments of a tool could take, AFFORDANCES numbers; the first slot counts most."""
        view, name = self.view, str(tool["name"])
        called = view.actions.count(name)
        failed = bool(view.calls) and view.calls[-1].error and view.calls[-1].name == name
        result = [min(called, 3) / 3, bool(view.actions) and view.actions[-1] == name, failed]
        slots = self._slots.get(name) or ()
        if not slots:
            return result + [0.0] * (AFFORDANCES - len(result))
        found = [self.found(slot) for slot in slots]
        first = found[0]
        unused, matched = len(first.unused), len(first.matched)
        result += (
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
        for position, suiting in self._suiting.get(slot, ()):
            self._note(result, position, suiting, used)
        return result

    def _note(self, result: Findings, position: int, suiting: Suiting, used: set[Scalar]) -> None:
        """Note what one message has."""
        result.any = True
        unused = suiting.values - used if used else suiting.values
        result.unused |= unused
        if self.view.readings[position].role == "user":
            result.said |= unused
            if position == self.view.last_user:
                result.said_last |= unused
        if position == len(self.view.readings) - 1:
            result.newest |= unused
        for seen in suiting.in_records:
            if self._matches(position, seen):
                if seen.value in used:
                    result.matched_used = True
                else:
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
            counted: dict[str, int] = {}
            for words in _record_words(self.view.readings[position], source):
                for word in words & self._wanted:
                    counted[word] = counted.get(word, 0) + 1
            self._shared[key] = counted
        return self._shared[key]


def _record_words(reading: Reading, source: str) -> Collection[frozenset[str]]:
    """Return the words of each record that has a value of a source."""
    known = reading.kept.get(_record_words)
    if not isinstance(known, dict):
        records: dict[str, dict[int, frozenset[str]]] = {}
        for seen in reading.seen:
            records.setdefault(seen.source, {})[seen.record] = seen.record_words
        known = reading.kept[_record_words] = {of: words.values() for of, words in records.items()}
    found: Collection[frozenset[str]] = known[source]
    return found


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
