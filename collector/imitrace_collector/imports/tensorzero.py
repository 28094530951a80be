"""Read TensorZero's inferences: rows of ``ChatInference``, as its API, its datasets and ClickHouse give them.

The rows of one ``episode_id`` are a trajectory, its ``function_name`` the agent. ``input``, ``output`` and
``tool_params`` are JSON, or text of it; content blocks are as https://www.tensorzero.com/docs/gateway/data-model and
https://www.tensorzero.com/docs/gateway/api-reference/inference have them. A template's arguments are kept as JSON: the
text that the model saw is not in the row.
"""

import json
from collections.abc import Mapping
from typing import Any

from imitrace.canonical import canonical_json
from imitrace.exceptions import WireError
from imitrace.faults import Faults
from imitrace.messages import Message
from imitrace.shapes.chat_shapes import parts_messages
from imitrace.shapes.plain import short
from imitrace.shapes.tool_shapes import tool_definitions
from imitrace_collector.imports.calls import Call, each_call
from imitrace_collector.imports.conversations import Facts, Given, Json, Row, agent_name, text, time_of, under
from imitrace_collector.normalize import storable

_FAULTS = Faults()
_TOOLS = ("tools_available", "additional_tools", "available_tools")


def _call(row: Row, given: Given) -> Call:
    line = row.value
    if not isinstance(line, dict) or not isinstance(line.get("episode_id"), str) or "output" not in line:
        raise WireError("it has no 'episode_id' with 'input' and 'output'")
    sent = _json(line.get("input"), dict, "input")
    state = _messages(sent)
    answer = _block_messages("assistant", _output(line))
    if len(answer) != 1:
        raise WireError("'output' is no one message of content blocks")
    return Call(
        place=row.place,
        position=row.position,
        agent=agent_name(given, line.get("function_name")),
        conversation=storable(line["episode_id"]),
        state=state,
        answer=answer[0],
        facts=Facts(
            model=text(line.get("variant_name")),
            tools=_tools(line) or given.tools,
            at=time_of(line.get("timestamp")),
        ),
        tags=_tags(line.get("tags")),
        content=line.get("inference_id", line.get("id")),
    )


def _output(line: Json) -> Any:
    """Return the content blocks of what was answered; a JSON function's answer is its raw text."""
    found = line["output"]
    if isinstance(found, str):
        found = _json(found, (list, dict), "output")
    return [{"type": "text", "text": found.get("raw")}] if isinstance(found, dict) else found


def _messages(sent: Json) -> list[Message]:
    system = sent.get("system")
    messages = []
    if system is not None and system != "":
        messages += parts_messages([{"role": "system", "content": _plain_text(system)}])
    for message in sent.get("messages") or []:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise WireError(f"message is {short(message)}, expected an object with 'role'")
        messages += _block_messages(message["role"], message.get("content"))
    return messages


def _block_messages(role: str, content: Any) -> list[Message]:
    blocks = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return parts_messages([{"role": role, "content": list(map(_block, blocks))}])


def _block(block: Any) -> Any:
    """Return a content block in the form of Anthropic's, which the shapes' reader knows."""
    if not isinstance(block, Mapping):
        raise WireError(f"content block is {short(block)}, expected an object with 'type'")
    kind = block.get("type")
    inner = under(block, "value") or block
    if kind in ("text", "raw_text", "template"):
        said = next((block[key] for key in ("text", "value", "arguments") if block.get(key) is not None), "")
        return {"type": "text", "text": _plain_text(said)}
    if kind == "tool_call":
        given = inner.get("arguments")
        arguments = inner.get("raw_arguments") if given is None else given
        return {
            "type": "tool_use",
            "id": inner.get("id"),
            "name": inner.get("name") or inner.get("raw_name"),
            "input": arguments,
        }
    if kind == "tool_result":
        return {"type": "tool_result", "tool_use_id": inner.get("id"), "content": inner.get("result")}
    if kind == "thought":
        return {"type": "thinking", "thinking": inner.get("text")}
    return block


def _plain_text(value: Any) -> str:
    return value if isinstance(value, str) else canonical_json(value)


def _tools(line: Json) -> list[dict[str, Any]]:
    found = _json(line.get("tool_params") or {}, dict, "tool_params")
    listed = [tool for source in (found, line) for key in _TOOLS for tool in source.get(key) or []]
    return tool_definitions(listed, _FAULTS)


def _tags(found: Any) -> dict[str, str]:
    named = found if isinstance(found, Mapping) else {}
    return {storable(str(name)): text(value) or "" for name, value in named.items()}


def _json(value: Any, kinds: Any, name: str) -> Any:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise WireError(f"'{name}' is {short(value)}, expected JSON") from error
    if not isinstance(value, kinds):
        raise WireError(f"'{name}' is {short(value)}, expected a JSON object")
    return value


read = each_call(_call)
