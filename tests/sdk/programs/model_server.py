"""A model behind OpenAI's and Anthropic's HTTP APIs, on a free port that it prints: it looks orders up, switches lamps.

It calls a tool for everything of its script that the newest question names, if that tool is offered, and once the
results are there it says them. Every answer costs the same tokens; streams come in small pieces.
"""

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

Json = dict[str, Any]

SCRIPT = {
    "get_order": re.compile(r"\b(?P<order_id>A-\d+)\b"),
    "switch": re.compile(r"\blamp (?P<lamp>L-\d+) (?P<to>on|off)\b"),
}
INPUT_TOKENS, OUTPUT_TOKENS = 21, 8
PIECE = 7

_ids = itertools.count(1)


class Call(NamedTuple):
    id: str
    name: str
    arguments: Json

    @property
    def text(self) -> str:
        return json.dumps(self.arguments)


class Seen(NamedTuple):
    """What a request says, in whatever form."""

    question: str
    results: list[str]
    tools: set[str]

    def answer(self) -> str | list[Call]:
        if self.results:
            return "I found: " + "; ".join(self.results)
        calls = [
            Call(f"call_{next(_ids)}", name, found.groupdict())
            for name, pattern in SCRIPT.items()
            if name in self.tools
            for found in pattern.finditer(self.question)
        ]
        return calls or "How can I help?"


def seen(messages: Sequence[tuple[str, str]], tools: Sequence[Json]) -> Seen:
    """Return what matters of a conversation of ``(user, tool or other, text)``: its newest question and what came."""
    question = ""
    results: list[str] = []
    for role, text in messages:
        if role == "user":
            question, results = text, []
        elif role == "tool":
            results.append(text)
    return Seen(question, results, {tool.get("function", tool)["name"] for tool in tools})


