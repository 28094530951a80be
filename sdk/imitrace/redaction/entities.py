"""Find e-mail addresses, payment cards and bank accounts in a text, by form and by check digit."""

import re
from collections.abc import Iterable, Iterator

from imitrace.redaction.pseudonyms import luhn_digit, mod97
from imitrace.redaction.readings import Reading, Span

LOCAL_LENGTH = 64
LETTER = r"A-Za-z0-9\u00c0-\u024f\u0370-\u052f"
LOCAL = re.compile(rf"(?:%[0-9A-Fa-f]{{2}})*(?!%[0-9A-Fa-f]{{2}})([{LETTER}_.+!#$&'*/=?^`{{|}}~%-]*[{LETTER}_+-])\Z")
LOCAL_START = re.compile(r".*[/=&?|{}`'!#$*^~%]", re.DOTALL)
DOMAIN = re.compile(
    rf"(?:[{LETTER}](?:[{LETTER}-]{{0,61}}[{LETTER}])?\.){{1,8}}"
    r"(?:xn--[a-z0-9-]{2,59}|[A-Za-z\u00c0-\u024f]{2,24}|[\u0370-\u052f]{2,24})(?![A-Za-z0-9_-])"
)
IRISH = re.compile(r"(?<![A-Za-z])[DLNOdlno]'\Z")
NO_DOMAIN = re.compile(r"[23]x\.(?:png|jpe?g|webp|gif|svg)$")
NEXT_SENTENCE = re.compile(r"(?<=[a-z]{2})\.[A-Z][a-z]+$")
CARD_RUN = re.compile(r"[1-9](?:[ .\-\u00a0\u202f\u2011]{0,2}\d){12,}", re.ASCII)
IBAN_START = re.compile(r"[A-Za-z]{2}\d\d[ -]\Z")
DIGITS = re.compile(r"[0-9]+")
CARD_LENGTHS = range(13, 20)
SCHEMES = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11}|(?:6011|64[4-9]\d|65\d\d|62\d\d|35[2-8]\d|220[0-4]|508\d|60\d\d|81\d\d|9792)\d{12,15}"
    r"|(?:50|5[6-9]|6[0-9])\d{11,17}"
)
FOURS = (4, 4, 4, 4)
MOST_GROUPS, SPREAD_GROUPS = 5, 24
"""In a longer row of numbers no card is written digit by digit."""

WORDLIKE = re.compile(r"[A-Za-z0-9_]|[.\-][A-Za-z]")
GROUPED = {(4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 2), (4, 4, 4, 4, 3), (4, 4, 5), (4, 3, 3, 3), (6, 13), (8, 8)}
IBAN_HEAD = re.compile(
    r"[0-9](?<=[A-Za-z ]\d)"
    r"(?:(?<=[A-Za-z]{2}\d)(?<![A-Za-z0-9][A-Za-z]{2}\d)|(?<=[A-Za-z]{2}[ ]\d)(?<![A-Za-z0-9][A-Za-z]{2}[ ]\d))\d",
    re.ASCII,
)
IBAN_REST = {n: re.compile(rf"(?:[ .\-\u00a0\u202f]{{0,2}}[A-Za-z0-9]){{{n}}}(?![A-Za-z0-9])") for n in range(11, 30)}
LENGTHS = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24 FI18
FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20
LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 RS22 RU33 SA24
SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30
"""
IBAN_DIGITS = 9
IBAN_LENGTHS = {entry[:2]: int(entry[2:]) for entry in LENGTHS.split()}
"""Length by country, from the IBAN registry (SWIFT, ISO 13616)."""


def find_emails(reading: Reading) -> Iterable[Span]:
    """Return where e-mail addresses stand, ``%40`` counted as ``@``."""
    signs = [sign for sign in ("@", "%40") if sign in reading.text]
    return (span for sign in signs for span in _addresses(reading.text, sign)) if signs else ()


def _addresses(text: str, sign: str) -> Iterator[Span]:
    at = text.find(sign)
    while at >= 0:
        if span := _address(text, at, len(sign)):
            yield span
        at = text.find(sign, at + len(sign))


def _address(text: str, at: int, sign: int) -> Span | None:
    domain = DOMAIN.match(text, at + sign)
    local = domain and LOCAL.search(text, max(0, at - LOCAL_LENGTH), at)
    if domain is None or local is None or NO_DOMAIN.match(domain[0]):
        return None
    mailbox = local[1]
    if cut := LOCAL_START.match(mailbox):
        mailbox = _mailbox(mailbox, cut.end())
    mailbox = mailbox.lstrip(".-+")
    start, end = at - len(mailbox), domain.end()
    if not mailbox or (mailbox == "git" and text[end : end + 1] == ":") or _is_url_password(text, start):
        return None
    return start, end - (len(sentence[0]) if (sentence := NEXT_SENTENCE.search(domain[0])) else 0)


def _mailbox(written: str, cut: int) -> str:
    """Return the part after the last sign that seldom stands in a mailbox; the apostrophe of an O'Brien does."""
    if IRISH.search(written[:cut]):
        before = LOCAL_START.match(written, 0, cut - 1)
        return written[before.end() if before else 0 :]
    return written[cut:]


