"""Write labelled texts for the redaction benchmark: formats by hand, no pattern shared with the rules under test."""

import json
import random
import string
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Maker = Callable[[random.Random], str]


@dataclass(frozen=True)
class Label:
    """Where a value stands, and how it is written; ``kind`` is ``negative`` for what must stay."""

    kind: str
    form: str
    start: int
    end: int


@dataclass(frozen=True)
class Sample:
    text: str
    labels: tuple[Label, ...]


def filled(mask: str) -> Maker:
    """Return a maker: ``#`` a digit, ``%N`` 2 to 9, ``%h`` hex, ``%a`` and ``%A`` a letter, ``%w`` any of them."""
    kinds = {"N": "23456789", "h": "0123456789abcdef", "a": string.ascii_lowercase, "A": string.ascii_uppercase}
    kinds |= {"w": string.ascii_letters + string.digits}

    def make(rng: random.Random) -> str:
        marks = iter(mask)
        pools = (
            kinds.get(c := next(marks), c) if mark == "%" else string.digits if mark == "#" else mark for mark in marks
        )
        return "".join(map(rng.choice, pools))

    return make


NAMES = """
anna bob carla dieter elena farid grace hiro ines jan katya luis mei noor olga priya quinn rosa sven tariq
mueller smith rossi garcia dubois nowak jansen silva tanaka kim okafor o'brien yilmaz singh novak berg
gmail.com web.de orange.fr libero.it acme.co.uk mail.example.org uni-bonn.de correo.com.mx company.io
"""
FIRST, LAST, HOSTS = (line.split() for line in NAMES.strip().splitlines())


def address(rng: random.Random) -> tuple[str, str, str]:
    return rng.choice(FIRST), rng.choice(LAST), rng.choice(HOSTS)


def _mail(write: Callable[[str, str, str, random.Random], str]) -> Maker:
    return lambda rng: write(*address(rng), rng)


EMAILS: dict[str, Maker] = {
    "first.last": _mail(lambda f, n, h, r: f"{f}.{n.replace(chr(39), '')}@{h}"),
    "initial and year": _mail(lambda f, n, h, r: f"{f[0]}{n.replace(chr(39), '')}{r.randrange(60, 99)}@{h}"),
    "plus tag": _mail(lambda f, n, h, r: f"{f}+{r.choice(['news', 'shop', 'x1'])}@{h}"),
    "underscore": _mail(lambda f, n, h, r: f"{f}_{r.randrange(1000)}@{h}"),
    "dashed": _mail(lambda f, n, h, r: f"{f}-{n.replace(chr(39), '')}@{h}"),
    "capitals": _mail(lambda f, n, h, r: f"{f.title()}.{n.replace(chr(39), '').title()}@{h.upper()}"),
    "apostrophe": _mail(lambda f, n, h, r: f"{f}.o'neill@{h}"),
    "sub-domains": _mail(lambda f, n, h, r: f"{f}@mx{r.randrange(9)}.eu.{h}"),
    "new top level": _mail(
        lambda f, n, h, r: f"{f}@{n.replace(chr(39), '')}.{r.choice(['photography', 'museum', 'dev'])}"
    ),
    "accented": _mail(lambda f, n, h, r: f"{f}é.müller@{h}"),
    "international domain": _mail(lambda f, n, h, r: f"{f}@bücher.de"),
    "punycode": _mail(lambda f, n, h, r: f"{f}@xn--bcher-kva.de"),
    "per cent 40": _mail(lambda f, n, h, r: f"{f}.{n.replace(chr(39), '')}%40{h}"),
    "digits only": _mail(lambda f, n, h, r: f"{r.randrange(10**8, 10**9)}@qq.com"),
    "at and dot in words": _mail(lambda f, n, h, r: f"{f} (at) {h.replace('.', ' (dot) ')}"),
    "spaced at": _mail(lambda f, n, h, r: f"{f} @ {h}"),
    "quoted local part": _mail(lambda f, n, h, r: f'"{f} {n.replace(chr(39), "")}"@{h}'),
    "no top level": _mail(lambda f, n, h, r: f"{f}@localhost"),
    "address literal": _mail(lambda f, n, h, r: f"{f}@[10.0.{r.randrange(255)}.{r.randrange(255)}]"),
}

