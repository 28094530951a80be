"""Take tools' results out of what they were wrapped in, so that they are what the model saw."""

from typing import Any

from imitrace_collector.foreign.said import json_value

_RESULT_KEYS = {"content", "isError", "is_error", "_meta", "meta", "structuredContent", "status", "toolUseId"}
"""What is around the content of a tool's result."""
_BLOCK_KEYS = {"type", "text", "content", "annotations", "cache_control", "_meta", "meta", "id", "index"}
_BLOCK_TYPES = (None, "text", "input_text", "output_text")


def unwrapped(value: Any) -> Any:  # any JSON value
    """Return a tool's result as the model saw it: the text of text blocks, and of LangChain's tool messages."""
    if isinstance(value, str):
        parsed = json_value(value)[0] if value[:1] in ("[", "{") else None
        inner = unwrapped(parsed) if isinstance(parsed, list | dict) else parsed
        return value if inner is parsed else inner
    if isinstance(value, dict):
        return _from_object(value)
    if not isinstance(value, list) or not value:
        return value
    if len(value) == 1 and isinstance(value[0], dict) and set(value[0]) == {"json"}:
        return value[0]["json"]
    texts = [_block_text(item) for item in value]
    return "\n".join(text for text in texts if text is not None) if None not in texts else value


def _from_object(value: dict[str, Any]) -> Any:
    if value.get("type") == "tool":
        message = value["data"] if isinstance(value.get("data"), dict) else value
        if "content" in message and "tool_call_id" in message:
            return unwrapped(message["content"])
    if isinstance(value.get("blocks"), list) and "tool_name" in value:  # LlamaIndex's
        text = unwrapped(value["blocks"])
        return text if isinstance(text, str) else value
    if value.get("type") in _BLOCK_TYPES[1:]:
        text = _block_text(value)
        return value if text is None else text
    if set(value) <= _RESULT_KEYS and isinstance(value.get("content"), list):
        inner = unwrapped(value["content"])
        return inner if isinstance(inner, str) else value
    return value


def _block_text(block: Any) -> str | None:
    """Return the text of a block that is text and nothing else."""
    if not isinstance(block, dict):
        return None
    text = block.get("text", block.get("content") if block.get("type") == "text" else None)
    plain = block.get("type") in _BLOCK_TYPES and set(block) <= _BLOCK_KEYS
    return text if isinstance(text, str) and plain else None
