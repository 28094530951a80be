"""Read what agents hold in their hands: chat messages, tool schemas and model answers, as dicts or as SDK objects."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imitrace.canonical import canonical_json
from imitrace.exceptions import WireError
from imitrace.faults import Faults
from imitrace.messages import Action, Message, from_openai, message_actions, tool_definition

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
UNKNOWN_ANSWER = "unknown_answer"
"""``error.type`` of a step whose answer had no known shape and was kept as text."""


@dataclass(frozen=True)
class Answer:
    """What a model answered, which model it was, and what it cost."""

    actions: tuple[Action, ...]
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    error_type: str | None = None


def read_answer(answer: Any, faults: Faults) -> Answer:  # any model's answer goes in
    """Return the actions of a model's answer; one of unknown shape is kept as text, marked and counted."""
    try:
        return _read(answer)
    except Exception as error:  # whatever a foreign object does when it is read
        faults.count(UNKNOWN_ANSWER, f"{type(answer).__name__}: {error}")
        return Answer((Action("message", message=_as_text(answer)),), error_type=UNKNOWN_ANSWER)


def tool_call(name: str, arguments: Any, call_id: str | None = None) -> Action:  # JSON text, an object or None
    """Return a tool call as an action.

    Raises:
        WireError: the arguments are neither an object nor JSON text of one.
    """
    call = {"id": call_id, "function": {"name": name, "arguments": arguments}}
    return message_actions(from_openai({"role": "assistant", "tool_calls": [call]}))[0]


def wire_message(message: Any, faults: Faults) -> str:  # a dict or a client's message object
    """Return a message in parts form as canonical JSON; one of unknown shape is kept as a text part and counted."""
    try:
        return json_text(_message(message))
    except Exception as error:  # whatever stands in an agent's history, the step must keep it
        faults.count("unknown_message", f"{type(error).__name__}: {error}")
        role = message.get("role") if isinstance(message, Mapping) else None
        return json_text(
            {"role": str(role or "unknown"), "parts": [{"type": "text", "content": _as_text(message)}]},
        )


def tool_definitions(tools: Any, faults: Faults) -> list[dict[str, Any]]:  # a list of schemas in a client's form
    """Return the definitions in offered order; one of unknown shape keeps its name alone and is counted."""
    definitions = []
    for tool in tools:
        value = plain(tool)
        try:
            definitions.append(tool_definition(value))
        except WireError as error:
            faults.count("unknown_tool", error)
            kind = value.get("type") if isinstance(value, Mapping) else getattr(tool, "__name__", None)
            definitions.append({"name": str(kind or type(tool).__name__), "description": "", "parameters": {}})
    return definitions


def json_text(value: Any) -> str:  # any JSON value goes in
    r"""Return canonical JSON that protobuf can carry: a lone surrogate is written as its ``\u`` escape."""
    return _LONE_SURROGATE.sub(lambda match: f"\\u{ord(match.group()):04x}", canonical_json(value))


def wire_text(value: object) -> str:
    """Return text that protobuf can carry: a lone surrogate becomes U+FFFD."""
    return _LONE_SURROGATE.sub("\ufffd", value if isinstance(value, str) else str(value))


def payload_text(value: Any) -> str:  # a tool's result: text stays text, all else becomes JSON
    """Return a result as text, or as canonical JSON when it is not text."""
    value = plain(value)
    return wire_text(value) if isinstance(value, str) else json_text(value)


def arguments_text(arguments: Any) -> str:  # JSON text or an object
    """Return a call's arguments as canonical JSON; text that is no JSON object stays as it is."""
    try:
        return json_text(tool_call("", arguments).arguments)
    except WireError:
        return payload_text(arguments)


def plain(value: Any) -> Any:  # clients' objects in, dicts out
    """Return a client's objects (pydantic, dataclass, plain class) as dicts, at any depth; anything else as it is."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    dump = getattr(value, "model_dump", None) or getattr(value, "to_dict", None)
    if callable(dump) and not isinstance(value, type):
        return dump()
    if hasattr(value, "__dict__") and not callable(value):
        return plain(vars(value))
    return value


def _message(message: Any) -> Message:
    if isinstance(message, Mapping):
        try:
            return from_openai(message)
        except WireError:  # a dict that holds a client's objects reads after they are made plain
            return from_openai(plain(message))
    return from_openai(plain(message))


def _read(answer: Any) -> Answer:
    if isinstance(answer, Action):
        return Answer((answer,))
    if isinstance(answer, str):
        return Answer((Action("message", message=answer),))
    if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], str):
        return Answer((tool_call(*answer),))
    if isinstance(answer, list | tuple) and answer:
        return Answer(tuple(action for item in answer for action in _read(item).actions))
    value = plain(answer)
    if not isinstance(value, Mapping):
        raise WireError(
            f"model answer is a {type(answer).__name__}, expected a completion, a message, text or an Action"
        )
    if "choices" in value:
        return _read_completion(value)
    return Answer(message_actions(_assistant(value)))


def _read_completion(completion: Mapping[str, Any]) -> Answer:
    usage = completion.get("usage") or {}
    return Answer(
        message_actions(_assistant(completion["choices"][0]["message"])),
        completion.get("model"),
        usage.get("prompt_tokens"),
        usage.get("completion_tokens"),
    )


def _assistant(message: Mapping[str, Any]) -> Message:
    """Return a message in parts form; it must say something, or it is of a shape we don't know."""
    if not {"content", "tool_calls", "parts"} & set(message):
        raise WireError(f"model answer has the keys {', '.join(map(str, message))}, expected content or tool_calls")
    return from_openai({"role": "assistant", **message})


def _as_text(value: Any) -> str:
    try:
        return value if isinstance(value, str) else canonical_json(value)
    except Exception:  # circular, or keys of mixed types
        return repr(value)