PHONES: dict[str, Maker] = {
    form: filled(mask)
    for form, mask in {
        "US (nnn) nnn-nnnn": "(%N##) %N##-####",
        "US nnn-nnn-nnnn": "%N##-%N##-####",
        "US nnn.nnn.nnnn": "%N##.%N##.####",
        "US nnn nnn nnnn": "%N## %N## ####",
        "US 1-nnn": "1-800-%N##-####",
        "US +1": "+1 %N## %N## ####",
        "US +1 compact": "+1%N##%N######",
        "US +1 (nnn)": "+1 (%N##) %N##-####",
        "US bare ten digits": "%N##%N######",
        "DE +49": "+49 17# #######",
        "DE +49 (0)": "+49 (0)30 ########",
        "DE +49 dashes": "+49-151-########",
        "DE 0049": "0049 170 #######",
        "DE 017x": "017# #######",
        "DE 017x compact": "017########",
        "DE area/number": "030/#######",
        "DE (area) pairs": "(089) ## ## ## ##",
        "DE area - number": "0221 - ######",
        "UK 07": "07%N## ######",
        "UK 020": "020 7### ####",
        "UK +44 (0)": "+44 (0)20 7### ####",
        "UK +44": "+44 7%N## ######",
        "FR 06 pairs": "06 ## ## ## ##",
        "FR 06 dots": "06.##.##.##.##",
        "FR 06 compact": "06########",
        "FR +33": "+33 6 ## ## ## ##",
        "ES 6 pairs": "6## ## ## ##",
        "ES threes": "6## ### ###",
        "ES +34": "+34 6## ### ###",
        "IT mobile": "34# ### ####",
        "IT +39": "+39 34# #######",
        "IT 06": "06 ########",
        "NL 06-": "06-########",
        "NL +31": "+31 6 ########",
        "CH 079": "079 ### ## ##",
        "AT 0664": "0664 #######",
        "SE 070": "070-### ## ##",
        "PL threes": "5## ### ###",
        "PL +48": "+48 5## ### ###",
        "BR (11)": "(11) 9####-####",
        "BR +55": "+55 11 9####-####",
        "IN 5-5": "9#### #####",
        "IN +91": "+91 9#### #####",
        "AU 04": "04## ### ###",
        "AU (02)": "(02) 9### ####",
        "JP 090": "090-####-####",
        "JP 03": "03-####-####",
        "CN 3-4-4": "13# #### ####",
        "CN bare": "13#########",
        "MX 2-4-4": "55 #### ####",
        "TR 05": "05## ### ## ##",
        "KR 010": "010-####-####",
        "RU 8 (9nn)": "8 (9##) ###-##-##",
        "RU +7": "+7 9## ###-##-##",
        "DK pairs": "## ## ## ##",
        "UAE +971": "+971 50 ### ####",
        "local seven": "%N##-####",
        "vanity": "1-800-FLOWERS",
    }.items()
}


def _with_check_digit(prefix: str, length: int, rng: random.Random) -> str:
    body = prefix + "".join(rng.choice(string.digits) for _ in range(length - 1 - len(prefix)))
    return next(body + c for c in string.digits if passes_luhn(body + c))


def passes_luhn(number: str) -> bool:
    total = 0
    for place, c in enumerate(reversed(number)):
        digit = int(c) * (1 + place % 2)
        total += digit - 9 if digit > 9 else digit
    return total % 10 == 0


def _grouped(number: str, sizes: tuple[int, ...], separator: str) -> str:
    pieces, done = [], 0
    for size in sizes:
        pieces.append(number[done : done + size])
        done += size
    return separator.join(pieces)


def _card(prefixes: str, length: int, sizes: tuple[int, ...] = (), separator: str = " ") -> Maker:
    def make(rng: random.Random) -> str:
        number = _with_check_digit(rng.choice(prefixes.split()), length, rng)
        return _grouped(number, sizes, separator) if sizes else number

    return make


