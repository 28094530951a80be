"""Reduce a reply to its skeleton: its words, with a typed mark in the place of whatever looks like a value."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from imitrace_trainer.reply_slots import KINDS, ReplyTemplate

ALIKE = 0.85
"""Token F1 from which a reply says what another says."""

_SHARED = 0.6
_MAX_GAP = 5
_TOKEN = re.compile(r"\s*(?:\x00[a-z]+\x01|\w+(?:['\u2019-]\w+)*|[^\w\s])")
_LARGE = r"[A-Z][^\W\d]*(?:['\u2019-][^\W\d]+)*"
_VALUE = re.compile(
    "|".join(
        (
            rf"(?P<email>{KINDS['email'].pattern})",
            rf"(?P<date>{KINDS['date'].pattern})",
            rf"(?P<day>{KINDS['day'].pattern})",
            rf"(?<=\$)(?P<cents>{KINDS['cents'].pattern})(?![\w,]|\.\d)",
            rf"(?<=\$)(?P<amount>{KINDS['amount'].pattern})(?![\w,]|\.\d)",
            rf"(?<![\w#])(?P<code>{KINDS['code'].pattern})(?!\w)",
            rf"(?<!\w)(?P<number>{KINDS['number'].pattern})(?!\w)",
            rf"(?<!\w)(?P<name>{_LARGE}(?: {_LARGE}){{0,3}})(?![\w#])",
        )
    )
)
_SMALL = re.compile(r"(?<![\w,.-])\d{1,3}(?![\w,]|\.\d|-\d)")
_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE_START = re.compile(r"(?:^|[.!?:\n*•\"\u201c-])\s*$")
_TURNS = frozenset(
    ("not", "no", "never", "cannot", "can", "can't", "won't", "don't", "without", "unable", "unfortunately")
)
"""Words that turn a sentence round: replies that differ in one say something else."""

Tokens = tuple[str, ...]


@dataclass(frozen=True)
class Skeleton:
    """A reply's words, and the values that were taken out."""

    tokens: Tokens
    """Each with the white space before it; a value is a mark with its kind."""
    said: tuple[str, ...] = ()

    @classmethod
    def of(cls, marked: str, said: tuple[str, ...] = ()) -> "Skeleton":
        """Return the skeleton of a text with marks in it."""
        return cls(tuple(_TOKEN.findall(marked)), said)

    @property
    def template(self) -> ReplyTemplate:
        """Return the skeleton as a template."""
        parts = re.split(r"\x00([a-z]+)\x01", "".join(self.tokens).strip())
        return ReplyTemplate(tuple(parts[::2]), tuple(parts[1::2]))

    def with_text(self, slot: int, text: str) -> "Skeleton":
        """Return this with fixed text in the place of a slot."""
        place = [at for at, token in enumerate(self.tokens) if "\x00" in token][slot]
        tokens = [re.sub(r"\x00[a-z]+\x01", text, one) if at == place else one for at, one in enumerate(self.tokens)]
        return Skeleton(tuple(tokens))


