import json
from dataclasses import replace
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langgraph.graph.message import add_messages
from langgraph.types import Command
from openai.types.chat import ChatCompletion, ChatCompletionMessage
from openai.types.chat.parsed_chat_completion import ParsedChatCompletion
from openai.types.responses import Response

from imitrace.exceptions import WireError
from imitrace.faults import Faults
from imitrace.messages import Action
from imitrace.shapes.answers import read_answer
from imitrace.shapes.replies import reply_like

LOOK = Action("tool_call", "look", {"q": "é"}, call_id="c1")
SAY = Action("message", message="hello")

FUNCTION = {"name": "old", "arguments": "{}"}
CHAT: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "refusal": None,
    "tool_calls": [{"id": "c0", "type": "function", "function": FUNCTION}],
}
COMPLETION = {
    "id": "old",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt",
    "choices": [{"index": 0, "finish_reason": "stop", "message": CHAT, "logprobs": None}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
}
OUTPUT = [
    {"type": "reasoning", "id": "rs", "summary": []},
    {"type": "function_call", "id": "fc", "call_id": "c0", "name": "old", "arguments": "{}", "status": "completed"},
]
RESPONSE = {
    "id": "old",
    "object": "response",
    "created_at": 1,
    "model": "gpt",
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "output": OUTPUT,
}
BLOCKS = [{"type": "text", "text": "I look."}, {"type": "tool_use", "id": "c0", "name": "old", "input": {}}]
CLAUDE = {
    "id": "old",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": BLOCKS,
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 4, "output_tokens": 5, "cache_read_input_tokens": 2},
}
SPOKEN = AIMessage("", tool_calls=[{"name": "old", "args": {}, "id": "c0"}], name="desk", id="old")

SAMPLES: dict[str, Any] = {
    "completion": ChatCompletion.model_validate(COMPLETION),
    "completion dict": COMPLETION,
    "parsed completion": ParsedChatCompletion.model_validate(COMPLETION),
    "chat message": ChatCompletionMessage.model_validate(CHAT),
    "chat message dict": CHAT,
    "text message dict": {"role": "assistant", "content": "hi"},
    "response": Response.model_validate(RESPONSE),
    "response dict": RESPONSE,
    "response output": OUTPUT,
    "claude": AnthropicMessage.model_validate(CLAUDE),
    "claude dict": CLAUDE,
    "claude content": BLOCKS,
    "langchain": SPOKEN,
    "langchain dict": SPOKEN.model_dump(),
    "langchain chunk": AIMessageChunk(content="hi"),
    "langchain list": [SPOKEN],
    "graph": {"messages": [SPOKEN]},
    "parts": {"role": "assistant", "parts": []},
    "action": LOOK,
    "actions": [LOOK, SAY],
    "text or call": ["hi", ("old", {})],
}

NAMES = st.text("abcdefg_", min_size=1, max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
CALLS = st.builds(
    Action,
    st.just("tool_call"),
    NAMES,
    st.dictionaries(st.text(max_size=5), VALUES, max_size=3),
    st.none(),
    st.none() | st.text("abc123_", min_size=1, max_size=9),
)
SAYINGS = st.builds(lambda text: Action("message", message=text), st.text(max_size=20))


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
@given(action=CALLS | SAYINGS)
def test_a_reply_reads_back_as_its_action_in_the_samples_type(sample: Any, action: Action) -> None:
    reply = reply_like(sample, action, "clone:v1")
    assert type(reply) is type(sample) or isinstance(sample, Action)
    read = read_answer(reply, Faults())
    assert read.error_type is None
    (found,) = read.actions
    has_place = bool(action.call_id) and not isinstance(reply[0] if isinstance(reply, list) else reply, tuple)
    assert found == (action if has_place else replace(action, call_id=found.call_id))


@pytest.mark.parametrize("name", ["completion", "response", "claude", "langchain"])
def test_a_reply_says_who_answered_and_costs_nothing(name: str) -> None:
    reply = reply_like(SAMPLES[name], LOOK, "clone:v1")
    read = read_answer(reply, Faults())
    assert read.model == "clone:v1"
    assert not read.input_tokens
    assert not read.output_tokens
    assert reply.id != "old"


def test_a_reply_is_made_of_the_clients_own_objects() -> None:
    chat = reply_like(SAMPLES["completion"], LOOK, "m").choices[0]
    assert json.loads(chat.message.tool_calls[0].function.arguments) == {"q": "é"}
    assert chat.finish_reason == "tool_calls"
    assert reply_like(SAMPLES["completion"], SAY, "m").choices[0].message.tool_calls is None
    assert reply_like(SAMPLES["completion"], SAY, "m").choices[0].finish_reason == "stop"
    assert reply_like(SAMPLES["response"], SAY, "m").output_text == "hello"
    assert reply_like(SAMPLES["response"], LOOK, "m").output[0].name == "look"
    claude = reply_like(SAMPLES["claude"], LOOK, "m")
    assert (claude.content[0].input, claude.stop_reason) == ({"q": "é"}, "tool_use")
    assert reply_like(SAMPLES["claude"], SAY, "m").stop_reason == "end_turn"
    assert reply_like(SPOKEN, LOOK, "m").tool_calls[0]["args"] == {"q": "é"}
    assert reply_like(SPOKEN, LOOK, "m").name == "desk"


def test_a_reply_of_a_graphs_node_joins_its_state() -> None:
    reply = reply_like(SAMPLES["graph"], LOOK, "m")
    history: list[Any] = [HumanMessage("hi")]
    merged: Any = add_messages(history, reply["messages"])
    assert [message.type for message in merged] == ["human", "ai"]


def test_a_call_is_a_pair_in_the_samples_own_form() -> None:
    assert reply_like(("old", {}), LOOK, "m") == ("look", {"q": "é"})
    assert reply_like(("old", "{}"), LOOK, "m") == ("look", '{"q": "é"}')
    assert reply_like([("old", {}), ("old", {})], LOOK, "m") == [("look", {"q": "é"})]
    assert reply_like("hi", SAY, "m") == "hello"


@pytest.mark.parametrize("prefix", ["call_", "toolu_"])
def test_a_call_without_an_id_gets_one_as_the_client_makes_them(prefix: str) -> None:
    sample = SAMPLES["claude" if prefix == "toolu_" else "chat message"]
    (action,) = read_answer(reply_like(sample, replace(LOOK, call_id=None), "m"), Faults()).actions
    assert str(action.call_id).startswith(prefix)


@pytest.mark.parametrize(
    ("sample", "action"),
    [
        (None, SAY),
        (3, SAY),
        ([], SAY),
        ({}, SAY),
        (object(), SAY),
        ("hi", LOOK),
        (("old", {}), SAY),
        (Command(update={"messages": [SPOKEN]}, goto="tools"), LOOK),
        ({"messages": [HumanMessage("hi"), SPOKEN]}, LOOK),
        ({"messages": [SPOKEN], "steps": 3}, LOOK),
        ({"choices": [{"message": CHAT | {"parsed": {"a": 1}}}]}, SAY),
    ],
)
def test_a_shape_that_cannot_be_written_is_refused_in_words(sample: Any, action: Action) -> None:
    with pytest.raises(WireError, match=f"answer is a {type(sample).__name__}, whose shape can't be written with a"):
        reply_like(sample, action, "m")
