"""Know the countries' calling codes, and how many digits a number may have after them (ITU-T E.164)."""

CODES = {
    2: "20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84 86",
    3: "21 22 23 24 25 26 29 35 37 38 42 50 59 67 68 69 80 85 87 88 96 97 99",
}
"""First two digits of the codes that have two or three of them."""

TWO_DIGITS = frozenset(f"{CODES[2]} 90 91 92 93 94 95 98".split())
THREE_DIGITS = frozenset(CODES[3].split())

LONGEST = 15
BY_LENGTH = {
    (8, 8): "45 47 65 852 853 216 372",
    (8, 9): "31 32 41 36 40 971 972 966 370 371 386 359",
    (9, 9): "27 33 34 48 51 56 61 66 212 213 254 351 353 380 420 421",
    (10, 10): "1 7 20 30 44 52 57 63 90 91 92 234",
    (10, 11): "54 55 86",
    (9, 10): "81 84",
    (8, 10): "64 82",
    (7, 10): "46 358",
    (7, 11): "49",
    (8, 11): "39",
    (7, 13): "43",
}
NATIONAL = {code: lengths for lengths, codes in BY_LENGTH.items() for code in codes.split()}
"""Fewest and most digits after the code, where known."""


def calling_code(digits: str) -> str:
    """Return the calling code that ``digits`` begin with; empty when there is none."""
    if digits[:1] in ("1", "7"):
        return digits[0]
    if digits[:2] in TWO_DIGITS:
        return digits[:2]
    return digits[:3] if digits[:2] in THREE_DIGITS and len(digits) > 2 else ""


def national_digits(code: str) -> tuple[int, int]:
    """Return the fewest and the most digits that may follow ``code``."""
    return NATIONAL.get(code, (6, LONGEST - len(code)))
