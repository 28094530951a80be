"""Read the tools that an agent offers, as its client takes them: schemas, tool objects, functions and classes."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from imitrace.exceptions import WireError
from imitrace.faults import Faults
from imitrace.messages import tool_definition
from imitrace.shapes.plain import mapping, plain, short

UNKNOWN_TOOL = "unknown_tool"
"""Fault counted for each tool of no known shape, which keeps its name alone."""

_JSON_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "dict": "object",
}


def tool_definitions(tools: Any, faults: Faults) -> list[dict[str, Any]]:  # a list of tools in a client's form
    """Return the definitions in offered order; one of unknown shape keeps its name alone and is counted.

    Known by their shape: OpenAI's (chat and responses), Anthropic's, Google's and MCP's schemas, objects with a name
    and a schema (MCP's, LangChain's), functions and pydantic classes. A built-in tool has its type as its name.
    """
    definitions: list[dict[str, Any]] = []
    for tool in tools:
        try:
            definitions += read_tool(tool)
        except Exception as error:  # whatever a foreign object does when it is read
            faults.count(UNKNOWN_TOOL, f"{type(error).__name__}: {error}")
            definitions.append(_named(str(getattr(tool, "__name__", None) or type(tool).__name__)))
    return definitions


def read_tool(tool: Any) -> Iterable[dict[str, Any]]:  # a tool in a client's form
    """Return the definitions that one offered tool stands for: one, or several for Google's lists of them.

    Raises:
        WireError: it has no name.
    """
    if not isinstance(tool, Mapping):
        found = _from_object(tool)
        return [tool_definition(mapping(tool) or {}) if found is None else found]
    several = tool.get("function_declarations") or tool.get("functionDeclarations")
    if isinstance(several, list | tuple):
        return [tool_definition(mapping(each) or {}) for each in several]
    kind = tool.get("type")
    if isinstance(kind, str) and "function" not in tool and "name" not in tool:
        return [_named(kind)]
    return [tool_definition({**tool, "function": mapping(tool["function"])} if "function" in tool else tool)]


def _named(name: str) -> dict[str, Any]:
    return {"name": name, "description": "", "parameters": {}}


def _from_object(tool: Any) -> dict[str, Any] | None:
    """Return the definition of a tool object, a function or a class; None for an object that is plain data."""
    schema = _schema(tool)
    name = getattr(tool, "name", None)
    if isinstance(name, str) and schema is not None:
        return {"name": name, "description": str(getattr(tool, "description", None) or ""), "parameters": schema}
    name = getattr(tool, "__name__", None)
    if not callable(tool) or not isinstance(name, str):
        return None
    lines = (inspect.getdoc(tool) or "").splitlines()
    return {
        "name": name,
        "description": lines[0] if lines else "",
        "parameters": _signature(tool) if schema is None else schema,
    }


def _schema(tool: Any) -> dict[str, Any] | None:
    for key in ("args_schema", "tool_call_schema", "input_schema", "inputSchema", "params_json_schema"):
        schema = getattr(tool, key, None)
        if key == "args_schema" and hasattr(tool, "tool_call_schema") and not isinstance(schema, Mapping):
            continue  # the other leaves out what the agent's own code fills in
        if isinstance(schema, Mapping):
            return dict(plain(schema))
        if isinstance(schema, type) and hasattr(schema, "model_json_schema"):
            return dict(schema.model_json_schema())
    if isinstance(tool, type) and hasattr(tool, "model_json_schema"):
        return dict(tool.model_json_schema())
    return None


def _signature(function: Any) -> dict[str, Any]:
    """Return a schema of a function's parameters; one whose annotation is no simple type may be anything."""
    try:
        parameters = [
            parameter
            for parameter in inspect.signature(function).parameters.values()
            if parameter.name not in ("self", "cls") and parameter.kind not in _COLLECTED
        ]
    except (TypeError, ValueError) as error:  # a built-in function without a signature
        raise WireError(f"tool is {short(function)}, expected a function whose parameters can be read") from error
    schema: dict[str, Any] = {"type": "object", "properties": {each.name: _json_type(each) for each in parameters}}
    required = [each.name for each in parameters if each.default is inspect.Parameter.empty]
    return {**schema, "required": required} if required else schema


def _json_type(parameter: inspect.Parameter) -> dict[str, Any]:
    annotation = parameter.annotation
    name = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    kind = _JSON_TYPES.get(name.partition("[")[0])
    return {"type": kind} if kind else {}


_COLLECTED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
