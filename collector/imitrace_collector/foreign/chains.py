"""Tell by its messages which call continues which: the only tie where nobody says a conversation's id."""

from collections.abc import Iterable

from imitrace.canonical import canonical_json, text_hash
from imitrace.messages import Message
from imitrace.shapes.content_parts import Part

_SAID = ("text", "tool_call", "tool_call_response")


def digests(messages: Iterable[Message]) -> tuple[str, ...]:
    """Return a hash of each message but the system prompts.

    An answer and its echo in the next request have the same: what instrumentors write differently, or leave out, does
    not count (ids of calls, reasoning, names, space at the ends).
    """
    return tuple(_digest(message) for message in messages if message["role"] != "system")


def chain(found: Iterable[str]) -> str:
    """Return one hash of a row of messages' hashes."""
    return text_hash("".join(found))


def _digest(message: Message) -> str:
    said = [_part(part) for part in message["parts"] if part.get("type") in _SAID]
    role = message["role"]
    texts = "\n".join(text for kind, text in said if kind == "text").strip()
    rest = [text for kind, text in said if kind != "text"]
    return text_hash(canonical_json([role, texts, rest]))


def _part(part: Part) -> tuple[str, str]:
    kind = part["type"]
    if kind == "text":
        return kind, str(part.get("content") or "").strip()
    if kind == "tool_call":
        return kind, canonical_json([part.get("name"), part.get("arguments")])
    return kind, canonical_json(part.get("response"))
