"""Join the chunks of a streamed answer into one that ``read_answer`` understands, whatever client streamed it.

Chunks are read when they come, as some clients use an object again, and are joined once, at the end. A stream that
ended early gives what came of it; a call whose arguments never came is left with words in their place, so that it
can't pass for one without arguments.
"""

from collections.abc import Callable
from typing import Any

from imitrace.messages import Action
from imitrace.shapes.pieces import CUT, Calls, Pieces, field, listed, place
from imitrace.shapes.plain import mapping, plain

_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
_ITEM_DELTAS = {
    "response.output_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.function_call_arguments.delta": "arguments",
    "response.mcp_call_arguments.delta": "arguments",
    "response.custom_tool_call_input.delta": "input",
}
_BLOCK_DELTAS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "partial_json"}


class Joiner:
    """Takes a stream's chunks and gives the answer that they make."""

    def __init__(self) -> None:
        self._stream: _Stream | None = None

    def add(self, chunk: Any) -> None:  # whatever a client streams
        """Take one chunk; an object of no known shape is kept as it is."""
        chunk = _bare(chunk)
        if self._stream is None or self._stream.undecided:
            self._stream = _stream_of(chunk)
        self._stream.add(chunk)

    @property
    def finished(self) -> bool:
        """Return whether the stream said that the answer is whole; text and plain decisions never say so."""
        return self._stream is not None and self._stream.finished

    @property
    def announces_end(self) -> bool:
        """Return whether streams of this kind say when the answer is whole."""
        return self._stream is not None and self._stream.announces_end

    def answer(self) -> Any:  # in the streaming client's own form
        """Return the answer so far; None when nothing came."""
        return None if self._stream is None else self._stream.answer()


class _Stream:
    """Chunks of no known kind: text is joined, decisions are listed, of anything else the last counts."""

    finished = False
    announces_end = False
    undecided = False

    def __init__(self) -> None:
        self.undecided = type(self) is _Stream
        self._texts: list[str] = []
        self._decisions: list[Any] = []
        self._last: Any = None

    def add(self, chunk: Any) -> None:
        self.undecided = self.undecided and not isinstance(chunk, str | tuple | Action)
        if isinstance(chunk, str):
            self._texts.append(chunk)
        elif isinstance(chunk, Action) or (isinstance(chunk, tuple) and len(chunk) == 2 and isinstance(chunk[0], str)):
            self._decisions.append(chunk if isinstance(chunk, Action) else (chunk[0], plain(chunk[1])))
        elif chunk is not None:
            self._last = plain(mapping(chunk) or chunk)

    def answer(self) -> Any:
        if self._decisions:
            return self._decisions
        return "".join(self._texts) if self._texts or self._last is None else self._last


class _Completion(_Stream):
    """OpenAI's chat completion chunks; of several choices the first."""

    announces_end = True

    def __init__(self) -> None:
        super().__init__()
        self._message = Pieces({"role": "assistant"})
        self._calls = Calls()
        self._top: dict[str, Any] = {}
        self._reason: Any = None

    def add(self, chunk: Any) -> None:
        if field(chunk, "type") == "chunk":  # the client's stream helper wraps what came
            chunk = field(chunk, "chunk")
        for name in ("id", "model"):
            if field(chunk, name) is not None:
                self._top.setdefault(name, field(chunk, name))
        usage = field(chunk, "usage")
        if usage is not None:
            self._top["usage"] = plain(usage)
        for choice in listed(chunk, "choices"):
            if field(choice, "index") in (0, None):
                self._reason = field(choice, "finish_reason") or self._reason
                self.finished = bool(self._reason)
                self._add_delta(field(choice, "delta"))

    def _add_delta(self, delta: Any) -> None:
        for name in _TEXTS:
            self._message.add(name, field(delta, name))
        for call in listed(delta, "tool_calls"):
            inner, custom = field(call, "function"), field(call, "custom")
            at = place(call, "index"), field(call, "id")
            if custom is not None:
                self._calls.add(*at, field(custom, "name"), field(custom, "input"), free=True)
            else:
                self._calls.add(*at, field(inner, "name"), field(inner, "arguments"))
        single = field(delta, "function_call")
        if single is not None:
            self._calls.add(0, None, field(single, "name"), field(single, "arguments"))

    def answer(self) -> Any:
        calls = self._calls.whole(self.finished)
        message = {"content": None, **self._message.whole(), "tool_calls": calls}
        return {**self._top, "choices": [{"index": 0, "message": message, "finish_reason": self._reason}]}