FOURS = (4, 4, 4, 4)
CARDS: dict[str, Maker] = {
    "Visa compact": _card("4", 16),
    "Visa spaces": _card("4", 16, FOURS),
    "Visa dashes": _card("4", 16, FOURS, "-"),
    "Visa no-break spaces": _card("4", 16, FOURS, "\u00a0"),
    "Visa 13": _card("4", 13),
    "Visa 19": _card("4", 19),
    "Mastercard compact": _card("51 52 53 54 55 2221 2300 2719", 16),
    "Mastercard spaces": _card("51 53 55 2500", 16, FOURS),
    "Amex compact": _card("34 37", 15),
    "Amex 4-6-5": _card("34 37", 15, (4, 6, 5)),
    "Amex dashes": _card("34 37", 15, (4, 6, 5), "-"),
    "Diners 4-6-4": _card("300 36 38", 14, (4, 6, 4)),
    "Diners compact": _card("305 36 39", 14),
    "Discover": _card("6011 644 65", 16, FOURS),
    "JCB": _card("3530 3566 3589", 16),
    "UnionPay 16": _card("62", 16, FOURS),
    "UnionPay 19": _card("62", 19, (6, 13)),
    "UnionPay 4-4-4-4-3": _card("62", 19, (4, 4, 4, 4, 3)),
    "Maestro 18": _card("6759 5018", 18),
    "Troy spaces": _card("9792", 16, FOURS),
    "Troy compact": _card("9792", 16),
    "digit by digit": _card("4 51", 16, (1,) * 16),
    "dots": _card("4 51", 16, FOURS, "."),
    "two spaces": _card("4 51", 16, FOURS, "  "),
    "UATP": _card("1", 15),
    "last four only": filled("**** **** **** ####"),
}

ACCOUNTS = {
    "DE": "##################",
    "AT": "################",
    "CH": "#################",
    "FR": "##########%A############",
    "ES": "####################",
    "IT": "%A######################",
    "NL": "%A%A%A%A##########",
    "BE": "############",
    "GB": "%A%A%A%A##############",
    "PL": "########################",
    "PT": "#####################",
    "SE": "####################",
    "NO": "###########",
    "BR": "#######################%A#",
    "TR": "######################",
    "SA": "####################",
    "MT": "%A%A%A%A#####" + "#" * 18,
    "AE": "###################",
}


def _account(country: str, rng: random.Random, off: int = 0) -> str:
    account = filled(ACCOUNTS[country])(rng).upper()
    letters = "".join(str(string.ascii_uppercase.index(c) + 10) if c.isalpha() else c for c in f"{account}{country}00")
    check = 98 - int(letters) % 97
    return f"{country}{(check + off - 1) % 97 + 1 if off else check:02}{account}"


def _iban(write: Callable[[str], str]) -> Maker:
    return lambda rng: write(_account(rng.choice(list(ACCOUNTS)), rng))


def _fours(text: str, separator: str = " ") -> str:
    return separator.join(text[at : at + 4] for at in range(0, len(text), 4))


IBANS: dict[str, Maker] = {
    "compact": _iban(str),
    "fours": _iban(_fours),
    "no-break spaces": _iban(lambda a: _fours(a, "\u00a0")),
    "dashes": _iban(lambda a: _fours(a, "-")),
    "lower case": _iban(str.lower),
    "lower fours": _iban(lambda a: _fours(a).lower()),
    "country apart": _iban(lambda a: f"{a[:4]} {a[4:]}"),
    "dots": _iban(lambda a: _fours(a, ".")),
    "two spaces": _iban(lambda a: _fours(a, "  ")),
    "country and check apart": _iban(lambda a: f"{a[:2]} {a[2:4]} {a[4:]}"),
}

