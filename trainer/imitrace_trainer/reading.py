"""Read messages once: their words, and every typed value in them with where it was seen."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from imitrace.messages import Message, message_text

Scalar = str | int | float | bool

_WORD = re.compile(r"[a-z0-9][a-z0-9_@#.'/-]*[a-z0-9]|[a-z0-9]")
_TOKEN = re.compile(r"[^\s,;!?()\"“”<>\[\]{}]+")
_NUMBER = re.compile(r"^\$?-?\d+(?:\.\d+)?$")
_MONTHS = {name: f"{number:02d}" for number, name in enumerate(
    ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1)}  # fmt: skip
_MONTH_DAY = re.compile(r"\b([A-Z][a-z]{2,8})\.? (\d{1,2})(?:st|nd|rd|th)?\b")
_YEAR = re.compile(r"\b(20\d\d)-\d\d-\d\d\b")
_MAX_LEAVES = 600
_MAX_TOKENS = 400
_MAX_LINES = 200
_ITEM_WORDS = 4
_MAX_DEPTH = 12


@dataclass(slots=True, frozen=True)
class Seen:
    """One place where a value was seen inside a message."""

    value: Scalar
    source: str
    """``user``, ``assistant`` or ``TOOL:path.*.leaf`` with list indexes folded to ``*``."""
    leaf: str
    record: int
    """Which object of the message it stands in; 0 for running text."""
    record_words: frozenset[str]
    ordinal: int
    """How many values of the same source came before it in this message."""
    before: str = ""
    after: str = ""

    @property
    def by_user(self) -> bool:
        """Whether the user said it."""
        return self.source.startswith("user") and ":" not in self.source


@dataclass(slots=True, frozen=True)
class Reading:
    """What one message holds."""

    role: str
    text: str
    words: tuple[str, ...]
    seen: tuple[Seen, ...]
    facts: tuple[str, ...] = ()
    """``path=value`` of an observation's short values, for choosing what to do."""
    error: bool = False
    kept: dict[object, object] = field(default_factory=dict, repr=False, compare=False)
    """What was worked out of it, by what it was worked out for: it is read once and looked at often."""


@dataclass(slots=True)
class Reader:
    """Read messages, each object once; a cache keyed by identity that keeps what it read alive."""

    limit: int = 20_000
    _cache: dict[tuple[int, str], tuple[Message, Reading]] = field(default_factory=dict)

    def read(self, message: Message, tool: str = "", year: str = "") -> Reading:
        """Return the reading of a message; ``tool`` names the tool that answered, ``year`` completes dates."""
        key = (id(message), tool)
        found = self._cache.get(key)
        if found is not None and found[0] is message:
            return found[1]
        if len(self._cache) >= self.limit:
            self._cache.clear()
        reading = read_message(message, tool, year)
        self._cache[key] = (message, reading)
        return reading


def read_message(message: Message, tool: str, year: str) -> Reading:
    """Read one message without the cache."""
    if message["role"] != "tool":
        text = message_text(message)
        seen = () if message["role"] == "system" else tuple(_read_text(text, message["role"], year))
        if message["role"] == "assistant":
            seen += tuple(_read_calls(message))
        return Reading(message["role"], text, words(text), seen)
    response = message["parts"][0].get("response") if message["parts"] else ""
    value = _parsed(response)
    text = response if isinstance(response, str) else json.dumps(response, ensure_ascii=False)
    if isinstance(value, (dict, list)):
        leaves = _Leaves(tool)
        leaves.walk(value, "", 0, frozenset())
        facts = tuple(f"{tool}:{fact}" for fact in leaves.facts)
        return Reading("tool", text, words(text[:4000]), tuple(leaves.seen), facts, _is_error(value, text))
    seen_text = tuple(_read_text(text, f"{tool}:", year))
    whole = (Seen(text, f"{tool}:", "", 0, frozenset(), 0),) if 0 < len(text) <= 80 else ()
    facts = tuple(f"{tool}:{shape(word)}" for word in words(text[:400]))
    return Reading("tool", text, words(text[:4000]), whole + seen_text, facts, _is_error(value, text))


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text in lower case, identifiers kept whole."""
    return tuple(_WORD.findall(text.lower()))


@lru_cache(maxsize=200_000)
def shape(word: str) -> str:
    """Return a word with runs of digits folded to ``#`` and emails to one word, so that ids of one kind look alike."""
    if "@" in word:
        return "<email>"
    return re.sub(r"\d+", "#", word) if any(character.isdigit() for character in word) else word


