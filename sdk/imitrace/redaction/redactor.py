"""Replace what must not leave the process, by rules with names; equal values get equal pseudonyms under one secret."""

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from imitrace.exceptions import ConfigError, ImitraceError
from imitrace.redaction.credentials import find_keys
from imitrace.redaction.entities import find_cards, find_emails, find_ibans
from imitrace.redaction.phones import find_phones
from imitrace.redaction.pseudonyms import Pseudonyms
from imitrace.redaction.readings import Reading, Span, with_escapes, without_escapes
from imitrace.redaction.rules import RULES, Rule

FINDERS: dict[str, Callable[[Reading], Iterable[Span]]] = {
    "email": find_emails,
    "phone": find_phones,
    "card": find_cards,
    "iban": find_ibans,
    "key": find_keys,
}
"""What finds each of ``RULES``."""

SECRET_BYTES = 16
HOW_TO_MAKE_ONE = 'IMITRACE_REDACT_SECRET=$(python -c "import secrets; print(secrets.token_hex(32))")'
SHORTEST_NUMBER = 10**6
SHORTEST_HIT = 4


class _Hit(NamedTuple):
    start: int
    end: int
    order: int


class Redactor:
    """Replace what the rules find, in one pass; made once, used from any thread.

    Redact a text once: a pseudonym looks like what it stands for, so a second pass would replace it again.

    Args:
        rules: names of built-in rules and ``Rule``s; where two find the same place, the earlier start wins, then the
            longer piece, then the earlier rule.
        secret: at least 16 bytes; the same secret gives the same pseudonyms in every process.

    Raises:
        ConfigError: a rule is unknown or named twice, or the secret is too short.
    """

    def __init__(self, rules: Sequence[str | Rule], secret: str | bytes) -> None:
        self._rules = _resolved(rules)
        self._pseudonyms = Pseudonyms(_checked(secret))
        built_in = all(rule.pattern is None and rule.find is None for rule in self._rules)
        self._shortest = SHORTEST_HIT if built_in else 1
        self._lock = threading.RLock()
        self._counts: Counter[str] = Counter()

    def text(self, text: str) -> str:
        """Return ``text`` with every hit replaced; never raises."""
        return self._redacted(text, "")

    def value(self, value: Any) -> Any:  # any JSON value goes in and comes out
        """Return a JSON value with the strings at any depth redacted, the keys of objects too.

        A number is redacted when its digits are a hit, and stays a number of as many digits. A string under a key such
        as ``password`` or ``phone`` is judged with that key in mind. What JSON lacks becomes its redacted ``str``.
        """
        try:
            return self._value(value, "")
        except Exception:  # nesting without end, an object whose text can't be had: privacy first
            self._count({"value:error": 1})
            return "[value:error]"

    def counts(self) -> dict[str, int]:
        """Return how often each rule hit so far; ``NAME:error`` counts a rule that raised."""
        with self._lock:
            return dict(self._counts)

    def reset(self) -> None:
        """Start from nothing with a fresh lock: what a forked child does."""
        self._lock = threading.RLock()
        self._counts = Counter()

    def _value(self, value: Any, label: str) -> Any:
        if isinstance(value, str):
            return self._redacted(value, label)
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return self._number(value, label)
        if isinstance(value, Mapping):
            return self._object(value)
        if isinstance(value, list | tuple | set | frozenset):
            return [self._value(item, label) for item in value]
        return self._redacted(str(value), label)

    def _object(self, value: Mapping[Any, Any]) -> dict[Any, Any]:
        redacted: dict[Any, Any] = {}
        for key, item in value.items():
            fresh = self._value(key, "")
            while fresh in redacted:  # two spellings of one address: no entry is lost
                fresh = f"{fresh}'"
            redacted[fresh] = self._value(item, key if isinstance(key, str) else "")
        return redacted

    def _number(self, value: int, label: str) -> int | str:
        if abs(value) < SHORTEST_NUMBER:
            return value
        digits = str(value)
        redacted = self._redacted(digits, label)
        return value if redacted == digits else int(redacted) if redacted.isdecimal() else redacted

    def _redacted(self, text: str, label: str) -> str:
        if len(text) < self._shortest:
            return text
        try:
            hits = self._hits(text, label)
        except _RuleError as error:
            self._count({f"{error.name}:error": 1})
            return f"[{error.name}:error]"
        return self._with_replaced(text, hits) if hits else text

    def _hits(self, text: str, label: str) -> list[_Hit]:
        reading = Reading(text, label)
        hits: list[_Hit] = []
        for order, rule in enumerate(self._rules):
            try:
                if spans := _spans(rule, text, reading):
                    hits += [_Hit(start, end, order) for start, end in spans]
            except Exception as error:
                raise _RuleError(rule.name) from error
        return hits

    def _with_replaced(self, text: str, hits: list[_Hit]) -> str:
        pieces, done, counts = [], 0, Counter[str]()
        for start, end, order in sorted(hits, key=lambda hit: (hit.start, -hit.end, hit.order)):
            if end <= done:
                continue
            pieces.append(text[done:start])
            pieces.append(self._replaced(order, text[max(start, done) : end], whole=start >= done, counts=counts))
            done = end
        self._count(counts)
        return "".join(pieces) + text[done:]

    def _replaced(self, order: int, written: str, whole: bool, counts: Counter[str]) -> str:
        """Return what stands for a hit; what an earlier hit left over of one is masked."""
        rule = self._rules[order]
        counts[rule.name] += 1
        try:
            if isinstance(rule.replace, str):
                return rule.replace
            if rule.replace is not None:
                return _text_of(rule.replace(written))
            if rule.pattern is None and rule.find is None and whole:
                pseudonym: Callable[[str], str] = getattr(self._pseudonyms, rule.name)
                return with_escapes(written, pseudonym(without_escapes(written)))
            return self._pseudonyms.mask(rule.name, written)
        except Exception:  # the place is known, so it is never shown
            counts[f"{rule.name}:error"] += 1
            return f"[{rule.name}:error]"

    def _count(self, counts: Mapping[str, int]) -> None:
        with self._lock:
            self._counts.update(counts)


