"""Turn values into one canonical JSON text, and that into a content hash: equal content has one name everywhere."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from imitrace.semconv import DIGEST_PAYLOADS

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


_LETS_GO = 2048
"""Bytes from which hashlib lets go of the interpreter's lock; beside a busy agent it takes 5 ms to have it back."""
_LARGE = 2**17


def canonical_json(value: Any) -> str:  # any JSON value goes in
    """Return ``value`` as compact JSON with sorted keys; what JSON lacks is written as its ``str``."""
    return _ENCODER.encode(value)


def text_hash(text: str) -> str:
    """Return 32 hex digits of BLAKE2b-128 over ``text`` in UTF-8; lone surrogates are kept apart, never refused."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) < _LETS_GO or len(data) > _LARGE:
        return hashlib.blake2b(data, digest_size=16).hexdigest()
    hasher = hashlib.blake2b(digest_size=16)
    for start in range(0, len(data), _LETS_GO - 1):
        hasher.update(data[start : start + _LETS_GO - 1])
    return hasher.hexdigest()


def content_hash(value: Any) -> str:  # any JSON value goes in
    """Return the hash of ``value``'s canonical JSON: the id of a message, of a tool definition, of a list of them."""
    return text_hash(canonical_json(value))


def step_digest(attributes: Mapping[str, object]) -> str:
    """Return ``LENGTH-HASH`` over a step's payload attributes, absent ones as empty.

    Args:
        attributes: the step span's attributes; only those in ``semconv.DIGEST_PAYLOADS`` count.

    Returns:
        Summed length in characters, a dash, and the hash of the payloads joined by NUL.
    """
    payloads = [str(attributes.get(name, "")) for name in DIGEST_PAYLOADS]
    return f"{sum(map(len, payloads))}-{text_hash(chr(0).join(payloads))}"
