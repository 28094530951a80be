"""Turn messages that were written as flattened names, the way OpenInference and traceAI do, into chat messages."""

from collections.abc import Mapping
from typing import Any

from imitrace.exceptions import WireError
from imitrace_collector.foreign.said import inside, json_value

UNREADABLE = "unknown"
"""Role of a message whose own can't be told."""


def chat_messages(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a message of flattened names as chat messages: two, where the next was written over a tool's result."""
    written_over = message.get("contents") or message.get("tool_calls")
    if message.get("tool_call_id") and message.get("content") and message.get("role") not in _TOOLS and written_over:
        result = {"role": "tool", "tool_call_id": message["tool_call_id"], "content": message["content"]}
        rest = {key: value for key, value in message.items() if key not in _RESULTS}
        return [result, _chat_message(rest)]
    return [_chat_message(message)]


_TOOLS = ("tool", "function")
_RESULTS = ("tool_call_id", "content", "name")
"""What a tool's result fills of a message."""


def _chat_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message, its ``contents.M.message_content`` as blocks."""
    found = {key: value for key, value in message.items() if key != "contents"}
    blocks = [_block(item) for item in message.get("contents") or () if isinstance(item, dict)]
    calls = [block for block in blocks if "function" in block]
    if isinstance(found.get("content"), list):  # text in several pieces
        pieces = found["content"]
        found["content"] = [{"type": "text", "text": one} if isinstance(one, str) else one for one in pieces]
    if blocks and not found.get("content"):
        found["content"] = [block for block in blocks if "function" not in block]
    if calls and not found.get("tool_calls"):  # some say them in both places
        found["tool_calls"] = calls
    if found.get("function_call_name") and not found.get("tool_calls"):
        arguments = found.get("function_call_arguments_json")
        found["tool_calls"] = [{"function": {"name": found["function_call_name"], "arguments": arguments}}]
    if found.get("tool_call_id") and found.get("role") in (None, "user"):
        found["role"] = "tool"
    return found


def function_results(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the results in a message of the role ``function``, each as a message.

    OpenInference writes AutoGen's so: ``llm.input_messages.N.function.M`` beside ``.message``, one result's JSON each.

    Raises:
        WireError: one of them is no object with a content.
    """
    listed = item.get("function")
    found = []
    for one in listed if isinstance(listed, list) and isinstance(item.get("message"), dict) else ():
        result = json_value(one)[0]
        if not isinstance(result, dict) or "content" not in result:
            raise WireError("a tool's result is cut, or no object with 'content'")
        content = result["content"]
        found.append({"role": "tool", "tool_call_id": result.get("call_id", result.get("id")), "content": content})
    return found


def with_blocks(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a message with its content as blocks, where OpenLLMetry wrote these as JSON text."""
    text = item.get("content")
    blocks = json_value(text)[0] if isinstance(text, str) and text[:2] == "[{" else None
    known = isinstance(blocks, list) and all(isinstance(one, dict) and one.get("type") in _BLOCKS for one in blocks)
    return {**item, "content": blocks} if known else item


_BLOCKS = ("text", "image_url", "image", "tool_use", "tool_result", "thinking")


def _block(item: Mapping[str, Any]) -> dict[str, Any]:
    block = dict(inside(item, "message_content"))
    call = item.get("tool_call") if isinstance(item.get("tool_call"), dict) else block.get("tool_call")
    if isinstance(call, dict):
        return dict(call)
    image = block.get("image")
    if isinstance(image, dict):
        address = image.get("image", image)
        return {"type": "image_url", "image_url": address if isinstance(address, dict) else {"url": address}}
    return block