class _RuleError(ImitraceError):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def make_redactor(rules: Sequence[str | Rule], secret: str | bytes | None) -> Redactor:
    """Return a redactor, or say what is wrong with the rules or the secret.

    Raises:
        ConfigError: a rule is unknown or named twice; the secret is missing or under 16 bytes.
    """
    if not secret:
        raise ConfigError(f"redaction needs a secret; make one and give it to every process: {HOW_TO_MAKE_ONE}")
    return Redactor(rules, secret)


def _resolved(rules: Sequence[str | Rule]) -> tuple[Rule, ...]:
    if isinstance(rules, str):
        raise ConfigError(f"redaction rules {rules!r} are one text, allowed: a list such as {list(RULES)}")
    resolved = tuple(rule if isinstance(rule, Rule) else Rule(rule) for rule in rules)
    names = [rule.name for rule in resolved]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"redaction rule {twice[0]!r} is named twice, allowed: each name once")
    return resolved


def _checked(secret: str | bytes) -> bytes:
    key = secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else secret
    if len(key) < SECRET_BYTES:
        raise ConfigError(
            f"redaction secret has {len(key)} bytes, allowed: {SECRET_BYTES} or more; make one: {HOW_TO_MAKE_ONE}"
        )
    return key


def _spans(rule: Rule, text: str, reading: Reading) -> Iterable[Span]:
    """Return the spans of a rule in the raw text; those outside of it or empty are left out."""
    if rule.pattern is not None:
        return [match.span() for match in re.finditer(rule.pattern, text) if match.end() > match.start()]
    if rule.find is not None:
        return [(start, end) for start, end in rule.find(text) if 0 <= start < end <= len(text)]
    return [reading.raw_span(span) for span in spans] if (spans := FINDERS[rule.name](reading)) else ()


def _text_of(replacement: object) -> str:
    if not isinstance(replacement, str):
        raise TypeError(f"replacement is {type(replacement).__name__}, allowed: str")
    return replacement
