"""Fill a tool's arguments by its JSON schema: typed candidates from the state, one choice a slot, always valid.

The same walk serves training, where the expert's arguments say what to choose, and acting, where a ranker does.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imitrace_trainer.conformity import CONSTRAINTS, conforms
from imitrace_trainer.encoding import StateView
from imitrace_trainer.reading import Scalar, Seen, value_key
from imitrace_trainer.schemas import allows, enumerated, is_of, plain_schema, schema_type

MAX_ITEMS = 12
MAX_CANDIDATES = 250
_MAX_PLACES = 6
_MAX_WORDS = 60


class Marker:
    """A choice that is no value."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


OMIT = Marker("OMIT")
"""Leave an optional parameter out."""
STOP = Marker("STOP")
"""End a list."""
MORE = Marker("MORE")
"""Give an optional object or list, or one more object of a list."""

Choice = Scalar | Marker


@dataclass(frozen=True)
class Slot:
    """One choice to make: a parameter of a tool, or an element of it."""

    path: str
    """``TOOL.parameter.property``, list indexes folded; a trailing ``#`` asks whether there is one (more)."""
    schema: Mapping[str, Any]
    markers: tuple[Marker, ...] = ()
    index: int = 0
    """How many elements of the list were chosen before."""

    @property
    def leaf(self) -> str:
        """The parameter's own name."""
        return self.path.rstrip("#").rsplit(".", 1)[-1]


@dataclass
class Candidate:
    """A value that could fill a slot, with all the places it was seen."""

    value: Choice
    places: list[tuple[int, Seen]] = field(default_factory=list)


@dataclass
class Filling:
    """What was chosen for this call so far."""

    chosen: list[tuple[str, Choice]] = field(default_factory=list)
    records: list[tuple[int, int]] = field(default_factory=list)
    """(message position, record) that the chosen values stand in."""

    def note(self, candidate: "Candidate") -> None:
        """Remember where a chosen value stands, so that its neighbours are found again."""
        self.records += [(position, seen.record) for position, seen in candidate.places if seen.record]


Chooser = Callable[[Slot, Filling, Any], Choice]
"""Chooses for a slot; the third argument is the expert's value in training, ``None`` when acting."""


