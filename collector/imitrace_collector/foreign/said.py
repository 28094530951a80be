"""Hold what one span or event says, each value parsed once: JSON in attributes, and flattened names as trees."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from imitrace.canonical import canonical_json
from imitrace.conformance import MAX_DEPTH
from imitrace_collector.normalize import as_type

_FLAT = re.compile(r"(.+?)\.(\d{1,9})(?:\.(.+))?$", re.DOTALL)
"""The name before the first index, that index, and the rest."""
_INDEXED = re.compile(r"\.\d")
_DEEP = 32
"""How many levels of a flattened name are told apart."""
_DECODER = json.JSONDecoder()


class Said:
    """The attributes of one span or event, by name."""

    __slots__ = ("_parsed", "_trees", "attributes")

    def __init__(self, attributes: Mapping[str, Any]) -> None:
        self.attributes = attributes
        self._parsed: dict[str, Any] = {}
        self._trees: dict[str, list[Any]] | None = None

    def value(self, name: str) -> Any:  # any JSON value
        """Return what an attribute holds, or a key of the object in it; None if it is absent."""
        found = self.attributes.get(name)
        if found is None and "/" in name:
            outer, _, key = name.partition("/")
            text = self.attributes.get(outer)
            if isinstance(text, str) and key.partition("/")[0] not in text:
                return None
            inner = self.parsed(outer) if outer in self.attributes else None
            for step in key.split("/"):
                if isinstance(inner, list):
                    inner = inner[int(step)] if step.isdigit() and int(step) < len(inner) else None
                else:
                    inner = inner.get(step) if isinstance(inner, dict) else None
            return inner
        return found

    def structure(self, name: str) -> Any:  # any JSON value
        """Return a value, also where its name is only the beginning of flattened ones; None if it is absent."""
        found = self.value(name)
        return self.trees().get(name) if found is None else found

    def first(self, names: Iterable[str]) -> tuple[str | None, Any]:
        """Return the first of these names that says anything, and what; ``(None, None)`` when none does."""
        for name in names:
            found = self.value(name)
            if found is not None and found != "" and found != []:
                return name, found
        return None, None

    def text(self, names: Iterable[str]) -> str | None:
        """Return the first of these names that says anything, as text that can be stored."""
        found = as_type(self.first(names)[1], "string")
        return found if isinstance(found, str) else None

    def number(self, names: Iterable[str]) -> int | None:
        """Return the first of these names that is a whole number from 0."""
        for name in names:
            found = self.value(name)
            if isinstance(found, int | float) and not isinstance(found, bool) and 0 <= found < 2**63:
                return int(found)
        return None

    def parsed(self, name: str) -> Any:  # any JSON value
        """Return an attribute's JSON; text that is no JSON as it is."""
        if name not in self._parsed:
            value = self.attributes.get(name)
            self._parsed[name] = json_value(value)[0]
        return self._parsed[name]

    def trees(self) -> dict[str, list[Any]]:
        """Return the flattened attributes, by the name before their first index."""
        if self._trees is None:
            self._trees = unflattened(self.attributes)
        return self._trees


def unflattened(attributes: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return attributes named ``a.b.0.c`` as lists of trees by ``a.b``; gaps between the indexes are closed."""
    found: dict[str, dict[Any, Any]] = {}
    if _INDEXED.search("\n".join(attributes)) is None:
        return {}
    for name, value in attributes.items():
        match = _FLAT.match(name)
        if match is None:
            continue
        head, index, rest = match.groups()
        place: dict[Any, Any] = found.setdefault(head, {})
        path = [int(index), *(rest.split(".", _DEEP) if rest else ())]
        for step in path[:-1]:
            inner = place.get(step)
            if type(inner) is not _Node:
                inner = place[step] = _Node() if inner is None else _Node({"": inner})
            place = inner
        last = path[-1]
        if type(place.get(last)) is _Node:
            place[last][""] = value
        else:
            place[last] = value
    return {head: [_listed(items[index]) for index in sorted(items)] for head, items in found.items()}


def json_value(value: Any) -> tuple[Any, str | None]:  # text, or a structured value
    """Return a value, parsed where it is JSON text; and that it is cut, where it begins like JSON and is none."""
    if not isinstance(value, str):
        return value, None
    start = value.lstrip()[:1]
    if start not in ("[", "{", '"'):
        return value, None
    try:
        found = _loaded(value)
    except (ValueError, RecursionError):
        return value, CUT if start in ("[", "{") else None
    deep = start != '"' and value.count("[") + value.count("{") > MAX_DEPTH and _deeper_than(found, MAX_DEPTH)
    return (value, f"is nested deeper than {MAX_DEPTH}") if deep else (found, None)


def _loaded(text: str) -> Any:
    """Return what ``json.loads`` does, without its search for space around text that most often has none."""
    if text[0] in "[{":
        found, end = _DECODER.raw_decode(text)
        if end == len(text):
            return found
    return json.loads(text)


CUT = "is cut, or no JSON"


def _deeper_than(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return True


def whole_items(text: str) -> list[Any]:
    """Return the items of a JSON list that was cut off somewhere, as far as they are whole."""
    items: list[Any] = []
    place = text.find("[") + 1
    while True:
        place = _after(text, place)
        try:
            item, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError):
            return items
        if not isinstance(item, dict | list | str) or (type(item) is not str and _deeper_than(item, MAX_DEPTH)):
            return items
        items.append(item)


def as_text(value: Any) -> str:  # any JSON value
    """Return text as it is, and anything else as canonical JSON."""
    return value if isinstance(value, str) else canonical_json(value)


def inside(outer: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return the object under a key; the outer one where there is none."""
    inner = outer.get(key)
    return inner if isinstance(inner, dict) else outer


class _Node(dict[Any, Any]):
    """A level of a flattened name, told apart from an object that is a value."""


def _listed(tree: Any) -> Any:
    """Return a tree with lists in the place of nodes whose keys are indexes."""
    if type(tree) is not _Node:
        return tree
    if all(isinstance(key, str) and key.isdigit() and len(key) < 10 for key in tree):
        return [_listed(tree[key]) for key in sorted(tree, key=int)]
    return {key: _listed(value) for key, value in tree.items()}


def _after(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n,":
        place += 1
    return place
