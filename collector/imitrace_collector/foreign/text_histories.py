"""Read histories in which calls and their results were written as text, as smolagents keeps them."""

import ast
import json
from typing import Any

from imitrace.messages import Message
from imitrace.shapes.content_parts import Part

_CALLS, _RESULTS = ("tool-call", "tool_call"), ("tool-response", "tool_response")
_CALLING = "Calling tools:"
_OBSERVATION = "Observation:"
_CALL_ID = "Call id:"
_LONGEST = 2**20
"""Characters of text that is read as Python's literals: longer stays text."""


def read_text_message(role: str, content: Any) -> Message | None:  # text, or a list of text blocks
    """Return a message whose role says that it is a call, or a result, written as text; None for any other."""
    role = role.rpartition(".")[2].lower()
    if role not in (*_CALLS, *_RESULTS):
        return None
    text = _text(content)
    if role in _RESULTS:
        return {"role": "tool", "parts": [_result(text)]}
    calls = _calls(text)
    return {"role": "assistant", "parts": calls or [{"type": "text", "content": text}]}


def _result(text: str) -> Part:
    call_id = None
    if text.startswith(_CALL_ID):
        first, _, text = text.partition("\n")
        call_id = first.removeprefix(_CALL_ID).strip()
    if text.startswith(_OBSERVATION):
        text = text.removeprefix(_OBSERVATION).removeprefix("\n")
    return {"type": "tool_call_response", "id": call_id, "response": text}


def _calls(text: str) -> list[Part]:
    _, found, listed = text.partition(_CALLING)
    value = literal(listed.strip()) if found else None
    calls = value if isinstance(value, list) else []
    parts: list[Part] = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            return []
        arguments = function.get("arguments")
        arguments = arguments if isinstance(arguments, dict) else {"input": arguments}
        parts.append({"type": "tool_call", "id": call.get("id"), "name": function["name"], "arguments": arguments})
    return parts


def literal(text: str) -> Any:  # any JSON value, and what else Python can write
    """Return the value that JSON, or else Python's literals, say; the text itself where they say none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text) if len(text) <= _LONGEST else text
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return text


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    return "\n".join(str(block.get("text") or "") for block in blocks if isinstance(block, dict))
