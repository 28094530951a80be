"""A model on loopback that plays the scenario in three wire forms: chat completions, responses, Anthropic messages.

It is stateless: each answer follows from the request alone, so an agent package that loses a message gets stuck here.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from scenario import Json, decide

Events = Iterator[tuple[str | None, Any]]
"""Name and data of server-sent events; a name is None where the form has none, data is JSON or a word."""

CREATED = 1767225600
OUTPUT_TOKENS = 20
PAUSE = 0.1
"""Seconds that an answer takes: spans then come in several requests, children before their parents."""


class Call(NamedTuple):
    """A call of the scenario with the id that this conversation gives it."""

    id: str
    name: str
    arguments: str


class Asked:
    """What a request shows, whatever its form: the texts, the calls so far, the tools on offer."""

    def __init__(self, body: Json) -> None:
        conversation = body.get("messages") or body.get("input")
        called = list(_called(conversation))
        said = list(_said(conversation))
        answer = decide(said, called, [_tool_name(tool) for tool in body.get("tools") or []])
        self.text = answer if isinstance(answer, str) else None
        self.calls = [
            Call(f"call_{number:03d}", call.name, json.dumps(call.arguments))
            for number, call in enumerate(() if isinstance(answer, str) else answer, len(called) + 1)
        ]
        self.number = f"{len(said):03d}{len(called):03d}"
        self.model = str(body["model"])
        self.stream = bool(body.get("stream"))
        self.echoed = {key: body[key] for key in ("instructions", "tools") if body.get(key)}
        self.tokens = len(json.dumps(body)) // 4


def _said(value: Any) -> Iterator[str]:  # any JSON value
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for part in value:
            yield from _said(part)
    elif isinstance(value, dict):
        yield from _said([value.get("content"), value.get("text")])


def _called(value: Any) -> Iterator[str]:  # any JSON value
    if isinstance(value, list):
        for part in value:
            yield from _called(part)
    elif isinstance(value, dict):
        if value.get("type") in {"function_call", "tool_use"}:
            yield value["name"]
        yield from (call["function"]["name"] for call in value.get("tool_calls") or [])
        yield from _called(value.get("content"))


def _tool_name(tool: Json) -> str:
    return str(tool["name"] if "name" in tool else tool["function"]["name"])


def chat(asked: Asked) -> Json:
    """Return an answer of ``POST /v1/chat/completions``."""
    message: Json = {"role": "assistant", "content": asked.text}
    if asked.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in asked.calls
        ]
    return {
        "id": f"chatcmpl-{asked.number}",
        "object": "chat.completion",
        "created": CREATED,
        "model": asked.model,
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if asked.calls else "stop"}],
        "usage": {
            "prompt_tokens": asked.tokens,
            "completion_tokens": OUTPUT_TOKENS,
            "total_tokens": asked.tokens + OUTPUT_TOKENS,
        },
    }


def chat_events(asked: Asked) -> Events:
    """Yield the same answer in chunks, texts and arguments in halves, the usage last."""
    frame = {**chat(asked), "object": "chat.completion.chunk"}
    usage, (whole,) = frame.pop("usage"), frame.pop("choices")

    def chunk(delta: Json, finish: str | None = None) -> tuple[None, Json]:
        return None, {**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant"})
    for half in _halves(asked.text or ""):
        yield chunk({"content": half})
    for index, call in enumerate(whole["message"].get("tool_calls") or []):
        yield chunk({"tool_calls": [{"index": index, **call, "function": {**call["function"], "arguments": ""}}]})
        for half in _halves(call["function"]["arguments"]):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": half}}]})
    yield chunk({}, whole["finish_reason"])
    yield None, {**frame, "choices": [], "usage": usage}
    yield None, "[DONE]"


def _halves(text: str) -> list[str]:
    middle = len(text) // 2
    return [half for half in (text[:middle], text[middle:]) if half]


def response(asked: Asked) -> Json:
    """Return an answer of ``POST /v1/responses``."""
    output: list[Json] = [
        {
            "type": "function_call",
            "id": f"fc_{asked.number}_{call.id}",
            "call_id": call.id,
            "name": call.name,
            "arguments": call.arguments,
            "status": "completed",
        }
        for call in asked.calls
    ]
    if asked.text is not None:
        content = [{"type": "output_text", "text": asked.text, "annotations": []}]
        head = {"type": "message", "id": f"msg_{asked.number}", "role": "assistant", "status": "completed"}
        output.append({**head, "content": content})
    return {
        "id": f"resp_{asked.number}",
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "model": asked.model,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        **asked.echoed,
        "usage": {
            "input_tokens": asked.tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": OUTPUT_TOKENS,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": asked.tokens + OUTPUT_TOKENS,
        },
    }


def response_events(asked: Asked) -> Events:
    """Yield the same answer as the events of a response that is being made."""
    whole = response(asked)
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    events: list[Json] = [{"type": "response.created", "response": begun}]
    for index, item in enumerate(whole["output"]):
        events += _message_events(index, item) if item["type"] == "message" else _call_events(index, item)
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": whole})
    for number, event in enumerate(events):
        yield event["type"], {**event, "sequence_number": number}


def _message_events(index: int, item: Json) -> list[Json]:
    (part,) = item["content"]
    place = {"output_index": index, "item_id": item["id"], "content_index": 0}
    kind = "response.output_text"
    return [
        {"type": "response.output_item.added", "output_index": index, "item": {**item, "content": []}},
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        *({"type": f"{kind}.delta", **place, "delta": half, "logprobs": []} for half in _halves(part["text"])),
        {"type": f"{kind}.done", **place, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
    ]


def _call_events(index: int, item: Json) -> list[Json]:
    place = {"output_index": index, "item_id": item["id"]}
    kind = "response.function_call_arguments"
    return [
        {"type": "response.output_item.added", "output_index": index, "item": {**item, "arguments": ""}},
        *({"type": f"{kind}.delta", **place, "delta": half} for half in _halves(item["arguments"])),
        {"type": f"{kind}.done", **place, "name": item["name"], "arguments": item["arguments"]},
    ]


def message(asked: Asked) -> Json:
    """Return an answer of ``POST /v1/messages``."""
    content: list[Json] = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": json.loads(call.arguments)}
        for call in asked.calls
    ]
    return {
        "id": f"msg_{asked.number}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": content or [{"type": "text", "text": asked.text}],
        "stop_reason": "tool_use" if content else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": asked.tokens, "output_tokens": OUTPUT_TOKENS},
    }


def message_events(asked: Asked) -> Events:
    """Yield the same answer as Anthropic's events."""
    whole = message(asked)
    begun = {**whole, "content": [], "stop_reason": None, "usage": {**whole["usage"], "output_tokens": 1}}
    end = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    events: list[Json] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(whole["content"]):
        calls = block["type"] == "tool_use"
        empty = {**block, "input": {}} if calls else {**block, "text": ""}
        kind, key = ("input_json_delta", "partial_json") if calls else ("text_delta", "text")
        halves = _halves(json.dumps(block["input"]) if calls else block["text"])
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [
            {"type": "content_block_delta", "index": index, "delta": {"type": kind, key: half}} for half in halves
        ]
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": end, "usage": {"output_tokens": OUTPUT_TOKENS}})
    events.append({"type": "message_stop"})
    yield from ((event["type"], event) for event in events)


ROUTES = {
    "/chat/completions": (chat, chat_events),
    "/responses": (response, response_events),
    "/messages": (message, message_events),
}


class Model(ThreadingHTTPServer):
    """Listens on a free port of loopback, and counts the tokens that each request was said to have."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.input_tokens: list[int] = []
        self.pause = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    """Answers the model's routes, whatever stands before them in the path."""

    protocol_version = "HTTP/1.1"
    server: Model

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        asked = Asked(body)
        self.server.input_tokens.append(asked.tokens)
        self.server.pause.wait(PAUSE)
        whole, stream = next(forms for end, forms in ROUTES.items() if self.path.endswith(end))
        if asked.stream:
            self._send("text/event-stream", "".join(_event(*event) for event in stream(asked)))
        else:
            self._send("application/json", json.dumps(whole(asked)))

    def _send(self, kind: str, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode("ascii"))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        pass


def _event(name: str | None, data: Any) -> str:  # data: a JSON object or a word
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n"


@contextmanager
def serving() -> Iterator[Model]:
    """Serve the model in a thread while the block runs."""
    with Model() as server:
        thread = threading.Thread(target=server.serve_forever, name="model")
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