KEYS: dict[str, tuple[str, str]] = {
    "OpenAI": ("@", "sk-" + "%w" * 48),
    "OpenAI project": ("OPENAI_API_KEY=@", "sk-proj-" + "%w" * 60),
    "Anthropic": ("@", "sk-ant-api03-" + "%w" * 60),
    "GitHub classic": ("@", "ghp_" + "%w" * 36),
    "GitHub fine": ("@", "github_pat_" + "%w" * 22 + "_" + "%w" * 59),
    "AWS access key": ("@", "AKIA" + "%A" * 16),
    "AWS secret, named": ("aws_secret_access_key = @", "%w" * 40),
    "Slack bot": ("@", "xoxb-" + "#" * 12 + "-" + "#" * 12 + "-" + "%w" * 24),
    "Google": ("@", "AIza" + "%w" * 35),
    "GitLab": ("@", "glpat-" + "%w" * 20),
    "Hugging Face": ("@", "hf_" + "%w" * 34),
    "npm": ("@", "npm_" + "%w" * 36),
    "Stripe": ("@", "sk_live_" + "%w" * 24),
    "JWT": ("Authorization: Bearer @", "eyJ" + "%w" * 30 + "." + "%w" * 60 + "." + "%w" * 43),
    "JWT in a cookie": ("session=@; Path=/", "eyJ" + "%w" * 30 + "." + "%w" * 60 + "." + "%w" * 43),
    "bearer, opaque": ("Authorization: Bearer @", "%h" * 32),
    "basic": ("Authorization: Basic @", "%w" * 28 + "=="),
    "password = quoted": ('password="@"', "%w" * 10 + "!"),
    "password: bare": ("password: @", "%a%a%a%a%a%a##!"),
    "password in JSON": ('{"user": "bo", "password": "@"}', "%w" * 12),
    "password in a URL": ("postgres://app:@@db.internal:5432/x".replace("@@", "\1@"), "%w" * 12),
    "api_key: quoted": ('api_key: "@"', "%h" * 32),
    "client_secret form": ("grant_type=x&client_secret=@&scope=y", "%w" * 32),
    "token, YAML": ("auth_token: @", "%w" * 24),
    "Passwort, German": ("Mein Passwort ist @", "%A%a%a%a%a%a##"),
    "contraseña, Spanish": ("mi contraseña es @", "%a%a%a%a%a%a####"),
    "PEM": ("-----BEGIN PRIVATE KEY-----\n@\n-----END PRIVATE KEY-----", "%w" * 64 + "\n" + "%w" * 64),
    "password is a plain word": ("my password is @", "%a%a%a%a%a%a%a%a"),
    "passphrase of words": ("password: @", "%a%a%a%a%a %a%a%a%a %a%a%a%a%a %a%a%a%a"),
    "hex alone": ("use @ for that", "%h" * 40),
    "AWS secret alone": ("the other one is @", "%w" * 40),
    "PIN": ("PIN @", "####"),
}

SENTENCES_TEXT = (
    "I wrote from {} yesterday.|Please use {} from now on, thanks!|it's {}|ok so {} is what they have on file|"
    "Our records show {}. Is that right?|Bitte ändern Sie es auf {}.|Das ist {}, oder?|"
    "C'est bien {} ?|"
    "Merci d'utiliser {} désormais.|Usa {} por favor.|Mi dato es {}, gracias|Per favore usi {}.|Gebruik {} aub|"
    "Por favor, use {}.|Proszę użyć {}.|{} でお願いします。|请使用 {} 谢谢|<{}>|({})|\"{}\"|'{}'|new: {};"
    "|{}\n|a\t{}\tb|*{}*|- {}"
)
SENTENCES = SENTENCES_TEXT.split("|")
WORDED = {
    "email": "email: {}|E-Mail {}|mailto:{}|my mail is {}, ok?|correo {}|to={}&x=1",
    "phone": "phone: {}|Tel. {}|tel:{}|call me at {}|Telefon: {}|Ruf mich an unter {}|mon portable : {}|mi móvil es {}|"
    "cell {}|WhatsApp {}|fax {}|phone number is {}|telefono {}|电话 {}|電話 {}|numer telefonu {}|llámame al {}",
    "card": "card {}|Karte {}|card number: {} exp 12/27|carte {}|tarjeta {}, cvv 123|pay with {} 12/26",
    "iban": "IBAN {}|IBAN: {}.|Konto {}|overschrijven naar {}|compte {} BIC DEUTDEFF|to {} please",
}
FIELDS = {
    "email": "email customer_email from",
    "phone": "phone phone_number mobile",
    "card": "card number pan",
    "iban": "iban account",
}