class Scanner:
    """Find what looks like a value, by the words that an expert writes small and large."""

    def __init__(self, replies: Sequence[tuple[str, str]], described: Iterable[str], least: int = 3) -> None:
        """Learn which words are ordinary, and which numbers are none of a case's own.

        Args:
            replies: the expert's, each with its task.
            described: names and parameters of tools, whose words are ordinary too.
            least: of how many tasks a number with the word behind it must be to be text, as in «24 hours».
        """
        texts = [text for text, _ in replies]
        small = (word for text in (*texts, *described) for word in _WORD.findall(text.replace("_", " ")))
        self._ordinary = frozenset(word for word in small if word.islower())
        self.names = frozenset(word for text in texts for word in self._large(text, 0, text))
        """Words written large inside a sentence that nobody writes small."""
        numbers = {(self._number(text, found), task) for text, task in replies for found in _SMALL.finditer(text)}
        said = Counter(number for number, _ in numbers)
        self._usual = frozenset(number for number, count in said.items() if count >= least)

    @staticmethod
    def _number(text: str, found: re.Match[str]) -> tuple[str, str]:
        """Return a number and the word behind it."""
        behind = _WORD.search(text, found.end(), found.end() + 30)
        return found.group(), behind.group().lower() if behind else ""

    def _large(self, text: str, start: int, part: str) -> Iterable[str]:
        for found in _WORD.finditer(part):
            word = found.group()
            place = start + found.start()
            begins = _SENTENCE_START.search(text[max(0, place - 8) : place])
            if len(word) > 1 and word[0].isupper() and word.lower() not in self._ordinary and not begins:
                yield word

    def scan(self, text: str) -> Skeleton:
        """Return a reply's skeleton."""
        pieces: list[str] = []
        said: list[str] = []
        end = 0
        for found in _VALUE.finditer(text):
            kind, value, start = str(found.lastgroup), found.group(), found.start()
            if kind in ("name", "code") and not any(character.isdigit() for character in value):
                skipped = self._before_name(text, start, value)
                if skipped is None:
                    continue
                start, value = start + skipped, value[skipped:]
            if kind in ("number", "amount") and self._number(text, found) in self._usual:
                continue
            pieces += [text[end:start], f"\x00{kind}\x01"]
            said.append(value)
            end = found.end()
        marked = "".join([*pieces, text[end:]])
        return Skeleton.of(marked, tuple(said))

    def _before_name(self, text: str, start: int, part: str) -> int | None:
        """Return how much of words written large comes before a name; None: there is none."""
        large = set(self._large(text, start, part)) | (self.names & set(_WORD.findall(part)))
        return next((found.start() for found in _WORD.finditer(part) if found.group() in large), None)

    def literal(self, template: ReplyTemplate) -> str | None:
        """Say what in a template's text looks like a value, if anything."""
        text = " ".join(template.pieces)
        if re.search(r"@\w|\d{4}|\b(?=[^\W\d_]*\d)\w*[^\W\d_]", text):
            return "an id in its text"
        return "a name in its text" if self.names & set(_WORD.findall(text)) else None


def generalised(first: Tokens, second: Tokens) -> Skeleton | None:
    """Return what two replies have in common, with a phrase where they differ; None: they differ too much."""
    matcher = SequenceMatcher(None, first, second, autojunk=False)
    if matcher.real_quick_ratio() < _SHARED or matcher.quick_ratio() < _SHARED:
        return None
    result: list[str] = []
    same = 0
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            result += first[i1:i2]
            same += i2 - i1
            continue
        gap = (*first[i1:i2], *second[j1:j2])
        if tag != "replace" or max(i2 - i1, j2 - j1) > _MAX_GAP or any(map(_bars, gap)):
            return None
        result.append(first[i1][: len(first[i1]) - len(first[i1].lstrip())] + "\x00phrase\x01")
    return Skeleton(tuple(result)) if same >= _SHARED * max(len(first), len(second)) else None


def _bars(token: str) -> bool:
    """Tell whether a token may not stand in what is copied."""
    bare = token.strip()
    return bare.lower() in _TURNS or not (bare[0].isalnum() or bare[0] == "\x00") or "\n" in token


def bag(tokens: Iterable[str]) -> Counter[str]:
    """Return how often each word stands there, large or small."""
    return Counter(token.strip().lower() for token in tokens)


def alike(first: Counter[str], second: Counter[str]) -> float:
    """Return the token F1 of two replies that say the same, 0 of others.

    They do from ``ALIKE`` on, unless they differ in a word that turns a sentence round, or in a number.
    """
    shorter, longer = sorted((first.total(), second.total()))
    if 2 * shorter < ALIKE * (shorter + longer):  # most end here: no longer one can share more
        return 0.0
    likeness = token_f1(first, second)
    if likeness < ALIKE:
        return 0.0
    odd = (first - second) + (second - first)
    return 0.0 if any(word in _TURNS or word.isdigit() for word in odd) else likeness


def token_f1(first: Counter[str], second: Counter[str]) -> float:
    """Return the harmonic mean of the shares of words that each has of the other (F1)."""
    total = first.total() + second.total()
    shared = sum(min(first[word], second[word]) for word in first.keys() & second.keys())
    return 2 * shared / total if total else 1.0
