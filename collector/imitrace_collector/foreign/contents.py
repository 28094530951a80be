"""Bring messages and tool definitions, in whatever shape an instrumentor wrote them, into our one form.

What can't be read is kept as text, and the reason is told with it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imitrace.exceptions import WireError
from imitrace.messages import Message, canonical_role
from imitrace.shapes.chat_shapes import read_item
from imitrace.shapes.content_parts import Part, call_arguments, content_parts
from imitrace_collector.foreign.flat_messages import UNREADABLE, chat_messages, function_results, with_blocks
from imitrace_collector.foreign.haystack_messages import haystack_message
from imitrace_collector.foreign.offered import is_definition
from imitrace_collector.foreign.reprs import looks_like_repr, read_repr
from imitrace_collector.foreign.results import unwrapped
from imitrace_collector.foreign.said import as_text, inside, json_value, whole_items
from imitrace_collector.foreign.text_histories import read_text_message

_LISTS = ("messages", "input", "contents", "prompt")
_SYSTEMS = ("system", "instructions", "system_instruction", "systemInstruction")


@dataclass(frozen=True)
class Told:
    """Messages in our form, and why they are not all of them, or not whole."""

    messages: tuple[Message, ...] = ()
    problem: str | None = None


NOTHING = Told()


_Before = list[tuple[str, list[Message], list[str]]]
"""Items as text, for 1 equals True, each with the messages that it was read as and what was wrong with it."""


class Echoes:
    """What the last list of messages of each attribute was read as: the next request repeats nearly all of it."""

    def __init__(self) -> None:
        self.last: dict[tuple[str, str], _Before] = {}


def read_messages(name: str, value: Any, role: str = "user", echoes: Echoes | None = None) -> Told:
    """Return the messages in a value.

    Args:
        name: of the attribute, for the reason.
        value: any JSON value: JSON text, a list, one message, an object that holds some, or plain text.
        role: of plain text.
        echoes: what was read before, so that equal messages are read once.
    """
    parsed, problem = json_value(value)
    if problem and looks_like_repr(value):
        parsed, problem = _from_repr(value, problem)
    if problem:
        parsed = whole_items(value) if value.lstrip().startswith("[") else []
        if not parsed:  # cut before the first whole item
            return Told(({"role": UNREADABLE, "parts": [_text(value)]},), f"{name} {problem}")
    read = _Messages(role)
    if echoes is not None and isinstance(parsed, list):
        echoes.last[name, role] = read.repeat(parsed, echoes.last.get((name, role), []))
    else:
        read.add(parsed)
    problems = [f"{name} {problem}"] if problem else []
    problems += [f"{name}: {found}" for found in read.problems[:1]]
    return Told(tuple(read.messages), "; ".join(problems) or None)


def _from_repr(text: str, problem: str) -> tuple[Any, str | None]:
    try:
        return read_repr(text), None
    except ValueError:
        return text, problem


def joined(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Return messages with an assistant's calls in the message before it, where its answer was split into several.

    A result that was told twice is told once.
    """
    found: list[Message] = []
    told: list[Message] = []
    for message in messages:
        if message["role"] != "tool":
            told.clear()
        elif message in told and all(part.get("id") for part in message["parts"]):
            continue
        else:
            told.append(message)
        if (
            found
            and message["role"] == found[-1]["role"] == "assistant"
            and any(part.get("type") == "tool_call" for part in message["parts"])
        ):
            found[-1] = {**found[-1], "parts": [*found[-1]["parts"], *message["parts"]]}
        else:
            found.append(message)
    return tuple(found)


def has_content(messages: Iterable[Message]) -> bool:
    """Return whether any message says anything: a text, arguments, a result, media; names and ids alone don't."""
    return any(
        part.get(key) not in (None, "", {}, [])
        for message in messages
        for part in message["parts"]
        for key in ("content", "arguments", "response", "uri", "file_id")
    )


def read_calls(value: list[Any]) -> list[Part]:
    """Return a bare list of tool calls as parts; nothing when it is none."""
    read = _Messages("assistant")
    if not all(isinstance(item, dict) and isinstance(item.get("toolName"), str) for item in value):
        return []
    return [read.call(item) for item in value]


