"""Read ages and sizes as people write them."""

import re
from datetime import timedelta

from imitrace.exceptions import ConfigError

_AGES = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SIZES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def age(text: str) -> timedelta:
    """Return an age like ``30d``.

    Raises:
        ConfigError: it is no number with m, h, d or w.
    """
    found = re.fullmatch(r"(\d{1,6})\s*([mhdw])", text.strip())
    if found is None:
        raise ConfigError(f"age {text!r} can't be read, expected a number with m, h, d or w, like 30d")
    return timedelta(**{_AGES[found[2]]: int(found[1])})


def size(text: str) -> int:
    """Return a size like ``10GB`` in bytes.

    Raises:
        ConfigError: it is no number with B, KB, MB, GB or TB.
    """
    found = re.fullmatch(r"(\d{1,15})\s*([KMGT]?B|)", text.strip().upper())
    if found is None:
        raise ConfigError(f"size {text!r} can't be read, expected a number with B, KB, MB, GB or TB, like 10GB")
    return int(found[1]) * _SIZES[found[2]]
