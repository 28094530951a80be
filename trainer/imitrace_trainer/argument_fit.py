"""Tell whether a call's arguments fit a tool's contract, by its JSON schema; pure.

Types, enumerations, required and undeclared properties, items, bounds, alternatives and local references are looked at;
patterns and formats are not.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from imitrace.canonical import canonical_json

_MAX_DEPTH = 24
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "object": (Mapping,),
    "array": (list, tuple),
    "boolean": (bool,),
    "null": (type(None),),
    "number": (int, float),
}
_GLANCE: Final[Mapping[str, set[type]]] = {"string": {str}, "integer": {int}, "number": {int, float}, "boolean": {bool}}
_UNKNOWN: Final[tuple[set[type], set[str] | None]] = (set(), None)
_NUMBER, _TEXT, _LIST = (int, float), (str,), (list, tuple)
_PLAIN: Final = {"type", "properties", "required", "additionalProperties", "description", "title", "$schema"}
_PLAIN_VALUE: Final = {"type", "enum", "description", "title", "default", "examples", "format", "pattern"}
_BOUNDS: Final[Mapping[str, tuple[tuple[type, ...], Callable[[Any, Any], bool]]]] = {
    "minimum": (_NUMBER, operator.ge),
    "maximum": (_NUMBER, operator.le),
    "exclusiveMinimum": (_NUMBER, operator.gt),
    "exclusiveMaximum": (_NUMBER, operator.lt),
    "minLength": (_TEXT, lambda value, bound: len(value) >= bound),
    "maxLength": (_TEXT, lambda value, bound: len(value) <= bound),
    "minItems": (_LIST, lambda value, bound: len(value) >= bound),
    "maxItems": (_LIST, lambda value, bound: len(value) <= bound),
}


def misfit(schema: object, arguments: Mapping[str, Any], *, strict: bool = False) -> str | None:
    """Say why a call's arguments don't fit a schema, None when they do.

    Args:
        schema: the tool's ``parameters``; none: everything fits.
        arguments: the call's.
        strict: also refuse an argument that the schema does not name, unless it says that others are welcome. A call
            that was made under another contract may hold what the tool no longer takes.
    """
    if not isinstance(schema, Mapping) or not schema:
        return None
    if strict:
        unknown = next((name for name in arguments if not declares(schema, name)), None)
        if unknown is not None:
            return f"argument {unknown!r} is unknown"
    return _problem(schema, arguments, schema, ("",), 0)


def misfit_of(schema: object, *, strict: bool = False) -> Callable[[Mapping[str, Any]], str | None]:
    """Return ``misfit`` for one schema, ready for many calls: scalars of a plain schema are told at a glance."""
    plain = _plain_kinds(schema)
    required = list(schema.get("required") or ()) if isinstance(schema, Mapping) else []

    def ask(arguments: Mapping[str, Any]) -> str | None:
        for name, value in arguments.items():
            kinds, values = plain.get(name, _UNKNOWN)
            if type(value) not in kinds or (values is not None and value not in values):
                return misfit(schema, arguments, strict=strict)
        if plain and all(name in arguments for name in required):
            return None
        return misfit(schema, arguments, strict=strict)

    return ask


def all_fit(schema: object) -> bool:
    """Tell whether every call fits a schema, as it asks nothing of its arguments."""
    if not isinstance(schema, Mapping) or not schema:
        return True
    plain = schema.keys() <= _PLAIN and schema.get("type", "object") == "object"
    asks = schema.get("required") or schema.get("additionalProperties", True) is not True
    return plain and not asks and not any(part is not True and part != {} for part in properties(schema).values())


def declares(schema: Mapping[str, Any], name: str) -> bool:
    """Tell whether a tool's schema names an argument, or says that others than those it names are welcome."""
    schema = resolved(schema, schema)
    named = name in properties(schema) or bool(schema.get("additionalProperties"))
    parts = [part for key in ("allOf", "anyOf", "oneOf") for part in schema.get(key) or ()]
    return named or any(isinstance(part, Mapping) and declares({**schema, **_bare(part)}, name) for part in parts)


def properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the schemas of an object's properties, empty when it says none."""
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else {}


def resolved(schema: object, root: object) -> Mapping[str, Any]:
    """Return a schema with a local ``$ref`` of its own followed; what is no schema is the empty one."""
    for _ in range(_MAX_DEPTH):
        if not isinstance(schema, Mapping):
            return {}
        if not isinstance(schema.get("$ref"), str):
            return schema
        schema = {**_referred(schema["$ref"], root), **{key: item for key, item in schema.items() if key != "$ref"}}
    return {}


def is_type(value: object, kind: object) -> bool:
    """Tell whether a JSON value is of a schema type; an unknown type is any."""
    if kind == "integer":
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return whole and not isinstance(value, bool)
    if kind not in _TYPES:
        return True
    return isinstance(value, _TYPES[str(kind)]) and (kind == "boolean" or not isinstance(value, bool))


