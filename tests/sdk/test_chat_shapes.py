import json
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest
from anthropic.types import Message as AnthropicMessage
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.load import dumpd
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    messages_to_dict,
)
from langchain_core.prompt_values import ChatPromptValue
from openai.types.chat import ChatCompletionMessage
from openai.types.responses import Response

from imitrace.exceptions import WireError
from imitrace.faults import Faults
from imitrace.messages import from_openai
from imitrace.shapes.chat_shapes import parts_messages, plain_key, system_message, wire_messages
from imitrace.shapes.plain import json_text

CONVERSATION: list[dict[str, Any]] = [
    {"role": "system", "parts": [{"type": "text", "content": "be kind"}]},
    {"role": "user", "parts": [{"type": "text", "content": "what is é?"}]},
    {
        "role": "assistant",
        "parts": [
            {"type": "text", "content": "I look."},
            {"type": "tool_call", "id": "c1", "name": "look", "arguments": {"q": "é", "n": 2}},
            {"type": "tool_call", "id": "c2", "name": "now", "arguments": {}},
        ],
    },
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "a letter"}]},
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c2", "response": "a\nb"}]},
    {
        "role": "user",
        "parts": [
            {"type": "text", "content": "and this?"},
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AAAA"},
            {"type": "uri", "modality": "image", "uri": "https://x/y.png"},
        ],
    },
    {"role": "assistant", "parts": [{"type": "text", "content": "a picture"}]},
]

