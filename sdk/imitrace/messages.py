"""Bring chat messages into one form, and cut a conversation into decisions.

The form is the GenAI conventions' parts: ``{"role": ..., "parts": [...]}`` with parts ``{"type": "text", "content"}``,
``{"type": "tool_call", "id", "name", "arguments"}`` and ``{"type": "tool_call_response", "id", "response"}``, and what
``content_parts`` makes of reasoning and media.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imitrace.exceptions import WireError
from imitrace.shapes.content_parts import Part, call_arguments, call_part, content_parts, result_part
from imitrace.shapes.plain import mapping, short

Message = dict[str, Any]
"""A message in parts form."""

_PARAMETERS = ("parameters", "input_schema", "inputSchema", "params_json_schema")
_REASONING = ("reasoning_content", "reasoning")
_MEDIA = ("blob", "uri", "file")
_ROLES = {"developer": "system", "function": "tool", "human": "user", "ai": "assistant", "model": "assistant"}


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
    if not isinstance(message, dict | Mapping) or not isinstance(message.get("role"), str):
        raise WireError(f"message is {short(message)}, expected an object with 'role'")
    if isinstance(message.get("parts"), list):
        _check_parts(message["parts"])
        return dict(message)
    role = canonical_role(message["role"])
    name = message.get("name")
    if role == "tool":
        part = result_part(message.get("tool_call_id"), message.get("content"))
        return {"role": role, "parts": [{**part, "name": name} if name else part]}
    result = {"role": role, "parts": [*_reasoning(message), *content_parts(message.get("content")), *_said(message)]}
    return {**result, "name": name} if isinstance(name, str) and name else result


def canonical_role(role: str) -> str:
    """Return the role's one name: ``system``, ``user``, ``assistant``, ``tool``, or what else it is."""
    return _ROLES.get(role, role)


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
    result: dict[str, Any] = {"role": message["role"], "content": _openai_content(message)}
    if message.get("name"):
        result["name"] = message["name"]
    if calls:
        result["tool_calls"] = calls
    return result


def message_text(message: Message) -> str:
    """Return the text parts of a message, joined by newlines."""
    return "\n".join(str(part.get("content", "")) for part in message["parts"] if part.get("type") == "text")


def message_actions(message: Message) -> tuple[Action, ...]:
    """Return what an assistant message did: its tool calls, or else one message."""
    calls = tuple(
        Action("tool_call", part["name"], call_arguments(part.get("arguments")), call_id=part.get("id"))
        for part in message["parts"]
        if part.get("type") == "tool_call"
    )
    return calls or (Action("message", message=message_text(message)),)


def action_message(action: Action) -> Message:
    """Return the assistant's message that an action amounts to, in parts form."""
    if action.kind == "message":
        return {"role": "assistant", "parts": [{"type": "text", "content": action.message or ""}]}
    call = {"type": "tool_call", "id": action.call_id, "name": action.name, "arguments": action.arguments}
    return {"role": "assistant", "parts": [call]}


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
        raise WireError(f"tool definition is {short(tool)}, expected an object with 'name'")
    return {
        "name": inner["name"],
        "description": inner.get("description") or "",
        "parameters": next((inner[key] for key in _PARAMETERS if inner.get(key)), {"type": "object", "properties": {}}),
    }


def _openai_content(message: Message) -> str | list[dict[str, Any]] | None:
    if not any(part.get("type") in _MEDIA for part in message["parts"]):
        return message_text(message) or None
    blocks = []
    for part in message["parts"]:
        if part.get("type") == "text":
            blocks.append({"type": "text", "text": str(part.get("content", ""))})
        elif part.get("type") in _MEDIA:
            blocks.append(_openai_media(part))
    return blocks


def _openai_media(part: Part) -> dict[str, Any]:
    modality, mime_type = str(part.get("modality")), str(part.get("mime_type", ""))
    if part["type"] == "blob" and modality == "audio":
        return {"type": "input_audio", "input_audio": {"data": part["content"], "format": mime_type.partition("/")[2]}}
    address = part.get("uri") or f"data:{mime_type};base64,{part.get('content')}"
    if modality == "image" and part["type"] != "file":
        return {"type": "image_url", "image_url": {"url": address}}
    file = {"file_id": part["file_id"]} if part["type"] == "file" else {"file_data": address}
    return {"type": "file", "file": {**file, "filename": part["name"]} if part.get("name") else file}


def _check_parts(parts: list[Any]) -> None:  # whatever a caller put into parts
    for part in parts:
        named = isinstance(part, Mapping) and (part.get("type") != "tool_call" or isinstance(part.get("name"), str))
        if not named:
            raise WireError(f"message part is {short(part)}, expected an object, with 'name' for a tool call")


def _reasoning(message: Mapping[str, Any]) -> list[Part]:  # beside the content, as several servers send it
    found = next((message[key] for key in _REASONING if message.get(key)), None)
    return [{"type": "reasoning", "content": found}] if isinstance(found, str) else []


def _said(message: Mapping[str, Any]) -> list[Part]:
    """Return what an assistant's message holds beside its content: a refusal, sound, and its tool calls."""
    parts = content_parts(message.get("refusal"))
    audio = mapping(message.get("audio"))
    if audio:
        parts += content_parts(audio.get("transcript"))
        parts += content_parts([{"type": "audio", "data": audio.get("data"), "file_id": audio.get("id")}])
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list | tuple):
        raise WireError(f"tool calls are {short(calls)}, expected a list")
    single = message.get("function_call")
    return [*parts, *map(call_part, [single] if single and not calls else calls)]
