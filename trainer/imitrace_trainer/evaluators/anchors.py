"""Say which letters a text must have, one or another, for a pattern to be found in it; most are told at a glance."""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

_LEAST: Final = 3
"""Letters of an anchor; shorter ones stand in every text."""


def anchors_of(pattern: str) -> frozenset[str] | None:
    """Return texts of which every text that a pattern is found in has at least one; None where there are none.

    Args:
        pattern: a regular expression that tells small letters from large ones.
    """
    return _needed(re._parser.parse(pattern))  # type: ignore[attr-defined]  # the parser that re itself uses


def _needed(parts: Iterable[Any]) -> frozenset[str] | None:
    """Return the best of what each part of a sequence needs: the one whose shortest text is longest."""
    found = [choices for choices in _each(parts) if choices and min(map(len, choices)) >= _LEAST]
    return max(found, key=lambda choices: (min(map(len, choices)), -len(choices)), default=None)


def _each(parts: Iterable[Any]) -> Iterator[frozenset[str] | None]:
    letters = ""
    for kind, told in parts:
        name = str(kind)
        if name == "LITERAL":
            letters += chr(told)
            continue
        yield frozenset({letters})
        letters = ""
        if name == "SUBPATTERN":
            yield _needed(told[-1])
        elif name == "BRANCH":
            choices = [_needed(choice) for choice in told[1]]
            yield None if None in choices else frozenset().union(*(choice for choice in choices if choice))
        elif name in ("MAX_REPEAT", "MIN_REPEAT") and told[0]:
            yield _needed(told[2])
    yield frozenset({letters})
