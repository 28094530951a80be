"""Tell by its messages which call continues which: the only tie where nobody says a conversation's id."""

from collections.abc import Iterable, Sequence
from typing import Any

from imitrace.canonical import content_hash
from imitrace.messages import Message

Print = tuple[str, str, tuple[Any, ...]]
"""A message's role, its text, and its calls and results: equal for an answer and its echo in the next request."""


def prints(messages: Iterable[Message]) -> tuple[Print, ...]:
    """Return what each message says, but the system prompts.

    What instrumentors write differently, or leave out, does not count: ids of calls, reasoning, names, space at the
    ends.
    """
    return tuple(_print(message) for message in messages if message["role"] != "system")


def chain(service: str | None, found: Sequence[object]) -> str:
    """Return one hash of what was said to, and by, a service."""
    return content_hash([service, *found])


def _print(message: Message) -> Print:
    text = ""
    rest = []
    for part in message["parts"]:
        kind = part.get("type")
        if kind == "text":
            text = f"{text}\n{part.get('content') or ''}" if text else str(part.get("content") or "")
        elif kind == "tool_call":
            rest.append((part.get("name"), part.get("arguments")))
        elif kind == "tool_call_response":
            rest.append((kind, part.get("response")))
    return message["role"], text.strip(), tuple(rest)
