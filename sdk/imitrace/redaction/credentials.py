"""Find keys, tokens and passwords: by the prefix that their makers gave them, or by the name they are assigned to."""

import re
from collections.abc import Iterator

from imitrace.redaction.readings import Reading, Span

TOKENS = {
    "sk-": r"sk-[\w-]{16,}+",
    "k_": r"[srp]k_(?:live|test)_\w{10,}+",
    "whsec_": r"whsec_[\w+/=]{20,}+",
    "gh": r"gh[pousr]_\w{20,}+",
    "github_pat_": r"github_pat_\w{20,}+",
    "AKIA": r"AKIA[A-Z0-9]{16}\b",
    "ASIA": r"ASIA[A-Z0-9]{16}\b",
    "xox": r"xox[abeprs]-[\w-]{10,}+",
    "xapp-": r"xapp-[\w-]{10,}+",
    "eyJ": r"eyJ[\w-]{8,}+\.[\w-]{8,}+(?:\.[\w-]*+)?",
    "AIza": r"AIza[\w-]{30,}+",
    "GOCSPX-": r"GOCSPX-[\w-]{20,}+",
    "ya29.": r"ya29\.[\w-]{20,}+",
    "glpat-": r"glpat-[\w-]{16,}+",
    "hf_": r"hf_\w{20,}+",
    "npm_": r"npm_\w{20,}+",
    "pypi-": r"pypi-[\w-]{30,}+",
    "dop_v1_": r"dop_v1_[0-9a-f]{40,}+",
    "SG.": r"SG\.[\w-]{16,}+\.[\w-]{16,}+",
    "shp": r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}\b",
    "AGE-SECRET-KEY-": r"AGE-SECRET-KEY-1[A-Z0-9]{40,}+",
}
"""What must stand in the text before its pattern is tried, and the pattern."""

MADE = {anchor: re.compile(rf"(?<![A-Za-z0-9_])(?:{pattern})", re.ASCII) for anchor, pattern in TOKENS.items()}
# A possessive group, `(?:...)++`, was seen to match too much once in a while (CPython 3.11.7): none in these patterns.
PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----\s{0,4}+([^-]++(?:-(?!----)[^-]*+)*)")
BEARER = re.compile(
    r"(?:bearer|authorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:basic|token))\s{1,4}([\w.~+/=-]{12,}+)", re.I
)
URL_PASSWORD = re.compile(r"://[^\s/:@\"'<>]{0,64}:([^\s/@\"'<>]{1,128})@")
PASSWORD_STEMS = ("passw", "kennw", "contrase")
STEMS = ("secret", "token", "key", "pwd", "passphrase", "mot de passe", "senha")
OTHER_STEMS = ("\u5bc6\u7801", "\u043f\u0430\u0440\u043e\u043b\u044c")
NAMES = (
    r"passw(?:or)?d|passwort|passphrase|pwd|secret|secret[_ -]?(?:access[_ -]?)?key|client[_ -]?secret|token|apikey"
    r"|(?:api|access|account|signing|encryption|subscription|private)[_ -]?key"
    r"|kennwort|contrase\xf1a|mot de passe|senha|\u5bc6\u7801|\u043f\u0430\u0440\u043e\u043b\u044c"
)
NAME_ENDS = re.compile(rf"(?:^|[^A-Za-z])(?i:{NAMES})$|[a-z](?:Key|Token|Secret|Password)$")
NAMED = re.compile(rf"(?i:{NAMES})(?![\w-])")
ASSIGNED = re.compile(
    r"""["'`*]{0,3}\s{0,4}(?P<sign>:=|=>|==?|:|\bis\b:?|\bist\b:?|\bes\b:?|\xe8|\xe9)\s{0,4}
    (?:"(?P<double>[^"\n]{4,512})"|'(?P<single>[^'\n]{4,512})'|(?P<bare>[^\s"'`<>,;&(){}\[\]]{4,512}))""",
    re.VERBOSE,
)
PLACEHOLDER = re.compile(
    r"[$<{*\[%]|\.\.\.|x{4,}|(?:none|null|true|false|undefined|required|optional|string|str|your[-_ ].*)$", re.I
)


def find_keys(reading: Reading) -> Iterator[Span]:
    """Yield where keys, tokens and passwords stand, without the word or the quotes around them."""
    text = reading.text
    if reading.label and _is_secret_name(reading.label) and _is_secret(text, "=", quoted=True):
        yield 0, len(text)
        return
    if reading.has_token(12):
        for anchor, pattern in MADE.items():
            if anchor in text:
                yield from (match.span() for match in pattern.finditer(text))
    if "-----BEGIN " in text:
        yield from ((match.start(1), match.start(1) + len(match[1].rstrip())) for match in PEM.finditer(text))
    if "://" in text:
        yield from (match.span(1) for match in URL_PASSWORD.finditer(text))
    yield from _assigned(reading)


def _assigned(reading: Reading) -> Iterator[Span]:
    text, lower = reading.text, reading.lower()
    if "bearer" in lower or "authorization" in lower:
        yield from (match.span(1) for match in BEARER.finditer(text) if _is_secret(match[1], ":", quoted=False))
    stems = PASSWORD_STEMS + (STEMS if ":" in text or "=" in text else ()) + (() if text.isascii() else OTHER_STEMS)
    for stem in (stem for stem in stems if stem in lower):
        position = lower.find(stem)
        while position >= 0:
            span = _value_after(text, position)
            if span:
                yield span
            position = lower.find(stem, span[1] if span else position + len(stem))


def _value_after(text: str, position: int) -> Span | None:
    """Return where the value stands that is assigned to the name around ``position``."""
    start = max(0, position - 12)
    name = next((m for m in NAMED.finditer(text, start, position + 40) if m.start() <= position < m.end()), None)
    match = name and ASSIGNED.match(text, name.end())
    if not name or not match:
        return None
    kind = match.lastgroup or "bare"
    value = match[kind].rstrip(".?:") if kind == "bare" else match[kind]
    if not _is_secret(value, match["sign"], quoted=kind != "bare"):
        return None
    return match.start(kind), match.start(kind) + len(value)


def _is_secret_name(label: str) -> bool:
    return NAME_ENDS.search(label) is not None


def _is_secret(value: str, sign: str, quoted: bool) -> bool:
    """Return whether a value is a secret rather than prose, a placeholder or a piece of code."""
    if len(value) < 4 or PLACEHOLDER.match(value) or any(c.isspace() for c in value):
        return False
    if quoted or sign in ("=", ":="):
        return not (sign == "=" and not quoted and "." in value and value.replace(".", "").replace("_", "").isalpha())
    return not value.isalpha() or (any(map(str.isupper, value[1:])) and any(map(str.islower, value)))