DATA_URL, URL = "data:image/png;base64,AAAA", "https://x/y.png"
LOOK = {"name": "look", "arguments": '{"q": "é", "n": 2}'}
OPENAI: list[Any] = [
    {"role": "developer", "content": "be kind"},
    {"role": "user", "content": "what is é?"},
    {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": LOOK},
            {"id": "c2", "type": "function", "function": {"name": "now", "arguments": ""}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "a letter"},
    {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "and this?"},
            {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}},
            {"type": "image_url", "image_url": {"url": URL}},
        ],
    },
    {"role": "assistant", "content": "a picture"},
]
RESPONSES: list[Any] = [
    {"role": "developer", "content": "be kind"},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "what is é?"}]},
    {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
    },
    {"type": "function_call", "id": "fc_1", "call_id": "c1", **LOOK},
    {"type": "function_call", "id": "fc_2", "call_id": "c2", "name": "now", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "a letter"},
    {
        "type": "function_call_output",
        "call_id": "c2",
        "output": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
    },
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "and this?"},
            {"type": "input_image", "image_url": DATA_URL, "detail": "low"},
            {"type": "input_image", "image_url": URL},
        ],
    },
    {"role": "assistant", "content": "a picture"},
]
ANTHROPIC: list[Any] = [
    {"role": "user", "content": "what is é?"},
    {
        "role": "assistant",
        "content": [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "c1", "name": "look", "input": {"q": "é", "n": 2}},
            {"type": "tool_use", "id": "c2", "name": "now", "input": {}},
        ],
    },
    {
        "role": "user",
        "content": [
            {"type": "tool_result", "tool_use_id": "c1", "content": "a letter"},
            {
                "type": "tool_result",
                "tool_use_id": "c2",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
            {"type": "text", "text": "and this?", "cache_control": {"type": "ephemeral"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            {"type": "image", "source": {"type": "url", "url": URL}},
        ],
    },
    {"role": "assistant", "content": [{"type": "text", "text": "a picture"}]},
]
CALLS = [
    {"name": "look", "args": {"q": "é", "n": 2}, "id": "c1", "type": "tool_call"},
    {"name": "now", "args": {}, "id": "c2", "type": "tool_call"},
]
LANGCHAIN: list[Any] = [
    SystemMessage("be kind"),
    HumanMessage("what is é?"),
    AIMessage("I look.", tool_calls=CALLS),
    ToolMessage("a letter", tool_call_id="c1"),
    ToolMessage([{"type": "text", "text": "a"}, "b"], tool_call_id="c2"),
    HumanMessage(
        [
            {"type": "text", "text": "and this?"},
            {"type": "image", "source_type": "base64", "mime_type": "image/png", "data": "AAAA"},
            {"type": "image_url", "image_url": URL},
        ]
    ),
    AIMessage([{"type": "text", "text": "a picture", "index": 0}]),
]
GOOGLE: list[Any] = [
    {"role": "user", "parts": [{"text": "what is é?"}]},
    {
        "role": "model",
        "parts": [
            {"text": "I look."},
            {"function_call": {"id": "c1", "name": "look", "args": {"q": "é", "n": 2}}},
            {"functionCall": {"id": "c2", "name": "now", "args": {}}},
        ],
    },
]


def read(messages: Any) -> list[Any]:
    faults = Faults()
    found = [json.loads(text) for text in wire_messages(messages, faults)]
    assert faults.counts() == {}
    return found


@pytest.mark.parametrize(
    "messages",
    [
        CONVERSATION,
        OPENAI,
        [*OPENAI[:2], ChatCompletionMessage.model_validate(OPENAI[2]), *OPENAI[3:]],
        RESPONSES,
        LANGCHAIN,
        {"messages": LANGCHAIN, "steps": 3},
        SimpleNamespace(messages=LANGCHAIN),
        ChatPromptValue(messages=LANGCHAIN),
        tuple(LANGCHAIN),
        deque(OPENAI),
        [message.model_dump() for message in LANGCHAIN],
        messages_to_dict(LANGCHAIN),
        [dumpd(message) for message in LANGCHAIN],
        [("system", "be kind"), ("human", "what is é?"), *LANGCHAIN[2:]],
    ],
)
def test_one_conversation_reads_the_same_in_every_clients_form(messages: Any) -> None:
    assert read(messages) == CONVERSATION


def test_anthropics_messages_with_their_system_prompt_read_the_same() -> None:
    assert [system_message("be kind"), *read(ANTHROPIC)] == CONVERSATION
    assert system_message([{"type": "text", "text": "be kind"}]) == CONVERSATION[0]


def test_anthropics_message_objects_stand_in_a_history_too() -> None:
    answer = AnthropicMessage.model_validate(
        {
            "id": "m",
            "type": "message",
            "model": "claude",
            "stop_reason": "tool_use",
            "usage": {"input_tokens": 1, "output_tokens": 1},
            **ANTHROPIC[1],
        }
    )
    assert read([ANTHROPIC[0], answer]) == CONVERSATION[1:3]
    assert read([ANTHROPIC[0], {"role": "assistant", "content": answer.content}]) == CONVERSATION[1:3]


def test_a_responses_output_objects_stand_in_its_next_input() -> None:
    response = Response.model_construct(output=RESPONSES[2:6], model="m")
    items = Response.model_validate(
        {
            **response.model_dump(),
            "id": "r",
            "created_at": 1,
            "object": "response",
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }
    ).output
    assert read([*RESPONSES[:2], *items, *RESPONSES[6:]]) == CONVERSATION


def test_googles_contents_read_the_same() -> None:
    assert read(GOOGLE) == CONVERSATION[1:3]


def test_text_alone_is_the_users_message() -> None:
    assert (
        read("what is é?")
        == [CONVERSATION[1]]
        == read(["what is é?"])
        == read({"role": "user", "content": "what is é?"})
    )


def test_a_langchain_message_from_anthropic_names_each_call_once() -> None:
    content: list[Any] = [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "c1", "name": "look", "input": {}},
        {"type": "tool_use", "id": "c2", "name": "now", "input": {}},
    ]
    (message,) = read([AIMessage(content, tool_calls=CALLS)])
    assert message["parts"] == [{"type": "reasoning", "content": "hm"}, *CONVERSATION[2]["parts"]]


def test_other_langchain_messages_keep_who_spoke() -> None:
    messages = [
        ChatMessage(content="hi", role="bob"),
        FunctionMessage(content="found", name="look"),
        AIMessage("yes", name="desk"),
        AIMessageChunk(content="no"),
        RemoveMessage(id="gone"),
        ToolMessage("broken", tool_call_id="c", status="error", name="look"),
    ]
    bob, function, named, chunk, error = read(messages)
    assert (bob["role"], named["name"], chunk["role"]) == ("bob", "desk", "assistant")
    assert function["parts"][0]["name"] == "look"
    assert error["parts"] == [
        {"type": "tool_call_response", "id": "c", "response": "broken", "name": "look", "is_error": True}
    ]


def test_an_anthropic_tools_error_and_its_picture_are_kept() -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    content = [{"type": "tool_result", "tool_use_id": "c", "is_error": True, "content": [image]}]
    ((part,),) = [message["parts"] for message in read([{"role": "user", "content": content}])]
    assert part["is_error"] is True
    assert part["response"] == [{"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AAAA"}]


def test_a_call_that_the_server_answered_is_a_call_and_its_answer() -> None:
    call = {"type": "mcp_call", "id": "m1", "server_label": "s", "name": "look", "arguments": '{"q": 1}', "output": "x"}
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "here"}]}
    use = {"type": "mcp_tool_use", "id": "m1", "server_name": "s", "name": "look", "input": {"q": 1}}
    result = {
        "type": "mcp_tool_result",
        "tool_use_id": "m1",
        "is_error": False,
        "content": [{"type": "text", "text": "x"}],
    }
    anthropic = {"role": "assistant", "content": [use, result, {"type": "text", "text": "here"}]}
    assert read([call, said]) == read([anthropic])
    assert [message["role"] for message in read([call, said])] == ["assistant", "tool", "assistant"]