NEGATIVES: dict[str, Maker] = {
    form: filled(mask)
    for form, mask in {
        "order id": "ORD-#####-####",
        "order number, 10 digits": "order %N#########",
        "phone-like order number": "order %N##-%N##-####",
        "phone-like part number": "P/N %N##-%N##-####",
        "part number": "AB#-####-###%A",
        "part number from zero": "0###-####-##",
        "UPS tracking": "1Z###%A##########",
        "FedEx tracking": "############",
        "USPS tracking": "94## #### #### #### #### ##",
        "seconds": "17########",
        "milliseconds": "17###########",
        "nanoseconds": "17#################",
        "ISO date": "202#-0%N-1#",
        "ISO time": "202#-0%N-1#T1#:2#:3#.###Z",
        "log time": "202#-0%N-1# 1#:2#:3#,###",
        "European date and time": "1#.0%N.202# 1#:3#",
        "American date and time": "0%N/1#/202# 10:3#",
        "time zone": "202#-0%N-1#T1#:00:00+02:00",
        "IPv4": "10.###.1#.2##",
        "IPv4 and port": "192.168.1#.2#:80##",
        "IPv6": "2001:db8:%h%h%h%h:%h%h%h%h::%h%h%h%h",
        "MAC": "%h%h:%h%h:%h%h:%h%h:%h%h:%h%h",
        "coordinates": "##.######, 1#.######",
        "price": "€ #.###,##",
        "large price": "$#,###,###.##",
        "spaced thousands": "# ### ### kr",
        "spaced millions": "### ### ### Ft",
        "version": "v1#.2#.3#",
        "version, four parts": "1#.0.###.2##",
        "git SHA": "commit %h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h%h",
        "short SHA": "%h%h%h%h%h%h%h",
        "SHA-256": "sha256:" + "%h" * 64,
        "snowflake": "%N#################",
        "SKU": "SKU ########",
        "VIN": "WAU%A%A%A8###A######",
        "invoice": "INV-202#-######",
        "zip+4": "#####-####",
        "booking": "booking %A%A%A%A##",
        "flight": "LH ### 1#:##",
        "row of numbers": "12 ## 3# ### 7 ## 41 ##",
        "matrix": "[[#, ##, ###], [##, #, ####]]",
        "range": "1###-2###",
        "percentages": "##.#%% (+#.##%%)",
        "page numbers": "pp. ###-###, vol. ##",
        "score": "3-1, 2-0, 118:97",
        "diff hunk": "@@ -###,7 +###,9 @@",
        "process": "[pid ######] worker-#: took ####.### ms",
        "mention": "@%a%a%a%a%a%a%a_##",
        "mention in a team": "@acme/%a%a%a%a%a%a-team",
        "package": "%a%a%a%a%a%a@#.##.#",
        "scoped package": "@%a%a%a%a%a/%a%a%a%a@#.#.#",
        "picture": "logo@2x.png",
        "git remote": "git@github.com:%a%a%a%a/%a%a%a%a%a.git",
        "decorator": "@app.route('/x')",
        "matrix product": "a@b + w@x.T",
        "token count": "max_tokens=####, token_count: ####",
        "password field": "password: str = Field(min_length=12)",
        "password rule": "Your password must have 12 characters.",
        "password from environment": 'password=os.environ["DB_PASSWORD"]',
        "placeholder": "api_key=<YOUR_API_KEY>",
        "template": "Authorization: Bearer ${TOKEN}",
        "lost password": "I forgot my password, please help",
        "keyword": "sort(key=lambda row: row.total)",
        "key path": "api_key=settings.openai.key",
        "primary key": "primary key: order_id",
        "colour": "%#%h%h%h%h%h%h",
        "base64 picture": "data:image/png;base64," + "%w" * 60,
        "long word": "pneumonoultramicroscopic_silicovolcano",
    }.items()
}


def _checked(make: Callable[[str], str], prefix: str, length: int) -> Maker:
    def written(rng: random.Random) -> str:
        return make(prefix + "".join(rng.choice(string.digits) for _ in range(length - len(prefix))))

    return written


def _article(number: str) -> str:
    total = sum(int(c) * (3 if place % 2 else 1) for place, c in enumerate(number[:12]))
    return number[:12] + str(-total % 10)


def _broken_luhn(rng: random.Random) -> str:
    number = _with_check_digit(rng.choice(["4", "53", "62"]), 16, rng)
    return _grouped(number[:-1] + str((int(number[-1]) + rng.randrange(1, 10)) % 10), FOURS, " ")


