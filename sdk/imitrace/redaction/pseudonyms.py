"""Make keyed pseudonyms that look like what they stand for: one secret, one value, one pseudonym, in every process.

A pseudonym is drawn from HMAC-SHA256(secret, rule and canonical value), stretched by SHAKE-256. Without the secret it
can't be traced back; with it, equal values stay equal, however they were spaced, dashed or cased.
"""

import hashlib
import hmac
import re
import string
import struct

from imitrace.redaction.calling_codes import calling_code

LETTERS = string.ascii_lowercase
WORD = LETTERS + string.digits
LOCAL_LENGTH = 10
DOMAIN_LENGTH = 8
KEY_PREFIX = re.compile(
    r"sk-(?:ant-(?:api\d\d-)?|proj-|svcacct-|or-v1-)?|[srp]k_(?:live|test)_|whsec_|gh[pousr]_|github_pat_|AKIA|ASIA"
    r"|xox[abeprs]-|xapp-|eyJ|AIza|GOCSPX-|ya29\.|glpat-|hf_|npm_|pypi-|dop_v1_|SG\.|shp(?:at|ca|pa|ss)_|AGE-SECRET-KEY-"
)
HEX = re.compile(r"[0-9a-f-]{16,}")
TRUNK_ZERO = re.compile(r"(?<=\d)[^\d(]?\(0\)")


