"""Cut payloads that are too large for one attribute into pieces that travel as spans of their own."""

from imitrace.semconv import (
    CHUNK_ATTRIBUTE,
    CHUNK_COUNT,
    CHUNK_INDEX,
    CHUNK_TEXT,
    DIGEST_PAYLOADS,
    STEP_CHUNKS,
    STEP_INCOMPLETE,
)

CHUNK_BYTES = 512 * 1024
"""UTF-8 bytes of a payload that stay in one attribute; a request of a few such is under gRPC's 4 MB."""
MAX_CHUNKS = 4096
"""Pieces of one span at most; what needs more is left off and the step marked incomplete."""

Attributes = dict[str, str | int | float | bool]


def cut(attributes: Attributes, limit: int = CHUNK_BYTES) -> tuple[Attributes, list[Attributes]]:
    """Return a span's attributes without the payloads that are too large, and the attributes of the chunks.

    Args:
        attributes: of a step or a tool run; only those in ``semconv.DIGEST_PAYLOADS`` are cut.
        limit: characters that one attribute may hold, a quarter of it for text beyond ASCII.
    """
    for name in DIGEST_PAYLOADS:
        if name in attributes and len(str(attributes[name])) * 4 > limit:
            break
    else:
        return attributes, []
    large = {name: text for name in DIGEST_PAYLOADS if _pieces(text := str(attributes.get(name, "")), limit) > 1}
    if not large:
        return attributes, []
    kept = {name: value for name, value in attributes.items() if name not in large}
    count = sum(_pieces(text, limit) for text in large.values())
    if count > MAX_CHUNKS:
        reason = f"payload of {sum(map(len, large.values()))} characters needs {count} chunks, allowed: {MAX_CHUNKS}"
        return {**kept, STEP_INCOMPLETE: reason}, []
    chunks = [chunk for name, text in large.items() for chunk in _chunks(name, text, limit)]
    return {**kept, STEP_CHUNKS: count}, chunks


def _pieces(text: str, limit: int) -> int:
    return -(-len(text) // _width(text, limit)) if len(text) * 4 > limit else 1


def _width(text: str, limit: int) -> int:
    return limit if text.isascii() else max(1, limit // 4)


def _chunks(name: str, text: str, limit: int) -> list[Attributes]:
    width = _width(text, limit)
    pieces = [text[start : start + width] for start in range(0, len(text), width)]
    return [
        {CHUNK_ATTRIBUTE: name, CHUNK_INDEX: index, CHUNK_COUNT: len(pieces), CHUNK_TEXT: piece}
        for index, piece in enumerate(pieces)
    ]
