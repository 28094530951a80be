"""Be a model's API, and a collector, that answer at once: run as ``python -m proxying.model``, prints its port."""

import asyncio
import json
import sys
from typing import Any, cast

import uvloop

_MESSAGE = {"role": "assistant", "content": "Your order A-1001 was shipped on Monday, and comes on Wednesday."}
_COMPLETION: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_767_225_600,
    "model": "expert-1",
    "choices": [{"index": 0, "message": _MESSAGE, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 900, "completion_tokens": 16, "total_tokens": 916},
}


def _answer(kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


_SAID = _answer("application/json", json.dumps(_COMPLETION).encode())
_COLLECTED = _answer("application/x-protobuf", b"")


class Model(asyncio.Protocol):
    """Answers each request when all of it has come."""

    def __init__(self) -> None:
        self._came = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._came += data
        while (end := self._came.find(b"\r\n\r\n")) >= 0:
            head = bytes(self._came[:end]).lower()
            size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(self._came) < end + 4 + size:
                return
            del self._came[: end + 4 + size]
            exported = head.startswith((b"post /v1/traces", b"post /v1/logs"))
            self._transport.write(_COLLECTED if exported else _SAID)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Model, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)  # until who started it ends


if __name__ == "__main__":
    uvloop.run(main())