class _Response(_Stream):
    """Events of OpenAI's responses: the whole where it came, else the items that are done, else their pieces."""

    announces_end = True

    def __init__(self) -> None:
        super().__init__()
        self._top: dict[str, Any] = {}
        self._whole: Any = None
        self._items: dict[int | None, Pieces] = {}
        self._done: dict[int | None, Any] = {}

    def add(self, chunk: Any) -> None:
        kind, at = str(field(chunk, "type")), place(chunk, "output_index")
        response = field(chunk, "response")
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            self._whole = plain(response)
            self.finished = True
        elif response is not None:
            names = ("id", "model", "previous_response_id", "conversation")
            self._top = {name: plain(field(response, name)) for name in names}
        elif kind == "response.output_item.added":
            self._items[at] = Pieces(mapping(plain(field(chunk, "item"))))
        elif kind == "response.output_item.done":
            self._done[at] = plain(field(chunk, "item"))
        elif kind in _ITEM_DELTAS:
            self._items.setdefault(at, Pieces()).add(_ITEM_DELTAS[kind], field(chunk, "delta"))

    def answer(self) -> Any:
        if self._whole is not None:
            return self._whole
        places = {**dict.fromkeys(self._items), **dict.fromkeys(self._done)}
        items = [self._done[at] if at in self._done else self._begun(self._items[at].whole()) for at in places]
        return {**self._top, "output": items}

    @staticmethod
    def _begun(item: dict[str, Any]) -> dict[str, Any]:
        if "arguments" in item:
            return {**item, "arguments": item["arguments"] or CUT}
        texts = {name: item.pop(name) for name in ("text", "refusal") if name in item}
        blocks = [{"type": "output_text", "text": text} for text in texts.values()]
        return {"type": "message", "role": "assistant", **item, "content": blocks} if blocks else item


class _Blocks(_Stream):
    """Anthropic's events; those that its stream helper adds say nothing new."""

    announces_end = True

    def __init__(self) -> None:
        super().__init__()
        self._top: dict[str, Any] = {"role": "assistant"}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int | None, Pieces] = {}
        self._stopped: set[int | None] = set()

    def add(self, chunk: Any) -> None:
        kind, index = str(field(chunk, "type")), place(chunk, "index")
        if kind == "message_start":
            message = mapping(field(chunk, "message")) or {}
            self._top |= {name: message.get(name) for name in ("id", "type", "model")}
            self._add_usage(message.get("usage"))
        elif kind == "content_block_start":
            block = Pieces(mapping(plain(field(chunk, "content_block"))))
            for name in ("text", "thinking"):
                block.add(name, block.fields.get(name))
            self._blocks[index] = block
        elif kind == "content_block_delta":
            delta = field(chunk, "delta")
            piece = _BLOCK_DELTAS.get(str(field(delta, "type")))
            if piece is not None:
                start = {"type": "thinking" if piece == "thinking" else "text"}
                self._blocks.setdefault(index, Pieces(start)).add(piece, field(delta, piece))
        elif kind == "content_block_stop":
            self._stopped.add(index)
        elif kind == "message_stop":
            self.finished = True
        elif kind == "message_delta":
            self._top["stop_reason"] = field(field(chunk, "delta"), "stop_reason")
            self._add_usage(field(chunk, "usage"))

    def _add_usage(self, usage: Any) -> None:
        self._usage |= {name: value for name, value in (mapping(usage) or {}).items() if value is not None}

    def answer(self) -> Any:
        content = [self._block(block.whole(), index in self._stopped) for index, block in self._blocks.items()]
        return {**self._top, "content": content, "usage": self._usage}

    @staticmethod
    def _block(block: dict[str, Any], stopped: bool) -> dict[str, Any]:
        pieces = block.pop("partial_json", "")
        if pieces:
            return {**block, "input": pieces}
        return block if stopped or "input" not in block or block["input"] else {**block, "input": CUT}


