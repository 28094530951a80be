"""Write an action as an answer in the shape that an agent's client gives, so that a clone can answer in its place."""

import json
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from imitrace.exceptions import WireError
from imitrace.faults import Faults
from imitrace.messages import Action, action_message
from imitrace.shapes.answers import read_answer
from imitrace.shapes.plain import mapping, plain

Fields = dict[str, Any]


def reply_like(sample: object, action: Action, model: str) -> Any:  # an answer of the sample's own type
    """Return an answer in the shape of ``sample`` that carries ``action``; ``read_answer`` reads it back as such.

    Args:
        sample: an earlier answer of the same function: what its client returned, or text, ``(name, arguments)``, an
            ``Action``, or a list of these.
        action: what to answer; a call without an id is given one where the shape has a place for it.
        model: who answers, where the shape has a place for it.

    Raises:
        WireError: the sample is of no shape that can be written, or its shape can't carry such an action.
    """
    try:
        reply = _reply(sample, action, model)
    except Exception as error:  # a shape that only looked like a known one
        raise unwritable(sample, action) from error
    read = read_answer(reply, Faults()).actions
    if len(read) != 1 or replace(read[0], call_id=None) != replace(action, call_id=None):
        raise unwritable(sample, action)
    return reply


def _reply(sample: Any, action: Action, model: str) -> Any:
    if isinstance(sample, Action):
        return action
    if isinstance(sample, str) and action.kind == "message":
        return action.message
    if isinstance(sample, tuple):
        return _pair(sample, action)
    if isinstance(sample, list) and sample:
        return [_first_that_can(sample, action, model)]
    if isinstance(sample, Mapping):
        return _from_fields(sample, plain(sample), action, model)
    found = plain(sample)
    if not isinstance(found, Mapping) or not hasattr(type(sample), "model_validate"):
        raise unwritable(sample, action)
    if hasattr(sample, "additional_kwargs"):
        return type(sample)(**_langchain(found, action, model))
    return _made(type(sample), _from_fields(sample, found, action, model))


def unwritable(sample: object, action: Action) -> WireError:
    """Return the error that says which answers can be written."""
    return WireError(
        f"answer is a {type(sample).__name__}, whose shape can't be written with a {action.kind}: expected what"
        " OpenAI's, Anthropic's or LangChain's client returns, text, (name, arguments) or an Action; else give reply="
    )


def _pair(sample: tuple[Any, ...], action: Action) -> Any:  # (name, arguments)
    if len(sample) != 2 or not isinstance(sample[0], str) or action.kind != "tool_call":
        raise unwritable(sample, action)
    as_text = isinstance(sample[1], str)
    return action.name, json.dumps(action.arguments, ensure_ascii=False) if as_text else action.arguments


def _first_that_can(samples: Any, action: Action, model: str) -> Any:
    for sample in samples:
        try:
            return _reply(sample, action, model)
        except WireError:
            continue
    raise unwritable(samples, action)


def _made(kind: Any, fields: Fields) -> Any:  # kind is a pydantic class
    try:
        return kind.model_validate(fields)
    except ValueError:  # what a client's own model forbids, it may still have to carry
        return kind.model_construct(**fields)


def _from_fields(sample: object, found: Mapping[str, Any], action: Action, model: str) -> Fields:
    if action.kind == "message" and _holds_parsed(found):  # the agent reads the object, not the text
        raise unwritable(sample, action)
    for fits, write in _SHAPES:
        if fits(found):
            return write(found, action, model)
    if set(found) == {"messages"} and isinstance(sample, Mapping):
        last = sample["messages"]
        if isinstance(last, list | tuple) and last and all(_is_assistant(message) for message in last):
            return {"messages": [_reply(last[-1], action, model)]}
    raise unwritable(sample, action)


def _holds_parsed(value: Any) -> bool:
    if isinstance(value, Mapping):
        return value.get("parsed") is not None or any(map(_holds_parsed, value.values()))
    return isinstance(value, list) and any(map(_holds_parsed, value))


def _is_assistant(message: Any) -> bool:
    found = mapping(message) or {}
    return "assistant" in (found.get("role"), found.get("type")) or str(found.get("type")).startswith(("ai", "AI"))


