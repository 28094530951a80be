"""Read models' answers, whatever client gave them: what the agent did, which model it was, what it cost."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from imitrace.exceptions import WireError
from imitrace.faults import Faults
from imitrace.messages import Action, Message, message_actions
from imitrace.shapes.chat_shapes import parts_messages
from imitrace.shapes.content_parts import call_arguments, call_part, content_parts
from imitrace.shapes.plain import any_text, json_text, mapping, payload_text, plain, short

ANSWER_CUT, ANSWER_BLOCKED, ANSWER_PENDING = "answer_cut", "answer_blocked", "answer_pending"
"""``error.type`` of a step whose answer is not what the model decided: its length was limited, a filter or the service
stood between, or the rest comes later."""
_UNFINISHED = {
    **dict.fromkeys(("length", "max_tokens", "incomplete", "model_context_window_exceeded"), ANSWER_CUT),
    **dict.fromkeys(("content_filter", "safety", "recitation", "blocklist", "prohibited_content"), ANSWER_BLOCKED),
    **dict.fromkeys(("pause_turn", "in_progress", "queued", "cancelled"), ANSWER_PENDING),
}
_FINISH = ("finish_reason", "finishReason")
UNKNOWN_ANSWER = "unknown_answer"
"""``error.type`` of a step whose answer had no known shape and was kept as text."""

_MESSAGE_KEYS = {"content", "tool_calls", "parts", "function_call"}
_BLOCKS = {"text", "tool_use", "thinking", "redacted_thinking", "server_tool_use", "mcp_tool_use"}


@dataclass(frozen=True)
class Kept:
    """What a service keeps of a conversation, so that the next request need not hold it: OpenAI's responses."""

    id: str | None
    """Name of this answer there."""
    after: str | None
    """Name of what came before it there; None when the request held everything."""
    said: tuple[Message, ...]
    """The answer itself, in parts form."""


@dataclass(frozen=True)
class Answer:
    """What a model answered, which model it was, and what it cost."""

    actions: tuple[Action, ...]
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    error_type: str | None = None
    kept: Kept | None = None


def read_answer(answer: Any, faults: Faults) -> Answer:  # any model's answer goes in
    """Return the actions of a model's answer; one of unknown shape is kept as text, marked and counted.

    Known by their shape, as objects and as dicts: OpenAI's completions, responses and messages, Anthropic's and
    LangChain's messages, LangGraph's updates, text, ``(name, arguments)``, an ``Action``, and lists of these. Of
    several choices the first counts, of a whole conversation the assistant's last turn.
    """
    try:
        return _read(answer)
    except Exception as error:  # whatever a foreign object does when it is read
        faults.count(UNKNOWN_ANSWER, f"{type(answer).__name__}: {error}")
        return Answer((Action("message", message=any_text(answer)),), error_type=UNKNOWN_ANSWER)


def tool_call(name: str, arguments: Any, call_id: str | None = None) -> Action:  # JSON text, an object or None
    """Return a tool call as an action.

    Raises:
        WireError: the arguments are neither an object nor JSON text of one.
    """
    part = call_part({"id": call_id, "name": name, "arguments": arguments})
    return Action("tool_call", part["name"], part["arguments"], call_id=part["id"])


def arguments_text(arguments: Any) -> str:  # JSON text or an object
    """Return a call's arguments as canonical JSON; text that is no JSON object stays as it is."""
    arguments = plain(arguments)
    try:
        return json_text(tool_call("", arguments).arguments)
    except WireError:
        return payload_text(arguments)


def _read(answer: Any) -> Answer:
    if isinstance(answer, Action):
        return Answer((answer,))
    if isinstance(answer, str):
        return Answer((Action("message", message=answer),))
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], str):
        return Answer((Action("tool_call", answer[0], call_arguments(answer[1])),))
    if isinstance(answer, list | tuple) and answer:
        return _read_list(answer)
    found = mapping(_unwrapped(answer))
    if found is None:
        raise WireError(
            f"model answer is a {type(answer).__name__}, expected a completion, a message, text or an Action"
        )
    messages, source = _said(found)
    return replace(
        _usage(source), actions=_last_turn(messages), kept=_kept(found, messages), error_type=_unfinished(found, source)
    )


def _unfinished(answer: Mapping[str, Any], source: Mapping[str, Any]) -> str | None:
    """Return why an answer is not what the model decided: it was cut, blocked, or goes on later."""
    said = [answer.get("stop_reason"), answer.get("status")]
    for listed in ("choices", "candidates"):
        first = mapping(answer[listed][0]) if isinstance(answer.get(listed), list) and answer[listed] else None
        said += [(first or {}).get(name) for name in _FINISH]
    metadata = mapping(source.get("response_metadata")) or {}
    said += [metadata.get(name) for name in (*_FINISH, "stop_reason", "status", "done_reason")]
    return next((_UNFINISHED[str(word).lower()] for word in said if str(word).lower() in _UNFINISHED), None)


def _kept(answer: Mapping[str, Any], messages: Sequence[Message]) -> Kept | None:
    if not isinstance(answer.get("output"), list):
        return None
    conversation = mapping(answer.get("conversation")) or {}
    names = (answer.get("id"), conversation.get("id") or answer.get("previous_response_id"))
    own, before = (name if isinstance(name, str) else None for name in names)
    return Kept(own, before, tuple(messages))