class _Messages(_Stream):
    """LangChain's message chunks, also those of several messages in a row as LangGraph streams them."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: list[_MessageChunks] = []

    def add(self, chunk: Any) -> None:
        if field(chunk, "content") is None:
            return
        kind, identity = str(field(chunk, "type")), field(chunk, "id")
        identity = identity if isinstance(identity, str) else None
        if not self._messages or not self._messages[-1].takes(kind, identity):
            self._messages.append(_MessageChunks(kind))
        self._messages[-1].add(chunk, identity)
        self.finished = self._messages[-1].finished

    def answer(self) -> Any:
        return {"messages": [message.whole() for message in self._messages]}


class _MessageChunks:
    """The chunks of one LangChain message, or a message that came whole."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._ids: set[tuple[bool, str]] = set()
        self._whole: Any = None
        self._text = Pieces()
        self._blocks: list[Any] = []
        self._calls = Calls()
        self._usage: dict[str, int] = {}
        self._metadata: dict[str, Any] = {}
        self.finished = False

    def takes(self, kind: str, identity: str | None) -> bool:
        """Tell whether a chunk continues this message; the run's id may give way to the provider's within one."""
        if self._whole is not None or kind != self._kind:
            return False
        known = {text for ours, text in self._ids if ours == _is_run_id(identity)}
        return identity is None or not known or identity in known

    def add(self, chunk: Any, identity: str | None) -> None:
        if not self._kind.endswith("Chunk"):
            self._whole = plain(chunk)
            self.finished = True
            return
        if identity is not None:
            self._ids.add((_is_run_id(identity), identity))
        content = field(chunk, "content")
        for block in [content] if isinstance(content, str) else listed(chunk, "content"):
            self._add_block(block)
        for call in listed(chunk, "tool_call_chunks"):
            self._calls.add(place(call, "index"), field(call, "id"), field(call, "name"), field(call, "args"))
        for name in ("input_tokens", "output_tokens"):
            count = field(field(chunk, "usage_metadata"), name)
            if isinstance(count, int):
                self._usage[name] = self._usage.get(name, 0) + count
        metadata = mapping(field(chunk, "response_metadata")) or {}
        self._metadata |= {name: value for name, value in metadata.items() if value is not None}
        ended = {"finish_reason", "stop_reason"} & set(metadata)
        self.finished = self.finished or field(chunk, "chunk_position") == "last" or bool(ended)

    def _add_block(self, block: Any) -> None:
        if isinstance(block, str):
            self._text.add("text", block)
            return
        kind = str(field(block, "type"))
        if kind in ("text", "thinking", "reasoning"):
            self._text.add(kind, field(block, kind))
        elif kind not in ("tool_use", "input_json_delta", "tool_call_chunk", "function_call"):
            self._blocks.append(plain(block))

    def whole(self) -> Any:
        if self._whole is not None:
            return self._whole
        texts = self._text.whole()
        blocks = [{"type": kind, kind: texts[kind]} for kind in ("thinking", "reasoning", "text") if texts.get(kind)]
        message = {
            "type": self._kind,
            "content": [*blocks, *self._blocks],
            "tool_calls": self._calls.whole(self.finished),
            "response_metadata": self._metadata,
        }
        return {**message, "usage_metadata": self._usage} if self._usage else message


def _is_run_id(identity: str | None) -> bool:
    return identity is not None and identity.startswith(("run-", "lc_run-"))


def _bare(chunk: Any) -> Any:
    """Return a chunk without what LangGraph puts around it: graph and mode before it, metadata after it."""
    if not isinstance(chunk, tuple) or len(chunk) not in (2, 3):
        return chunk
    first, *rest = chunk
    if isinstance(first, tuple):  # which graph inside the graph
        return _bare(rest[0] if len(rest) == 1 else tuple(rest))
    if first == "messages" and isinstance(rest[0], tuple):
        return _bare(rest[0])
    if first in ("values", "updates") and _is_state(rest[0]):
        return rest[0]
    return chunk if isinstance(first, str) else first


def _is_state(value: Any) -> bool:
    found = mapping(value) or {}
    return "messages" in found or any("messages" in (mapping(inner) or {}) for inner in found.values())


def _stream_of(chunk: Any) -> _Stream:
    if isinstance(chunk, str | tuple | Action):
        return _Stream()
    kind = str(field(chunk, "type"))
    if isinstance(field(chunk, "choices"), list) or (kind == "chunk" and field(chunk, "chunk") is not None):
        return _Completion()
    for known, stream in _KINDS.items():
        if kind.startswith(known):
            return stream()
    if field(chunk, "content") is not None and hasattr(chunk, "additional_kwargs"):
        return _Messages()
    return _Stream()


_KINDS: dict[str, Callable[[], _Stream]] = {
    "response.": _Response,
    "message_start": _Blocks,
    "content_block_": _Blocks,
    "message_delta": _Blocks,
    "AIMessageChunk": _Messages,
}
"""Stream by how the type of its first chunk begins."""
