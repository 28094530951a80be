"""Tell whether a value is what a plain schema asks for: types, bounds, patterns, formats, lists and objects."""

import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

from imitrace.canonical import canonical_json
from imitrace_trainer.argument_fit import numbers_folded
from imitrace_trainer.schemas import Schema, allows

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>\"{}|\\^`]+")
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?([Zz]|[+-]([01]\d|2[0-3]):[0-5]\d)")
_HOST = re.compile(
    r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)


CONSTRAINTS = frozenset(
    {"minLength", "maxLength", "pattern", "format"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
)
"""What narrows a scalar beside its type and its enumeration."""


def conforms(schema: Mapping[str, Any], value: Any) -> bool:  # any JSON value
    """Tell whether a value is valid for a schema as ``plain_schema`` returns it.

    What it can't check, as a pattern that Python doesn't know, no value conforms to.
    """
    if "const" in schema and not _same(schema["const"], value):
        return False
    if "enum" in schema and not any(_same(item, value) for item in schema["enum"]):
        return False
    if isinstance(value, Mapping):
        return _has_type(schema, "object") and _object_conforms(schema, value)
    if isinstance(value, list):
        return _has_type(schema, "array") and _list_conforms(schema, value)
    if not allows(schema, value):
        return False
    if isinstance(value, str):
        return _text_conforms(schema, value)
    return isinstance(value, bool) or value is None or _number_conforms(schema, value)


def _has_type(schema: Mapping[str, Any], kind: str) -> bool:
    said = schema.get("type", kind)
    return kind == said or (isinstance(said, list) and kind in said)


def _same(first: Any, second: Any) -> bool:  # any JSON values
    return canonical_json(numbers_folded(first)) == canonical_json(numbers_folded(second))


def _object_conforms(schema: Mapping[str, Any], value: Mapping[str, Any]) -> bool:
    properties = schema.get("properties") or {}
    others = schema.get("additionalProperties", True)
    if any(name not in value for name in schema.get("required") or ()):
        return False
    if not schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", math.inf):
        return False
    return all(
        conforms(properties[name], item) if name in properties else others is not False for name, item in value.items()
    )


def _list_conforms(schema: Mapping[str, Any], value: list[Any]) -> bool:
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf):
        return False
    if schema.get("uniqueItems") and len({canonical_json(numbers_folded(item)) for item in value}) < len(value):
        return False
    inner: Schema = schema.get("items") or {}
    return all(conforms(inner, item) for item in value)


def _text_conforms(schema: Mapping[str, Any], value: str) -> bool:
    if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf):
        return False
    if "pattern" in schema:
        pattern = _pattern(str(schema["pattern"]))
        if pattern is None or not pattern.search(value):
            return False
    check = _FORMATS.get(str(schema.get("format")))
    return check is None or check(value)


@lru_cache(maxsize=1_000)
def _pattern(text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError):
        return None


def _number_conforms(schema: Mapping[str, Any], value: float) -> bool:
    least, most = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    if not (least <= value <= most and above < value < below):
        return False
    step = schema.get("multipleOf")
    return not step or _is_multiple(value, step)


def _is_multiple(value: float, step: float) -> bool:
    try:
        return float(value / step).is_integer()
    except OverflowError:
        return False


def _reads(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(value: str) -> bool:
        try:
            parse(value)
        except ValueError:
            return False
        return True

    return check


def _is_date(value: str) -> bool:
    return len(value) == 10 and _reads(date.fromisoformat)(value)


def _is_moment(value: str) -> bool:
    day, letter, time = value[:10], value[10:11], value[11:]
    return (
        letter in ("T", "t") and _is_date(day) and bool(_TIME.fullmatch(time)) and _reads(datetime.fromisoformat)(day)
    )


_FORMATS: dict[str, Callable[[str], bool]] = {
    "date": _is_date,
    "date-time": _is_moment,
    "time": lambda value: bool(_TIME.fullmatch(value)),
    "email": lambda value: bool(_EMAIL.fullmatch(value)),
    "uri": lambda value: bool(_URI.fullmatch(value)),
    "hostname": lambda value: bool(_HOST.fullmatch(value)),
    "uuid": lambda value: len(value) == 36 and _reads(UUID)(value),
    "ipv4": _reads(IPv4Address),
    "ipv6": _reads(IPv6Address),
}
