"""Read the content of one message, in any client's blocks, as the GenAI conventions' parts.

Text, reasoning, tool calls and their results, and media (``blob``, ``uri``, ``file``) have one form whoever wrote them.
A block of another type is kept under its own. What only its vendor can read (signatures, encrypted reasoning) and what
only points into a text (citations, log probabilities) is left out.
"""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from imitrace.exceptions import WireError
from imitrace.shapes.plain import mapping, plain, short

Part = dict[str, Any]
"""A part of a message: an object with a ``type``."""

Block = Mapping[str, Any]

CALLS = ("arguments", "args", "input")
"""Under which of these a call keeps its arguments."""


def content_parts(content: Any) -> list[Part]:  # text, blocks, or nothing
    """Return a message's content as parts; empty text is no part.

    Raises:
        WireError: the content is neither text nor a list of text and blocks.
    """
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [{"type": "text", "content": content}]
    blocks = content if isinstance(content, list | tuple) else [content]
    parts: list[Part] = []
    for given in blocks:
        block = {"type": "text", "text": given} if isinstance(given, str) else mapping(given)
        if block is None:
            raise WireError(f"message content is {short(content)}, expected text or a list of parts")
        part = _part(block)
        if part is not None:
            parts.append(part)
    return parts


def call_part(call: Any) -> Part:  # a call in any client's form
    """Return a tool call as a part: OpenAI's (chat or responses), Anthropic's, LangChain's or a part itself.

    Raises:
        WireError: the call has no name, or its arguments are not a JSON object.
    """
    outer = mapping(call) or {}
    inner = mapping(outer.get("function") or outer.get("custom")) or outer
    name = inner.get("name")
    if not isinstance(name, str):
        raise WireError(f"tool call is {short(call)}, expected an object with 'function.name'")
    given = next((inner[key] for key in CALLS if inner.get(key) is not None), None)
    free = str(outer.get("type") or "").startswith("custom")
    identity = outer.get("call_id") or outer.get("id")
    return {
        "type": "tool_call",
        "id": identity if identity is None else str(identity),
        "name": name,
        "arguments": {"input": given} if free else call_arguments(given),
    }


_SIMPLE = frozenset({str, int, float, bool, type(None)})


def call_arguments(value: Any) -> dict[str, Any]:  # arguments come as a JSON string or an object
    """Return a call's arguments as an object; none at all are an empty one.

    Raises:
        WireError: they are neither an object nor JSON text of one.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except (ValueError, RecursionError) as error:
            raise WireError(f"tool call arguments are {short(value)}, expected JSON") from error
    if value is None:
        return {}
    found = mapping(value)
    if found is None:
        raise WireError(f"tool call arguments are {short(value)}, expected a JSON object")
    simple = all(type(item) in _SIMPLE for item in found.values())
    return dict(found if simple else plain(found))


def result_part(call_id: Any, content: Any) -> Part:  # a tool's answer in any client's form
    """Return a tool's answer as a part: text as text, with media in it a list of parts, other JSON as it is."""
    return {"type": "tool_call_response", "id": call_id, "response": _response(content)}


def _response(content: Any) -> Any:
    if content is None or isinstance(content, str):
        return content or ""
    typed = isinstance(content, list | tuple) and all(
        isinstance(block, str) or isinstance((mapping(block) or {}).get("type"), str) for block in content
    )
    if not typed:
        return plain(content)
    parts = content_parts(content)
    if all(part["type"] == "text" and isinstance(part.get("content"), str) for part in parts):
        return "\n".join(part["content"] for part in parts)
    return parts


def _part(block: Block) -> Part | None:
    kind = block.get("type")
    read = _READERS.get(kind) if isinstance(kind, str) else _untyped
    part = read(block) if read is not None else None
    if part is None:
        return {**plain(block), "type": kind if isinstance(kind, str) else "unknown"}
    return part or None


def _text(block: Block) -> Part | None:
    text = next((block[key] for key in ("text", "content", "refusal") if block.get(key) is not None), "")
    if not isinstance(text, str):
        return None
    return {"type": "text", "content": text} if text else {}


def _reasoning(block: Block) -> Part | None:
    for key in ("thinking", "reasoning", "content", "summary", "text"):
        text = block.get(key)
        if isinstance(text, list | tuple):
            text = "\n".join(str((mapping(item) or {}).get("text") or "") for item in text)
        if isinstance(text, str) and text:
            return {"type": "reasoning", "content": text}
    return {}


