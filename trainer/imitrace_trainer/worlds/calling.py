"""Define tools in OpenAI's form, find what is wrong with a call of one, and answer calls."""

from collections.abc import Mapping, Sequence
from typing import Any

from imitrace.canonical import canonical_json
from imitrace.messages import Action
from imitrace_trainer.conformity import conforms

TEXT: Mapping[str, Any] = {"type": "string"}


def define_tool(
    name: str, description: str, optional: Sequence[str] = (), /, **properties: Mapping[str, Any]
) -> dict[str, Any]:  # JSON schemas
    """Return a tool's definition; arguments that are not ``optional`` are required, and there are no others."""
    parameters = {
        "type": "object",
        "properties": {key: dict(schema) for key, schema in properties.items()},
        "required": [key for key in properties if key not in optional],
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def choice(values: Sequence[str]) -> dict[str, Any]:  # a JSON schema
    """Return the schema of one of some texts."""
    return {"type": "string", "enum": list(values)}


def call_problem(tools: Sequence[Mapping[str, Any]], action: Action) -> str | None:
    """Return what is wrong with a tool call, whatever an agent sent: its name or its arguments; None if nothing is."""
    known = {tool["function"]["name"]: tool["function"]["parameters"] for tool in tools}
    schema = known.get(action.name)
    if schema is None:
        return f"there is no tool {action.name!r}, allowed: {', '.join(known)}"
    if not isinstance(action.arguments, Mapping) or not conforms(schema, action.arguments):
        return f"{action.name} can't have these arguments, allowed: {canonical_json(schema['properties'])}"
    return None


def answer(action: Action, content: str) -> list[dict[str, Any]]:  # OpenAI messages
    """Return what follows a tool call."""
    return [{"role": "tool", "tool_call_id": action.call_id, "content": content}]


def refuse(action: Action, problem: str) -> list[dict[str, Any]]:  # OpenAI messages
    """Return what follows a tool call that was not carried out."""
    return answer(action, canonical_json({"error": problem}))
