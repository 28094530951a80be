"""A clone in a real graph of LangGraph: where it is sure its call goes to the tools, elsewhere the expert sees all."""

import asyncio
import json
import operator
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel
from typing_extensions import TypedDict

import imitrace
from imitrace.clones import CloneHandle
from imitrace.exceptions import ConfigError
from imitrace.langgraph import CloneNode
from imitrace.semconv import (
    POLICY_NAME,
    POLICY_ROLE,
    POLICY_VERSION,
    STEP_CONFIDENCE,
    STEP_INDEX,
    STEP_PROPENSITY,
    STEP_ROUTE_REASON,
    STEP_SHADOW,
    TOOL_CALL_ARGUMENTS,
    TOOL_CALL_ID,
    TOOL_NAME,
)
from imitrace.testing import Captured
from imitrace_trainer.registry import Registry
from imitrace_trainer.route_config import RouteConfig

Tools = list[dict[str, Any]]
LOAD_SECONDS = 60.0


class Lamps(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    room: str


class PlainLamps(TypedDict):
    messages: Annotated[list[dict[str, Any]], operator.add]


class ModelledLamps(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages]


@pytest.fixture(scope="module")
def handle(lamp_home: Path) -> CloneHandle:
    handle = CloneHandle("lamps@champion", lamp_home)
    assert handle.warm(LOAD_SECONDS)
    return handle


class Desk:
    """A graph whose expert answers with text and whose tools answer with what they were called with."""

    def __init__(self, clone: CloneNode, schema: type[Any] = Lamps) -> None:
        self.seen_by_expert: list[Any] = []
        graph: Any = StateGraph(schema)
        graph.add_node("clone", clone)
        graph.add_node("tools", self.run_tools)
        graph.add_node("reasoning_node", self.reason)
        graph.add_edge(START, "clone")
        graph.add_conditional_edges("clone", clone.is_sure, {True: "tools", False: "reasoning_node"})
        graph.add_edge("tools", END)
        graph.add_edge("reasoning_node", END)
        self.graph = graph.compile()

    def run_tools(self, state: Any) -> dict[str, Any]:
        (call,) = state["messages"][-1].tool_calls
        return {"messages": [ToolMessage(f"{call['name']} {call['args']['to']}", tool_call_id=call["id"])]}

    def reason(self, state: Any) -> dict[str, Any]:
        self.seen_by_expert.append(state)
        return {"messages": [AIMessage("I am the expert.")]}

    def ask(self, text: str) -> list[Any]:
        return list(self.graph.invoke({"messages": [HumanMessage(text)], "room": "attic"})["messages"])


def test_where_the_clone_is_sure_its_call_runs_and_the_expert_is_not_asked(
    handle: CloneHandle, lamp_tools: Tools
) -> None:
    desk = Desk(CloneNode(handle, lamp_tools, above=0.8))
    _, answer, result = desk.ask("Please switch lamp L-7 on.")
    assert isinstance(answer, AIMessage)
    assert [(call["name"], call["args"]) for call in answer.tool_calls] == [("switch", {"lamp": "L-7", "to": "on"})]
    assert answer.response_metadata == {"model_name": "lamps:v1"}
    assert (result.content, result.tool_call_id) == ("switch on", answer.tool_calls[0]["id"])
    assert desk.seen_by_expert == []


@pytest.mark.parametrize(
    ("above", "said"),
    [
        (0.999, "Please switch lamp L-7 on."),  # trusted, yet not over what this graph asks for
        (0.8, "Hello, who are you?"),
        (0.0, "Quelle heure est-il, mon vieux?"),
    ],
)
def test_where_it_is_not_sure_the_reasoning_node_sees_the_whole_state(
    handle: CloneHandle, lamp_tools: Tools, above: float, said: str
) -> None:
    desk = Desk(CloneNode(handle, lamp_tools, above=above))
    told = [SystemMessage("You switch lamps.", id="1"), HumanMessage(said, id="2")]
    result = desk.graph.invoke({"messages": told, "room": "attic"})
    assert desk.seen_by_expert == [{"messages": told, "room": "attic"}]
    assert result["messages"][-1].content == "I am the expert."


def test_the_edge_is_as_sure_as_the_node_in_a_graph_that_comes_back_to_it(
    handle: CloneHandle, lamp_tools: Tools
) -> None:
    desk = Desk(CloneNode(handle, lamp_tools))
    messages = desk.ask("Please switch lamp L-7 on.")
    result = desk.graph.invoke({"messages": messages, "room": "attic"})
    assert result["messages"][-1].content == "I am the expert."


def test_the_clones_call_is_a_recorded_step_of_the_clone(
    handle: CloneHandle, lamp_tools: Tools, seen: Captured
) -> None:
    desk = Desk(CloneNode(handle, lamp_tools))
    with imitrace.trajectory(task="attic"):
        _, answer, _ = desk.ask("Please switch lamp L-7 on.")
    (step,) = [dict(span.attributes or {}) for span in seen.steps]
    assert (step[POLICY_ROLE], step[POLICY_NAME], step[POLICY_VERSION]) == ("clone", "lamps", "v1")
    assert (step[STEP_ROUTE_REASON], step[STEP_INDEX], step[TOOL_NAME]) == ("trusted", 0, "switch")
    assert step[TOOL_CALL_ARGUMENTS] == '{"lamp":"L-7","to":"on"}'
    assert step[TOOL_CALL_ID] == answer.tool_calls[0]["id"]
    assert isinstance(step[STEP_CONFIDENCE], float)
    assert step[STEP_CONFIDENCE] > 0.8
    assert seen.stats.faults == {}


def test_what_the_clone_leaves_to_the_expert_is_not_recorded_as_its_own(
    handle: CloneHandle, lamp_tools: Tools, seen: Captured
) -> None:
    with imitrace.trajectory():
        Desk(CloneNode(handle, lamp_tools)).ask("Hello, who are you?")
    assert (seen.steps, seen.stats.faults) == ([], {})


def test_the_experts_step_says_what_the_clone_would_have_done(lamps: Path, lamp_tools: Tools, seen: Captured) -> None:
    Registry(lamps).record_route("lamps", RouteConfig(audit=0.999999))
    audited = CloneHandle("lamps@champion", lamps)
    assert audited.warm(LOAD_SECONDS)
    told = [HumanMessage("Please switch lamp L-7 on.")]
    with imitrace.trajectory():
        assert CloneNode(audited, lamp_tools)({"messages": told}) == {}
        with imitrace.step(told, lamp_tools) as step:
            step.tool_call("switch", {"lamp": "L-7", "to": "off"})
        with imitrace.step([*told, AIMessage("It is.")], lamp_tools) as step:
            step.message("And now?")
    first, second = (dict(span.attributes or {}) for span in seen.steps)
    assert (first[STEP_ROUTE_REASON], first[STEP_PROPENSITY]) == ("audit", 0.999999)
    assert json.loads(str(first[STEP_SHADOW]))["action"]["arguments"] == {"lamp": "L-7", "to": "on"}
    assert (STEP_SHADOW in second, STEP_ROUTE_REASON in second) == (False, False)


def test_what_a_graph_does_not_trust_is_no_part_of_the_audit(lamps: Path, lamp_tools: Tools, seen: Captured) -> None:
    Registry(lamps).record_route("lamps", RouteConfig(audit=0.999999))
    audited = CloneHandle("lamps@champion", lamps)
    assert audited.warm(LOAD_SECONDS)
    told = [HumanMessage("Please switch lamp L-7 on.")]
    with imitrace.trajectory():
        CloneNode(audited, lamp_tools, above=0.999)({"messages": told})
        with imitrace.step(told, lamp_tools) as step:
            step.message("No.")
    (attributes,) = (dict(span.attributes or {}) for span in seen.steps)
    assert (attributes[STEP_ROUTE_REASON], STEP_PROPENSITY in attributes) == ("not over 0.999", False)


def test_the_trajectorys_cohort_decides_what_the_gate_allows(
    handle: CloneHandle, lamp_tools: Tools, seen: Captured
) -> None:
    desk = Desk(CloneNode(handle, lamp_tools))
    with imitrace.trajectory(tags={"cohort": "rare"}):
        assert desk.ask("Please switch lamp L-7 on.")[-1].content == "I am the expert."


def test_it_works_in_an_asynchronous_graph(handle: CloneHandle, lamp_tools: Tools) -> None:
    desk = Desk(CloneNode(handle, lamp_tools))
    given = {"messages": [HumanMessage("Please switch lamp L-7 off.")], "room": "attic"}
    result = asyncio.run(desk.graph.ainvoke(given))
    assert result["messages"][-1].content == "switch off"


def test_the_clones_call_runs_in_langgraphs_own_tool_node(handle: CloneHandle) -> None:
    @tool
    def switch(lamp: str, to: str) -> str:
        """Switch a lamp."""
        return f"{lamp} is {to}"

    clone = CloneNode(handle, [switch])
    graph: Any = StateGraph(Lamps)
    graph.add_node("clone", clone)
    graph.add_node("tools", ToolNode([switch]))
    graph.add_edge(START, "clone")
    graph.add_conditional_edges("clone", clone.is_sure, {True: "tools", False: END})
    state = graph.compile().invoke({"messages": [HumanMessage("Please switch lamp L-7 on.")], "room": "attic"})
    assert state["messages"][-1].content == "L-7 is on"


def test_a_state_of_dicts_gets_a_dict_in_openai_form(handle: CloneHandle, lamp_tools: Tools) -> None:
    clone = CloneNode(handle, lamp_tools)
    graph: Any = StateGraph(PlainLamps)
    graph.add_node("clone", clone)
    graph.add_edge(START, "clone")
    graph.add_conditional_edges("clone", clone.is_sure, {True: END, False: END})
    state = graph.compile().invoke({"messages": [{"role": "user", "content": "Please switch lamp L-7 on."}]})
    (call,) = state["messages"][-1]["tool_calls"]
    assert call["function"] == {"name": "switch", "arguments": '{"lamp": "L-7", "to": "on"}'}
    assert clone.is_sure(state)


def test_a_state_may_be_an_object(handle: CloneHandle, lamp_tools: Tools) -> None:
    clone = CloneNode(handle, lamp_tools)
    graph: Any = StateGraph(ModelledLamps)
    graph.add_node("clone", clone)
    graph.add_edge(START, "clone")
    graph.add_edge("clone", END)
    state = graph.compile().invoke({"messages": [HumanMessage("Please switch lamp L-7 on.")]})
    assert clone.is_sure(ModelledLamps(**state))


@pytest.mark.parametrize("state", [{}, {"messages": []}, {"messages": None}, {"messages": [7]}, None, 3])
def test_a_state_that_says_nothing_is_left_to_the_expert(handle: CloneHandle, lamp_tools: Tools, state: Any) -> None:
    clone = CloneNode(handle, lamp_tools)
    assert clone(state) == {}
    assert not clone.is_sure(state)


def test_the_expert_acts_while_there_is_no_clone(tmp_path: Path, lamp_tools: Tools) -> None:
    desk = Desk(CloneNode(CloneHandle("lamps", tmp_path), lamp_tools))
    assert desk.ask("Please switch lamp L-7 on.")[-1].content == "I am the expert."


@pytest.mark.parametrize("above", [-0.1, 1, 80, float("nan")])
def test_a_confidence_that_can_never_be_meant_is_refused(above: float) -> None:
    with pytest.raises(ConfigError, match="allowed: a number from 0 to under 1"):
        CloneNode("lamps", [], above=above)


def test_it_loads_nothing_of_langgraph() -> None:
    code = "import sys, imitrace.langgraph; print({'langgraph', 'langchain_core', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
