"""Name what must not leave the process; what finds it is loaded only where something is redacted."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from imitrace.exceptions import ConfigError

RULES = ("email", "phone", "card", "iban", "key")
"""Names of the built-in rules."""

RULE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")


@dataclass(frozen=True)
class Rule:
    """Say what to replace, and by what.

    Args:
        name: the name it is counted under; one of ``RULES`` alone stands for the built-in finder.
        pattern: a regular expression; what it matches is replaced.
        replace: the new text, or a function from the matched text to it; default is ``[name:8 hex digits]``, and
            a pseudonym of the same form where the finder is built in.
        find: instead of a pattern, a function from the text to spans ``(start, end)``.

    Raises:
        ConfigError: there is no way to find anything, or there are two, or the pattern is no regular expression.
    """

    name: str
    pattern: str | re.Pattern[str] | None = None
    replace: str | Callable[[str], str] | None = None
    find: Callable[[str], Iterable[tuple[int, int]]] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not RULE_NAME.fullmatch(self.name):
            raise ConfigError(f"redaction rule {self.name!r} has no name of letters, digits, '-' and '_' (32 at most)")
        if self.pattern is not None and self.find is not None:
            raise ConfigError(f"redaction rule {self.name!r} has a pattern and a find, allowed: one of them")
        if self.pattern is None and self.find is None and self.name not in RULES:
            raise ConfigError(
                f"redaction rule {self.name!r} is unknown, allowed: {', '.join(RULES)}, or Rule(name, pattern=...)"
            )
        try:
            re.compile(self.pattern or "")
        except (re.error, TypeError) as error:
            raise ConfigError(f"redaction rule {self.name!r}: pattern {self.pattern!r} is wrong: {error}") from error
