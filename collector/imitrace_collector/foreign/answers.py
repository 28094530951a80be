"""Read a model's answer as its client got it, where an instrumentor kept only that."""

from collections.abc import Iterable
from typing import Any

from imitrace.faults import Faults
from imitrace.messages import Message
from imitrace.shapes.answers import UNKNOWN_ANSWER, read_answer
from imitrace_collector.foreign.contents import Told, read_calls, read_messages
from imitrace_collector.foreign.flat_messages import UNREADABLE
from imitrace_collector.foreign.said import Said, json_value


def one_answer(messages: Iterable[Message]) -> Message | None:
    """Return the assistant's messages of an answer as one, or what could not be read; None when they say nothing."""
    said = [message for message in messages if message["role"] not in ("tool", "user") and message["parts"]]
    whole = [message for message in said if message["role"] != UNREADABLE]
    parts = [part for message in whole or said for part in message["parts"]]
    return {"role": "assistant" if whole else UNREADABLE, "parts": parts} if parts else None


def raw_answer(said: Said, names: Iterable[str]) -> Told:
    """Return a model's answer from the response as its client got it; one of unknown shape says nothing."""
    read: list[Message] = []
    problem = None
    for name in names:
        value = said.value(name)
        parsed, cut = json_value(value)
        if parsed is None or parsed == "" or parsed == []:
            continue
        if cut:
            problem = problem or f"{name} {cut}"
        elif isinstance(parsed, str):
            read.append({"role": "assistant", "parts": [{"type": "text", "content": parsed}]})
        else:
            read += _answered(parsed)
        if read and name not in _PIECES:
            break
    return Told(tuple(read), None if read else problem)


_PIECES = ("ai.response.toolCalls", "ai.response.text")
"""Attributes that each hold a piece of the answer."""


def _answered(value: Any) -> list[Message]:
    calls = read_calls(value) if isinstance(value, list) else []
    if calls:
        return [{"role": "assistant", "parts": calls}]
    generated = _generated(value)
    if generated is not None:
        found = one_answer(read_messages("generations", [generated]).messages)
        return [found] if found else []
    answer = read_answer(value, _Uncounted())
    if answer.error_type == UNKNOWN_ANSWER:
        return []
    parts = [
        {"type": "tool_call", "id": action.call_id, "name": action.name, "arguments": action.arguments}
        if action.kind == "tool_call"
        else {"type": "text", "content": action.message or ""}
        for action in answer.actions
    ]
    parts = [part for part in parts if part["type"] != "text" or part["content"]]
    return [{"role": "assistant", "parts": parts}] if parts else []


def _generated(value: Any) -> dict[str, Any] | None:
    """Return the message in LangChain's result as it is written to JSON: by its class and what that was made of."""
    first = value.get("generations") if isinstance(value, dict) else None
    while isinstance(first, list):
        first = first[0] if first else None
    message = first.get("message") if isinstance(first, dict) else None
    return message if isinstance(message, dict) and isinstance(message.get("kwargs"), dict) else None


class _Uncounted(Faults):
    """Faults of a sender: they are told with the step, and not counted as ours."""

    def count(self, reason: str, detail: object) -> None:
        """Leave it."""