class _Messages:
    """Messages as they are found, and what was wrong with them."""

    def __init__(self, role: str) -> None:
        self.messages: list[Message] = []
        self.problems: list[str] = []
        self._role = role

    def add(self, value: Any) -> None:
        """Add what a value holds: a list, an object with messages in it, one message, or text."""
        if isinstance(value, list):
            for item in _batch(value):
                self._add_item(item)
        elif isinstance(value, dict):
            inner = next((value[key] for key in _LISTS if isinstance(value.get(key), list | str)), None)
            if inner is None or "role" in value or "_role" in value:
                self._add_item(value)
                return
            system = next((value[key] for key in _SYSTEMS if value.get(key)), None)
            if system is not None:
                self.messages += _system(system)
            self.add(inner)
        elif value is not None and value != "":
            self._add_item(as_text(value))

    def repeat(self, items: list[Any], before: _Before) -> _Before:
        """Add a list's messages as they were read before, as far as they are the same; return them for the next."""
        found: _Before = []
        for place, item in enumerate(_batch(items)):
            text = repr(item)
            if place < len(before) and before[place][0] == text:
                found.append(before[place])
                self.messages += before[place][1]
                self.problems += before[place][2]
                continue
            had, known = len(self.messages), len(self.problems)
            self._add_item(item)
            found.append((text, self.messages[had:], self.problems[known:]))
        return found

    def _add_item(self, item: Any) -> None:
        if isinstance(item, str):
            parsed, problem = _from_repr(item, "") if item.startswith(_HAYSTACK) else json_value(item)
            if isinstance(parsed, dict) and not problem:
                self.add(parsed)
            elif item:
                self.messages.append({"role": self._role, "parts": [_text(item)]})
            return
        try:
            found = list(self._read(item))
        except Exception as error:  # whatever stands there, the rest must be read
            self.problems.append(f"a message can't be read: {error}")
            role = item.get("role") if isinstance(item, dict) else None
            role = canonical_role(role) if isinstance(role, str) else UNREADABLE
            found = [{"role": role, "parts": [_text(as_text(item))]}]
        self.messages += found

    def _read(self, item: Any) -> Iterator[Message]:
        results = function_results(item) if isinstance(item, dict) and "function" in item else []
        for result in results:
            yield from self._from_chat(result, "tool")
        for one in () if results or is_definition(item) else self._objects(item):
            yield from self._read_object(haystack_message(one) or one)

    def _read_object(self, item: Mapping[str, Any]) -> Iterator[Message]:
        role = item.get("role")
        text = read_text_message(role, item.get("content")) if isinstance(role, str) else None
        if text is not None:
            yield text
        elif isinstance(item.get("parts"), list) or (_is_parts(item.get("content")) and not item.get("tool_call_id")):
            yield from self._from_parts(item)
        elif isinstance(role, str) and item.get("type") in (None, "message"):
            yield from self._from_chat(item, role)
        else:
            for message in read_item(item).messages:
                yield self._cleaned(message)

    def _objects(self, item: Any) -> Iterator[Mapping[str, Any]]:
        if _is_pair(item):
            yield {"role": item[0], "content": item[1]}
            return
        if not isinstance(item, dict):
            raise WireError(f"it is a {type(item).__name__}, expected an object with 'role'")
        if "role" in item or "_role" in item:
            yield item
            return
        if isinstance(item.get("message"), dict):
            for message in chat_messages(item["message"]):
                yield message if "role" in message else {**message, "role": self._unsaid_role()}
            return
        if item.get("tool_calls") or isinstance(item.get("function_call"), dict):
            yield {**item, "role": "assistant"}
            return
        bare = isinstance(item.get("content"), str | list) and "type" not in item
        yield {**item, "role": self._role} if bare else item

    def _unsaid_role(self) -> str:
        if self._role != "assistant":
            self.problems.append("a message does not say its role")
            return UNREADABLE
        return self._role

    def _from_chat(self, item: Mapping[str, Any], role: str) -> Iterator[Message]:
        role = canonical_role(role)
        if role == "tool":
            part = {"type": "tool_call_response", "id": _identity(item.get("tool_call_id", item.get("id")))}
            yield {"role": "tool", "parts": [{**part, "response": unwrapped(item.get("content") or "")}]}
            return
        content = with_blocks({key: item[key] for key in item if key not in ("tool_calls", "function_call")})
        reading = read_item(content)
        messages = [self._cleaned(message) for message in reading.messages]
        parts = self._calls(item, [part for message in messages for part in message["parts"]])
        if not parts:
            yield from messages
        elif messages:
            yield from messages[:-1]
            yield {**messages[-1], "parts": [*messages[-1]["parts"], *parts]}
        else:
            yield {"role": role, "parts": parts}

    def _calls(self, item: Mapping[str, Any], before: Iterable[Part]) -> list[Part]:
        """Return the calls that stand beside a message's content, but those that stand in it too."""
        said = {part.get("id") for part in before if part["type"] == "tool_call"}
        calls = item.get("tool_calls") or [item.get("function_call")]
        parts = [self.call(call) for call in calls if isinstance(call, dict) and call]
        return [part for part in parts if part["id"] is None or part["id"] not in said]

    def _from_parts(self, item: Mapping[str, Any]) -> Iterator[Message]:
        role = item.get("role")
        role = canonical_role(role) if isinstance(role, str) else self._role
        given = item.get("parts") if isinstance(item.get("parts"), list) else item.get("content")
        parts = [part for one in given or () for part in self._parts(one)]
        if role == "tool" and parts and all(part["type"] == "text" for part in parts):
            identity = _identity(item.get("tool_call_id", item.get("id")))
            text = "\n".join(part["content"] for part in parts)
            parts = [{"type": "tool_call_response", "id": identity, "response": unwrapped(text)}]
        calls = self._calls(item, parts)
        parts = [part for part in parts if not calls or part.get("content") != ""] + calls
        results = [part for part in parts if part["type"] == "tool_call_response"]
        rest = [part for part in parts if part["type"] != "tool_call_response"]
        for part in results:
            yield {"role": "tool", "parts": [part]}
        if rest:
            yield {"role": role, "parts": rest}

    def _parts(self, part: Any) -> list[Part]:
        if not isinstance(part, dict):
            return content_parts(part if isinstance(part, str) else as_text(part))
        kind = part.get("type")
        if kind in ("tool_call", "tool-call") or (kind is None and "toolUse" in part):
            return [self.call(part.get("toolUse", part))]
        if kind in ("tool_call_response", "tool-result") or (kind is None and isinstance(part.get("toolResult"), dict)):
            return [_response(inside(part, "toolResult"))]
        if kind is None and isinstance(part.get("reasoningContent"), dict):
            text = part["reasoningContent"].get("reasoningText")
            return content_parts([{"type": "reasoning", "text": text.get("text") if isinstance(text, dict) else ""}])
        if kind in _UNSAID:
            return []
        return content_parts([part])

    def call(self, call: Mapping[str, Any]) -> Part:
        """Return a call as a part; arguments that are no JSON object stay text."""
        outer = inside(call, "tool_call")
        inner = inside(outer, "function")
        name = next((inner[key] for key in ("name", "toolName") if isinstance(inner.get(key), str)), None)
        if name is None:
            raise WireError("a tool call has no name")
        given = next((inner[key] for key in ("arguments", "args", "input") if inner.get(key) is not None), None)
        try:
            arguments: Any = call_arguments(given)
        except WireError as error:
            self.problems.append(str(error))
            arguments = as_text(given)
        identity = next((outer[key] for key in ("call_id", "id", "toolUseId", "toolCallId") if outer.get(key)), None)
        return {"type": "tool_call", "id": _identity(identity), "name": name, "arguments": arguments}

    def _cleaned(self, message: Message) -> Message:
        """Return a message that our own readers read, with results unwrapped and without what differs by chance."""
        parts = [
            {"type": part["type"], "id": part.get("id"), "response": unwrapped(part.get("response"))}
            if part.get("type") == "tool_call_response"
            else part
            for part in message["parts"]
            if part.get("type") not in _UNSAID or has_content([{"parts": [part]}])
        ]
        return {"role": message["role"], "parts": parts}