@lru_cache(maxsize=200_000, typed=True)
def value_shape(value: Scalar) -> str:
    """Return the outline of a value: letters folded to ``a``, digits to ``#``; emails as one, numbers by their kind."""
    if not isinstance(value, str):
        return "number" if not isinstance(value, bool) else "bool"
    if "@" in value and " " not in value:
        return "<email>"
    outline = re.sub(r"[a-z]+", "a", re.sub(r"[A-Z]+", "A", value[:40]))
    return re.sub(r"\d+", "#", outline)


@lru_cache(maxsize=200_000, typed=True)
def value_class(value: Scalar) -> str:
    """Return a coarser outline: the length of a text and which kinds of characters it has."""
    if not isinstance(value, str):
        return "number" if not isinstance(value, bool) else "bool"
    kinds = (str.isupper, str.islower, str.isdigit, lambda character: not character.isalnum())
    return f"{min(len(value), 16)}" + "".join(str(int(any(map(kind, value)))) for kind in kinds)


def value_key(value: Scalar) -> object:
    """Return a key under which equal values meet: 3 and 3.0 do; 1 and True, and 1 and "1", stay apart."""
    if isinstance(value, bool):
        return ("bool", value)
    return ("number", value) if isinstance(value, (int, float)) else value


def find_year(messages: Sequence[Message]) -> str:
    """Return the year of the first ISO date in the first message, which is where a system prompt tells the time."""
    found = _YEAR.search(message_text(messages[0])) if messages else None
    return found.group(1) if found else ""


def _parsed(response: object) -> Any:  # any JSON value
    if not isinstance(response, str):
        return response
    try:
        return json.loads(response)
    except (ValueError, RecursionError):
        return response


def _is_error(value: object, text: str) -> bool:
    return (isinstance(value, dict) and "error" in value) or text[:40].lower().startswith("error")


def argument_values(slot: str, value: Any) -> list[tuple[str, Scalar]]:
    """Return (slot, value) of every scalar in a call's arguments; list indexes are folded."""
    if isinstance(value, dict):
        return [pair for key, item in value.items() for pair in argument_values(f"{slot}.{key}", item)]
    if isinstance(value, list):
        return [pair for item in value for pair in argument_values(slot, item)]
    return [(slot, value)] if isinstance(value, (str, int, float, bool)) else []


def _read_calls(message: Message) -> Iterator[Seen]:
    for part in message["parts"]:
        if part.get("type") == "tool_call":
            for slot, value in argument_values(part["name"], part.get("arguments") or {}):
                yield Seen(value, f"args:{slot}", slot.rsplit(".", 1)[-1], 0, frozenset(), 0)


def _read_text(text: str, source: str, year: str) -> Iterator[Seen]:
    tokens = [match.group().strip(".:'*`") for match in list(_TOKEN.finditer(text))[:_MAX_TOKENS]]
    tokens = [token for token in tokens if token]
    for index, token in enumerate(tokens):
        around = {
            "before": shape(tokens[index - 1].lower()) if index else "",
            "after": shape(tokens[index + 1].lower()) if index + 1 < len(tokens) else "",
        }
        yield Seen(token, source, "", 0, frozenset(), index, **around)
        name, sign, host = token.partition("@")
        if name and sign and "." in host:
            yield Seen(name, source + "@", "", 0, frozenset(), index, **around)
        if _NUMBER.match(token):
            yield Seen(_number(token), source, "", 0, frozenset(), index, **around)
        yield from _joined(tokens, index, source, around)
    yield from _lines(text, source)
    if year:
        for index, match in enumerate(_MONTH_DAY.finditer(text)):
            month = _MONTHS.get(match.group(1)[:3].lower())
            if month:
                day = f"{year}-{month}-{int(match.group(2)):02d}"
                yield Seen(day, source + "date", "date", 0, frozenset(), index)


