"""Read chat completion requests, and write an action as the completion that answers one."""

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from imitrace.exceptions import WireError
from imitrace.messages import Action
from imitrace_trainer.serving.asked import Asked, Choice, Events, Json, Lack, misfit, parameters_lack

_PARAMETERS = (
    "model messages tools tool_choice parallel_tool_calls stream stream_options metadata temperature top_p seed user"
    " safety_identifier prompt_cache_key prompt_cache_retention service_tier frequency_penalty presence_penalty"
    " logit_bias reasoning_effort verbosity prediction stop max_tokens max_completion_tokens response_format"
)
_HARMLESS = frozenset(_PARAMETERS.split())
_ONLY: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "store": (False,),
    "modalities": (["text"],),
    **dict.fromkeys(("audio", "functions", "function_call", "web_search_options"), ()),
}
_TEXTS = ("text", "refusal")
_NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


class ChatForm:
    """OpenAI's ``/chat/completions``."""

    path = "chat/completions"

    def read(self, body: Json) -> Asked:
        """Return what a request's body asks.

        Raises:
            WireError: it is not of this form.
        """
        messages, tools = body.get("messages"), body.get("tools") or []
        if not isinstance(messages, list) or not messages or not isinstance(tools, list):
            raise WireError("the body has no messages, expected a chat completion's request")
        called = [tool["function"]["name"] for tool in tools if _is_function(tool)]
        choice = _choice(body.get("tool_choice"))
        lack = parameters_lack(body, _HARMLESS, _ONLY) or _unseen(messages)
        if choice is None:
            lack = lack or Lack("tool_choice", "the request says a tool_choice that only the model can follow")
        return Asked(body, messages, None, tools, frozenset(called), choice or Choice(), lack)

    def misfit(self, asked: Asked, action: Action) -> Lack | None:
        """Return why an action is no answer to a request, None where it is one."""
        body = asked.body
        kind = (body.get("response_format") or {}).get("type", "text")
        return misfit(asked, action, kind != "text", body.get("max_completion_tokens") or body.get("max_tokens"))

    def whole(self, asked: Asked, action: Action, model: str) -> Json:
        """Return the completion that carries an action."""
        choice = {"index": 0, "message": _message(action), "finish_reason": _finish(action), "logprobs": None}
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": None,
            "choices": [choice],
            "usage": _NO_USAGE,
        }

    def events(self, asked: Asked, whole: Json) -> Events:
        """Yield such a completion as a stream."""
        told = (asked.body.get("stream_options") or {}).get("include_usage")
        head = {**whole, "object": "chat.completion.chunk", **({"usage": None} if told else {})}
        (choice,) = head.pop("choices")
        if not told:
            del head["usage"]
        for delta in _deltas(choice["message"]):
            yield None, {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield None, {**head, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}
        if told:
            yield None, {**head, "choices": [], "usage": whole["usage"]}
        yield None, "[DONE]"

    def said(self, answer: Json) -> list[Any]:
        """Return an answer's message."""
        return [answer["choices"][0]["message"]]


def _deltas(message: Json) -> Iterator[Json]:
    yield {name: value for name, value in message.items() if name != "tool_calls"}
    for call in message.get("tool_calls", ()):
        function = call["function"]
        yield {"tool_calls": [{"index": 0, **call, "function": {"name": function["name"], "arguments": ""}}]}
        yield {"tool_calls": [{"index": 0, "function": {"arguments": function["arguments"]}}]}


def _message(action: Action) -> Json:
    message: Json = {"role": "assistant", "content": action.message, "refusal": None}
    if action.kind == "tool_call":
        function = {"name": action.name, "arguments": json.dumps(action.arguments, ensure_ascii=False)}
        message["tool_calls"] = [{"id": action.call_id, "type": "function", "function": function}]
    return message


def _finish(action: Action) -> str:
    return "tool_calls" if action.kind == "tool_call" else "stop"


def _is_function(tool: Any) -> bool:
    return (
        isinstance(tool, dict)
        and tool.get("type") == "function"
        and isinstance(tool.get("function"), dict)
        and isinstance(tool["function"].get("name"), str)
    )


def _choice(said: Any) -> Choice | None:
    """Return what ``tool_choice`` says; None where no clone could follow it."""
    if said is None or said in ("auto", "none", "required"):
        return Choice(said or "auto")
    try:
        if said["type"] == "function":
            return Choice("required", frozenset((said["function"]["name"],)))
        if said["type"] == "allowed_tools":
            allowed = said["allowed_tools"]
            return Choice(allowed["mode"], frozenset(tool["function"]["name"] for tool in allowed["tools"]))
    except (LookupError, TypeError):
        return None
    return None


def _unseen(messages: list[Any]) -> Lack | None:
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else ():
            kind = block.get("type") if isinstance(block, dict) else "text"
            if kind not in _TEXTS:
                return Lack("media", f"the conversation holds {kind}, which no clone sees")
    return None
