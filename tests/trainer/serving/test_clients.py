"""Real clients adopt a clone by another base_url: OpenAI's, its agents, and LangGraph's with LangChain's."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from agents import Agent, OpenAIChatCompletionsModel, OpenAIResponsesModel, Runner, function_tool, set_tracing_disabled
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from pydantic import SecretStr

from imitrace import semconv
from imitrace.testing import Captured
from imitrace_trainer.serving.server import ProxyServer

ON, HELLO = "Please switch lamp L-7 on.", "Hello, who are you?"
CALL = {"lamp": "L-7", "to": "on"}
FOUND, HELP = "I found: L-7 is on", "How can I help?"

set_tracing_disabled(True)


@pytest.fixture
def server(acting: ProxyServer, scripted: Any) -> ProxyServer:
    return acting


@pytest.fixture
def client(server: ProxyServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@asynccontextmanager
async def asynchronous(server: ProxyServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def items(lamp_tools: list[dict[str, Any]]) -> list[Any]:
    """Return the lamps' tools as OpenAI's responses take them."""
    return [{"type": "function", "strict": False, **each} for each in lamp_tools]


def roles(server: ProxyServer, seen: Captured) -> list[object]:
    server.settle()
    assert seen.stats.faults == {}
    return [(span.attributes or {})[semconv.POLICY_ROLE] for span in seen.steps]


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_a_chat_completion(client: openai.OpenAI, offered: list[Any]) -> None:
    acted = client.chat.completions.create(model="gpt", messages=said(ON), tools=offered)
    (call,) = acted.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert (acted.model, call.function.name, json.loads(call.function.arguments)) == ("lamps:v1", "switch", CALL)
    assert acted.usage is not None
    assert (acted.usage.total_tokens, acted.choices[0].finish_reason) == (0, "tool_calls")
    left = client.chat.completions.create(model="gpt", messages=said(HELLO), tools=offered)
    assert (left.model, left.choices[0].message.content) == ("gpt", HELP)


def test_who_acted_stands_in_the_headers(client: openai.OpenAI, offered: list[Any]) -> None:
    raw = client.chat.completions.with_raw_response.create(model="gpt", messages=said(ON), tools=offered)
    assert raw.headers["x-imitrace-actor"] == "clone"


@pytest.mark.parametrize(("text", "actor"), [(ON, "lamps:v1"), (HELLO, "gpt")])
def test_a_streamed_chat_completion(client: openai.OpenAI, offered: list[Any], text: str, actor: str) -> None:
    options: Any = {"include_usage": True}
    with client.chat.completions.stream(
        model="gpt", messages=said(text), tools=offered, stream_options=options
    ) as stream:
        final = stream.get_final_completion()
    assert final.model == actor
    assert final.usage is not None
    message = final.choices[0].message
    calls = [json.loads(call.function.arguments) for call in message.tool_calls or []]
    assert (calls or message.content) == ([CALL] if text == ON else HELP)


def test_a_stream_ends_without_usage_where_nobody_asked_for_it(client: openai.OpenAI, offered: list[Any]) -> None:
    chunks = list(client.chat.completions.create(model="gpt", messages=said(ON), tools=offered, stream=True))
    assert [chunk.choices[0].finish_reason for chunk in chunks][-2:] == [None, "tool_calls"]
    assert {chunk.usage for chunk in chunks} == {None}


def test_a_response(client: openai.OpenAI, items: list[Any]) -> None:
    acted = client.responses.create(model="gpt", input=ON, tools=items)
    (call,) = acted.output
    assert call.type == "function_call"
    assert (acted.model, call.name, json.loads(call.arguments)) == ("lamps:v1", "switch", CALL)
    left = client.responses.create(model="gpt", input=HELLO, tools=items)
    assert (left.model, left.output_text) == ("gpt", HELP)


@pytest.mark.parametrize(("text", "actor"), [(ON, "lamps:v1"), (HELLO, "gpt")])
def test_a_streamed_response(client: openai.OpenAI, items: list[Any], text: str, actor: str) -> None:
    with client.responses.stream(model="gpt", input=text, tools=items) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert final.model == actor
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    calls = [json.loads(item.arguments) for item in final.output if item.type == "function_call"]
    assert (calls or final.output_text) == ([CALL] if text == ON else HELP)


def test_what_the_models_service_keeps_is_the_models_to_answer(client: openai.OpenAI, items: list[Any]) -> None:
    raw = client.responses.with_raw_response.create(model="gpt", input=ON, tools=items, previous_response_id="resp_1")
    assert raw.headers["x-imitrace-actor"] == "expert"
    assert "no clone sees it" in raw.headers["x-imitrace-reason"]


def test_a_response_of_the_clones_may_be_named_as_what_came_before(client: openai.OpenAI, items: list[Any]) -> None:
    acted = client.responses.create(model="gpt", input=ON, tools=items)
    (call,) = acted.output
    assert call.type == "function_call"
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "L-7 is on"}
    left = client.responses.create(model="gpt", input=[result], tools=items, previous_response_id=acted.id)
    assert (left.model, left.output_text) == ("gpt", FOUND)


def test_an_asynchronous_client(server: ProxyServer, offered: list[Any]) -> None:
    async def ask() -> list[str]:
        async with asynchronous(server) as client:
            answers = await asyncio.gather(
                *(
                    client.chat.completions.create(model="gpt", messages=said(text), tools=offered)
                    for text in (ON, HELLO)
                )
            )
            stream = await client.chat.completions.create(model="gpt", messages=said(ON), tools=offered, stream=True)
            return [answer.model for answer in answers] + [(await anext(aiter(stream))).model]

    assert asyncio.run(ask()) == ["lamps:v1", "gpt", "lamps:v1"]


def test_many_at_once_get_each_its_own_answer(server: ProxyServer, offered: list[Any], seen: Captured) -> None:
    lamps = [f"L-{number}" for number in range(100, 140)]

    async def ask() -> list[Any]:
        async with asynchronous(server) as client:
            return await asyncio.gather(
                *(
                    client.chat.completions.create(
                        model="gpt", messages=said(f"Please switch lamp {lamp} on."), tools=offered
                    )
                    for lamp in lamps
                )
            )

    calls = [answer.choices[0].message.tool_calls[0].function.arguments for answer in asyncio.run(ask())]
    assert [json.loads(call)["lamp"] for call in calls] == lamps
    assert len(roles(server, seen)) == len(lamps)


@function_tool
def switch(lamp: str, to: str) -> str:
    """Switch a lamp."""
    return f"{lamp} is {to}"


@pytest.mark.parametrize("kind", [OpenAIChatCompletionsModel, OpenAIResponsesModel])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_loop_of_openais_agents(server: ProxyServer, seen: Captured, kind: Any, streamed: bool) -> None:
    async def run() -> str:
        async with asynchronous(server) as client:
            agent = Agent(name="lamps", tools=[switch], model=kind(model="gpt", openai_client=client))
            if not streamed:
                return str((await Runner.run(agent, ON)).final_output)
            result = Runner.run_streamed(agent, ON)
            async for _ in result.stream_events():
                pass
            return str(result.final_output)

    assert asyncio.run(run()) == FOUND
    assert roles(server, seen) == ["clone", "expert"]
    assert len({(span.attributes or {})[semconv.TRAJECTORY_ID] for span in seen.steps}) == 1


@pytest.mark.parametrize("responses", [False, True])
def test_a_graph_of_langgraph(server: ProxyServer, seen: Captured, responses: bool) -> None:
    @tool("switch")
    def switch_lamp(lamp: str, to: str) -> str:
        """Switch a lamp."""
        return f"{lamp} is {to}"

    model = ChatOpenAI(
        model="gpt", base_url=f"{server.url}/v1", api_key=SecretStr("none"), use_responses_api=responses, max_retries=0
    ).bind_tools([switch_lamp])
    graph: Any = StateGraph(MessagesState)
    graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
    graph.add_node("tools", ToolNode([switch_lamp]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition, {"tools": "tools", END: END})
    graph.add_edge("tools", "model")
    state = graph.compile().invoke({"messages": [HumanMessage(ON)]})
    assert state["messages"][-1].text == FOUND
    assert roles(server, seen) == ["clone", "expert"]
