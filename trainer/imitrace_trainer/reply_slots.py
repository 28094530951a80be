"""Say what a reply's template is: fixed text with typed slots, filled like the arguments of a tool."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from imitrace.canonical import content_hash
from imitrace_trainer.reading import Scalar

PREFIX = "reply_"
"""How the tools begin that stand for templates."""

_MONTH = "January|February|March|April|May|June|July|August|September|October|November|December"


def _day(text: str) -> str:
    return datetime.strptime(text, "%B %d, %Y").date().isoformat()


def _day_text(value: Scalar) -> str:
    day = datetime.strptime(str(value), "%Y-%m-%d").date()
    return f"{day:%B} {day.day}, {day.year}"


def _whole(text: str) -> int:
    return int(text.replace(",", ""))


@dataclass(frozen=True)
class Kind:
    """A type of slot: how its values look in text, and what they are as an argument."""

    pattern: str
    schema: Mapping[str, Any]
    read: Callable[[str], Scalar] = str
    write: Callable[[Any], str] = str


def _text(pattern: str) -> Kind:
    return Kind(pattern, {"type": "string", "pattern": f"^(?:{pattern})$"})


KINDS = {
    "email": _text(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    "date": _text(r"\d{4}-\d{2}-\d{2}"),
    "day": Kind(rf"(?:{_MONTH}) \d{{1,2}}, \d{{4}}", {"type": "string", "format": "date"}, _day, _day_text),
    "cents": Kind(
        r"\d{1,3}(?:,\d{3})+\.\d{2}|\d+\.\d{2}",
        {"type": "number"},
        lambda text: float(text.replace(",", "")),
        lambda value: f"{value:,.2f}",
    ),
    "amount": Kind(r"\d{1,3}(?:,\d{3})+|\d{1,3}", {"type": "integer"}, _whole, lambda value: f"{int(value):,}"),
    "code": _text(r"#?(?=[\w-]*\d)[\w-]*[A-Za-z_][\w-]*|#?\d{5,}|[A-Z]{2,}"),
    "number": Kind(r"\d{1,4}", {"type": "integer", "minimum": 0}, int, lambda value: str(int(value))),
    "name": _text(r"[^\W\d_][\w'\u2019-]*(?: [^\W\d_][\w'\u2019-]*){0,3}"),
    "phrase": _text(r"[^\n]{1,80}?"),
}
"""Kinds of slots by name; in a text the first that fits is taken."""


@dataclass(frozen=True)
class ReplyTemplate:
    """A reply of the expert's with typed slots in it."""

    pieces: tuple[str, ...]
    """The fixed text before, between and after the slots; one more than ``kinds``."""
    kinds: tuple[str, ...] = ()
    """The kind of each slot, in the order of the text."""

    @cached_property
    def name(self) -> str:
        """Return the name of the tool that stands for this template; equal templates have equal names."""
        return PREFIX + content_hash([list(self.pieces), list(self.kinds)])[:12]

    @cached_property
    def slots(self) -> tuple[str, ...]:
        """Name the slots: the kind, and which of its kind."""
        return tuple(f"{kind}_{self.kinds[: place + 1].count(kind)}" for place, kind in enumerate(self.kinds))

    @property
    def text(self) -> str:
        """Return the text with ``{slot}`` in the place of values."""
        return self._joined([f"{{{slot}}}" for slot in self.slots])

    @cached_property
    def tool(self) -> dict[str, Any]:
        """Return the template as a tool whose required arguments are the slots."""
        properties = {slot: dict(KINDS[kind].schema) for slot, kind in zip(self.slots, self.kinds, strict=True)}
        parameters = {"type": "object", "properties": properties, "required": list(properties)}
        return {"name": self.name, "description": self.text, "parameters": parameters}

    def fill(self, arguments: Mapping[str, Any]) -> str | None:
        """Return the reply with these values, or None where one can't stand there."""
        try:
            written = [KINDS[kind].write(arguments[slot]) for slot, kind in zip(self.slots, self.kinds, strict=True)]
        except (KeyError, ValueError, TypeError):
            return None
        text = self._joined(written)
        return text if self.read(text) == dict(arguments) else None

    def read(self, text: str) -> dict[str, Scalar] | None:
        """Return the slots' values in a text that fits this template, white space aside, or None."""
        found = self._pattern.fullmatch(folded(text))
        if found is None:
            return None
        values: dict[str, Scalar] = {}
        for slot, kind, said in zip(self.slots, self.kinds, found.groups(), strict=True):
            try:
                values[slot] = KINDS[kind].read(said)
            except ValueError:  # 31 April
                return None
            if KINDS[kind].write(values[slot]) != said:
                return None
        return values

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        fixed = [re.escape(re.sub(r"\s+", " ", piece)) for piece in self.pieces]
        held = [f"({KINDS[kind].pattern})" for kind in self.kinds]
        return re.compile("".join(part for pair in zip(fixed, [*held, ""], strict=True) for part in pair))

    def _joined(self, values: Sequence[str]) -> str:
        return "".join(part for pair in zip(self.pieces, [*values, ""], strict=True) for part in pair)


def folded(text: str) -> str:
    """Return a text with its white space folded to single blanks."""
    return " ".join(text.split())
