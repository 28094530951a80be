"""Put together what a stream sends in pieces."""

from collections.abc import Mapping
from typing import Any

CUT = "(the stream ended before the arguments came)"
"""Arguments of a call that a stream named and never gave any."""


def field(value: Any, name: str) -> Any:  # any value
    """Return a field of a dict or of an object, None where there is none."""
    if isinstance(value, dict | Mapping):
        return value.get(name)
    fields = getattr(value, "__dict__", None) or {}
    if name in fields:
        return fields[name]
    extra = getattr(value, "__pydantic_extra__", None)  # to ask pydantic for what it lacks is slow
    return extra.get(name) if isinstance(extra, dict) else getattr(value, name, None)


def listed(value: Any, name: str) -> list[Any]:  # any value
    """Return a field that is a list, an empty one where it is not."""
    found = field(value, name)
    return list(found) if isinstance(found, list | tuple) else []


def place(value: Any, name: str) -> int | None:  # any value
    """Return a field that counts places, None where it is no whole number."""
    found = field(value, name)
    return found if isinstance(found, int) else None


class Pieces:
    """An object whose texts come in pieces."""

    def __init__(self, start: Mapping[str, Any] | None = None) -> None:
        self.fields: dict[str, Any] = dict(start or {})
        self._pieces: dict[str, list[str]] = {}

    def add(self, name: str, piece: Any) -> None:
        """Take a piece of the text ``name``; anything but text is no piece."""
        if isinstance(piece, str):
            self._pieces.setdefault(name, []).append(piece)

    def whole(self) -> dict[str, Any]:
        """Return the object with its texts joined."""
        return {**self.fields, **{name: "".join(pieces) for name, pieces in self._pieces.items()}}


class Calls:
    """Tool calls that come in pieces: each piece says by its index, or by a new id, which call it continues."""

    def __init__(self) -> None:
        self._calls: list[Pieces] = []
        self._at: dict[int | None, Pieces] = {}

    def add(self, index: int | None, call_id: Any, name: Any, arguments: Any, *, free: bool = False) -> None:
        """Take a piece of a call; the arguments of a ``free`` one are any text."""
        call = self._at.get(index) if index is not None else None
        if index is None and not call_id and self._calls:
            call = self._calls[-1]
        if call is None or (call_id and call.fields.get("id") not in (None, call_id)):
            call = Pieces()
            self._calls.append(call)
            self._at[index] = call
        if call_id:
            call.fields["id"] = call_id
        if free:
            call.fields["type"] = "custom"
        call.add("name", name)
        call.add("input" if call.fields.get("type") else "arguments", arguments)

    def whole(self, finished: bool) -> list[dict[str, Any]]:
        """Return the calls; one that never got any arguments says so, unless the stream ``finished``."""
        calls = [{"id": None, **call.whole()} for call in self._calls]
        return [
            call if finished or "type" in call or call.get("arguments") else {**call, "arguments": CUT}
            for call in calls
        ]
