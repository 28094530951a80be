"""Read and write server-sent events, as OpenAI's API streams its answers.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import json
import zlib
from collections.abc import Iterator
from typing import Any

from imitrace.exceptions import WireError

MEDIA_TYPE = "text/event-stream"
DONE = "[DONE]"
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 47}


def event_text(name: str | None, data: dict[str, Any] | str) -> bytes:
    """Return one event, data as JSON where it is no word."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


def events_in(body: bytes) -> Iterator[Any]:
    """Yield the JSON data of a stream's events; the last one may have been cut, and is left out then."""
    for block in body.replace(b"\r\n", b"\n").split(b"\n\n"):
        lines = [line[5:].removeprefix(b" ") for line in block.split(b"\n") if line.startswith(b"data:")]
        data = b"\n".join(lines)
        if not data or data == DONE.encode():
            continue
        try:
            yield json.loads(data)
        except ValueError:
            continue


def decoded(body: bytes, encoding: str, most: int) -> bytes:
    """Return a body without its content encoding; of one that was cut, what can be had.

    Args:
        body: as it came.
        encoding: of the header ``Content-Encoding``, empty for none.
        most: bytes that it may have.

    Raises:
        WireError: the encoding is not known, the bytes are not of it, or they are more.
    """
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    if name not in _WINDOWS:
        raise WireError(f"content encoding is {encoding!r}, allowed: {', '.join(_WINDOWS)}")
    try:
        decoder = zlib.decompressobj(_WINDOWS[name])
        text = decoder.decompress(body, most)
    except zlib.error as error:
        raise WireError(f"the body is not {name}: {error}") from error
    if decoder.unconsumed_tail:
        raise WireError(f"the body has over {most} bytes when it is decoded")
    return text
