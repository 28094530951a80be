"""Read a text as a detector should see it: JSON escapes undone, with the way back to where each character stood."""

import re
from bisect import bisect_right

ESCAPE = re.compile(r'(?<!\\)\\++(?:u([0-9a-fA-F]{4})|([nrtbf"/]))')
PIECE = re.compile(r'\\++(?:u([0-9a-fA-F]{4})|([nrtbf"/]))|.', re.DOTALL)
CONTROL = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f", '"': '"', "/": "/"}
NUMBER = re.compile(r"[+(0-9][0-9 ().\-/\u00a0\u202f\u2009\u2010\u2011]{6,}+")
SHAPE = bytes(ord("0") if chr(byte).isdigit() else ord("x") for byte in range(256))
BETWEEN_DIGITS = b" ().-/" + bytes(range(128, 256))
TOKEN = bytes(ord("x") if chr(byte).isalnum() or byte in b"_-" else ord(" ") for byte in range(128)) + b" " * 128

Span = tuple[int, int]
"""Start and end of a piece of text, the end exclusive."""


class Reading:
    """Hold one text for several detectors; what they share is found once, and only when asked for.

    Args:
        raw: the text as it is recorded.
        label: the key under which it stands, such as ``phone``.

    Attributes:
        text: ``raw`` with its JSON escapes undone, so that what follows a written ``\\n`` begins a word.
    """

    __slots__ = ("_lower", "_marks", "_numbers", "_raw", "_shape", "label", "text")

    def __init__(self, raw: str, label: str = "") -> None:
        self.label = label
        self.text = without_escapes(raw)
        self._raw = raw
        self._lower: str | None = None
        self._shape: bytes | None = None
        self._numbers: list[Span] | None = None
        self._marks: list[Span] | None = None

    def lower(self) -> str:
        """Return the text with ASCII letters in lower case; every character stays where it was."""
        if self._lower is None:
            text = self.text
            self._lower = text.lower() if text.isascii() else _encoded(text).lower().decode("utf-8", "surrogatepass")
        return self._lower

    def numbers(self) -> list[Span]:
        """Return where digits stand together, with what may separate the groups of one number."""
        if self._numbers is None:
            self._numbers = [match.span() for match in NUMBER.finditer(self.text)]
        return self._numbers

    def has_digits(self, count: int) -> bool:
        """Return whether ``count`` digits, 7 or more, follow each other, separators aside."""
        if self._shape is None:
            shape = _encoded(self.text).translate(SHAPE, BETWEEN_DIGITS)
            self._shape = shape if b"0000000" in shape else b""
        return b"0" * count in self._shape

    def has_token(self, length: int) -> bool:
        """Return whether ``length`` letters, digits, dashes and underscores follow each other."""
        return b"x" * length in _encoded(self.text).translate(TOKEN)

    def before(self, position: int, length: int) -> str:
        """Return up to ``length`` characters before ``position``, the label standing before the text."""
        near = self.text[max(0, position - length) : position]
        return f"{self.label}: {near}" if self.label and position < length else near

    def raw_span(self, span: Span) -> Span:
        """Return where ``span`` of the text stands in the raw text."""
        if self.text is self._raw:
            return span
        if self._marks is None:
            self._marks = _marks(self._raw)
        return _raw_position(self._marks, span[0]), _raw_position(self._marks, span[1])


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _marks(raw: str) -> list[Span]:
    """Return where the text goes on after each escape, and where the raw text does."""
    marks, done, length = [(0, 0)], 0, 0
    for match in ESCAPE.finditer(raw):
        length += match.start() - done + 1
        done = match.end()
        marks.append((length, done))
    return marks


def _raw_position(marks: list[Span], position: int) -> int:
    at, raw = marks[bisect_right(marks, position, key=lambda mark: mark[0]) - 1]
    return raw + position - at


def without_escapes(raw: str) -> str:
    """Return ``raw`` with its JSON escapes undone; the very same text when it has none."""
    if "\\" not in raw:
        return raw
    if "\\u" in raw or "\\\\" in raw:
        return ESCAPE.sub(_character, raw)
    text = raw
    for letter, character in CONTROL.items():  # several times as fast as the pattern, and the common case
        text = text.replace("\\" + letter, character)
    return text


def with_escapes(raw: str, text: str) -> str:
    """Return ``text`` with the escapes of ``raw`` where it kept the character that they stand for."""
    if "\\" not in raw:
        return text
    pieces = [match[0] for match in PIECE.finditer(raw)]
    if len(pieces) != len(text):
        return text
    return "".join(piece if without_escapes(piece) == c else c for piece, c in zip(pieces, text, strict=True))


def _character(match: re.Match[str]) -> str:
    return chr(int(match[1], 16)) if match[1] else CONTROL[match[2]]
