"""Say what changed between two contracts of a tool, argument by argument, and what of it breaks old calls; pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imitrace.canonical import canonical_json
from imitrace_trainer.argument_fit import is_type, properties, resolved

_MAX_DEPTH = 8


@dataclass(frozen=True)
class Change:
    """One difference of two contracts."""

    argument: str
    """Where: ``boxes[].sku``; empty for the tool itself."""
    text: str
    """What, for people: ``added, required``."""
    breaking: bool
    """Whether a call that fitted the old contract may not fit the new one."""
    absent: bool = False
    """Whether it breaks calls that lack the argument, not those that have it."""

    @property
    def top(self) -> str:
        """The argument that it lies in."""
        return self.argument.split(".")[0].removesuffix("[]")

    def __str__(self) -> str:
        return f"{self.argument}: {self.text}" if self.argument else self.text


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Return the differences of two definitions ``{name, description, parameters}`` of a tool."""
    found = list(_object(_Side.of(old), _Side.of(new), "", 0))
    if old.get("description") != new.get("description"):
        found.append(Change("", "description changed", breaking=False))
    return found


@dataclass(frozen=True)
class _Side:
    """A schema, and the root that its references mean."""

    schema: Mapping[str, Any]
    root: Mapping[str, Any]

    @classmethod
    def of(cls, definition: Mapping[str, Any]) -> "_Side":
        root = definition.get("parameters")
        root = root if isinstance(root, Mapping) else {}
        return cls(resolved(root, root), root)

    def inner(self, schema: object) -> "_Side":
        return _Side(resolved(schema, self.root), self.root)

    @property
    def required(self) -> list[str]:
        return list(self.schema.get("required") or ())

    @property
    def kinds(self) -> set[str] | None:
        """The types that it allows, None for any."""
        kind = self.schema.get("type")
        if kind is not None:
            return {kind} if isinstance(kind, str) else set(kind)
        choices = self.schema.get("anyOf") or self.schema.get("oneOf")
        each = [self.inner(choice).kinds for choice in choices or ()]
        known = [kinds for kinds in each if kinds is not None]
        return set().union(*known) if each and len(known) == len(each) else None

    @property
    def values(self) -> dict[str, Any] | None:
        """The values that it enumerates by their canonical JSON, None when it does not."""
        allowed = [self.schema["const"]] if "const" in self.schema else self.schema.get("enum")
        return None if allowed is None else {canonical_json(value): value for value in allowed}


def _object(old: _Side, new: _Side, path: str, depth: int) -> Iterator[Change]:
    before, after = properties(old.schema), properties(new.schema)
    welcome = bool(new.schema.get("additionalProperties")) or not new.schema
    for name in [*before, *(name for name in after if name not in before)]:
        where = f"{path}.{name}" if path else name
        if name not in after:
            yield Change(where, "removed", breaking=not welcome)
        elif name not in before:
            must = name in new.required
            yield Change(where, "added, required" if must else "added, optional", breaking=must, absent=True)
        else:
            if (name in new.required) != (name in old.required):
                must = name in new.required
                yield Change(where, "now required" if must else "now optional", breaking=must, absent=True)
            yield from _value(old.inner(before[name]), new.inner(after[name]), where, depth + 1)


def _value(old: _Side, new: _Side, path: str, depth: int) -> Iterator[Change]:
    if depth > _MAX_DEPTH:
        return
    if old.kinds != new.kinds:
        text = f"type changed from {_kinds(old.kinds)} to {_kinds(new.kinds)}"
        yield Change(path, text, breaking=not _wider(old, new))
    yield from _enumeration(old, new, path)
    if old.schema.get("description") != new.schema.get("description"):
        yield Change(path, "description changed", breaking=False)
    yield from _object(old, new, path, depth)
    if "items" in old.schema and "items" in new.schema:
        inner = old.inner(old.schema["items"]), new.inner(new.schema["items"])
        yield from _value(*inner, f"{path}[]", depth + 1)


def _enumeration(old: _Side, new: _Side, path: str) -> Iterator[Change]:
    before, after = old.values, new.values
    if after is None:
        if before is not None:
            yield Change(path, "values are free now", breaking=False)
        return
    if before is None:
        yield Change(path, f"values are limited to {', '.join(after)} now", breaking=True)
        return
    gone = [text for text in before if text not in after]
    come = [text for text in after if text not in before]
    if gone:
        yield Change(path, f"values gone: {', '.join(gone)}", breaking=True)
    if come:
        yield Change(path, f"values added: {', '.join(come)}", breaking=False)


def _wider(old: _Side, new: _Side) -> bool:
    """Tell whether all that was of the old types is of the new ones."""
    if new.kinds is None:
        return True
    allowed = new.kinds | ({"integer"} if "number" in new.kinds else set())
    if old.kinds is not None:
        return old.kinds <= allowed
    values = old.values
    return values is not None and all(any(is_type(value, kind) for kind in allowed) for value in values.values())


def _kinds(kinds: set[str] | None) -> str:
    return " or ".join(sorted(kinds)) if kinds else "any"
