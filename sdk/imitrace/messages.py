"""Bring chat messages into one form, and cut a conversation into decisions.

The form is the GenAI conventions' parts: ``{"role": ..., "parts": [...]}`` with parts ``{"type": "text", "content"}``,
``{"type": "tool_call", "id", "name", "arguments"}`` and ``{"type": "tool_call_response", "id", "response"}``.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imitrace.exceptions import WireError

Message = dict[str, Any]
"""A message in parts form."""

_PARAMETERS = ("parameters", "input_schema", "inputSchema")
_ROLES = {"developer": "system", "function": "tool"}


@dataclass(frozen=True)
class Action:
    """One thing an agent did: a tool call or a message."""

    kind: str
    name: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    message: str | None = None
    call_id: str | None = None


@dataclass(frozen=True)
class AgentDecision:
    """One answer of the agent: how many messages it saw, and its action; several for parallel tool calls."""

    position: int
    actions: tuple[Action, ...]


def from_openai(message: Mapping[str, Any]) -> Message:
    """Return an OpenAI chat message in parts form; one already in parts form comes back as it is.

    Raises:
        WireError: the message is not an object with a role, or its content is of no known shape.
    """
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise WireError(f"message is {_short(message)}, expected an object with 'role'")
    if isinstance(message.get("parts"), list):
        _check_parts(message["parts"])
        return dict(message)
    role = _ROLES.get(message["role"], message["role"])
    if role == "tool":
        part: dict[str, Any] = {
            "type": "tool_call_response",
            "id": message.get("tool_call_id"),
            "response": _text(message.get("content")),
        }
        if message.get("name"):
            part["name"] = message["name"]
        return {"role": role, "parts": [part]}
    text = _text(message.get("content"))
    parts: list[dict[str, Any]] = [{"type": "text", "content": text}] if text else []
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list | tuple):
        raise WireError(f"tool calls are {_short(calls)}, expected a list")
    return {"role": role, "parts": [*parts, *map(_tool_call, calls)]}


def to_openai(message: Message) -> dict[str, Any]:
    """Return a message in parts form as an OpenAI chat message."""
    if message["role"] == "tool":
        part = message["parts"][0]
        response = part.get("response")
        return {
            "role": "tool",
            "tool_call_id": part.get("id"),
            "content": response if isinstance(response, str) else json.dumps(response, ensure_ascii=False),
        }
    calls = [
        {
            "id": part.get("id"),
            "type": "function",
            "function": {"name": part["name"], "arguments": json.dumps(part["arguments"], ensure_ascii=False)},
        }
        for part in message["parts"]
        if part.get("type") == "tool_call"
    ]
    result: dict[str, Any] = {"role": message["role"], "content": message_text(message) or None}
    if calls:
        result["tool_calls"] = calls
    return result


def message_text(message: Message) -> str:
    """Return the text parts of a message, joined by newlines."""
    return "\n".join(str(part.get("content", "")) for part in message["parts"] if part.get("type") == "text")


def message_actions(message: Message) -> tuple[Action, ...]:
    """Return what an assistant message did: its tool calls, or else one message."""
    calls = tuple(
        Action("tool_call", part["name"], _arguments(part.get("arguments")), call_id=part.get("id"))
        for part in message["parts"]
        if part.get("type") == "tool_call"
    )
    return calls or (Action("message", message=message_text(message)),)


def decisions(messages: Sequence[Message]) -> Iterator[AgentDecision]:
    """Yield each assistant message of a conversation in parts form as a decision."""
    for position, message in enumerate(messages):
        if message["role"] == "assistant":
            yield AgentDecision(position, message_actions(message))


def tool_definition(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool definition as ``{name, description, parameters}``, from OpenAI's, Anthropic's or MCP's form.

    Raises:
        WireError: the definition has no name.
    """
    inner = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise WireError(f"tool definition is {_short(tool)}, expected an object with 'name'")
    return {
        "name": inner["name"],
        "description": inner.get("description") or "",
        "parameters": next((inner[key] for key in _PARAMETERS if inner.get(key)), {"type": "object", "properties": {}}),
    }


def _check_parts(parts: list[Any]) -> None:  # whatever a caller put into parts
    for part in parts:
        named = isinstance(part, Mapping) and (part.get("type") != "tool_call" or isinstance(part.get("name"), str))
        if not named:
            raise WireError(f"message part is {_short(part)}, expected an object, with 'name' for a tool call")


def _tool_call(call: Any) -> dict[str, Any]:  # whatever a caller put into tool_calls
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise WireError(f"tool call is {_short(call)}, expected an object with 'function.name'")
    return {
        "type": "tool_call",
        "id": call.get("id"),
        "name": function["name"],
        "arguments": _arguments(function.get("arguments")),
    }


def _arguments(value: Any) -> dict[str, Any]:  # arguments come as a JSON string or an object
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except (ValueError, RecursionError) as error:
            raise WireError(f"tool call arguments are {_short(value)}, expected JSON") from error
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise WireError(f"tool call arguments are {_short(value)}, expected a JSON object")
    return dict(value)


def _text(content: Any) -> str:  # content comes as text, as a list of parts, or not at all
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, str | Mapping) for part in content):
        texts = (part if isinstance(part, str) else part.get("text") for part in content)
        return "\n".join(text for text in texts if isinstance(text, str))
    raise WireError(f"message content is {_short(content)}, expected text or a list of parts")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
