"""The scripted model is one that the vendors' own clients understand, streamed or not."""

from collections.abc import Callable

import pytest
from anthropic import Anthropic
from model_server import Model, serving
from openai import OpenAI
from scenario import FIRST, LOOK_UP, Call, Json, schema

NAMES = ["get_order", "issue_refund", "change_address"]
USER: Json = {"role": "user", "content": FIRST}


def by_chat(model: Model, stream: bool) -> list[str]:
    client = OpenAI(base_url=f"{model.url}/v1", api_key="none", max_retries=0)
    tools = [{"type": "function", "function": {"name": name, "parameters": schema(name)}} for name in NAMES]
    asked: Json = {"model": "scripted-1", "messages": [USER], "tools": tools}
    if not stream:
        (choice,) = client.chat.completions.create(**asked).choices
    else:
        with client.chat.completions.stream(**asked) as events:
            (choice,) = events.get_final_completion().choices
    return [call.function.arguments for call in choice.message.tool_calls or [] if call.type == "function"]


def by_responses(model: Model, stream: bool) -> list[str]:
    client = OpenAI(base_url=f"{model.url}/v1", api_key="none", max_retries=0)
    tools = [{"type": "function", "name": name, "parameters": schema(name)} for name in NAMES]
    asked: Json = {"model": "scripted-1", "input": [USER], "tools": tools}
    if not stream:
        return [item.arguments for item in client.responses.create(**asked).output if item.type == "function_call"]
    with client.responses.stream(**asked) as events:
        return [item.arguments for item in events.get_final_response().output if item.type == "function_call"]


def by_messages(model: Model, stream: bool) -> list[str]:
    client = Anthropic(base_url=model.url, api_key="none", max_retries=0)
    tools = [{"name": name, "input_schema": schema(name)} for name in NAMES]
    asked: Json = {"model": "scripted-1", "max_tokens": 99, "messages": [USER], "tools": tools}
    if not stream:
        return [str(block.input) for block in client.messages.create(**asked).content if block.type == "tool_use"]
    with client.messages.stream(**asked) as events:
        return [str(block.input) for block in events.get_final_message().content if block.type == "tool_use"]


def told(call: Call) -> str:
    return str(call.arguments)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("ask", [by_chat, by_responses, by_messages])
def test_the_scripted_model_makes_two_calls_at_once(ask: Callable[[Model, bool], list[str]], stream: bool) -> None:
    with serving() as model:
        arguments = ask(model, stream)
    assert [found.replace('"', "'") for found in arguments] == [told(call) for call in LOOK_UP]
