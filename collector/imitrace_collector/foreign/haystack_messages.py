"""Turn Haystack's messages into our parts: as it writes them to JSON, and as Python writes them."""

from collections.abc import Iterator, Mapping
from typing import Any

from imitrace_collector.foreign.said import as_text


def haystack_message(item: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a message of Haystack's with OpenTelemetry's parts; None for any other."""
    role, content = item.get("_role", item.get("role")), item.get("_content", item.get("content"))
    if not isinstance(role, str) or not isinstance(content, list):
        return None
    if "_role" not in item and not any(map(_is_haystacks, content)):
        return None
    return {"role": role, "parts": [part for block in content for part in _parts(block)]}


_THOUGHTS = ("reasoning", "reasoning_text")


def _is_haystacks(block: Any) -> bool:
    if not isinstance(block, dict):
        return False
    call, result = block.get("tool_call"), block.get("tool_call_result")
    return (isinstance(call, dict) and "tool_name" in call) or (isinstance(result, dict) and "origin" in result)


def _parts(block: Any) -> Iterator[Any]:
    """Yield the part in a block: what JSON has under a key of its own, Python has as the object itself."""
    if not isinstance(block, dict):
        yield {"type": "text", "content": as_text(block)}
        return
    call, result = block.get("tool_call", block), block.get("tool_call_result", block)
    if isinstance(result, dict) and isinstance(result.get("origin"), dict):
        yield {"type": "tool_call_response", "id": result["origin"].get("id"), "response": _told(result.get("result"))}
    elif isinstance(call, dict) and "tool_name" in call:
        arguments = call.get("arguments")
        yield {"type": "tool_call", "id": call.get("id"), "name": call["tool_name"], "arguments": arguments}
    elif isinstance(block.get("text"), str):
        yield {"type": "text", "content": block["text"]}
    elif not any(key in block for key in _THOUGHTS):
        yield block


def _told(result: Any) -> Any:
    """Return what the model is told came back: text, or blocks of it."""
    return result if isinstance(result, str | list) else as_text(result)
