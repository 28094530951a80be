import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
from anthropic import Anthropic
from anthropic.types import RawMessageStreamEvent
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from openai import OpenAI
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from imitrace.faults import Faults
from imitrace.messages import Action
from imitrace.shapes.answers import Answer, read_answer
from imitrace.shapes.streams import Joiner

Cut = Callable[[str], list[str]]
"""Cuts a text into pieces."""

ANTHROPIC_EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
RESPONSE_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def joined(chunks: Any) -> Answer:
    joiner = Joiner()
    for chunk in chunks:
        joiner.add(chunk)
    faults = Faults()
    read = read_answer(joiner.answer(), faults)
    assert faults.counts() == {}
    return replace(read, kept=None)


def openai_chunks(text: str, calls: list[Action], cut: Cut) -> Iterator[Any]:
    def chunk(delta: Any, **more: Any) -> dict[str, Any]:
        choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": more.pop("reason", None)}]
        frame = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return {**frame, "choices": choices, **more}

    yield chunk({"role": "assistant", "content": ""})
    for piece in cut(text):
        yield chunk({"content": piece})
    for index, call in enumerate(calls):
        opened = {"index": index, "id": call.call_id, "type": "function"}
        yield chunk({"tool_calls": [{**opened, "function": {"name": call.name, "arguments": ""}}]})
        for piece in cut(json.dumps(call.arguments)):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, reason="tool_calls" if calls else "stop")
    yield chunk(None, usage={"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12})


def response_events(text: str, calls: list[Action], cut: Cut) -> Iterator[Any]:
    numbers = itertools.count()
    places = itertools.count()
    output: list[Any] = []
    response = {
        "id": "r",
        "object": "response",
        "created_at": 1,
        "model": "m",
        "output": output,
        "tools": [],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
    }

    def event(kind: str, **fields: Any) -> dict[str, Any]:
        return {"type": f"response.{kind}", "sequence_number": next(numbers), **fields}

    yield event("created", response={**response, "output": []})
    if text:
        item: Any = {"type": "message", "id": "m1", "role": "assistant", "status": "in_progress", "content": []}
        place = {"output_index": next(places)}
        yield event("output_item.added", item=item, **place)
        part = {"type": "output_text", "text": "", "annotations": []}
        yield event("content_part.added", item_id="m1", content_index=0, part=part, **place)
        for piece in cut(text):
            yield event("output_text.delta", item_id="m1", content_index=0, delta=piece, logprobs=[], **place)
        item = {**item, "status": "completed", "content": [{"type": "output_text", "text": text, "annotations": []}]}
        yield event("output_item.done", item=item, **place)
        output.append(item)
    for call in calls:
        item = {"type": "function_call", "id": f"i-{call.call_id}", "call_id": call.call_id, "name": call.name}
        place = {"output_index": next(places)}
        yield event("output_item.added", item={**item, "arguments": ""}, **place)
        arguments = json.dumps(call.arguments)
        for piece in cut(arguments):
            yield event("function_call_arguments.delta", item_id=item["id"], delta=piece, **place)
        item = {**item, "arguments": arguments, "status": "completed"}
        yield event("output_item.done", item=item, **place)
        output.append(item)
    cached, reasoning = {"cached_tokens": 2, "cache_write_tokens": 0}, {"reasoning_tokens": 0}
    details = {"input_tokens_details": cached, "output_tokens_details": reasoning}
    usage = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12, **details}
    yield event("completed", response={**response, "usage": usage, "status": "completed"})


def anthropic_events(text: str, calls: list[Action], cut: Cut) -> Iterator[Any]:
    usage = {"input_tokens": 4, "cache_read_input_tokens": 2, "cache_creation_input_tokens": 1, "output_tokens": 1}
    message = {"id": "x", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    yield {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None}}
    index = 0
    if text:
        yield {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}
        for piece in cut(text):
            yield {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": piece}}
        yield {"type": "content_block_stop", "index": index}
        index += 1
    for call in calls:
        block: Any = {"type": "tool_use", "id": call.call_id, "name": call.name, "input": {}}
        yield {"type": "content_block_start", "index": index, "content_block": block}
        for piece in cut(json.dumps(call.arguments)) if call.arguments else ():
            delta = {"type": "input_json_delta", "partial_json": piece}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
        index += 1
    end = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": end, "usage": {"output_tokens": 5}}
    yield {"type": "message_stop"}


def langchain_chunks(text: str, calls: list[Action], cut: Cut) -> Iterator[Any]:
    yield AIMessageChunk(content="", id="run-1")
    for piece in cut(text):
        yield AIMessageChunk(content=piece, id="run-1")
    for index, call in enumerate(calls):
        part: Any = {"name": call.name, "args": "", "id": call.call_id, "index": index}
        yield AIMessageChunk(content="", id="run-1", tool_call_chunks=[part])
        for piece in cut(json.dumps(call.arguments)):
            part = {"name": None, "args": piece, "id": None, "index": index}
            yield AIMessageChunk(content="", id="run-1", tool_call_chunks=[part])
    yield AIMessageChunk(
        content="", id="run-1", usage_metadata={"input_tokens": 7, "output_tokens": 0, "total_tokens": 7}
    )
    yield AIMessageChunk(
        content="",
        id="run-1",
        usage_metadata={"input_tokens": 0, "output_tokens": 5, "total_tokens": 5},
        response_metadata={"model_name": "m", "finish_reason": "stop"},
        chunk_position="last",
    )


def langchain_blocks(text: str, calls: list[Action], cut: Cut) -> Iterator[Any]:
    """Yield chunks as LangChain's Anthropic client makes them, in LangGraph's tuples."""
    for chunk in langchain_chunks(text, calls, cut):
        blocks: list[Any] = [{"type": "text", "text": chunk.content, "index": 0}] if chunk.content else []
        blocks += [
            {"type": "input_json_delta", "partial_json": part["args"], "index": 1} for part in chunk.tool_call_chunks
        ]
        yield chunk.model_copy(update={"content": blocks}), {"langgraph_node": "agent"}


STREAMS: dict[str, Callable[[str, list[Action], Cut], Iterator[Any]]] = {
    "openai dicts": openai_chunks,
    "openai": lambda *given: map(ChatCompletionChunk.model_validate, openai_chunks(*given)),
    "responses dicts": response_events,
    "responses": lambda *given: map(RESPONSE_EVENT.validate_python, response_events(*given)),
    "anthropic dicts": anthropic_events,
    "anthropic": lambda *given: map(ANTHROPIC_EVENT.validate_python, anthropic_events(*given)),
    "langchain": langchain_chunks,
    "langchain blocks": langchain_blocks,
}

VALUES = st.dictionaries(st.text(max_size=3), st.text(max_size=8) | st.integers() | st.booleans(), max_size=3)
NAMES = st.text("abcdefg_", min_size=1, max_size=8)
PLACES = st.lists(st.integers(0, 40), max_size=5)


def cutter(places: list[int]) -> Cut:
    def cut(text: str) -> list[str]:
        marks = [0, *sorted(min(place, len(text)) for place in places), len(text)]
        return [text[start:end] for start, end in itertools.pairwise(marks)]

    return cut


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
@given(text=st.text(max_size=30), calls=st.lists(st.tuples(NAMES, VALUES), max_size=3), places=PLACES)
def test_a_joined_stream_is_the_whole_answer_wherever_it_is_cut(
    stream: Any, text: str, calls: list[tuple[str, dict[str, Any]]], places: list[int]
) -> None:
    actions = [Action("tool_call", name, values, call_id=f"c{at}") for at, (name, values) in enumerate(calls)]
    whole = Answer(tuple(actions) or (Action("message", message=text),), "m", 7, 5)
    assert joined(stream(text, actions, cutter(places))) == whole


LOOK = Action("tool_call", "look", {"q": "x"}, call_id="c0")


class Provider(BaseHTTPRequestHandler):
    """A server that streams one call as the provider does whose path was asked for."""

    STREAMS: ClassVar = {"completions": openai_chunks, "responses": response_events, "messages": anthropic_events}

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for event in self.STREAMS[self.path.rpartition("/")[2]]("I look.", [LOOK], cutter([3])):
            name = f"event: {event['type']}\n" if "type" in event else ""
            self.wfile.write(f"{name}data: {json.dumps(event)}\n\n".encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Provider) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


ASK: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
CLIENTS: dict[str, Callable[[OpenAI, Anthropic], Any]] = {
    "completions": lambda openai, _: openai.chat.completions.create(**ASK, stream=True),
    "completions helper": lambda openai, _: openai.chat.completions.stream(**ASK),
    "responses": lambda openai, _: openai.responses.create(model="m", input="hi", stream=True),
    "responses helper": lambda openai, _: openai.responses.stream(model="m", input="hi"),
    "messages": lambda _, anthropic: anthropic.messages.create(**ASK, max_tokens=9, stream=True),
    "messages helper": lambda _, anthropic: anthropic.messages.stream(**ASK, max_tokens=9),
}


@pytest.mark.parametrize("ask", CLIENTS.values(), ids=CLIENTS)
def test_what_the_clients_themselves_stream_is_joined(ask: Any, provider: str) -> None:
    with (
        OpenAI(base_url=f"{provider}/v1", api_key="x") as openai,
        Anthropic(base_url=provider, api_key="x") as anthropic,
        ask(openai, anthropic) as stream,
    ):
        assert joined(stream) == Answer((LOOK,), "m", 7, 5)


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
@given(ended=st.integers(0, 20))
def test_a_stream_that_ended_early_never_makes_up_a_call(stream: Any, ended: int) -> None:
    chunks = list(stream("I look.", [LOOK], lambda text: [text[:4], text[4:]]))
    joiner = Joiner()
    for chunk in chunks[:ended]:
        joiner.add(chunk)
    read = read_answer(joiner.answer(), Faults())
    assert read.actions == (LOOK,) or read.actions[0].kind == "message"
    assert read.actions == (LOOK,) or not joiner.finished


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_a_whole_stream_says_that_it_finished(stream: Any) -> None:
    joiner = Joiner()
    for chunk in stream("hi", [LOOK], lambda text: [text]):
        joiner.add(chunk)
    assert joiner.finished


def test_plain_text_is_joined_and_decisions_are_listed() -> None:
    assert joined(["he", "", "llo"]).actions == (Action("message", message="hello"),)
    assert joined([LOOK, ("now", {})]).actions == (LOOK, Action("tool_call", "now"))
    assert joined([("look", {"q": "x"})]).actions[0].arguments == {"q": "x"}


def test_an_empty_stream_has_no_answer() -> None:
    assert Joiner().answer() is None
    assert not Joiner().finished


def test_of_whole_states_the_last_counts() -> None:
    states = [{"messages": [HumanMessage("hi")]}, {"messages": [HumanMessage("hi"), AIMessageChunk(content="hello")]}]
    assert joined(states).actions == (Action("message", message="hello"),)


def test_of_several_choices_the_first_counts() -> None:
    chunks = [
        {"choices": [{"index": index, "delta": {"content": text}}]}
        for index, text in [(1, "no"), (0, "yes"), (1, "no")]
    ]
    assert joined(chunks).actions == (Action("message", message="yes"),)


def test_a_refusal_is_what_was_said() -> None:
    chunks = [{"choices": [{"index": 0, "delta": {"refusal": piece}}]} for piece in ("I ", "won't")]
    assert joined(chunks).actions == (Action("message", message="I won't"),)


def test_calls_without_an_index_are_told_apart_by_their_ids() -> None:
    def chunk(**call: Any) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}

    whole = {"name": "look", "arguments": '{"q":1}'}
    for index in ({}, {"index": 0}):
        calls = [chunk(id="a", function=whole, **index), chunk(id="b", function=whole, **index)]
        assert [action.call_id for action in joined(calls).actions] == ["a", "b"]
    pieces = [chunk(id="a", function={"name": "look", "arguments": '{"q"'}), chunk(function={"arguments": ":1}"})]
    assert joined(pieces).actions == (Action("tool_call", "look", {"q": 1}, call_id="a"),)


def test_a_helpers_own_events_beside_anthropics_change_nothing() -> None:
    events = list(anthropic_events("hello", [], lambda text: [text]))
    helper = {"type": "text", "text": "hello", "snapshot": "hello"}
    assert joined([*events[:3], helper, *events[3:]]) == joined(events)


def test_openais_helper_events_are_unwrapped() -> None:
    chunks = [
        {"type": "chunk", "chunk": chunk, "snapshot": {}} for chunk in openai_chunks("hi", [], lambda text: [text])
    ]
    assert joined([chunks[0], {"type": "content.delta", "delta": "hi"}, *chunks[1:]]).actions[0].message == "hi"


def test_what_comes_before_a_known_event_does_not_hide_it() -> None:
    events = list(anthropic_events("hello", [], lambda text: [text]))
    assert joined([{"type": "ping"}, *events]) == joined(events)


def test_of_a_graphs_messages_the_last_turn_counts() -> None:
    first = list(langchain_chunks("I look.", [LOOK], lambda text: [text]))
    last = [AIMessageChunk(content=piece, id="run-2") for piece in ("fou", "nd")]
    chunks = [*first, ToolMessage("x", tool_call_id="c0"), *last]
    assert joined(("messages", (chunk, {})) for chunk in chunks).actions == (Action("message", message="found"),)


@pytest.mark.parametrize("namespace", [(), (("inner:1",),)])
def test_a_graphs_modes_and_namespaces_are_no_part_of_the_answer(namespace: tuple[Any, ...]) -> None:
    state = {"messages": [HumanMessage("hi")]}
    chunks: list[Any] = [
        ("values", state),
        *(("messages", (chunk, {})) for chunk in langchain_chunks("hi", [LOOK], list)),
    ]
    chunks += [("updates", {"agent": {"messages": []}})]
    assert joined((*namespace, *chunk) for chunk in chunks).actions == (LOOK,)


def test_a_providers_id_may_take_over_within_one_message() -> None:
    chunks = [
        AIMessageChunk(content="a", id="run-1"),
        AIMessageChunk(content="b", id="msg_1"),
        AIMessageChunk(content="c", id="run-1"),
    ]
    assert joined(chunks).actions == (Action("message", message="abc"),)


def test_a_chunk_that_is_used_again_was_read_when_it_came() -> None:
    chunk: dict[str, Any] = {"choices": [{"index": 0, "delta": {"content": "a"}}]}
    joiner = Joiner()
    joiner.add(chunk)
    chunk["choices"][0]["delta"]["content"] = "b"
    joiner.add(chunk)
    assert read_answer(joiner.answer(), Faults()).actions[0].message == "ab"


VALUES_OF_ALL_KINDS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
STARTS: list[Any] = [
    {"choices": []},
    {"type": "message_start"},
    {"type": "response.created"},
    AIMessageChunk(content=""),
    {"type": "ping"},
    "text",
]
KINDS = [
    "content_block_start",
    "content_block_delta",
    "message_delta",
    "response.output_item.added",
    "response.output_item.done",
    "response.output_text.delta",
    "AIMessageChunk",
    "chunk",
]
FIELDS = ["index", "output_index", "delta", "content", "choices", "item", "response", "usage", "content_block", "id"]
FIELDS += ["tool_call_chunks", "usage_metadata", "response_metadata"]


@st.composite
def odd_chunks(draw: st.DrawFn) -> Any:
    """Return a real chunk with one of its fields replaced, or one of a known kind that holds anything."""
    chunk = dict(
        draw(st.sampled_from([chunk for stream in DICTS for chunk in stream("hi", [LOOK], lambda text: [text])]))
    )
    name = draw(st.sampled_from(sorted(chunk)))
    chunk[name] = draw(VALUES_OF_ALL_KINDS)
    loose = draw(st.dictionaries(st.sampled_from(FIELDS), VALUES_OF_ALL_KINDS, max_size=4))
    message = {"type": "AIMessageChunk", "content": "x", **loose}
    return draw(st.sampled_from([chunk, message, {"type": draw(st.sampled_from(KINDS)), **loose}, loose]))


DICTS = (openai_chunks, response_events, anthropic_events)


@given(st.sampled_from(STARTS), st.lists(odd_chunks() | VALUES_OF_ALL_KINDS, max_size=4))
def test_no_chunk_ever_raises(start: Any, chunks: list[Any]) -> None:
    joiner = Joiner()
    for chunk in [start, *chunks]:
        joiner.add(chunk)
    read_answer(joiner.answer(), Faults())


def test_a_custom_tools_pieces_are_its_input() -> None:
    def chunk(**custom: str) -> dict[str, Any]:
        return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "type": "custom", "custom": custom}]}}]}

    (action,) = joined([chunk(name="sql", input=""), chunk(input="select "), chunk(input="1")]).actions
    assert (action.name, action.arguments) == ("sql", {"input": "select 1"})


def test_a_refusal_in_responses_is_what_was_said() -> None:
    item = {"type": "message", "role": "assistant", "content": []}
    events: list[Any] = [{"type": "response.output_item.added", "output_index": 0, "item": item}]
    events += [{"type": "response.refusal.delta", "output_index": 0, "delta": piece} for piece in ("I ", "won't")]
    assert joined(events).actions == (Action("message", message="I won't"),)