NEGATIVES |= {
    "UUID": lambda rng: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
    "ISBN-13": _checked(_article, "978", 13),
    "ISBN-13, dashes": _checked(lambda n: _grouped(_article(n), (3, 1, 4, 4, 1), "-"), "978", 13),
    "EAN-13, German": _checked(_article, "40", 13),
    "EAN-13, Dutch": _checked(_article, "87", 13),
    "ISBN-10": filled("ISBN 0########%N"),
    "IMEI": lambda rng: _with_check_digit(rng.choice(["35", "86", "01"]), 15, rng),
    "card that fails Luhn": _broken_luhn,
    "16 digits, any": filled("################"),
    "16 digits from 4": filled("4###############"),
    "loyalty number that passes Luhn": lambda rng: _with_check_digit("70", 16, rng),
    "gift card that passes Luhn": lambda rng: _with_check_digit("60", 16, rng),
    "IBAN with wrong check digits": lambda rng: _fours(_account("DE", rng, off=rng.randrange(1, 90))),
}

FRAMES_TEXT = (
    "{}|The value is {} here.|see {} for details|Ref {}|{}: done|Siehe {}, bitte.|voir {} merci|ver {}|"
    '{"id": "{}", "ok": true}|{"value": {}}|2026-11-21 09:56:54 INFO handled {} in 12 ms|x = "{}"|a, {}, b|- {}\n- next'
)
FRAMES = FRAMES_TEXT.split("|")


def samples(count: int, seed: int) -> Iterator[Sample]:
    """Yield ``count`` samples, six tenths with a value to find; the same seed gives the same samples."""
    rng = random.Random(seed)
    makers = {"email": EMAILS, "phone": PHONES, "card": CARDS, "iban": IBANS}
    for number in range(count):
        kind = ["email", "phone", "card", "iban", "key", "phone"][number % 6] if number % 10 < 6 else "negative"
        if kind == "negative":
            form = rng.choice(list(NEGATIVES))
            yield _framed(rng.choice([frame for frame in FRAMES if "{}" in frame]), kind, form, NEGATIVES[form](rng))
        elif kind == "key":
            form = rng.choice(list(KEYS))
            yield _secret(form, rng)
        else:
            form = rng.choice(list(makers[kind]))
            yield _written(kind, form, makers[kind][form](rng), rng)


def _written(kind: str, form: str, value: str, rng: random.Random) -> Sample:
    style = rng.random()
    if style < 0.4:
        return _framed(rng.choice(WORDED[kind].split("|")), kind, f"{form}, beside a word", value)
    if style < 0.65 or form == "quoted local part":
        return _framed(rng.choice(SENTENCES), kind, form, value)
    if style < 0.85:
        return _in_json(rng.choice(FIELDS[kind].split()), kind, form, value, rng)
    frame = rng.choice(
        ["2026-11-21 09:56:54,123 INFO user={} ok", 'to = "{}"  # test', "id;{};2026-11-21;19.90", "| {} | x |"]
    )
    return _framed(frame, kind, form, value)


def _in_json(field: str, kind: str, form: str, value: str, rng: random.Random) -> Sample:
    ascii_only = rng.random() < 0.5
    written = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
    before = json.dumps(
        {"id": rng.randrange(10**6), "note": "first line\nsecond", field: "\1"}, ensure_ascii=ascii_only
    )
    head, tail = before.split(json.dumps("\1")[1:-1])
    beside = ", beside a word" if kind == "phone" else ""
    return _placed(head, tail, kind, f"{form}{beside}", written)


def _secret(form: str, rng: random.Random) -> Sample:
    frame, mask = KEYS[form]
    head, tail = frame.split("\1" if "\1" in frame else "@", 1)
    around = rng.choice(["", "", "please set ", "\n", "log: "])
    return _placed(around + head, tail, "key", form, filled(mask)(rng))


def _framed(frame: str, kind: str, form: str, value: str) -> Sample:
    head, tail = frame.split("{}", 1)
    return _placed(head, tail, kind, form, value)


def _placed(head: str, tail: str, kind: str, form: str, value: str) -> Sample:
    return Sample(head + value + tail, (Label(kind, form, len(head), len(head) + len(value)),))