@pytest.mark.parametrize(
    ("item", "part"),
    [
        (
            {"type": "custom_tool_call", "id": "i", "call_id": "c", "name": "sql", "input": "select 1"},
            {"type": "tool_call", "id": "c", "name": "sql", "arguments": {"input": "select 1"}},
        ),
        (
            {"type": "computer_call", "id": "i", "call_id": "c", "action": {"type": "click"}, "status": "completed"},
            {"type": "tool_call", "id": "c", "name": "computer", "arguments": {"action": {"type": "click"}}},
        ),
        (
            {"type": "web_search_call", "id": "w", "action": {"type": "search"}, "status": "completed"},
            {"type": "web_search_call", "id": "w", "action": {"type": "search"}, "status": "completed"},
        ),
        (
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "reasoning", "content": "hm"},
        ),
    ],
)
def test_items_of_responses_are_parts_of_the_assistants_message(item: Any, part: Any) -> None:
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "so"}]}
    assert read([item, said]) == [{"role": "assistant", "parts": [part, {"type": "text", "content": "so"}]}]


def test_what_a_client_ran_for_the_agent_is_a_tools_answer() -> None:
    (message,) = read([{"type": "custom_tool_call_output", "call_id": "c", "output": "1"}])
    assert message == {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "1"}]}


@pytest.mark.parametrize(
    "message", [3, None, b"x", {}, {"type": "new"}, {"role": 3}, object(), {"role": "user", "content": 3}]
)
def test_an_unknown_message_is_kept_as_text_and_counted(message: Any) -> None:
    faults = Faults()
    (text,) = wire_messages([message], faults)
    assert json.loads(text)["parts"][0]["type"] == "text"
    assert faults.counts() == {"unknown_message": 1}


def test_a_call_that_langchain_could_not_parse_is_no_call() -> None:
    invalid = [{"name": "look", "args": "{", "id": "c", "error": "cut"}]
    faults = Faults()
    (text,) = wire_messages([AIMessage("", invalid_tool_calls=invalid)], faults)
    assert [part["type"] for part in json.loads(text)["parts"]] == ["text"]
    assert faults.counts() == {"unknown_message": 1}


@pytest.mark.parametrize("messages", [3, None, b"x", object(), {1, 2}, iter([])])
def test_what_holds_no_messages_is_refused_in_words(messages: Any) -> None:
    with pytest.raises(WireError, match="expected a list of messages, text, or a state with 'messages'"):
        wire_messages(messages, Faults())


def test_a_circular_message_is_kept_as_text() -> None:
    circle: dict[str, Any] = {"role": "user", "parts": [{"type": "text"}]}
    circle["parts"][0]["self"] = circle
    faults = Faults()
    assert len(wire_messages([circle], faults)) == 1
    assert faults.counts() == {"unknown_message": 1}


TEXTS = st.one_of(st.text(), st.text(st.characters(codec=None, categories=["Cs", "L", "Cc", "P"])))
ROLES = st.one_of(st.sampled_from(["user", "assistant", "developer", "human", "tool", "function"]), TEXTS)


