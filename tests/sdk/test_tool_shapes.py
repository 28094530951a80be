from types import SimpleNamespace
from typing import Any

import pytest
from anthropic.types import ToolParam
from langchain_core.tools import tool as langchain_tool
from mcp.types import Tool as McpTool
from openai.types.chat import ChatCompletionFunctionToolParam
from openai.types.responses import FunctionTool
from pydantic import BaseModel, Field

from imitrace.faults import Faults
from imitrace.shapes.tool_shapes import tool_definitions

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"q": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["q"],
}
LOOK = {"name": "look", "description": "Look it up.", "parameters": SCHEMA}
OPENAI: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {"name": "look", "description": "Look it up.", "parameters": SCHEMA},
}
ANTHROPIC: ToolParam = {"name": "look", "description": "Look it up.", "input_schema": SCHEMA}


def look(q: str, n: int = 2, *rest: str, **more: str) -> str:
    """Look it up.

    More than one line.
    """
    return q * n


class Look(BaseModel):
    """Look it up."""

    q: str = Field(description="what")


class Unreadable:
    """An object that fails at every touch."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(name)


@pytest.mark.parametrize(
    "tool",
    [
        OPENAI,
        {"type": "function", "name": "look", "description": "Look it up.", "parameters": SCHEMA, "strict": True},
        FunctionTool(type="function", name="look", description="Look it up.", parameters=SCHEMA, strict=True),
        ANTHROPIC,
        McpTool.model_validate({"name": "look", "description": "Look it up.", "inputSchema": SCHEMA}),
        {"function_declarations": [LOOK]},
        {"type": "function", "function": SimpleNamespace(**LOOK)},
        SimpleNamespace(name="look", description="Look it up.", params_json_schema=SCHEMA),
        langchain_tool("look", description="Look it up.", args_schema=SCHEMA)(look),
        look,
    ],
)
def test_a_tool_reads_the_same_in_every_clients_form(tool: Any) -> None:
    faults = Faults()
    assert tool_definitions([tool], faults) == [LOOK]
    assert faults.counts() == {}


def test_langchains_tools_and_pydantic_classes_give_their_schema() -> None:
    definitions = tool_definitions([langchain_tool(look), Look], Faults())
    assert [definition["name"] for definition in definitions] == ["look", "Look"]
    assert [set(definition["parameters"]["properties"]) >= {"q"} for definition in definitions] == [True, True]
    assert definitions[1]["description"] == "Look it up."


def test_a_built_in_tool_has_its_type_as_its_name() -> None:
    faults = Faults()
    tools = [{"type": "web_search"}, {"type": "bash_20250124", "name": "bash"}]
    assert [definition["name"] for definition in tool_definitions(tools, faults)] == ["web_search", "bash"]
    assert faults.counts() == {}


@pytest.mark.parametrize("tool", [3, None, {}, "look", Unreadable(), {"name": 3}, min])
def test_a_tool_of_unknown_shape_keeps_a_name_and_is_counted(tool: Any) -> None:
    faults = Faults()
    (definition,) = tool_definitions([tool], faults)
    assert definition["name"]
    assert faults.counts() in ({"unknown_tool": 1}, {})


def test_annotations_written_as_text_and_others_are_read_as_far_as_they_are_simple() -> None:
    def find(ids: "list[str]", where: Any, limit: "int | None" = None) -> None:
        """Find."""

    (definition,) = tool_definitions([find], Faults())
    assert definition["parameters"] == {
        "type": "object",
        "properties": {"ids": {"type": "array"}, "where": {}, "limit": {}},
        "required": ["ids", "where"],
    }
