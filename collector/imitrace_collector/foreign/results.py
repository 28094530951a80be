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
        if value[:1] not in ("[", "{"):
            return value
        parsed, _ = json_value(value)
        inner = unwrapped(parsed) if isinstance(parsed, list | dict) else value
        return inner if isinstance(inner, str) and inner is not parsed else value
    if isinstance(value, dict):
        if value.get("type") == "tool" and isinstance(value.get("data"), dict):
            return unwrapped(value["data"].get("content"))
        if value.get("type") == "tool" and "content" in value and "tool_call_id" in value:
            return unwrapped(value["content"])
        block = _block_text(value)
        if block is not None:
            return block
        if set(value) <= _RESULT_KEYS and isinstance(value.get("content"), list):
            return unwrapped(value["content"])
        return value
    if isinstance(value, list) and value:
        texts = [_block_text(item) for item in value]
        return "\n".join(text for text in texts if text is not None) if None not in texts else value
    return value


def _block_text(block: Any) -> str | None:
    """Return the text of a block that is text and nothing else."""
    if not isinstance(block, dict):
        return None
    text = block.get("text", block.get("content") if block.get("type") == "text" else None)
    plain = block.get("type") in _BLOCK_TYPES and set(block) <= _BLOCK_KEYS
    return text if isinstance(text, str) and plain else None
