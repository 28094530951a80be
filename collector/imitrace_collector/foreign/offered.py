"""Read the definitions of the tools that a model was offered, in each instrumentor's shape."""

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from imitrace.exceptions import WireError
from imitrace.messages import tool_definition
from imitrace_collector.foreign.reprs import looks_like_repr, read_repr
from imitrace_collector.foreign.said import inside, json_value

_SCHEMAS = ("parameters", "input_schema", "inputSchema", "parameters_json_schema", "params_json_schema", "args_schema")
_REMEMBERED = 2**16
_DECLARED = ("function_declarations", "functionDeclarations", "tools")


def read_tools(value: Any) -> list[dict[str, Any]]:  # any JSON value
    """Return the tool definitions in a value, in our form; what has no name, or is cut, is left out."""
    if isinstance(value, list):
        return [tool for item in value for tool in _tools_in(item)]
    if isinstance(value, str):
        return _tools_in(value) if value.lstrip()[:1] in ("[", "{") else []
    return _tools_in(value)


def tools_among(messages: Any) -> list[dict[str, Any]]:  # any JSON value
    """Return the definitions of tools in messages, where an instrumentor put them there."""
    listed = messages if isinstance(messages, list) else ()
    return [tool for one in listed if is_definition(one) for tool in _definition(one["content"])]


def is_definition(message: Any) -> bool:  # any JSON value
    """Return whether a message is no message: a tool says what it is, and not what it gave."""
    if not isinstance(message, dict) or message.get("role") != "tool" or message.get("tool_call_id"):
        return False
    content = message.get("content")
    return isinstance(content, dict) and content.get("type") == "function" and isinstance(content.get("function"), dict)


@lru_cache(maxsize=256)
def _written(text: str) -> tuple[dict[str, Any], ...]:
    """Return the definitions in a text, or that of the tool it names; remembered, for each request offers the same."""
    parsed, problem = json_value(text)
    if problem and looks_like_repr(text):
        with suppress(ValueError):
            parsed = read_repr(text)
    if isinstance(parsed, dict | list):
        return tuple(read_tools(parsed))
    return () if problem or len(text.split()) != 1 else tuple(_definition({"name": text}))


def _tools_in(item: Any) -> list[dict[str, Any]]:
    if isinstance(item, str):
        return list(_written(item) if len(item) <= _REMEMBERED else _written.__wrapped__(item))
    if not isinstance(item, dict):
        return []
    tool = inside(item, "tool")
    schema = tool.get("json_schema")
    if schema is not None and "name" not in tool:
        return read_tools(schema)
    declared = next((tool[key] for key in _DECLARED if isinstance(tool.get(key), list)), None)
    return read_tools(declared) if declared is not None else _definition(tool)


def _definition(tool: Mapping[str, Any]) -> list[dict[str, Any]]:
    tool = inside(inside(tool, "toolSpec"), "function")
    schema = json_value(next((tool[key] for key in _SCHEMAS if tool.get(key)), None))[0]
    if isinstance(schema, dict):
        schema = inside(schema, "json")
    description = tool.get("description")
    given = {"name": tool.get("name"), "description": description if isinstance(description, str) else ""}
    try:
        return [tool_definition({**given, "parameters": schema} if isinstance(schema, dict) else given)]
    except WireError:
        return []
