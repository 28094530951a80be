from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from langgraph.types import Command
from openai.types.chat import ChatCompletion, ChatCompletionMessage
from openai.types.responses import Response

from imitrace.faults import Faults
from imitrace.messages import Action
from imitrace.shapes.answers import Answer, arguments_text, read_answer

FUNCTION = {"name": "look", "arguments": '{"q":"x"}'}
MESSAGE: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "function": FUNCTION}]}
LOOK = Action("tool_call", "look", {"q": "x"}, call_id="c1")
SAY = Action("message", message="hello")


def as_object(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{name: as_object(item) for name, item in value.items()})
    return [as_object(item) for item in value] if isinstance(value, list) else value


class Dumped:
    """A client's object as pydantic makes them."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def model_dump(self) -> Any:
        return self._value


class Unreadable:
    """An object that fails at every touch."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(name)


@pytest.mark.parametrize("wrapped", [dict, as_object, Dumped])
def test_a_completion_is_read_as_dict_or_object(wrapped: Any) -> None:
    completion = {
        "choices": [{"message": MESSAGE}],
        "model": "m",
        "usage": {"prompt_tokens": 3, "completion_tokens": 4},
    }
    answer = read_answer(wrapped(completion), Faults())
    assert answer.actions == (LOOK,)
    assert (answer.model, answer.input_tokens, answer.output_tokens) == ("m", 3, 4)


@pytest.mark.parametrize(
    ("answer", "actions"),
    [
        (MESSAGE, (LOOK,)),
        (as_object(MESSAGE), (LOOK,)),
        ({"content": "hello"}, (SAY,)),
        ({"role": "assistant", "parts": [{"type": "text", "content": "hello"}]}, (SAY,)),
        ("hello", (SAY,)),
        (("look", {"q": "x"}), (Action("tool_call", "look", {"q": "x"}),)),
        (("look", '{"q":"x"}'), (Action("tool_call", "look", {"q": "x"}),)),
        (LOOK, (LOOK,)),
        ([LOOK, SAY], (LOOK, SAY)),
        ([("a", None), ("b", None)], (Action("tool_call", "a"), Action("tool_call", "b"))),
    ],
)
def test_known_shapes_become_actions(answer: Any, actions: tuple[Action, ...]) -> None:
    faults = Faults()
    assert read_answer(answer, faults).actions == actions
    assert faults.counts() == {}


@pytest.mark.parametrize("answer", [None, 3, [], {}, {"choices": []}, ("look", "not json"), object(), Unreadable()])
def test_an_unknown_shape_is_kept_as_text_marked_and_counted(answer: Any) -> None:
    faults = Faults()
    read = read_answer(answer, faults)
    assert (read.actions[0].kind, read.error_type) == ("message", "unknown_answer")
    assert faults.counts() == {"unknown_answer": 1}


USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
COMPLETION = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "usage": USAGE}
RESPONSE = {
    "id": "r",
    "object": "response",
    "created_at": 1,
    "model": "m",
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "usage": {
        "input_tokens": 7,
        "output_tokens": 5,
        "total_tokens": 12,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}
CLAUDE = {
    "id": "x",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 4, "output_tokens": 5, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 1},
}
CALL_ITEM = {"type": "function_call", "id": "fc", "call_id": "c1", **FUNCTION}
SAID_ITEM = {
    "type": "message",
    "id": "msg",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "hello", "annotations": []}],
}
REASONING_ITEM = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}]}
MCP_ITEM = {"type": "mcp_call", "id": "m1", "server_label": "s", "name": "find", "arguments": "{}", "output": "x"}
TEXT_BLOCK, USE_BLOCK = (
    {"type": "text", "text": "hello"},
    {"type": "tool_use", "id": "c1", "name": "look", "input": {"q": "x"}},
)
THINKING_BLOCK = {"type": "thinking", "thinking": "hm", "signature": "s"}
SEARCH_BLOCK = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "x"}}


def completion(*messages: Any) -> ChatCompletion:
    choices = [{"index": at, "finish_reason": "stop", "message": message} for at, message in enumerate(messages)]
    return ChatCompletion.model_validate(COMPLETION | {"choices": choices})


def response(*items: Any) -> Response:
    return Response.model_validate(RESPONSE | {"output": list(items)})


def claude(*blocks: Any) -> AnthropicMessage:
    return AnthropicMessage.model_validate(CLAUDE | {"content": list(blocks)})


def spoken(content: Any, *calls: Action) -> AIMessage:
    return AIMessage(
        content,
        tool_calls=[{"name": str(call.name), "args": call.arguments, "id": call.call_id} for call in calls],
        usage_metadata={"input_tokens": 7, "output_tokens": 5, "total_tokens": 12},
        response_metadata={"model_name": "m"},
    )


