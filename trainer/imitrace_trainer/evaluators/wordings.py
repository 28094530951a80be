"""Read a text past the disguises that it may wear, and weigh the wordings that are found in it."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Final

from imitrace.canonical import canonical_json, text_hash
from imitrace.messages import Message
from imitrace_trainer.episodes import Episode
from imitrace_trainer.evaluators.anchors import anchors_of
from imitrace_trainer.evaluators.result import Result, StepResult
from imitrace_trainer.evaluators.trajectories import conversation

FLAGGED: Final = 0.5
"""From here on a text counts as found."""
LONGEST: Final = 20_000
"""Characters of a text that are read, half of them from its end."""

Scorer = Callable[[str], tuple[float, list[str]]]
"""Gives a text a score from 0 to 1, and names what was found."""

_SPACE = re.compile(r" (?![?*+{])")
_MEDIA = ("blob", "uri", "file")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff\U000e0000-\U000e007f]")
_SPELT = re.compile(r"\b(?:\w[ .*_-]){2,}\w\b")
_GAPS = re.compile(r"[ .*_-]")
_MIXED = re.compile(r"(?<![\w@$])(?=[a-z@$0-9]*[0134578@$])[a-z0134578@$]*[a-z][a-z0134578@$]*[a-z][a-z0134578@$]*")
_LEET = str.maketrans("0134578@$", "oieastbas")
_LOOKALIKE = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u0261\u04cf\u0578\u03bf\u03b1",
    "aeopcyxijsdglnoa",
)
"""Letters of other scripts that look like Latin ones."""


@dataclass(frozen=True)
class Wording:
    """A pattern, and how strongly it speaks by itself, over 0 and under 1."""

    name: str
    weight: float
    pattern: re.Pattern[str]
    anchors: frozenset[str] | None
    """A text without any of these can't have it; None: every text is searched."""


@dataclass(frozen=True)
class Wordings:
    """Wordings that are looked for together."""

    all: tuple[Wording, ...]

    @cached_property
    def anchors(self) -> tuple[str, ...]:
        """Return the anchors of all."""
        return tuple(sorted({anchor for wording in self.all for anchor in wording.anchors or ()}))

    def possible(self, text: str) -> Iterator[Wording]:
        """Yield those that can be in a text."""
        there = {anchor for anchor in self.anchors if anchor in text}
        return (one for one in self.all if one.anchors is None or not one.anchors.isdisjoint(there))


def read_wordings(name: str) -> tuple[Wordings, str]:
    """Return the wordings of a file of this package, and a version that changes with the file.

    A line is a name, a weight and a pattern over text in lower case, in which a space stands for any white space; or
    ``NAME = PART``, which is put in where a pattern says ``<NAME>``; or a comment after ``#``.
    """
    text = (files("imitrace_trainer.evaluators") / name).read_text(encoding="utf-8")
    parts: dict[str, str] = {}
    found: list[Wording] = []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        for part, pattern in parts.items():
            line = line.replace(f"<{part}>", pattern)
        first, second, rest = line.split(" ", 2)
        if second == "=":
            parts[first] = rest
        else:
            pattern = _SPACE.sub(r"\\s+", rest)
            found.append(Wording(first, float(second), re.compile(pattern), anchors_of(pattern)))
    return Wordings(tuple(found)), text_hash(text)[:8]


def plain(text: str) -> str:
    """Return a text in lower case and undisguised: look-alike letters, invisible characters, l33t, s-p-e-l-t."""
    text = text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}\n{text[-LONGEST // 2 :]}"
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).lower().translate(_LOOKALIKE)
    text = text.replace("\u2019", "'").replace("\u2018", "'")
    lines = (" ".join(line.split()) for line in text.splitlines())
    text = "\n".join(line for line in lines if line)  # no run of white space is long: patterns would go over it again
    text = _SPELT.sub(lambda found: _GAPS.sub("", found[0]), text)
    return _MIXED.sub(lambda found: found[0].translate(_LEET), text)


def weigh(text: str, known: Wordings) -> tuple[float, list[str]]:
    """Return how strongly a text speaks, from 0 to under 1, and which wordings are in it.

    Wordings of several names speak as if they were independent: 1 less the product of what each leaves.
    """
    found: dict[str, float] = {}
    for wording in known.possible(text):
        if wording.pattern.search(text):
            found[wording.name] = max(found.get(wording.name, 0.0), wording.weight)
    left = 1.0
    for weight in found.values():
        left *= 1 - weight
    return 1 - left, sorted(found)


def strongest(episode: Episode, roles: Iterable[str], score: Scorer) -> Result:
    """Return the score of the message that speaks strongest, with the steps at which flagged messages stand.

    Args:
        episode: a trajectory.
        roles: whose messages are read.
        score: gives a text its score and what was found in it.
    """
    read = frozenset(roles)
    steps: dict[int, StepResult] = {}
    best, why, count = 0.0, "", 0
    for index, message in conversation(episode):
        if message["role"] not in read:
            continue
        for text in said(message):
            count += 1
            value, found = score(text)
            told = f"{message['role']}: {', '.join(found)}"
            if value > best:
                best, why = value, f"step {index}, {told}"
            if value >= FLAGGED and (index not in steps or value > steps[index].score):
                steps[index] = StepResult(index, value, told)
    if not count:
        return Result(None, f"no text of {' or '.join(sorted(read))}")
    return Result(
        best, why or f"nothing found in {count} texts", "patterns", tuple(steps[key] for key in sorted(steps))
    )


def said(message: Message) -> Iterator[str]:
    """Yield the texts of a message: what was said, thought or called with, and what a tool answered."""
    for part in message["parts"]:
        for key in ("content", "response", "arguments"):
            value = part.get(key)
            if value and part.get("type") not in _MEDIA:
                yield value if isinstance(value, str) else canonical_json(value)