def _image_url(block: Block) -> Part | None:  # OpenAI's chat and responses, and LangChain's bare address
    found = block.get("image_url")
    address = found if isinstance(found, str) else (mapping(found) or {}).get("url")
    return _media("image", url=address, file_id=block.get("file_id"))


def _input_audio(block: Block) -> Part | None:
    audio = mapping(block.get("input_audio")) or {}
    kind = f"audio/{audio['format']}" if audio.get("format") else ""
    return _media("audio", data=audio.get("data"), mime_type=kind)


def _file(block: Block) -> Part | None:
    file = mapping(block.get("file")) or block
    data = file.get("file_data")
    if isinstance(data, str) and data.startswith("data:"):
        return _named(_media("document", url=data), file)
    return _named(_media("document", url=file.get("file_url"), file_id=file.get("file_id"), data=data), file)


def _source(block: Block) -> Part | None:  # Anthropic's source, or LangChain's keys in the block itself
    modality = str(block["type"])
    source = mapping(block.get("source")) or block
    if source.get("type") in ("text", "content"):
        parts = content_parts(source.get("data") or source.get("content"))
        text = "\n".join(part.get("content", "") for part in parts if part["type"] == "text")
        return _named({"type": "blob", "modality": modality, "mime_type": "text/plain", "content": text}, block)
    data = source.get("data") or source.get("base64")
    mime = source.get("media_type") or source.get("mime_type")
    part = _media(modality, url=source.get("url"), file_id=source.get("file_id"), data=data, mime_type=mime)
    return _named(part, block)


def _media(
    modality: str, *, url: Any = None, file_id: Any = None, data: Any = None, mime_type: Any = None
) -> Part | None:
    part: Part = {"modality": modality}
    if isinstance(url, str) and url.startswith("data:"):
        head, _, data = url.partition(",")
        mime_type = head.removeprefix("data:").partition(";")[0]
    if mime_type:
        part["mime_type"] = mime_type
    if isinstance(data, bytes):
        data = base64.b64encode(data).decode()
    if data:
        return {"type": "blob", **part, "content": data}
    if url:
        return {"type": "uri", **part, "uri": url}
    return {"type": "file", **part, "file_id": file_id} if file_id else None


def _named(part: Part | None, block: Block) -> Part | None:
    name = block.get("filename") or block.get("title")
    return part if part is None or not name else {**part, "name": name}


def _result(block: Block) -> Part:
    part = result_part(block.get("tool_use_id"), block.get("content"))
    return {**part, "is_error": True} if block.get("is_error") else part


def _untyped(block: Block) -> Part | None:  # Google's parts say by their key what they are
    filled = {name: value for name, value in block.items() if value is not None}
    if isinstance(filled.get("text"), str):
        return _reasoning(filled) if filled.get("thought") else _text(filled)
    call = filled.get("function_call") or filled.get("functionCall")
    if call:
        return call_part(call)
    answer = mapping(filled.get("function_response") or filled.get("functionResponse"))
    if answer:
        part = {"type": "tool_call_response", "id": answer.get("id"), "response": plain(answer.get("response"))}
        return {**part, "name": answer["name"]} if answer.get("name") else part
    data = mapping(filled.get("inline_data") or filled.get("inlineData") or filled.get("file_data"))
    if not data:
        return None
    mime = data.get("mime_type") or data.get("mimeType") or ""
    return _media(str(mime).partition("/")[0], url=data.get("file_uri"), data=data.get("data"), mime_type=mime)


_READERS: dict[str, Callable[[Block], Part | None]] = {
    **dict.fromkeys(("text", "input_text", "output_text", "refusal"), _text),
    **dict.fromkeys(("thinking", "reasoning"), _reasoning),
    **dict.fromkeys(("tool_use", "mcp_tool_use", "function_call", "custom_tool_call"), call_part),
    "tool_call": call_part,
    **dict.fromkeys(("tool_result", "mcp_tool_result"), _result),
    **dict.fromkeys(("image_url", "input_image"), _image_url),
    "input_audio": _input_audio,
    **dict.fromkeys(("file", "input_file"), _file),
    **dict.fromkeys(("image", "audio", "video", "document"), _source),
}
"""Reader by a block's type: the part, an empty one for a block that says nothing, None to keep it as it is."""
