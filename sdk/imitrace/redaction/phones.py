"""Find phone numbers: written internationally, in a form that little else has, or beside a word that says so."""

import re
from collections.abc import Iterable, Iterator

from imitrace.redaction.calling_codes import LONGEST, calling_code, national_digits
from imitrace.redaction.readings import Reading, Span

GAP = r"[ .\-/\u00a0\u202f\u2009\u2010\u2011]"
GROUPS = rf"(?:(?:{GAP}{{1,3}}\(?|\(|(?<=\)))\d{{1,14}}+\)?){{0,9}}"
FORMS = re.compile(
    rf"""(?<![\w+])(?<!\d[.,:/\-])(?<![A-Za-z_]-)(?:
      (?P<plus>\+{GAP}?\(?[1-9]\d{{0,14}}+\)?{GROUPS})
    | (?P<zeros>00(?<!\d[ ]00){GAP}?[1-9]\d{{0,14}}+{GROUPS})
    | (?P<exact>
        (?:1{GAP})?(?:\([2-9]\d\d\){GAP}?|[2-9]\d\d{GAP})[2-9]\d\d{GAP}\d{{4}}       # North America
      | (?:[78]{GAP}?)?\([1-9]\d{{1,4}}\){GAP}?\d{{3,5}}{GAP}\d{{2,4}}(?:{GAP}\d{{2,4}})?  # area in brackets
      | [6-9]\d\d(?:\ \d\d){{3}} | [6-9]\d{{4}}[ \-]\d{{5}} | 1[3-9]\d[ \-]\d{{4}}[ \-]\d{{4}}  # ES, IN, CN
      | 01[567]\d{{8,9}} | 07\d{{9}} | 0[67]\d{{8}} | 04\d{{8}} | 0[789]0\d{{8}} | 010\d{{8}} | 05\d{{9}}  # mobiles
      )
    | (?P<trunk>(?:\(0[1-9]\d{{0,4}}\)|0[1-9]\d{{0,4}}(?=\ ?{GAP}))
        {GAP}{{0,3}}\d{{2,8}}+(?:{GAP}{{1,3}}\d{{2,8}}+){{0,4}})
    )(?![0-9A-WYZa-wyz_])(?!{GAP}?[.\-/]\d)""",
    re.VERBOSE | re.ASCII,
)
BESIDE_A_WORD = re.compile(rf"(?<![\w+])\(?\d{{1,14}}+\)?{GROUPS}(?!\w)", re.ASCII)
FEWEST = 7
DIGITS = re.compile(r"[0-9]+")
AMONG_FOURS = re.compile(rf"[A-Za-z0-9]{{2}}\d\d{GAP}{{1,2}}\Z")
POSTCODE = re.compile(r"[0-9]{5}-[0-9]{4}")
DATE = re.compile(
    r"\(?\d\d([./-])\d\d\1(?:19|20)\d\d(?!\d)|\d{4}([./-])\d\d\2\d\d(?!\d)|(?:19|20)\d{6}(?!\d)", re.ASCII
)
STEMS = re.compile(
    "phone|tel|mob|cel|hand|fax|call|text|sms|what|ruf|num|ligu|llam|ll\xe1m|appel|port|reach|ring|bel"
    "|m\xf3v|t\xe9l|\u7535|\u624b|\u96fb|\u643a|\uc804|\u0442\u0435\u043b"
)
WORDS = re.compile(
    r"(?:\b|_)(?:tele?(?:ph?one|f(?:on|ono|oon|one|oni|no)\w*)?|t\xe9l(?:\xe9phone)?|tel\xe9fono|phones?|[a-z]*phone"
    r"|mobile?|mobil|m\xf3vil|cell?(?:ular)?|cellulare|handy(?:nummer)?|rufnummer|telefonnummer|fax|sms|whatsapp|portable"
    r"|(?:call|text|ring|reach|phone) (?:me|us|him|her|them|back)|ruf\w*|appel\w*|ll[a\xe1]m\w*|ligue|bel"
    r"|\u7535\u8bdd|\u624b\u673a|\u96fb\u8a71|\u643a\u5e2f|\uc804\ud654|\u0442\u0435\u043b\w*)(?:_?(?:number|no|nr))?"
    r"(?:\W{1,3}(?:me|us|is|at|on|under|unter|al|au|numm?er|number|mich|an|no|nr|to|op|my|ist|es|is:|num\xe9ro|n\xfamero)\b){0,4}"
    r"[^\w+]{0,6}$",
    re.IGNORECASE,
)
OTHER_WORDS = re.compile(
    r"(?:\b|_)(?:order|invoice|isbn|issn|[ps]/?n|ref(?:erence)?|ticket|tracking|case|sku|ean|upc|gtin|part|serial|version|ver|imei"
    r"|booking|contract|model|build|item|bestell\w*|auftrag\w*|rechnung\w*|pedido|commande|factura|facture)"
    r"(?:[_ ]?(?:no|nr|number|num|code|id|nummer))?\W{0,4}$|#\s?$",
    re.IGNORECASE,
)