def fill(tool: Mapping[str, Any], choose: Chooser, expert: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return arguments for ``tool``, made by asking ``choose`` slot by slot in the schema's order."""
    schema = plain_schema(tool.get("parameters"))
    walk = _Walk(choose, Filling(), expert is not None)
    return walk.properties(str(tool["name"]), schema, expert)


@dataclass
class _Walk:
    choose: Chooser
    filling: Filling
    training: bool

    def properties(self, path: str, schema: Mapping[str, Any], expert: Any) -> dict[str, Any]:
        required = schema.get("required") or []
        result: dict[str, Any] = {}
        for name, inner in (schema.get("properties") or {}).items():
            gold = expert.get(name, OMIT) if isinstance(expert, Mapping) else (OMIT if self.training else None)
            value = self.value(f"{path}.{name}", inner, gold, optional=name not in required)
            if value is not OMIT:
                result[name] = value
        return result

    def value(self, path: str, schema: Mapping[str, Any], gold: Any, *, optional: bool) -> Any:
        kind = schema_type(schema)
        if kind in ("object", "array") and not enumerated(schema):
            if optional and self.pick(Slot(path + "#", {}, (MORE, OMIT)), OMIT if gold is OMIT else MORE) is OMIT:
                return OMIT
            return self.properties(path, schema, gold) if kind == "object" else self.items(path, schema, gold)
        return self.pick(Slot(path, schema, (OMIT,) if optional else ()), gold)

    def items(self, path: str, schema: Mapping[str, Any], gold: Any) -> list[Any]:
        inner = schema.get("items") or {"type": "string"}
        golds = gold if isinstance(gold, list) else []
        least, most = schema.get("minItems", 0), schema.get("maxItems", MAX_ITEMS)
        result: list[Any] = []
        while len(result) < max(least, min(most, MAX_ITEMS)):
            index = len(result)
            there = index < len(golds)
            markers = (STOP,) if self.training or index >= least else ()
            if schema_type(inner) in ("object", "array") and not enumerated(inner):
                slot = Slot(path + "#", {}, (MORE, *markers), index)
                if self.pick(slot, MORE if there else STOP) is STOP:
                    break
                result.append(self.value(path, inner, golds[index] if there else None, optional=False))
                continue
            picked = self.pick(Slot(path, inner, markers, index), golds[index] if there else STOP)
            if picked is STOP:
                break
            result.append(picked)
        return result

    def pick(self, slot: Slot, gold: Any) -> Choice:
        value = self.choose(slot, self.filling, gold if self.training else None)
        self.filling.chosen.append((slot.path, value))
        return value


@dataclass(frozen=True)
class SlotKnowledge:
    """What training data says of a slot."""

    vocabulary: Sequence[Scalar] = ()
    """Values the expert used again and again."""
    sources: frozenset[str] = frozenset()
    """Where the expert's values were seen; none: anywhere."""


def candidates(view: StateView, slot: Slot, known: SlotKnowledge, chosen: Filling) -> list[Candidate]:
    """Return the values that could fill a slot, newest first, each once, at most ``MAX_CANDIDATES`` and the markers."""
    result = [Candidate(marker) for marker in slot.markers]
    if MORE in slot.markers:
        return result
    kind = schema_type(slot.schema)
    enumeration = [value for value in enumerated(slot.schema) if not isinstance(value, (list, dict))]
    taken = {choice_key(value) for path, value in chosen.chosen if path == slot.path} if slot.index else set()
    narrowed = not CONSTRAINTS.isdisjoint(slot.schema)
    closed: Sequence[Scalar] = enumeration or ((True, False) if kind == "boolean" else known.vocabulary)
    for value in closed:
        key = value_key(value)
        if key not in taken and allows(slot.schema, value) and (not narrowed or conforms(slot.schema, value)):
            result.append(Candidate(value, view.places.get(key, [])[:_MAX_PLACES]))
            taken.add(key)
    if enumerated(slot.schema) or kind == "boolean":
        return result
    for key, places in view.places.items():
        if key in taken or not _suits(places, slot, kind, known):
            continue
        if not narrowed or conforms(slot.schema, places[0][1].value):
            result.append(Candidate(places[0][1].value, places[:_MAX_PLACES]))
            if len(result) >= MAX_CANDIDATES:
                break
    return result


def _suits(places: Sequence[tuple[int, Seen]], slot: Slot, kind: str, known: SlotKnowledge) -> bool:
    """Tell whether a value is of the slot's type and from where the slot's values come."""
    if not _fits(places[0][1], kind):
        return False
    return not known.sources or any(seen.source in known.sources or seen.leaf == slot.leaf for _, seen in places)


def choice_key(choice: Choice) -> object:
    """Return a key under which equal choices meet."""
    return choice if isinstance(choice, Marker) else value_key(choice)


def same_choice(first: Choice, second: object) -> bool:
    """Tell whether a choice is this value (3 is 3.0, 1 is not True)."""
    if isinstance(second, (Marker, str, int, float, bool)):
        return choice_key(first) == choice_key(second)
    return False


def _fits(seen: Seen, kind: str) -> bool:
    value = seen.value
    return is_of(value, kind) and (not isinstance(value, str) or len(value) <= 200)


@dataclass(frozen=True)
class SlotContext:
    """What all candidates of one slot share; computed once."""

    view: StateView
    slot: Slot
    filling: Filling
    last_user: frozenset[str]
    users: frozenset[str]
    closed_words: tuple[str, ...]
    used: set[Scalar]
    overlaps: dict[str, int]
    """Best overlap between a record's words and the user's, by source."""
    newest: dict[str, int]
    """Newest message position of each source."""

    @classmethod
    def make(cls, view: StateView, slot: Slot, filling: Filling, options: Sequence[Candidate]) -> "SlotContext":
        """Gather what the candidates ``options`` of ``slot`` share."""
        last_user, users = frozenset(view.last_user_words), view.user_words
        overlaps: dict[str, int] = {}
        newest: dict[str, int] = {}
        for option in options:
            for position, seen in option.places:
                newest[seen.source] = max(newest.get(seen.source, -1), position)
                overlaps[seen.source] = max(overlaps.get(seen.source, 0), len(seen.record_words & users))
        recent = tuple(dict.fromkeys((*view.last_user_words, *sorted(users))))[:_MAX_WORDS]
        used = view.used.get(slot.path, set())
        return cls(view, slot, filling, last_user, users, recent, used, overlaps, newest)