@given(ROLES, TEXTS)
def test_the_short_way_for_plain_text_gives_what_the_long_one_gives(role: str, content: str) -> None:
    message = {"role": role, "content": content}
    assert wire_messages([message], Faults()) == [json_text(from_openai(message))]


@given(TEXTS, TEXTS)
def test_the_short_way_for_a_tools_result_gives_what_the_long_one_gives(call_id: str, content: str) -> None:
    message = {"role": "tool", "tool_call_id": call_id, "content": content}
    assert plain_key(message) == ("tool", call_id, content)
    assert wire_messages([message], Faults()) == [json_text(from_openai(message))]


ARGUMENTS = st.dictionaries(TEXTS, TEXTS | st.integers() | st.floats() | st.none(), max_size=3).map(json.dumps)


@given(st.none() | TEXTS, st.lists(st.tuples(TEXTS, TEXTS, ARGUMENTS | TEXTS), min_size=1, max_size=3))
def test_the_short_way_for_calls_gives_what_the_long_one_gives(
    content: str | None, given_calls: list[tuple[str, str, str]]
) -> None:
    calls = [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for call_id, name, arguments in given_calls
    ]
    message = {"role": "assistant", "content": content, "tool_calls": calls}
    if plain_key(message) is not None:
        assert wire_messages([message], Faults()) == [json_text(from_openai(message))]


def test_calls_have_a_key_where_their_arguments_are_an_object() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"q": 1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call, call]}
    assert plain_key(message) == ("assistant", "", *("c", "look", '{"q": 1}') * 2)
    for arguments in ("", "[]", "{", "{} {}", {"q": 1}):
        cut = {**call, "function": {"name": "look", "arguments": arguments}}
        assert plain_key({**message, "tool_calls": [cut]}) is None


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": "x", "name": "bob"},
        {"role": "tool", "content": "x"},
        {"role": "user", "content": [{"type": "text", "text": "x"}]},
        HumanMessage("x"),
        ("user", "x"),
    ],
)
def test_only_plain_messages_have_a_key(message: Any) -> None:
    assert plain_key(message) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "role", "content", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
KINDS = st.sampled_from(
    [
        "text",
        "tool_use",
        "tool_result",
        "image",
        "file",
        "reasoning",
        "function_call",
        "mcp_call",
        "ai",
        "tool",
        "human",
        "x",
    ]
)
FIELDS = st.sampled_from(
    [
        "content",
        "text",
        "name",
        "input",
        "arguments",
        "tool_calls",
        "source",
        "summary",
        "output",
        "call_id",
        "parts",
        "data",
    ]
)
BLOCKS = st.recursive(
    JSON, lambda inner: st.dictionaries(FIELDS, inner | st.lists(inner, max_size=3), max_size=4), max_leaves=6
)


@st.composite
def items(draw: st.DrawFn) -> Any:
    item = draw(st.dictionaries(FIELDS, BLOCKS, max_size=5))
    for name, values in (("type", KINDS | JSON), ("role", ROLES | JSON)):
        if draw(st.booleans()):
            item[name] = draw(values)
    return draw(st.sampled_from([item, SimpleNamespace(**item)]))


@given(st.lists(items() | JSON, max_size=4))
def test_nothing_in_a_history_ever_raises(history: list[Any]) -> None:
    for text in wire_messages(history, Faults()):
        message = json.loads(text)
        assert isinstance(message["role"], str)
        assert all(isinstance(part, dict) for part in message["parts"])


@given(st.lists(st.sampled_from([*OPENAI, *RESPONSES, *ANTHROPIC]), max_size=6))
def test_plain_messages_can_be_read_apart_from_the_rest(history: list[Any]) -> None:
    apart: list[str] = []
    others: list[Any] = []
    for message in [*history, OPENAI[-1]]:
        if plain_key(message) is None:
            others.append(message)
            continue
        apart += [*wire_messages(others, Faults()), *wire_messages([message], Faults())]
        others = []
    assert apart == wire_messages([*history, OPENAI[-1]], Faults())
    assert [json_text(message) for message in parts_messages([*history, OPENAI[-1]])] == apart
