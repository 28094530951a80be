import base64
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from langchain_core.messages.content import create_image_block

from imitrace.exceptions import WireError
from imitrace.shapes.content_parts import call_arguments, call_part, content_parts, result_part

PNG = {"modality": "image", "mime_type": "image/png"}
BLOB = {"type": "blob", **PNG, "content": "AAAA"}
URI = {"type": "uri", "modality": "image", "uri": "https://x/y.png"}
FILE = {"type": "file", "modality": "document", "file_id": "f1"}
PDF = {"type": "blob", "modality": "document", "mime_type": "application/pdf", "content": "AAAA"}


@pytest.mark.parametrize(
    ("block", "part"),
    [
        ("hi", {"type": "text", "content": "hi"}),
        ({"type": "text", "text": "hi"}, {"type": "text", "content": "hi"}),
        ({"type": "output_text", "text": "hi", "annotations": [1]}, {"type": "text", "content": "hi"}),
        ({"type": "refusal", "refusal": "no"}, {"type": "text", "content": "no"}),
        ({"text": "hi"}, {"type": "text", "content": "hi"}),
        ({"text": "hm", "thought": True}, {"type": "reasoning", "content": "hm"}),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, BLOB),
        ({"type": "image_url", "image_url": "https://x/y.png"}, URI),
        ({"type": "input_image", "image_url": "https://x/y.png"}, URI),
        ({"type": "input_image", "file_id": "f1"}, {"type": "file", "modality": "image", "file_id": "f1"}),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}, BLOB),
        ({"type": "image", "source": {"type": "url", "url": "https://x/y.png"}}, URI),
        ({"type": "image", "source_type": "base64", "mime_type": "image/png", "data": "AAAA"}, BLOB),
        (create_image_block(base64="AAAA", mime_type="image/png"), BLOB),
        (create_image_block(url="https://x/y.png"), URI),
        ({"inline_data": {"mime_type": "image/png", "data": base64.b64decode("AAAA")}}, BLOB),
        ({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}, PDF),
        (
            {"type": "document", "title": "a", "source": {"type": "text", "media_type": "text/plain", "data": "hi"}},
            {"type": "blob", "modality": "document", "mime_type": "text/plain", "content": "hi", "name": "a"},
        ),
        ({"type": "file", "file": {"file_id": "f1"}}, FILE),
        ({"type": "input_file", "file_id": "f1", "filename": "a.pdf"}, {**FILE, "name": "a.pdf"}),
        ({"type": "input_file", "file_url": "u"}, {"type": "uri", "modality": "document", "uri": "u"}),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}, PDF),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            {"type": "blob", "modality": "audio", "mime_type": "audio/wav", "content": "AAAA"},
        ),
        ({"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "reasoning", "content": "hm"}),
        ({"type": "reasoning", "reasoning": "hm"}, {"type": "reasoning", "content": "hm"}),
        ({"type": "redacted_thinking", "data": "x"}, {"type": "redacted_thinking", "data": "x"}),
        ({"type": "server_tool_use", "id": "s", "input": {}}, {"type": "server_tool_use", "id": "s", "input": {}}),
        ({"type": "image", "what": 1}, {"type": "image", "what": 1}),
        ({"what": 1}, {"type": "unknown", "what": 1}),
        ({"type": 3}, {"type": "unknown"}),
        ({"type": "text", "text": 3}, {"type": "text", "text": 3}),
        (BLOB, BLOB),
    ],
)
def test_each_clients_block_is_one_part(block: Any, part: Any) -> None:
    assert content_parts([block]) == [part]
    assert content_parts([SimpleNamespace(**block) if isinstance(block, dict) else block]) == [part]


@pytest.mark.parametrize("block", [{"type": "text", "text": ""}, {"type": "reasoning", "summary": []}, ""])
def test_a_block_that_says_nothing_is_no_part(block: Any) -> None:
    assert content_parts([block]) == []


@pytest.mark.parametrize("content", [3, [3], [None], {1}])
def test_content_of_no_known_shape_is_refused(content: Any) -> None:
    with pytest.raises(WireError, match="expected text or a list of parts"):
        content_parts(content)


@pytest.mark.parametrize(
    "call",
    [
        {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"q": 1}'}},
        {"type": "function_call", "id": "fc", "call_id": "c", "name": "look", "arguments": '{"q": 1}'},
        {"type": "tool_use", "id": "c", "name": "look", "input": {"q": 1}},
        {"type": "tool_call", "id": "c", "name": "look", "args": {"q": 1}},
        SimpleNamespace(id="c", function=SimpleNamespace(name="look", arguments='{"q": 1}')),
    ],
)
def test_a_call_reads_the_same_in_every_clients_form(call: Any) -> None:
    assert call_part(call) == {"type": "tool_call", "id": "c", "name": "look", "arguments": {"q": 1}}


@pytest.mark.parametrize(
    ("content", "response"),
    [
        ("x", "x"),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "a"}, "b"], "a\nb"),
        ([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}], [URI]),
        ({"rows": [1]}, {"rows": [1]}),
        ({"type": "refund", "amount": 3}, {"type": "refund", "amount": 3}),
        ([{"row": 1}, {"row": 2}], [{"row": 1}, {"row": 2}]),
        (3, 3),
    ],
)
def test_a_result_is_text_or_parts_or_plain_json(content: Any, response: Any) -> None:
    assert result_part("c", content) == {"type": "tool_call_response", "id": "c", "response": response}


@given(st.dictionaries(st.text(), st.integers()))
def test_arguments_are_the_same_as_text_and_as_object(arguments: dict[str, int]) -> None:
    assert call_arguments(json.dumps(arguments)) == call_arguments(arguments) == arguments


def test_langchains_own_messages_hold_these_blocks() -> None:
    message = HumanMessage([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}])
    assert content_parts(message.content) == [URI]