def find_phones(reading: Reading) -> Iterable[Span]:
    """Return where phone numbers stand; 7 to 15 digits each."""
    return _phones(reading) if reading.has_digits(7) else ()


def _phones(reading: Reading) -> Iterator[Span]:
    for start, end in reading.numbers():
        position = start
        while end - position >= FEWEST:
            if date := DATE.match(reading.text, position):
                position = date.end()
            found = _first(reading, position, end) if end - position >= FEWEST else None
            if found is None:
                break
            yield found
            position = found[1]


def _first(reading: Reading, start: int, end: int) -> Span | None:
    """Return the first phone number in a run of digits, by the word before it or by its form."""
    beside = BESIDE_A_WORD.match(reading.text, start, end + 1)
    span = beside and _fitting(reading.text, beside.span(), FEWEST, LONGEST)
    if span and STEMS.search(before := reading.before(start, 40).lower()) and WORDS.search(before):
        return span
    for match in FORMS.finditer(reading.text, start, end + 2):
        if span := _judged(reading, match):
            return span
    return None


def _judged(reading: Reading, match: re.Match[str]) -> Span | None:
    form = match.lastgroup
    if form in ("plus", "zeros"):
        return _international(reading.text, match.span())
    before = reading.before(match.start(), 32)
    if DATE.match(match[0]) or OTHER_WORDS.search(before) or AMONG_FOURS.search(before) or POSTCODE.fullmatch(match[0]):
        return None
    return match.span() if form == "exact" else _fitting(reading.text, match.span(), 9, 12)


def _international(text: str, span: Span) -> Span | None:
    written = text[span[0] : span[1]]
    digits = "".join(DIGITS.findall(written))
    zeros = 0 if written.startswith("+") else 2
    code = calling_code(digits[zeros:])
    if not code:
        return None
    least, most = national_digits(code)
    trunk = "(0)" in written or (code != "39" and digits[zeros + len(code) :].startswith("0"))
    beside = zeros + len(code) + trunk
    return _fitting(text, span, least + beside, most + beside)


def _fitting(text: str, span: Span, least: int, most: int) -> Span | None:
    """Return the groups from the start that make up one number, when they are ``least`` to ``most`` digits."""
    if DATE.match(text, span[0], span[1] + 1):
        return None
    count, pairs, end = 0, True, span[0]
    for match in DIGITS.finditer(text, *span):
        size = len(match[0])
        whole = count >= max(least, 10) and size <= 2 and text[match.start() - 1] == " "
        if count + size > most or (whole and (count == 10 or not pairs)):
            break
        pairs = pairs and (size == 2 or count == 0)
        count, end = count + size, match.end()
    if not least <= count <= most:
        return None
    return span[0], end + (text[end : end + 1] == ")" and "(" in text[span[0] : end] and ")" not in text[span[0] : end])
