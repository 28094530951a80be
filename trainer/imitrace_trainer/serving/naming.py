"""Find out which task a request belongs to: by its headers, its metadata, or what the proxy was told of all."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from imitrace.propagation import OWN_HEADER, read_origin

_TRAJECTORY, _TASK, _TAGS = "x-imitrace-trajectory", "x-imitrace-task", "x-imitrace-tags"
_METADATA = "imitrace_"
_CARRYING = (OWN_HEADER, "baggage", "traceparent")
_LETTERS = 200


@dataclass(frozen=True)
class Naming:
    """What a request says of the task that it is part of."""

    trajectory: str | None = None
    """Its id, where it has one."""
    task: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    joins: Mapping[str, str] | None = None
    """Headers by which the caller's own trajectory goes on here."""


def naming(headers: Iterable[tuple[bytes, bytes]], metadata: Any, tags: Mapping[str, str]) -> Naming:
    """Return what a request says of its task.

    A header beats metadata, metadata beats a caller's own trajectory in ``imitrace-trajectory`` or ``baggage``.

    Args:
        headers: the request's.
        metadata: of its body; any JSON value. ``imitrace_trajectory`` and ``imitrace_task`` name what they say, any
            other key that begins so is a tag.
        tags: of every request, unless it says otherwise.
    """
    found = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
    said = {
        name.removeprefix(_METADATA): value
        for name, value in (metadata if isinstance(metadata, dict) else {}).items()
        if name.startswith(_METADATA) and isinstance(value, str)
    }
    trajectory = found.get(_TRAJECTORY) or said.pop("trajectory", None)
    task = found.get(_TASK) or said.pop("task", None)
    joins = None
    carried = {name: found[name] for name in _CARRYING if name in found}
    origin = read_origin(carried) if carried and not trajectory else None
    if origin is not None:
        trajectory, joins = origin.trajectory_id, carried
    said.pop("trajectory", None)
    said.pop("task", None)
    named = {**tags, **said, **_listed(found.get(_TAGS, ""))}
    return Naming(_short(trajectory), _short(task), named, joins)


def _listed(text: str) -> dict[str, str]:
    """Return tags of ``name=value,name=value`` with percent escapes, or of a JSON object."""
    if text.startswith("{"):
        try:
            return {str(name): str(value) for name, value in json.loads(text).items()}
        except ValueError:
            return {}
    pairs = (part.partition("=") for part in text.split(",") if "=" in part)
    return {unquote(name.strip()): unquote(value.strip()) for name, _, value in pairs}


def _short(text: str | None) -> str | None:
    return text[:_LETTERS] if text else None