def same_value(first: object, second: object) -> bool:
    """Tell whether two JSON values are equal: 3 is 3.0, and 1 is not true."""
    if type(first) is type(second) and isinstance(first, str | bool | int):
        return first == second
    if is_type(first, "number") and is_type(second, "number"):
        return first == second
    return type(first) is type(second) and canonical_json(first) == canonical_json(second)


def numbers_folded(value: Any) -> Any:  # any JSON value
    """Return a JSON value in which every number that is whole is written so: 3.0 is 3."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: numbers_folded(item) for key, item in value.items()}
    return [numbers_folded(item) for item in value] if isinstance(value, list) else value


def _plain_kinds(schema: object) -> dict[str, tuple[set[type], set[str] | None]]:
    """Return by argument the types and texts that are sure to fit; empty for a schema that says more than that."""
    if not isinstance(schema, Mapping) or not schema.keys() <= _PLAIN or schema.get("type", "object") != "object":
        return {}
    told: dict[str, tuple[set[type], set[str] | None]] = {}
    for name, part in properties(schema).items():
        kind = part.get("type") if isinstance(part, Mapping) and part.keys() <= _PLAIN_VALUE else None
        values = part.get("enum") if kind else None
        if not isinstance(kind, str) or kind not in _GLANCE or (values is not None and kind != "string"):
            continue
        told[name] = (_GLANCE[kind], None if values is None else {v for v in values if isinstance(v, str)})
    return told


def _problem(schema: object, value: object, root: object, path: tuple[str, ...], depth: int) -> str | None:
    if schema is False:
        return f"{_named(path)} is not allowed"
    schema = resolved(schema, root)
    if not schema or depth > _MAX_DEPTH:
        return None
    return (
        _of_type(schema, value, path)
        or _of_values(schema, value, path)
        or _within(schema, value, path)
        or _inside(schema, value, root, path, depth)
        or _of_alternatives(schema, value, root, path, depth)
    )


def _of_type(schema: Mapping[str, Any], value: object, path: tuple[str, ...]) -> str | None:
    kind = schema.get("type")
    if kind is None or (isinstance(kind, str) and is_type(value, kind)):
        return None
    kinds = kind if isinstance(kind, list) else [kind]
    return (
        None if any(is_type(value, kind) for kind in kinds) else f"{_named(path)} is no {' or '.join(map(str, kinds))}"
    )


def _of_values(schema: Mapping[str, Any], value: object, path: tuple[str, ...]) -> str | None:
    if "const" in schema and not same_value(schema["const"], value):
        return f"{_named(path)} is not {schema['const']!r}"
    allowed = schema.get("enum")
    if isinstance(allowed, list) and not any(same_value(item, value) for item in allowed):
        return f"{_named(path)} is none of the values allowed"
    return None


def _within(schema: Mapping[str, Any], value: object, path: tuple[str, ...]) -> str | None:
    for key in _BOUNDS.keys() & schema.keys():
        kinds, holds = _BOUNDS[key]
        bound = schema[key]
        bounded = isinstance(value, kinds) and not isinstance(value, bool) and is_type(bound, "number")
        if bounded and not holds(value, bound):
            return f"{_named(path)} is beyond its {key} {bound!r}"
    return None


def _inside(schema: Mapping[str, Any], value: object, root: object, path: tuple[str, ...], depth: int) -> str | None:
    parts: list[tuple[object, object, str]] = []
    if isinstance(value, Mapping):
        missing = next((name for name in schema.get("required") or () if name not in value), None)
        if missing is not None:
            return f"{_named((*path, str(missing)))} is missing"
        declared, others = properties(schema), schema.get("additionalProperties", True)
        parts = [(declared.get(name, others), item, str(name)) for name, item in value.items()]
    elif isinstance(value, list | tuple) and isinstance(schema.get("items"), Mapping | bool):
        parts = [(schema["items"], item, str(number)) for number, item in enumerate(value)]
    found = (_problem(part, item, root, (*path, name), depth + 1) for part, item, name in parts)
    return next((problem for problem in found if problem), None)


def _of_alternatives(
    schema: Mapping[str, Any], value: object, root: object, path: tuple[str, ...], depth: int
) -> str | None:
    for part in schema.get("allOf") or ():
        problem = _problem(part, value, root, path, depth + 1)
        if problem:
            return problem
    for key in ("anyOf", "oneOf"):
        choices: Sequence[object] = schema.get(key) or ()
        problems = [_problem(choice, value, root, path, depth + 1) for choice in choices]
        if problems and all(problems):
            return problems[0] if len(problems) == 1 else f"{_named(path)} fits none of its alternatives"
    return None


def _named(path: tuple[str, ...]) -> str:
    return f"argument {'.'.join(path[1:])!r}" if len(path) > 1 else "the arguments' object"


def _bare(part: Mapping[str, Any]) -> dict[str, Any]:
    """Return one of several alternatives as a schema that has no further ones beside it."""
    return {"properties": {}, "additionalProperties": False, "allOf": (), "anyOf": (), "oneOf": (), **part}


def _referred(pointer: str, root: object) -> Mapping[str, Any]:
    for step in pointer.removeprefix("#").strip("/").split("/"):
        if step:
            root = root.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(root, Mapping) else None
    return root if isinstance(root, Mapping) else {}
