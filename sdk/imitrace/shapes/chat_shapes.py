"""Read an agent's history as its client keeps it, and write each message as canonical JSON in parts form.

Known by their shape, as dicts and as objects: OpenAI's chat messages and responses items, Anthropic's, LangChain's and
Google's messages, and parts form itself. No client's package is imported.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from json import JSONDecoder
from json.encoder import encode_basestring
from typing import Any

from imitrace.canonical import canonical_json
from imitrace.exceptions import WireError
from imitrace.faults import Faults
from imitrace.messages import Message, canonical_role, from_openai
from imitrace.shapes.content_parts import call_part, content_parts, result_part
from imitrace.shapes.plain import any_text, escaped, json_text, mapping, plain, short

UNKNOWN_MESSAGE = "unknown_message"
"""Fault counted for each message of no known shape, which is kept as text."""

_LANGCHAIN = {
    "system": "system",
    "human": "user",
    "ai": "assistant",
    "tool": "tool",
    "function": "tool",
    "chat": "user",
}
_DECODER = JSONDecoder()
_CALL_BLOCKS = {"tool_use", "tool_call", "function_call", "custom_tool_call", "invalid_tool_call", "input_json_delta"}
_ITEM_FRAME = {"id", "type", "call_id", "status"}
_ITEMS = {"reasoning", "item_reference", "compaction", "program", "mcp_list_tools", "mcp_approval_request"}


_TAILS = {role: f',"type":"text"}}],"role":"{role}"}}' for role in ("system", "user", "assistant")}


@dataclass(frozen=True)
class Reading:
    """What one item of a history says: its messages, and whether it only continues the assistant's message."""

    messages: tuple[Message, ...]
    continues: bool = False


def wire_messages(messages: Any, faults: Faults) -> list[str]:  # whatever an agent keeps its history in
    """Return each message in parts form as canonical JSON; one of unknown shape is kept as text and counted.

    One given message may give several (Anthropic's tool results) or a part of one (an assistant's items in OpenAI's
    responses). A message with a ``plain_key`` always gives one by itself, whatever stands around it.

    Raises:
        WireError: the whole is neither text, nor a list of messages, nor an object that holds one.
    """
    texts: list[str] = []
    run: list[Message] = []
    for item in message_list(messages):
        key = plain_key(item)
        reading = _reading(item, faults) if key is None else None
        if run and (reading is None or not reading.continues):
            texts.append(_wire(_joined(run), faults))
            run = []
        if reading is None:
            texts.append(plain_text(key or ()))
        elif reading.continues:
            run += reading.messages
        else:
            texts += [_wire(message, faults) for message in reading.messages]
    return [*texts, _wire(_joined(run), faults)] if run else texts


def parts_messages(items: Iterable[Any]) -> list[Message]:  # messages of any client
    """Return messages in parts form, as ``wire_messages`` writes them.

    Raises:
        WireError: an item is of no known shape.
    """
    messages: list[Message] = []
    run: list[Message] = []
    for item in items:
        reading = read_item(item)
        if reading.continues:
            run += reading.messages
            continue
        messages += [_joined(run)] if run else []
        messages += reading.messages
        run = []
    return [*messages, _joined(run)] if run else messages


def message_list(messages: Any) -> Sequence[Any]:  # whatever an agent keeps its history in
    """Return the list of messages in what an agent sees: text, a list, one message, or a state with ``messages``.

    Raises:
        WireError: there is no such list.
    """
    if isinstance(messages, list | tuple):
        return messages
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    if isinstance(messages, Mapping):
        return message_list(messages["messages"]) if "messages" in messages else [messages]
    if isinstance(messages, Sequence) and not isinstance(messages, bytes | bytearray | memoryview):
        return messages
    listed = getattr(messages, "messages", None)
    if isinstance(listed, list | tuple):
        return listed
    if isinstance(getattr(messages, "type", None), str) or isinstance(getattr(messages, "role", None), str):
        return [messages]
    raise WireError(f"messages are {short(messages)}, expected a list of messages, text, or a state with 'messages'")


def plain_key(message: object) -> tuple[str, ...] | None:
    """Return the strings that determine an OpenAI message's form fully; None for a message that has more to it.

    Plain text has two, a tool's answer three, and an assistant's calls two and three more for each call.
    """
    if type(message) is not dict:
        return None
    role, content = message.get("role"), message.get("content")
    if type(role) is not str:
        return None
    if type(content) is str:
        if len(message) == 2:
            return None if role in ("tool", "function") else (role, content)
        call_id = message.get("tool_call_id")
        if len(message) == 3 and role == "tool" and type(call_id) is str:
            return "tool", call_id, content
    elif content is not None:
        return None
    return _calls_key(content or "", message.get("tool_calls")) if len(message) == 3 and role == "assistant" else None