def _batch(value: list[Any]) -> list[Any]:
    """Return a list of messages; of LangChain's batches the first, for a span is of that."""
    batches = value and all(isinstance(item, list) for item in value) and not all(map(_is_pair, value))
    return value[0] if batches else value


_UNSAID = ("", "step-start")
_HAYSTACK = "ChatMessage(_role="


def _system(value: Any) -> list[Message]:
    inner = value.get("parts", value) if isinstance(value, dict) else value
    try:
        parts = content_parts(inner)
    except WireError:
        parts = [_text(as_text(inner))]
    return [{"role": "system", "parts": parts}] if parts else []


def read_system(name: str, value: Any) -> Told:  # any JSON value
    """Return a system prompt that stands beside the messages: text, or parts."""
    parsed, problem = json_value(value)
    if isinstance(parsed, list) and any(isinstance(item, dict) and "role" in item for item in parsed):
        return read_messages(name, value, "system")
    return Told(tuple(_system(parsed)), f"{name} {problem}" if problem else None)


def _text(text: str) -> Part:
    return {"type": "text", "content": text}


def _response(part: Mapping[str, Any]) -> Part:
    """Return a result, in the words of the conventions, of Bedrock, or of the AI SDK, which says what kind it is."""
    identity = next((part[key] for key in ("id", "toolUseId", "toolCallId") if part.get(key)), None)
    response = next((part[key] for key in ("response", "result", "content", "output") if part.get(key) is not None), "")
    if isinstance(response, dict) and set(response) == {"type", "value"}:
        response = response["value"]
    return {"type": "tool_call_response", "id": _identity(identity), "response": unwrapped(response)}


def _identity(value: Any) -> str | None:
    return None if value in (None, "") else value if isinstance(value, str) else as_text(value)


def _is_pair(item: Any) -> bool:
    return isinstance(item, list | tuple) and len(item) == 2 and all(isinstance(one, str) for one in item)


def _is_parts(content: Any) -> bool:
    blocks = content if isinstance(content, list) else ()
    return any(isinstance(block, dict) and _says_tools(block) for block in blocks) or (
        bool(blocks) and all(isinstance(block, dict) and set(block) == {"text"} for block in blocks)
    )


def _says_tools(block: Mapping[str, Any]) -> bool:
    return "toolUse" in block or "toolResult" in block or block.get("type") in ("tool-call", "tool-result")
