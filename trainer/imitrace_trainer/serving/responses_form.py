"""Read requests of OpenAI's responses, and write an action as the response that answers one."""

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from imitrace.exceptions import WireError
from imitrace.messages import Action
from imitrace_trainer.serving.asked import Asked, Choice, Events, Json, Lack, misfit, parameters_lack

_PARAMETERS = (
    "model input instructions tools tool_choice parallel_tool_calls stream stream_options metadata temperature top_p"
    " user safety_identifier prompt_cache_key prompt_cache_retention service_tier reasoning text truncation"
    " max_output_tokens max_tool_calls store include previous_response_id conversation"
)
_HARMLESS = frozenset(_PARAMETERS.split())
_ONLY: Mapping[str, tuple[Any, ...]] = {"background": (False,), "top_logprobs": (0,), "prompt": ()}
_ECHOED = (
    "instructions max_output_tokens metadata parallel_tool_calls previous_response_id reasoning store temperature text"
    " tool_choice tools top_p truncation user"
)
_LOGPROBS = "message.output_text.logprobs"
_TEXTS = ("input_text", "output_text", "text", "refusal")
_ITEMS = (
    "message",
    "function_call",
    "function_call_output",
    "reasoning",
    "custom_tool_call",
    "custom_tool_call_output",
)
_NO_USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 0,
}


class ResponsesForm:
    """OpenAI's ``/responses``."""

    path = "responses"

    def read(self, body: Json) -> Asked:
        """Return what a request's body asks.

        Raises:
            WireError: it is not of this form.
        """
        given, tools = body.get("input"), body.get("tools") or []
        if not given or not isinstance(given, str | list) or not isinstance(tools, list):
            raise WireError("the body has no input, expected a response's request")
        called = [tool["name"] for tool in tools if _is_function(tool)]
        choice = _choice(body.get("tool_choice"))
        lack = parameters_lack(body, _HARMLESS, _ONLY) or _unseen(given)
        if choice is None:
            lack = lack or Lack("tool_choice", "the request says a tool_choice that only the model can follow")
        included = body.get("include")
        if isinstance(included, list) and _LOGPROBS in included:
            lack = lack or Lack("top_logprobs", "the request wants log probabilities, which only the model has")
        before = _before(body)
        if before is not None:
            lack = lack or Lack("elsewhere", "what came before is kept by the model's service, where no clone sees it")
        return Asked(body, given, body.get("instructions"), tools, frozenset(called), choice or Choice(), lack, before)

    def misfit(self, asked: Asked, action: Action) -> Lack | None:
        """Return why an action is no answer to a request, None where it is one."""
        kind = ((asked.body.get("text") or {}).get("format") or {}).get("type", "text")
        return misfit(asked, action, kind != "text", asked.body.get("max_output_tokens"))

    def whole(self, asked: Asked, action: Action, model: str) -> Json:
        """Return the response that carries an action."""
        echoed = {name: asked.body[name] for name in _ECHOED.split() if asked.body.get(name) is not None}
        now = int(time.time())
        return {
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": now,
            "completed_at": now,
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "metadata": {},
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            **echoed,
            "model": model,
            "output": [_item(action)],
            "usage": _NO_USAGE,
        }

    def events(self, asked: Asked, whole: Json) -> Events:
        """Yield such a response as a stream."""
        begun = {**whole, "status": "in_progress", "completed_at": None, "output": [], "usage": None}
        (item,) = whole["output"]
        pieces = _message_events(item) if item["type"] == "message" else _call_events(item)
        events = [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
            *pieces,
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": whole},
        ]
        for number, event in enumerate(events):
            yield str(event["type"]), {**event, "sequence_number": number}

    def said(self, answer: Json) -> list[Any]:
        """Return an answer's items."""
        return list(answer["output"])


def _item(action: Action) -> Json:
    if action.kind == "tool_call":
        return {
            "type": "function_call",
            "id": f"fc_{uuid.uuid4().hex}",
            "call_id": action.call_id,
            "name": action.name,
            "arguments": json.dumps(action.arguments, ensure_ascii=False),
            "status": "completed",
        }
    text: Json = {"type": "output_text", "text": action.message, "annotations": [], "logprobs": []}
    head = {"type": "message", "id": f"msg_{uuid.uuid4().hex}", "role": "assistant", "status": "completed"}
    return {**head, "content": [text]}


def _call_events(item: Json) -> Iterator[Json]:
    place = {"output_index": 0, "item_id": item["id"]}
    kind = "response.function_call_arguments"
    yield {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {**item, "arguments": "", "status": "in_progress"},
    }
    yield {"type": f"{kind}.delta", **place, "delta": item["arguments"]}
    yield {"type": f"{kind}.done", **place, "name": item["name"], "arguments": item["arguments"]}


def _message_events(item: Json) -> Iterator[Json]:
    (part,) = item["content"]
    place = {"output_index": 0, "item_id": item["id"], "content_index": 0}
    kind = "response.output_text"
    yield {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {**item, "content": [], "status": "in_progress"},
    }
    yield {"type": "response.content_part.added", **place, "part": {**part, "text": ""}}
    yield {"type": f"{kind}.delta", **place, "delta": part["text"], "logprobs": []}
    yield {"type": f"{kind}.done", **place, "text": part["text"], "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": part}


def _is_function(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "function" and isinstance(tool.get("name"), str)


def _choice(said: Any) -> Choice | None:
    """Return what ``tool_choice`` says; None where no clone could follow it."""
    if said is None or said in ("auto", "none", "required"):
        return Choice(said or "auto")
    try:
        if said["type"] == "function":
            return Choice("required", frozenset((said["name"],)))
        if said["type"] == "allowed_tools":
            return Choice(said["mode"], frozenset(tool["name"] for tool in said["tools"]))
    except (LookupError, TypeError):
        return None
    return None


def _before(body: Json) -> str | None:
    conversation = body.get("conversation")
    named = conversation.get("id") if isinstance(conversation, dict) else conversation
    before = named or body.get("previous_response_id")
    return None if before is None else str(before)


def _unseen(given: str | list[Any]) -> Lack | None:
    for item in [] if isinstance(given, str) else given:
        found = item if isinstance(item, dict) else {}
        kind = found.get("type", "message")
        if kind == "item_reference":
            return Lack("elsewhere", "the conversation holds a reference to what only the model's service has")
        if kind not in _ITEMS:
            return Lack("media", f"the conversation holds {kind}, which no clone sees")
        blocks = found.get("content") if kind == "message" else found.get("output")
        for block in blocks if isinstance(blocks, list) else ():
            inner = block.get("type") if isinstance(block, dict) else "text"
            if inner not in _TEXTS:
                return Lack("media", f"the conversation holds {inner}, which no clone sees")
    return None
