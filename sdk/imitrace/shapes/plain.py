"""Make plain values of clients' objects, and of any value a text that protobuf can carry."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from imitrace.canonical import canonical_json

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def plain(value: Any) -> Any:  # clients' objects in, dicts out
    """Return a client's objects (pydantic, dataclass, plain class) as dicts, at any depth; anything else as it is."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, type):
        return value
    dump = getattr(value, "model_dump", None) or getattr(value, "to_dict", None)
    if callable(dump):
        return _dumped(dump)
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name, None)) for field in fields(value)}
    if hasattr(value, "__dict__") and not callable(value):
        return plain(vars(value))
    return value


def mapping(value: Any) -> Mapping[str, Any] | None:  # a dict, a client's object, or anything else
    """Return a dict as it is and a client's object by its fields, which may be objects; None for what is neither."""
    if type(value) is dict or isinstance(value, Mapping):  # dict first: Mapping is slow to ask for
        return value
    if value is None or isinstance(value, str | int | float | list | tuple | type):
        return None
    fields_set = getattr(value, "__pydantic_fields_set__", None)
    if isinstance(fields_set, set):  # a dump would be slow, and forget what a field's class adds to its declared one
        return {**vars(value), **(getattr(value, "__pydantic_extra__", None) or {})}
    found = plain(value)
    return found if isinstance(found, Mapping) else None


def json_text(value: Any) -> str:  # any JSON value goes in
    r"""Return canonical JSON that protobuf can carry: a lone surrogate is written as its ``\u`` escape."""
    return escaped(canonical_json(value))


def escaped(text: str) -> str:
    r"""Return JSON text with each lone surrogate as its ``\u`` escape, which means the same."""
    if text.isascii():
        return text
    return _LONE_SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def wire_text(value: object) -> str:
    """Return text that protobuf can carry: a lone surrogate becomes U+FFFD."""
    text = value if isinstance(value, str) else str(value)
    return text if text.isascii() else _LONE_SURROGATE.sub("\ufffd", text)


def payload_text(value: Any) -> str:  # a tool's result: text stays text, all else becomes JSON
    """Return a result as text, or as canonical JSON when it is not text."""
    value = plain(value)
    return wire_text(value) if isinstance(value, str) else json_text(value)


def any_text(value: Any) -> str:  # what can't be read in any other way
    """Return text as it is, and anything else as JSON, or else as its ``repr``; never raises."""
    for write in (canonical_json, repr):  # JSON fails on a circle and on keys of mixed types, repr where it likes
        with contextlib.suppress(Exception):
            return value if isinstance(value, str) else write(value)
    return f"<{type(value).__name__}>"


def short(value: object) -> str:
    """Return a value's ``repr`` in at most 80 characters, as errors show it."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _dumped(dump: Any) -> Any:  # pydantic's model_dump, or anything under its name
    try:
        return dump(warnings=False)  # a client's object may hold what its own model did not foresee
    except TypeError:
        return dump()