class Pseudonyms:
    """Make pseudonyms by kind of value under one secret.

    Args:
        secret: the key of the HMAC; whoever has it can test a guess against a pseudonym.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def mask(self, name: str, written: str) -> str:
        """Return ``[name:8 hex digits]``, equal for equal texts; 4e9 masks a rule."""
        return f"[{name}:{self._seed(name, written)[:4].hex()}]"

    def email(self, written: str) -> str:
        """Return an address under a reserved domain; equal domains stay equal, and so do tagged mailboxes.

        At least 10 letters or digits before the ``@`` (36^10) and 8 letters of domain (26^8), whatever was written.
        """
        at = "@" if "@" in written else "%40"
        local, _, domain = written.casefold().replace("%40", "@").rpartition("@")
        base, plus, tag = local.partition("+")
        mailbox = self._local(base, f"{base}@{domain}", LOCAL_LENGTH)
        tagged = f"{plus}{self._local(tag, f'{tag}+', 4)}" if tag else plus
        letters = "".join(LETTERS[draw % 26] for draw in self._draws("email domain", domain, DOMAIN_LENGTH))
        return f"{mailbox}{tagged}{at}{letters}.example"

    def phone(self, written: str) -> str:
        """Return a number of the same writing; country code, leading zeros and length stay, the other digits change."""
        trunk = TRUNK_ZERO.search(written) if written.startswith(("+", "00", "(+")) else None
        digits = _digits(written[: trunk.start()] + written[trunk.end() :] if trunk else written)
        canonical, kept = _dialled(digits, international=written.lstrip("(").startswith("+"))
        subscriber = self._other_digits("phone", canonical, digits[kept:])
        fresh = iter(digits[:kept] + subscriber)
        zero = trunk.end() - 2 if trunk else -1
        return "".join(next(fresh) if c in string.digits and at != zero else c for at, c in enumerate(written))

    def card(self, written: str) -> str:
        """Return another number of the same writing and first digit that passes Luhn; 10^(digits - 2) of them."""
        digits = _digits(written)
        for attempt in range(16):
            draws = self._draws("card", f"{digits}{'+' * attempt}", len(digits) - 2)
            body = digits[0] + "".join(str(draw % 10) for draw in draws)
            fresh = body + luhn_digit(body)
            if fresh != digits:
                break
        return _rewritten(written, fresh)

    def iban(self, written: str) -> str:
        """Return another account of the same country and writing with right check digits."""
        canonical = "".join(filter(str.isalnum, written)).upper()
        for attempt in range(16):
            draws = self._draws("iban", f"{canonical}{'+' * attempt}", len(canonical) - 4)
            account = "".join(_same_class(c, draw) for c, draw in zip(canonical[4:], draws, strict=True))
            fresh = f"{canonical[:2]}{98 - mod97(f'{account}{canonical[:2]}00'):02}{account}"
            if fresh != canonical:
                break
        return _rewritten(written, fresh)

    def key(self, written: str) -> str:
        """Return a key with the same prefix, length and kinds of characters; a mask where nothing could change."""
        found = KEY_PREFIX.match(written)
        kept = found.end() if found and found.end() < len(written) else 0
        body = written[kept:]
        hexadecimal = HEX.fullmatch(body) is not None
        for attempt in range(16):
            draws = self._draws("key", f"{''.join(written.split())}{'+' * attempt}", len(body))
            fresh = "".join(_same_class(c, draw, hexadecimal) for c, draw in zip(body, draws, strict=True))
            if fresh != body:
                return written[:kept] + fresh
        return self.mask("key", written)

    def _seed(self, name: str, canonical: str) -> bytes:
        return hmac.digest(self._secret, f"{name}\0{canonical}".encode("utf-8", "surrogatepass"), "sha256")

    def _draws(self, name: str, canonical: str, count: int) -> tuple[int, ...]:
        stream = hashlib.shake_256(self._seed(name, canonical)).digest(2 * count)
        return struct.unpack(f"<{count}H", stream)

    def _local(self, written: str, canonical: str, least: int) -> str:
        shape = written + "x" * (least - sum(map(str.isalnum, written)))
        draws = self._draws("email", canonical, len(shape))
        fresh = [WORD[draw % 36] if c.isalnum() else c for c, draw in zip(shape, draws, strict=True)]
        fresh[0] = LETTERS[draws[0] % 26]
        return "".join(c if c in WORD or c in "._-" else "_" for c in fresh)

    def _other_digits(self, name: str, canonical: str, digits: str) -> str:
        for attempt in range(16):
            draws = self._draws(name, f"{canonical}{'+' * attempt}", len(digits))
            fresh = str(2 + draws[0] % 8) + "".join(str(draw % 10) for draw in draws[1:])
            if fresh != digits:
                break
        return fresh


def luhn_digit(body: str) -> str:
    """Return the digit that makes ``body`` and it pass Luhn (ISO/IEC 7812-1)."""
    doubled = sum(sum(divmod(2 * int(c), 10)) for c in body[::-2])
    return str(-(doubled + sum(map(int, body[-2::-2]))) % 10)


def mod97(text: str) -> int:
    """Return ``text`` modulo 97, letters counted as 10 to 35 (ISO 7064, as IBAN uses it)."""
    return int("".join(str(int(c, 36)) for c in text)) % 97


def _digits(written: str) -> str:
    return "".join(c for c in written if c in string.digits)


def _dialled(digits: str, international: bool) -> tuple[str, int]:
    """Return what names the line, and how many leading digits stay as they are."""
    if international:
        return f"+{digits}", min(len(calling_code(digits)), len(digits) - 4)
    if digits.startswith("00"):
        return f"+{digits[2:]}", min(2 + len(calling_code(digits[2:])), len(digits) - 4)
    if len(digits) == 11 and digits[0] == "1":
        return f"+{digits}", 1
    return digits, min(len(digits) - len(digits.lstrip("0")), len(digits) - 4)


def _rewritten(written: str, fresh: str) -> str:
    """Return ``written`` with its letters and digits taken from ``fresh``, case and separators kept."""
    source = iter(fresh)
    return "".join((next(source).lower() if c.islower() else next(source)) if c.isalnum() else c for c in written)


def _same_class(character: str, draw: int, hexadecimal: bool = False) -> str:
    if not character.isalnum():
        return character
    if hexadecimal:
        return "0123456789abcdef"[draw % 16]
    if character.isdigit():
        return string.digits[draw % 10]
    return (string.ascii_uppercase if character.isupper() else LETTERS)[draw % 26]