def _joined(tokens: list[str], index: int, source: str, around: dict[str, str]) -> Iterator[Seen]:
    """Yield names and addresses: two to four neighbouring tokens that begin with a capital or a digit."""
    if not _leads(tokens[index]):
        return
    for length in (2, 3, 4):
        span = tokens[index : index + length]
        if len(span) < length or not _leads(span[-1]):
            return
        yield Seen(" ".join(span), f"{source}+{length}", "", 0, frozenset(), index, around["before"])


def _lines(text: str, source: str) -> Iterator[Seen]:
    """Yield the items of a list: lines of a few words, without what marks them as items."""
    for number, line in enumerate(text.splitlines()[:_MAX_LINES]):
        item = line.strip().lstrip("-*\u2022").strip()
        if 2 <= len(item.split(" ")) <= _ITEM_WORDS and item[-1].isalnum() and item != text:
            yield Seen(item, f"{source}line", "", 0, frozenset(), number)


def _leads(token: str) -> bool:
    return token[0].isupper() or token[0].isdigit()


def _number(token: str) -> int | float:
    number = float(token.lstrip("$"))
    return int(number) if number.is_integer() and "." not in token else number


class _Leaves:
    """Collect the leaves of one JSON observation."""

    def __init__(self, tool: str) -> None:
        self.tool = tool
        self.seen: list[Seen] = []
        self.facts: list[str] = []
        self._records = 0
        self._ordinals: dict[str, int] = {}

    def walk(self, value: Any, path: str, record: int, record_words: frozenset[str], depth: int = 0) -> None:
        """Visit ``value``; objects in lists, and objects under an id, are records of their own."""
        if len(self.seen) >= _MAX_LEAVES or depth > _MAX_DEPTH:
            return
        if isinstance(value, dict):
            self._walk_object(value, path, record, record_words, depth)
        elif isinstance(value, list):
            for item in value:
                self._walk_item(item, f"{path}.*" if path else "*", record, record_words, depth)
        elif value is not None:
            self._leaf(value, path, record, record_words)

    def _walk_object(self, value: dict[str, Any], path: str, record: int, inside: frozenset[str], depth: int) -> None:
        for key, item in value.items():
            if isinstance(item, dict) and any(character.isdigit() for character in key):
                start = self._next_record()
                inner = _record_words(item) | frozenset(words(key))
                self._leaf(key, f"{path}.<key>", start, inner)
                self.walk(item, f"{path}.<key>", start, inner, depth + 1)
            else:
                self.walk(item, f"{path}.{key}" if path else key, record, inside or _record_words(value), depth + 1)

    def _walk_item(self, item: Any, path: str, record: int, inside: frozenset[str], depth: int) -> None:
        if isinstance(item, dict):
            self.walk(item, path, self._next_record(), _record_words(item), depth + 1)
        else:
            self.walk(item, path, record, inside, depth + 1)

    def _next_record(self) -> int:
        self._records += 1
        return self._records

    def _leaf(self, value: Scalar, path: str, record: int, record_words: frozenset[str]) -> None:
        ordinal = self._ordinals.get(path, 0)
        self._ordinals[path] = ordinal + 1
        leaf = path.rsplit(".", 1)[-1]
        if leaf in ("*", "<key>"):
            leaf = path.rsplit(".", 2)[-2] if "." in path else ""
        self.seen.append(Seen(value, f"{self.tool}:{path}", leaf, record, record_words, ordinal))
        text = str(value)
        if len(text) <= 32 and len(self.facts) < 200:
            self.facts.append(f"{path}={shape(text.lower())}")


def _record_words(record: dict[str, Any], depth: int = 0) -> frozenset[str]:
    found: set[str] = set()
    for item in record.values():
        if isinstance(item, str) and len(item) <= 80:
            found.update(words(item))
        elif isinstance(item, dict) and depth < 2:
            found.update(_record_words(item, depth + 1))
        elif isinstance(item, list):
            found.update(word for text in item[:20] if isinstance(text, str) for word in words(text[:80]))
    return frozenset(found)
