"""Narrow a tool's JSON schema to what can be filled slot by slot, and tell which values it allows."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

Schema = dict[str, Any]

_MAX_REFERENCES = 5


def plain_schema(schema: Any) -> Schema:  # any JSON value can stand where a schema is expected
    """Return a schema without references and alternatives; what is valid for it is valid for ``schema``.

    Of alternatives the first that is not null is taken. What refers to itself ends where it is optional: a list is
    empty, a property left out, null taken.
    """
    return _plain(schema, schema, ()) or {}


def schema_type(schema: Mapping[str, Any]) -> str:
    """Return a schema's type; the first that is not null of several, ``string`` when none is said."""
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((item for item in kind if item != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "string"
    return str(kind)


def enumerated(schema: Mapping[str, Any]) -> list[Any]:  # any JSON values
    """Return the values that a schema enumerates; none: it does not."""
    return [schema["const"]] if "const" in schema else list(schema.get("enum") or ())


def is_of(value: object, kind: str) -> bool:
    """Tell whether a scalar is of a schema type; what JSON can't write, as infinity, is of none."""
    if value is None or isinstance(value, (bool, str)):
        return kind == {type(None): "null", bool: "boolean", str: "string"}[type(value)]
    if isinstance(value, float):
        return (kind == "number" and math.isfinite(value)) or (kind == "integer" and value.is_integer())
    return isinstance(value, int) and kind in ("number", "integer")


def allows(schema: Mapping[str, Any], value: object) -> bool:
    """Tell whether a scalar is of one of a schema's types; of any where none is said."""
    kinds = schema.get("type", ("null", "boolean", "string", "number"))
    return any(is_of(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def blank(schema: Mapping[str, Any]) -> Any:  # any JSON value
    """Return a value that is valid for a schema for which nothing was seen."""
    kinds = {"integer": 0, "number": 0.0, "boolean": False, "null": None}
    return next(iter(enumerated(schema)), kinds.get(schema_type(schema), ""))


def _plain(schema: Any, root: Any, trail: tuple[str, ...]) -> Schema | None:  # any JSON value
    """Return the plain schema, or None for one that would go on for ever; ``trail`` holds the references followed."""
    own: Schema = dict(schema) if isinstance(schema, Mapping) else {}
    parts: list[Schema | None] = []
    if "$ref" in own:
        pointer = str(own.pop("$ref"))
        if pointer in trail or len(trail) == _MAX_REFERENCES:
            return None
        parts.append(_plain(_referred(pointer, root), root, (*trail, pointer)))
    parts += [_plain(part, root, trail) for part in own.pop("allOf", ())]
    parts += [_first(own.pop(key), root, trail) for key in ("anyOf", "oneOf") if own.get(key)]
    result = _inside(own, root, trail)
    for part in parts:
        result = None if result is None or part is None else _merged(part, result)
    return result


def _first(choices: Iterable[Any], root: Any, trail: tuple[str, ...]) -> Schema | None:
    ranked = sorted(choices, key=lambda choice: choice == {"type": "null"})
    return next((plain for choice in ranked if (plain := _plain(choice, root, trail)) is not None), None)


def _inside(schema: Schema, root: Any, trail: tuple[str, ...]) -> Schema | None:
    if isinstance(schema.get("properties"), Mapping):
        properties = {name: _plain(item, root, trail) for name, item in schema["properties"].items()}
        schema["properties"] = {name: item for name, item in properties.items() if item is not None}
        if any(name in properties and properties[name] is None for name in schema.get("required") or ()):
            return None
    if "items" in schema:
        items = _plain(schema["items"], root, trail)
        schema |= {"maxItems": 0, "items": {}} if items is None else {"items": items}
    return schema


def _merged(under: Schema, over: Schema) -> Schema:
    both: Schema = {}
    if "properties" in under or "properties" in over:
        both["properties"] = {**under.get("properties", {}), **over.get("properties", {})}
        both["required"] = [*under.get("required", ()), *over.get("required", ())]
    return {**under, **over, **both}


def _referred(pointer: str, root: Any) -> Any:  # any JSON value can be referred to
    for step in pointer.removeprefix("#").strip("/").split("/"):
        if step:
            root = root.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(root, Mapping) else None
    return root