def text_of(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(text_of(part.get("text") or part.get("content") or "") for part in content)
    return content or ""


def pieces(text: str) -> Iterator[str]:
    return (text[start : start + PIECE] for start in range(0, len(text), PIECE))


class Chat:
    """OpenAI's chat completions."""

    def read(self, body: Json) -> Seen:
        messages = [(message["role"], text_of(message.get("content"))) for message in body["messages"]]
        return seen(messages, body.get("tools", []))

    def whole(self, body: Json, answer: str | list[Call]) -> Json:
        message: Json = {"role": "assistant", "content": answer if isinstance(answer, str) else None, "refusal": None}
        if not isinstance(answer, str):
            message["tool_calls"] = [self._call(call) for call in answer]
        choice = {"index": 0, "message": message, "finish_reason": self._reason(answer), "logprobs": None}
        return {**self._head(body, "chat.completion"), "choices": [choice], "usage": self._usage()}

    def events(self, body: Json, answer: str | list[Call]) -> Iterator[Json | str]:
        deltas: list[Json] = [{"role": "assistant", "content": None}]
        if isinstance(answer, str):
            deltas += [{"content": piece} for piece in pieces(answer)]
        else:
            for index, call in enumerate(answer):
                deltas.append({"tool_calls": [{"index": index, **self._call(call._replace(arguments={}), "")}]})
                for piece in pieces(call.text):
                    deltas.append({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
        head = self._head(body, "chat.completion.chunk")
        for delta in deltas:
            yield {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": self._reason(answer)}]}
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {**head, "choices": [], "usage": self._usage()}
        yield "[DONE]"

    def _head(self, body: Json, kind: str) -> Json:
        return {"id": f"chatcmpl-{next(_ids)}", "object": kind, "created": 1_700_000_000, "model": body["model"]}

    def _call(self, call: Call, arguments: str | None = None) -> Json:
        text = call.text if arguments is None else arguments
        return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": text}}

    def _reason(self, answer: str | list[Call]) -> str:
        return "stop" if isinstance(answer, str) else "tool_calls"

    def _usage(self) -> Json:
        total = INPUT_TOKENS + OUTPUT_TOKENS
        return {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS, "total_tokens": total}


class Responses:
    """OpenAI's responses."""

    def read(self, body: Json) -> Seen:
        given = body["input"]
        items = [{"role": "user", "content": given}] if isinstance(given, str) else given
        messages = [
            ("tool", text_of(item["output"]))
            if item.get("type") == "function_call_output"
            else (item.get("role", "other"), text_of(item.get("content")))
            for item in items
        ]
        return seen(messages, body.get("tools", []))

    def whole(self, body: Json, answer: str | list[Call]) -> Json:
        usage = {
            "input_tokens": INPUT_TOKENS,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": OUTPUT_TOKENS,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        }
        return {**self._head(body), "status": "completed", "output": self._items(answer), "usage": usage}

    def events(self, body: Json, answer: str | list[Call]) -> Iterator[Json | str]:
        number = itertools.count()
        for event in self._events(body, answer):
            yield {**event, "sequence_number": next(number)}

    def _events(self, body: Json, answer: str | list[Call]) -> Iterator[Json]:
        whole = self.whole(body, answer)
        yield {"type": "response.created", "response": {**whole, "status": "in_progress", "output": [], "usage": None}}
        for index, item in enumerate(whole["output"]):
            yield from self._item_events({"output_index": index}, item)
        yield {"type": "response.completed", "response": whole}

    def _item_events(self, at: Json, item: Json) -> Iterator[Json]:
        inside = {**at, "item_id": item["id"]}
        if item["type"] == "function_call":
            empty, text, kind = {**item, "arguments": ""}, item["arguments"], "response.function_call_arguments"
            done = {"arguments": text, "name": item["name"]}
        else:
            inside["content_index"] = 0
            empty, text, kind = {**item, "content": []}, item["content"][0]["text"], "response.output_text"
            done = {"text": text, "logprobs": []}
        yield {**at, "type": "response.output_item.added", "item": {**empty, "status": "in_progress"}}
        if item["type"] == "message":
            yield {**inside, "type": "response.content_part.added", "part": {**item["content"][0], "text": ""}}
        for piece in pieces(text):
            yield {**inside, "type": f"{kind}.delta", "delta": piece, "logprobs": []}
        yield {**inside, "type": f"{kind}.done", **done}
        if item["type"] == "message":
            yield {**inside, "type": "response.content_part.done", "part": item["content"][0]}
        yield {**at, "type": "response.output_item.done", "item": item}

    def _items(self, answer: str | list[Call]) -> list[Json]:
        shared = {"status": "completed"}
        if isinstance(answer, str):
            text = {"type": "output_text", "text": answer, "annotations": [], "logprobs": []}
            return [{"type": "message", "id": f"msg_{next(_ids)}", "role": "assistant", "content": [text], **shared}]
        return [
            {
                "type": "function_call",
                "id": f"fc_{next(_ids)}",
                "call_id": call.id,
                "name": call.name,
                "arguments": call.text,
                **shared,
            }
            for call in answer
        ]

    def _head(self, body: Json) -> Json:
        return {
            "id": f"resp_{next(_ids)}",
            "object": "response",
            "created_at": 1_700_000_000,
            "model": body["model"],
            "error": None,
            "incomplete_details": None,
            "instructions": body.get("instructions"),
            "metadata": {},
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": body.get("tools", []),
            "top_p": 1.0,
        }


class Messages:
    """Anthropic's messages."""

    def read(self, body: Json) -> Seen:
        flat: list[tuple[str, str]] = []
        for message in body["messages"]:
            content = message["content"]
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            results = [block for block in blocks if block["type"] == "tool_result"]
            flat += [("tool", text_of(block["content"])) for block in results]
            if not results:
                flat.append((message["role"], text_of(blocks)))
        return seen(flat, body.get("tools", []))

    def whole(self, body: Json, answer: str | list[Call]) -> Json:
        return {**self._head(body), "content": self._blocks(answer), **self._end(answer), "usage": self._usage()}

    def events(self, body: Json, answer: str | list[Call]) -> Iterator[Json | str]:
        usage = {**self._usage(), "output_tokens": 1}
        start = {**self._head(body), "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        yield {"type": "message_start", "message": start}
        for index, block in enumerate(self._blocks(answer)):
            at = {"index": index}
            if block["type"] == "text":
                empty, text, kind, name = {**block, "text": ""}, block["text"], "text_delta", "text"
            else:
                empty, text = {**block, "input": {}}, json.dumps(block["input"])
                kind, name = "input_json_delta", "partial_json"
            yield {"type": "content_block_start", **at, "content_block": empty}
            for piece in pieces(text):
                yield {"type": "content_block_delta", **at, "delta": {"type": kind, name: piece}}
            yield {"type": "content_block_stop", **at}
        yield {"type": "message_delta", "delta": self._end(answer), "usage": {"output_tokens": OUTPUT_TOKENS}}
        yield {"type": "message_stop"}

    def _head(self, body: Json) -> Json:
        return {"id": f"msg_{next(_ids)}", "type": "message", "role": "assistant", "model": body["model"]}

    def _blocks(self, answer: str | list[Call]) -> list[Json]:
        if isinstance(answer, str):
            return [{"type": "text", "text": answer}]
        return [{"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments} for call in answer]

    def _end(self, answer: str | list[Call]) -> Json:
        return {"stop_reason": "end_turn" if isinstance(answer, str) else "tool_use", "stop_sequence": None}

    def _usage(self) -> Json:
        return {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}


APIS: dict[str, Chat | Responses | Messages] = {
    "/v1/chat/completions": Chat(),
    "/v1/responses": Responses(),
    "/v1/messages": Messages(),
}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        api = APIS.get(self.path.partition("?")[0])
        if api is None:
            self.send_error(404)
            return
        answer = api.read(body).answer()
        self.send_response(200)
        if body.get("stream"):
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            for event in api.events(body, answer):
                self._send_event(event)
        else:
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(api.whole(body, answer)).encode())

    def _send_event(self, event: Json | str) -> None:
        name = f"event: {event['type']}\n" if isinstance(event, dict) and "type" in event else ""
        data = event if isinstance(event, str) else json.dumps(event)
        self.wfile.write(f"{name}data: {data}\n\n".encode())
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Say nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