def _read_list(answer: Sequence[Any]) -> Answer:
    plains = [item if isinstance(item, str | tuple | Action) else mapping(item) for item in answer]
    items = [item for item in plains if isinstance(item, Mapping)]
    if len(items) == len(answer) and all("role" not in item and item.get("type") in _BLOCKS for item in items):
        return Answer(message_actions({"role": "assistant", "parts": content_parts(items)}))
    if len(items) == len(answer) and any(map(_is_item, items)):
        return Answer(_last_turn(parts_messages(items)))
    read = [_read(item) for item in answer]
    return replace(read[-1], actions=tuple(action for one in read for action in one.actions))


def _is_item(found: Mapping[str, Any]) -> bool:  # of OpenAI's responses, of those that aren't messages
    return str(found.get("type")).endswith(("_call", "reasoning"))


def _unwrapped(answer: Any) -> Any:
    """Return what a wrapper holds: LangGraph's command its update, a raw HTTP answer what it parses to."""
    if type(answer) is dict or hasattr(type(answer), "__pydantic_fields__"):
        return answer
    if hasattr(answer, "update") and hasattr(answer, "goto"):
        return answer.update
    parse = getattr(answer, "parse", None)
    if hasattr(answer, "http_response") and callable(parse) and not inspect.iscoroutinefunction(parse):
        return parse()
    return answer


def _said(answer: Mapping[str, Any]) -> tuple[list[Message], Mapping[str, Any]]:
    """Return an answer's messages, and the object that names the model and the cost."""
    if isinstance(answer.get("choices"), list):
        return _assistant((mapping(answer["choices"][0]) or {}).get("message")), answer
    if isinstance(answer.get("output"), list):
        if mapping(answer.get("error")):
            raise WireError(f"model answer is an error: {short(answer['error'])}, expected an answer")
        return parts_messages(answer["output"]) or [{"role": "assistant", "parts": []}], answer
    if isinstance(answer.get("candidates"), list):
        return _assistant({**plain(answer["candidates"][0]["content"]), "role": "assistant"}), answer
    if isinstance(answer.get("generations"), list):
        return _generated(answer)
    listed = _listed(answer)
    if listed:
        return parts_messages(listed), mapping(listed[-1]) or {}
    if isinstance(answer.get("name"), str) and "arguments" in answer and not (_MESSAGE_KEYS | {"role"}) & answer.keys():
        return _assistant({"role": "assistant", "tool_calls": [answer]}), answer
    return _assistant(answer.get("message") or answer), answer


def _listed(answer: Mapping[str, Any]) -> list[Any]:
    """Return the messages in a graph's state, or in the updates of its nodes; none for anything else."""
    if "messages" in answer:
        inner = answer["messages"]
        return list(inner) if isinstance(inner, list | tuple) else [inner]
    if _MESSAGE_KEYS & set(answer):
        return []
    nodes = [mapping(value) or {} for value in answer.values()]
    return [message for node in nodes if "messages" in node for message in _listed(node)]


def _assistant(message: Any) -> list[Message]:
    """Return a message in parts form; it must say something, or it is of a shape we don't know."""
    found = mapping(message) or {}
    if _is_item(found):
        return parts_messages([found])
    if not _MESSAGE_KEYS & set(found):
        raise WireError(f"model answer has the keys {', '.join(map(str, found))}, expected content or tool_calls")
    read = parts_messages([found if "type" in found or "role" in found else {"role": "assistant", **found}])
    return [message if message["role"] == "tool" else {**message, "role": "assistant"} for message in read]


def _generated(result: Mapping[str, Any]) -> tuple[list[Message], Mapping[str, Any]]:  # LangChain's chat results
    first = result["generations"][0]
    found = mapping(first[0] if isinstance(first, list) else first) or {}
    message = mapping(found.get("message")) or {"role": "assistant", "content": found.get("text")}
    paid = mapping(result.get("llm_output")) or {}
    return _assistant(message), message if message.get("usage_metadata") else {**paid, "usage": paid.get("token_usage")}


def _last_turn(messages: Sequence[Message]) -> tuple[Action, ...]:
    """Return what the assistant did last: the actions of the last messages in a row that are its own."""
    turn: list[Message] = []
    for message in reversed(messages):
        if message["role"] == "assistant":
            turn.insert(0, message)
        elif turn:
            break
    if not turn:
        raise WireError("model answer holds no message of the assistant, expected at least one")
    return tuple(action for message in turn for action in message_actions(message))


def _usage(source: Mapping[str, Any]) -> Answer:
    """Return the model and the tokens; those read from a cache, or written to it, count as input."""
    metadata = mapping(source.get("response_metadata")) or {}
    models = (source.get("model"), source.get("model_version"), metadata.get("model_name"), metadata.get("model"))
    paid = mapping(source.get("usage")) or mapping(source.get("usage_metadata")) or source
    cached = _tokens(paid, "cache_creation_input_tokens") or 0, _tokens(paid, "cache_read_input_tokens") or 0
    given = _tokens(paid, "prompt_tokens", "input_tokens", "prompt_token_count", "prompt_eval_count")
    return Answer(
        (),
        next((model for model in (*models, source.get("model_name")) if isinstance(model, str)), None),
        None if given is None else given + sum(cached),
        _tokens(paid, "completion_tokens", "output_tokens", "candidates_token_count", "eval_count"),
    )


def _tokens(paid: Mapping[str, Any], *names: str) -> int | None:
    return next((paid[name] for name in names if type(paid.get(name)) is int), None)