def _is_url_password(text: str, start: int) -> bool:
    return text[start - 1 : start] == ":" and "://" in text[max(0, start - LOCAL_LENGTH) : start]


def find_cards(reading: Reading) -> Iterable[Span]:
    """Return where payment cards stand: 13 to 19 digits of a known scheme or grouping that pass Luhn."""
    return _cards(reading) if reading.has_digits(13) else ()


def _cards(reading: Reading) -> Iterator[Span]:
    for start, end in reading.numbers():
        for run in CARD_RUN.finditer(reading.text, start, end):
            groups = [match.span() for match in DIGITS.finditer(reading.text, *run.span())]
            first, most = 0, MOST_GROUPS if len(groups) > SPREAD_GROUPS else SPREAD_GROUPS
            while first < len(groups):
                last = _card_end(reading.text, groups[first : first + most])
                if last is not None:
                    yield groups[first][0], groups[first + last][1]
                first += 1 if last is None else last + 1


def _card_end(text: str, groups: list[Span]) -> int | None:
    """Return the last group of the longest card that begins with the first group; None when none does."""
    start = groups[0][0]
    before = text[max(0, start - 5) : start]
    if text[start] not in "23456789" or _continues(before[::-1]) or IBAN_START.search(before):
        return None
    digits, found = "", None
    for last, (start, end) in enumerate(groups):
        digits += text[start:end]
        if len(digits) > CARD_LENGTHS[-1]:
            break
        if len(digits) in CARD_LENGTHS and not _continues(text[end : end + 2]):
            sizes = tuple(stop - begin for begin, stop in groups[: last + 1])
            found = last if _is_card(digits, sizes) else found
    return found


def _continues(beside: str) -> bool:
    """Return whether a number goes on: a letter or digit beside it, or one behind a point or dash."""
    return WORDLIKE.match(beside) is not None


def _is_card(digits: str, sizes: tuple[int, ...]) -> bool:
    if sizes == FOURS:
        known = digits[0] in "23456789"
    elif sizes in GROUPED:
        known = SCHEMES.fullmatch(digits) is not None and (len(digits) < 17 or digits[0] == "6")  # else card and CVV
    else:
        even = len(set(sizes)) == 1 and sizes[0] <= 2
        known = (len(sizes) == 1 or even) and SCHEMES.fullmatch(digits) is not None and not _is_article(digits)
    return known and luhn_digit(digits[:-1]) == digits[-1] and len(set(digits)) > 1


def _is_article(digits: str) -> bool:
    """Return whether 13 digits have the check digit of an article number (EAN-13)."""
    return len(digits) == 13 and sum(int(c) * (3 if n % 2 else 1) for n, c in enumerate(digits)) % 10 == 0


def find_ibans(reading: Reading) -> Iterable[Span]:
    """Return where bank accounts stand: an IBAN of its country's length with right check digits."""
    return _ibans(reading.text) if reading.has_digits(IBAN_DIGITS) else ()


def _ibans(text: str) -> Iterator[Span]:
    for match in IBAN_HEAD.finditer(text):
        start = match.start() - (3 if text[match.start() - 1] == " " else 2)
        length = IBAN_LENGTHS.get(text[start : start + 2].upper())
        rest = length and IBAN_REST[length - 4].match(text, match.end())
        if rest and mod97("".join(filter(str.isalnum, rest[0] + text[start : match.end()]))) == 1:
            yield start, rest.end()
