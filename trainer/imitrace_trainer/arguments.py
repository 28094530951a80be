"""Fill a tool's arguments by its JSON schema: typed candidates from the state, one choice a slot, always valid.

The same walk serves training, where the expert's arguments say what to choose, and acting, where a ranker does.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imitrace_trainer.reading import Scalar, value_key
from imitrace_trainer.schemas import enumerated, plain_schema, schema_type

MAX_ITEMS = 12


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
class Filling:
    """What was chosen for this call so far."""

    chosen: list[tuple[str, Choice]] = field(default_factory=list)


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


def choice_key(choice: Choice) -> object:
    """Return a key under which equal choices meet."""
    return choice if isinstance(choice, Marker) else value_key(choice)
