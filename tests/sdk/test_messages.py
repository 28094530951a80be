import json
from typing import Any

import pytest

from imitrace.exceptions import WireError
from imitrace.messages import (
    Action,
    action_message,
    decisions,
    from_openai,
    message_actions,
    message_text,
    to_openai,
    tool_definition,
)

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"q": "é"}'}}
CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "be kind"},
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "found"},
    {"role": "assistant", "content": "here"},
]


@pytest.mark.parametrize("message", CHAT, ids=lambda message: message["role"])
def test_openai_messages_come_back_from_parts_form(message: dict[str, Any]) -> None:
    assert to_openai(from_openai(message)) == message


@pytest.mark.parametrize("message", CHAT)
def test_a_message_in_parts_form_stays_as_it_is(message: dict[str, Any]) -> None:
    assert from_openai(from_openai(message)) == from_openai(message)


@pytest.mark.parametrize(("given", "expected"), [("developer", "system"), ("function", "tool"), ("user", "user")])
def test_old_and_new_role_names_are_brought_to_one(given: str, expected: str) -> None:
    assert from_openai({"role": given, "content": "x"})["role"] == expected


def test_content_parts_are_joined_as_text() -> None:
    content = [{"type": "text", "text": "a"}, "b", {"type": "image_url", "image_url": {"url": "x"}}]
    assert message_text(from_openai({"role": "user", "content": content})) == "a\nb"


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f1"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
    ],
)
def test_media_come_back_from_parts_form(block: dict[str, Any]) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "see"}, block], "name": "bob"}
    assert to_openai(from_openai(message)) == message


def test_what_an_assistant_says_beside_its_content_is_kept() -> None:
    message = {
        "role": "assistant",
        "content": None,
        "reasoning_content": "hm",
        "refusal": "no",
        "audio": {"id": "a1", "data": "AAAA", "transcript": "never"},
    }
    parts = from_openai(message)["parts"]
    assert [part["type"] for part in parts] == ["reasoning", "text", "text", "blob"]
    assert message_text(from_openai(message)) == "no\nnever"


def test_a_call_in_openais_first_form_is_a_call() -> None:
    message = {"role": "assistant", "content": None, "function_call": CALL["function"]}
    assert message_actions(from_openai(message)) == (Action("tool_call", "look", {"q": "é"}),)


def test_a_custom_tools_text_is_its_input() -> None:
    call = {"id": "c1", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
    (action,) = message_actions(from_openai({"role": "assistant", "tool_calls": [call]}))
    assert action == Action("tool_call", "sql", {"input": "select 1"}, call_id="c1")


def test_arguments_come_as_text_or_as_object() -> None:
    as_object = {"id": "c1", "function": {"name": "look", "arguments": {"q": "é"}}}
    assert from_openai({"role": "assistant", "tool_calls": [as_object]}) == from_openai(CHAT[2])


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("hi", "expected an object with 'role'"),
        ({"content": "hi"}, "expected an object with 'role'"),
        ({"role": "user", "content": 3}, "expected text or a list of parts"),
        ({"role": "assistant", "tool_calls": [{}]}, "expected an object with 'function.name'"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}, "expected JSON"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]}, "a JSON object"),
        ({"role": "assistant", "tool_calls": 3}, "tool calls are 3, expected a list"),
        ({"role": "user", "content": [3]}, "expected text or a list of parts"),
        ({"role": "user", "parts": ["hi"]}, "message part is 'hi', expected an object"),
        ({"role": "assistant", "parts": [{"type": "tool_call"}]}, "expected an object, with 'name' for a tool call"),
    ],
)
def test_a_message_of_no_known_shape_is_refused_in_words(message: Any, words: str) -> None:
    with pytest.raises(WireError, match=words):
        from_openai(message)


def test_a_long_value_is_shortened_in_the_error() -> None:
    with pytest.raises(WireError) as caught:
        from_openai("x" * 10_000)  # type: ignore[arg-type]  # a caller without types
    assert len(str(caught.value)) < 200


def test_parallel_calls_are_several_actions_of_one_decision() -> None:
    message = from_openai({"role": "assistant", "content": "thinking", "tool_calls": [CALL, CALL | {"id": "c2"}]})
    assert [action.call_id for action in message_actions(message)] == ["c1", "c2"]


@pytest.mark.parametrize(
    ("action", "part"),
    [
        (Action("message", message="hi"), {"type": "text", "content": "hi"}),
        (Action("message"), {"type": "text", "content": ""}),
        (
            Action("tool_call", "look", {"a": 1}, call_id="c4"),
            {"type": "tool_call", "id": "c4", "name": "look", "arguments": {"a": 1}},
        ),
    ],
)
def test_an_action_becomes_the_assistants_message(action: Action, part: dict[str, Any]) -> None:
    assert action_message(action) == {"role": "assistant", "parts": [part]}


def test_a_conversation_is_cut_into_decisions() -> None:
    found = list(decisions([from_openai(message) for message in CHAT]))
    assert [decision.position for decision in found] == [2, 4]
    assert found[0].actions == (Action("tool_call", "look", {"q": "é"}, call_id="c1"),)
    assert found[1].actions == (Action("message", message="here"),)


@pytest.mark.parametrize("key", ["parameters", "input_schema", "inputSchema"])
def test_parameters_are_found_under_each_vendors_name(key: str) -> None:
    schema = {"type": "object", "properties": {"id": {"type": "string"}}}
    assert tool_definition({"name": "look", key: schema})["parameters"] == schema


@pytest.mark.parametrize("nested", [True, False])
def test_tool_definitions_are_read_nested_and_flat(nested: bool) -> None:
    schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    flat = {"name": "look", "description": "Look.", "parameters": schema, "strict": True}
    definition = tool_definition({"type": "function", "function": flat} if nested else flat)
    assert json.dumps(definition) == json.dumps({"name": "look", "description": "Look.", "parameters": schema})


@pytest.mark.parametrize("tool", [{}, {"function": {}}, "look", {"name": 3}])
def test_a_tool_without_a_name_is_refused(tool: Any) -> None:
    with pytest.raises(WireError, match="expected an object with 'name'"):
        tool_definition(tool)