def _calls_key(content: str, calls: object) -> tuple[str, ...] | None:
    if type(calls) is not list or not calls:
        return None
    key = ["assistant", content]
    for call in calls:
        function = call.get("function") if type(call) is dict and len(call) == 3 else None
        if type(function) is not dict or len(function) != 2 or call.get("type") != "function":
            return None
        call_id, name, arguments = call.get("id"), function.get("name"), function.get("arguments")
        if type(call_id) is not str or type(name) is not str or type(arguments) is not str:
            return None
        if not _is_object(arguments):
            return None
        key += (call_id, name, arguments)
    return tuple(key)


def _is_object(text: str) -> bool:
    try:
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return end == len(text) and type(value) is dict


def system_message(value: Any) -> Message:  # text, or blocks of text
    """Return the system prompt that a client takes beside its messages as a message in parts form.

    Raises:
        WireError: it is neither text nor a list of blocks.
    """
    return {"role": "system", "parts": content_parts(value)}


def read_item(item: Any) -> Reading:  # one message or item of any client
    """Return what one item of a history says, in parts form.

    Raises:
        WireError: it is of no known shape.
    """
    if isinstance(item, str):
        return Reading((from_openai({"role": "user", "content": item}),))
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
        return Reading((from_openai({"role": item[0], "content": item[1]}),))
    found = mapping(item)
    if found is None:
        raise WireError(f"message is {short(item)}, expected an object with 'role'")
    stored = found.get("data", found.get("kwargs"))
    if isinstance(stored, Mapping) and "content" in stored and "role" not in found:  # as LangChain writes messages
        return read_item({"type": found.get("type"), **stored})
    kind = found.get("type")
    if not isinstance(kind, str):
        return _from_role(found)
    if kind == "remove" and "content" in found:
        return Reading(())
    if _langchain_role(kind) and "content" in found:
        return Reading(tuple(_split(_from_langchain(found, kind))))
    return _from_role(found) if "role" in found else _from_response_item(found, kind)


def _reading(item: Any, faults: Faults) -> Reading:
    try:
        return read_item(item)
    except Exception as error:  # whatever stands in an agent's history, the step must keep it
        faults.count(UNKNOWN_MESSAGE, f"{type(error).__name__}: {error}")
        return Reading((_unknown(item),))


def _unknown(item: Any) -> Message:
    role = item.get("role") if isinstance(item, dict) else None
    return {
        "role": role if isinstance(role, str) else "unknown",
        "parts": [{"type": "text", "content": any_text(item)}],
    }


def _wire(message: Message, faults: Faults) -> str:
    try:
        return json_text(message)
    except Exception as error:  # circular, or keys of mixed types
        faults.count(UNKNOWN_MESSAGE, f"{type(error).__name__}: {error}")
        return json_text(_unknown(message))


def plain_text(key: tuple[str, ...]) -> str:
    """Write what ``json_text(from_openai(...))`` would, without building it."""
    if len(key) == 2 and key[1] and (tail := _TAILS.get(key[0])):
        text = f'{{"parts":[{{"content":{encode_basestring(key[1])}{tail}'
    elif len(key) == 3:
        _, call_id, content = key
        text = (
            f'{{"parts":[{{"id":{encode_basestring(call_id)},"response":{encode_basestring(content)},'
            '"type":"tool_call_response"}],"role":"tool"}'
        )
    elif len(key) > 3:
        parts = [f'{{"content":{encode_basestring(key[1])},"type":"text"}}'] if key[1] else []
        parts += map(_call_text, key[2::3], key[3::3], key[4::3])
        text = f'{{"parts":[{",".join(parts)}],"role":"assistant"}}'
    else:
        role, content = key
        part = f'{{"content":{encode_basestring(content)},"type":"text"}}' if content else ""
        text = f'{{"parts":[{part}],"role":{encode_basestring(canonical_role(role))}}}'
    return text if text.isascii() else escaped(text)


def _call_text(call_id: str, name: str, arguments: str) -> str:
    written = canonical_json(_DECODER.decode(arguments))
    identity = f'"id":{encode_basestring(call_id)},"name":{encode_basestring(name)}'
    return f'{{"arguments":{written},{identity},"type":"tool_call"}}'


def _joined(run: list[Message]) -> Message:
    return {"role": "assistant", "parts": [part for message in run for part in message["parts"]]}


