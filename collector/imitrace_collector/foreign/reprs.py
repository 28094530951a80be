"""Read what Python's ``repr`` makes of plain objects: literals, and ``Name(key=value)`` as dataclasses write it.

Nothing is evaluated. Some instrumentors write requests so, where they should write JSON.
"""

import ast
import math
import re
from typing import Any

LONGEST = 2**20
"""Characters of a text that is read; longer stays text."""
_DEEP = 64
_STARTS = re.compile(r"[\s\[({]*(?:'|[A-Za-z_][\w.]*\()")
_BRACKET = re.compile(r"[<>]")
_TOKEN = re.compile(
    r"\s*(?:(?P<text>[rbuf]{0,2}(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"))"
    r"|(?P<number>-?\d(?:[eE][+-]|[\w.])*)"
    r"|(?P<name>[A-Za-z_][\w.]*)"
    r"|(?P<sign>[\[\](){},:=<>]))",
    re.DOTALL,
)
_WORDS: dict[str, Any] = {"None": None, "True": True, "False": False}
_CLOSES = {"[": "]", "(": ")", "{": "}"}


def looks_like_repr(text: str) -> bool:
    """Return whether a text begins like Python's form of a container or an object, and not like JSON."""
    return _STARTS.match(text) is not None


def read_repr(text: str) -> Any:  # what JSON could hold
    """Return the value in Python's form of it: objects as their fields, enumerations as their values.

    What has no such form, as ``<function f at 0x7f>``, is None.

    Raises:
        ValueError: it is no such form, is cut, too long or too deep.
    """
    if len(text) > LONGEST:
        raise ValueError(f"a text of {len(text)} characters, expected at most {LONGEST}")
    reader = _Reader(text)
    found = reader.value(0)
    if text[reader.place :].strip():
        raise ValueError(f"something follows the value at {reader.place}")
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self.place = 0
        self._text = text
        self._at, self._after = -1, 0
        self._next = ("", "")

    def value(self, depth: int) -> Any:
        if depth > _DEEP:
            raise ValueError(f"is nested deeper than {_DEEP}")
        kind, word = self._take()
        if kind == "text":
            found = _literal(word)
            while self._peek()[0] == "text":  # pieces of one long text
                found += _literal(self._take()[1])
            return found
        if kind == "number":
            return _literal(word)
        if kind == "name":
            if word in _WORDS:
                return _WORDS[word]
            self._expect("(")
            return self._fields(depth)
        if word == "<":
            return self._opaque()
        if word == "{":
            return self._mapping(depth)
        if word in _CLOSES:
            return self._items(_CLOSES[word], depth)
        raise ValueError(f"no value at {self.place}")

    def _items(self, close: str, depth: int) -> list[Any]:
        found = []
        while not self._closes(close):
            found.append(self.value(depth + 1))
            self._separated(close)
        return found

    def _mapping(self, depth: int) -> dict[str, Any] | list[Any]:
        found: dict[str, Any] = {}
        while not self._closes("}"):
            key = self.value(depth + 1)
            if self._peek()[1] != ":":  # a set
                self._separated("}")
                return [key, *self._items("}", depth)]
            self._take()
            found[key if isinstance(key, str) else str(key)] = self.value(depth + 1)
            self._separated("}")
        return found

    def _fields(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not self._closes(")"):
            start = self.place
            kind, name = self._take()
            if kind == "name" and self._peek()[1] == "=":
                self._take()
            else:
                self.place, name = start, str(len(found))
            found[name] = self.value(depth + 1)
            self._separated(")")
        return found

    def _opaque(self) -> Any:
        """Return the value of ``<Name.MEMBER: value>``; None for what else stands in such brackets."""
        start = self.place
        if self._take()[0] == "name" and self._peek()[1] == ":":
            self._take()
            found = self.value(_DEEP - 1)
            self._expect(">")
            return found
        self.place, depth = start, 1
        while depth:
            at = _BRACKET.search(self._text, self.place)
            if at is None:
                raise ValueError("is cut")
            self.place = at.end()
            depth += 1 if at.group() == "<" else -1
        return None

    def _closes(self, close: str) -> bool:
        if self._peek()[1] != close:
            return False
        self._take()
        return True

    def _separated(self, close: str) -> None:
        word = self._peek()[1]
        if word == ",":
            self._take()
        elif word != close:
            raise ValueError(f"expected ',' or {close!r} at {self.place}")

    def _expect(self, sign: str) -> None:
        if self._take()[1] != sign:
            raise ValueError(f"expected {sign!r} at {self.place}")

    def _peek(self) -> tuple[str, str]:
        if self._at != self.place:
            found = _TOKEN.match(self._text, self.place)
            self._at, self._after = self.place, found.end() if found else self.place
            kind = found.lastgroup if found else None
            self._next = (kind, found.group(kind)) if found and kind else ("", "")
        return self._next

    def _take(self) -> tuple[str, str]:
        found = self._peek()
        if not found[0]:
            raise ValueError(f"no value at {self.place}")
        self.place = self._after
        return found


def _literal(word: str) -> Any:
    try:
        found = ast.literal_eval(word)
    except (ValueError, SyntaxError, MemoryError) as error:
        raise ValueError(f"no literal: {word[:40]}") from error
    if isinstance(found, bytes):
        return found.decode(errors="replace")
    if isinstance(found, complex) or (isinstance(found, float) and not math.isfinite(found)):
        raise ValueError(f"no number of JSON: {word[:40]}")
    return found