def _new(prefix: str) -> str:
    return f"{prefix}{uuid.uuid4().hex}"


def _completion(sample: Mapping[str, Any], action: Action, model: str) -> Fields:
    before = sample["choices"][0]
    choice = {
        **before,
        "index": 0,
        "message": _chat_message(before["message"], action, model),
        "finish_reason": "tool_calls" if action.kind == "tool_call" else "stop",
        "logprobs": None,
    }
    return {
        **sample,
        "id": _new("chatcmpl-"),
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
        "usage": None,
    }


def _chat_message(sample: Mapping[str, Any], action: Action, model: str) -> Fields:
    message = {**dict.fromkeys(sample), "role": "assistant", "content": action.message}
    if action.kind == "tool_call":
        function = {"name": action.name, "arguments": json.dumps(action.arguments, ensure_ascii=False)}
        message["tool_calls"] = [{"id": action.call_id or _new("call_"), "type": "function", "function": function}]
    return message


def _response(sample: Mapping[str, Any], action: Action, model: str) -> Fields:
    return {
        **sample,
        "id": _new("resp_"),
        "created_at": int(time.time()),
        "model": model,
        "output": [_item(action)],
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "usage": None,
    }


def _item(action: Action) -> Fields:
    if action.kind == "tool_call":
        return {
            "type": "function_call",
            "id": _new("fc_"),
            "call_id": action.call_id or _new("call_"),
            "name": action.name,
            "arguments": json.dumps(action.arguments, ensure_ascii=False),
            "status": "completed",
        }
    text: Fields = {"type": "output_text", "text": action.message, "annotations": []}
    return {"type": "message", "id": _new("msg_"), "role": "assistant", "status": "completed", "content": [text]}


def _anthropic(sample: Mapping[str, Any], action: Action, model: str) -> Fields:
    return {
        **sample,
        "id": _new("msg_"),
        "model": model,
        "content": [_block(action)],
        "stop_reason": "tool_use" if action.kind == "tool_call" else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _block(action: Action) -> Fields:
    if action.kind == "message":
        return {"type": "text", "text": action.message}
    identity = action.call_id or _new("toolu_")
    return {"type": "tool_use", "id": identity, "name": action.name, "input": action.arguments}


def _langchain(sample: Mapping[str, Any], action: Action, model: str) -> Fields:
    call = {"name": action.name, "args": action.arguments, "id": action.call_id or _new("call_"), "type": "tool_call"}
    calls = [call] if action.kind == "tool_call" else []
    message = {
        "content": action.message or "",
        "name": sample.get("name"),
        "id": _new("run-"),
        "type": sample.get("type"),
        "tool_calls": calls,
        "response_metadata": {"model_name": model},
    }
    if "tool_call_chunks" in sample:
        arguments = json.dumps(action.arguments, ensure_ascii=False)
        message["tool_call_chunks"] = [
            {**call, "args": arguments, "index": 0, "type": "tool_call_chunk"} for call in calls
        ]
    return message


def _parts(sample: Mapping[str, Any], action: Action, model: str) -> Fields:
    return action_message(replace(action, call_id=action.call_id or _new("call_")))


Fits = Callable[[Mapping[str, Any]], bool]
Write = Callable[[Mapping[str, Any], Action, str], Fields]

_SHAPES: tuple[tuple[Fits, Write], ...] = (
    (lambda found: isinstance(found.get("choices"), list) and bool(found["choices"]), _completion),
    (lambda found: isinstance(found.get("output"), list) and "model" in found, _response),
    (lambda found: found.get("type") == "message" and "stop_reason" in found, _anthropic),
    (
        lambda found: found.get("type") in ("text", "tool_use") and "role" not in found,
        lambda _, action, __: _block(action),
    ),
    (lambda found: found.get("type") == "function_call", lambda _, action, __: _item(action)),
    (
        lambda found: found.get("type") == "message" and isinstance(found.get("content"), list),
        lambda _, a, __: _item(a),
    ),
    (lambda found: found.get("type") == "ai" and "content" in found, _langchain),
    (lambda found: isinstance(found.get("parts"), list), _parts),
    (lambda found: bool({"content", "tool_calls"} & set(found)), _chat_message),
)
"""How each shape is known by its fields, and who writes it."""