def _from_role(message: Mapping[str, Any]) -> Reading:
    """Read a message that says its role: OpenAI's, Anthropic's, Google's, or parts form."""
    if not isinstance(message.get("role"), str):
        raise WireError(f"message is {short(message)}, expected an object with 'role'")
    parts, content = message.get("parts"), message.get("content")
    if isinstance(parts, list | tuple):
        typed = all(isinstance((mapping(part) or {}).get("type"), str) for part in parts)
        if not typed:
            role = canonical_role(message["role"])
            return Reading(tuple(_split({"role": role, "parts": content_parts(parts)})))
        return Reading((from_openai({**message, "parts": [plain(part) for part in parts]}),))
    read = from_openai(message)
    blocks = content if isinstance(content, list | tuple) else ()
    kinds = {(mapping(block) or {}).get("type") for block in blocks}
    item = "output_text" in kinds or ("refusal" in kinds and message.get("type") == "message")
    if item and read["role"] == "assistant":
        return Reading((read,), continues=True)
    return Reading(tuple(_split(read)))


def _split(message: Message) -> list[Message]:
    """Return a message whose parts hold tool results as several, each result a message of role ``tool``."""
    if message["role"] == "tool":
        return [message]
    results = [part for part in message["parts"] if part["type"] == "tool_call_response"]
    if not results:
        return [message]
    rest = [part for part in message["parts"] if part["type"] != "tool_call_response"]
    answers: list[Message] = [{"role": "tool", "parts": [part]} for part in results]
    if message["role"] != "assistant":
        return [*answers, {**message, "parts": rest}] if rest else answers
    last = max(index for index, part in enumerate(message["parts"]) if part["type"] == "tool_call_response")
    before = [part for part in message["parts"][:last] if part["type"] != "tool_call_response"]
    after = message["parts"][last + 1 :]
    heads = [{**message, "parts": before}] if before else []
    return [*heads, *answers, {**message, "parts": after}] if after else [*heads, *answers]


def _langchain_role(kind: str) -> str | None:
    return _LANGCHAIN.get(kind.removesuffix("MessageChunk").lower())


def _from_langchain(found: Mapping[str, Any], kind: str) -> Message:
    calls, invalid = found.get("tool_calls") or [], found.get("invalid_tool_calls") or []
    content, more = found.get("content"), mapping(found.get("additional_kwargs")) or {}
    if isinstance(content, list | tuple) and (calls or invalid):  # a block of a call that stands in tool_calls too
        content = [block for block in content if (mapping(block) or {}).get("type") not in _CALL_BLOCKS]
    role = found.get("role") if kind == "chat" else None
    message = {
        "role": role or _langchain_role(kind),
        "content": content,
        "tool_calls": [*calls, *invalid],
        "tool_call_id": found.get("tool_call_id"),
        "name": found.get("name"),
        "reasoning_content": more.get("reasoning_content"),
        "refusal": None if content else more.get("refusal"),
    }
    read = from_openai(message)
    if found.get("status") == "error" and read["role"] == "tool":
        read["parts"][0]["is_error"] = True
    return read


def _from_response_item(item: Mapping[str, Any], kind: str) -> Reading:
    """Read an item of OpenAI's responses that says no role."""
    if kind.endswith("_output") and "call_id" in item:
        part = result_part(item["call_id"], item.get("output", item.get("tools")))
        return Reading(({"role": "tool", "parts": [part]},))
    if kind == "mcp_call":
        call = call_part(item)
        answer = result_part(call["id"], item.get("output") or item.get("error"))
        answer = {**answer, "is_error": True} if item.get("error") else answer
        return Reading(({"role": "assistant", "parts": [call]}, {"role": "tool", "parts": [answer]}))
    if kind.endswith("_call") and item.get("call_id") and "name" not in item:  # a built-in tool that the agent runs
        arguments = {key: plain(value) for key, value in item.items() if key not in _ITEM_FRAME and value is not None}
        call = call_part({"id": item["call_id"], "name": kind.removesuffix("_call"), "arguments": arguments})
        return Reading(({"role": "assistant", "parts": [call]},), continues=True)
    if kind == "mcp_approval_response":
        return Reading(({"role": "user", "parts": content_parts([item])},))
    if kind not in _ITEMS and not kind.endswith(("_call", "_output")):
        raise WireError(f"message is {short(item)}, expected an object with 'role', or an item of a response")
    parts = content_parts([item])
    return Reading(({"role": "assistant", "parts": parts},) if parts else (), continues=True)