FULL_MESSAGE = MESSAGE | {"tool_calls": [{"id": "c1", "type": "function", "function": FUNCTION}]}


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        (completion(FULL_MESSAGE), LOOK),
        (completion({"role": "assistant", "content": "hello"}, FULL_MESSAGE), SAY),
        (completion({"role": "assistant", "content": None, "refusal": "hello"}), SAY),
        (completion(FULL_MESSAGE).model_dump(), LOOK),
        (response(REASONING_ITEM, CALL_ITEM), LOOK),
        (response(REASONING_ITEM, SAID_ITEM), SAY),
        (response(SAID_ITEM, CALL_ITEM), LOOK),
        (response(MCP_ITEM, SAID_ITEM), SAY),
        (response({**SAID_ITEM, "content": [{"type": "refusal", "refusal": "hello"}]}), SAY),
        (response(), Action("message", message="")),
        (response(CALL_ITEM).model_dump(), LOOK),
        (claude(THINKING_BLOCK, TEXT_BLOCK), SAY),
        (claude(TEXT_BLOCK, USE_BLOCK), LOOK),
        (claude(SEARCH_BLOCK, TEXT_BLOCK), SAY),
        (claude(), Action("message", message="")),
        (claude(USE_BLOCK).model_dump(), LOOK),
        (spoken("hello"), SAY),
        (spoken([TEXT_BLOCK, USE_BLOCK], LOOK), LOOK),
        (spoken("hello").model_dump(), SAY),
        ({"messages": [spoken("", LOOK)]}, LOOK),
        ({"messages": spoken("", LOOK)}, LOOK),
        (
            {"messages": [HumanMessage("hi"), spoken("", LOOK), ToolMessage("x", tool_call_id="c1"), spoken("hello")]},
            SAY,
        ),
        (Command(update={"messages": [spoken("hello")]}, goto="next"), SAY),
        ({"agent": {"messages": [spoken("", LOOK)]}, "log": None}, LOOK),
        (ChatResult(generations=[ChatGeneration(message=spoken("hello"))]), SAY),
        (LLMResult(generations=[[ChatGeneration(message=spoken("", LOOK))]]), LOOK),
    ],
)
def test_each_clients_answer_tells_action_model_and_cost(answer: Any, action: Action) -> None:
    faults = Faults()
    assert replace(read_answer(answer, faults), kept=None) == Answer((action,), "m", 7, 5)
    assert faults.counts() == {}


@pytest.mark.parametrize(
    ("answer", "actions"),
    [
        (ChatCompletionMessage.model_validate(FULL_MESSAGE), (LOOK,)),
        (
            response(CALL_ITEM, CALL_ITEM | {"call_id": "c2"}).output,
            (LOOK, Action("tool_call", "look", {"q": "x"}, None, "c2")),
        ),
        (claude(TEXT_BLOCK, USE_BLOCK).content, (LOOK,)),
        (response(REASONING_ITEM, SAID_ITEM).output, (SAY,)),
        (response(SAID_ITEM).output, (SAY,)),
        ([TEXT_BLOCK], (SAY,)),
        (CALL_ITEM, (LOOK,)),
        ([spoken("", LOOK), spoken("hello")], (LOOK, SAY)),
        ({"messages": [spoken("", LOOK), spoken("hello")]}, (LOOK, SAY)),
        ({"role": "assistant", "function_call": FUNCTION}, (Action("tool_call", "look", {"q": "x"}),)),
        ({"candidates": [{"content": {"role": "model", "parts": [{"text": "hello"}]}}]}, (SAY,)),
        (LLMResult(generations=[[Generation(text="hello")]]), (SAY,)),
        (SimpleNamespace(http_response=None, parse=lambda: completion(FULL_MESSAGE)), (LOOK,)),
        ({"role": "user", "content": "hello"}, (SAY,)),
        ({"message": {"role": "assistant", "content": "hello"}, "done": True}, (SAY,)),
    ],
)
def test_parts_of_answers_are_read_too(answer: Any, actions: tuple[Action, ...]) -> None:
    faults = Faults()
    assert read_answer(answer, faults).actions == actions
    assert faults.counts() == {}


@pytest.mark.parametrize(
    "answer",
    [
        {"messages": [HumanMessage("hi")]},
        {"messages": []},
        Command(goto="next"),
        AIMessage("", invalid_tool_calls=[{"name": "look", "args": "{", "id": "c", "error": None}]),
        {"role": "tool", "tool_call_id": "c", "content": "x"},
        {"node": "x"},
        {"output": [], "error": {"code": "server_error", "message": "no"}},
        {"error": {"message": "no"}, "choices": None},
    ],
)
def test_what_holds_no_decision_is_marked(answer: Any) -> None:
    assert read_answer(answer, Faults()).error_type == "unknown_answer"


@pytest.mark.parametrize(
    ("given", "text"), [('{"b": 1}', '{"b":1}'), ({"b": 1}, '{"b":1}'), ("no", "no"), (None, "{}")]
)
def test_arguments_are_canonical_where_they_are_json(given: Any, text: str) -> None:
    assert arguments_text(given) == text


KEYS = [
    "choices",
    "message",
    "output",
    "type",
    "role",
    "content",
    "messages",
    "generations",
    "usage",
    "tool_calls",
    "x",
]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=8,
)


@given(JUNK, st.booleans())
def test_no_answer_ever_raises(answer: Any, wrapped: bool) -> None:
    read = read_answer(as_object(answer) if wrapped else answer, Faults())
    assert read.actions
    assert all(action.kind in ("tool_call", "message") for action in read.actions)


@dataclass
class Decision:
    name: str
    arguments: dict[str, str]


def test_an_object_that_is_a_name_with_arguments_is_a_call() -> None:
    faults = Faults()
    assert read_answer(Decision("look", {"q": "x"}), faults).actions == (Action("tool_call", "look", {"q": "x"}),)
    assert faults.counts() == {}
