"""Hand a request to the model's API and its answer to the caller: every byte, at the pace in which it comes."""

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from starlette.types import Send

from imitrace_trainer.serving.asked import Json
from imitrace_trainer.serving.callers import Caller
from imitrace_trainer.serving.headers import Headers, travelling
from imitrace_trainer.serving.metrics import Metrics
from imitrace_trainer.serving.upstream import Upstream, UpstreamError, failure_kind

LOGGER = logging.getLogger("imitrace.serve")
_STATUS = {"silent": 504, "connect_timeout": 504}


@dataclass
class Passed:
    """What an answer was, as far as it came; of the body at most so many bytes are kept."""

    most: int = 0
    status: int = 0
    headers: Headers = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    size: int = 0
    whole: bool = False

    def take(self, piece: bytes) -> None:
        """Take a piece of the body; one that has become too large is no longer kept."""
        self.size += len(piece)
        if self.size <= self.most:
            self.body += piece
        else:
            self.body.clear()

    @property
    def kept(self) -> bool:
        """Whether all that came of the body is here."""
        return self.size <= self.most


class Relay:
    """The way between callers and the model's API."""

    def __init__(self, upstream: Upstream, metrics: Metrics) -> None:
        self._upstream = upstream
        self._metrics = metrics

    async def hand_on(
        self, caller: Caller, headers: Headers, body: bytes | AsyncIterator[bytes] | None, answer: "Answering"
    ) -> None:
        """Send a request and hand its answer on; what can't be handed on whole is cut off, as it was.

        Args:
            caller: whose request it is.
            headers: what the model's API is sent.
            body: of the request.
            answer: where the answer goes.
        """
        try:
            async with self._upstream.send(caller.method, caller.path_under("/v1/"), headers, body) as response:
                await answer.start(response.status, travelling(response.raw_headers))
                async for piece in response.content.iter_any():
                    await answer.more(piece)
                await answer.end()
        except UpstreamError as error:
            if caller.gone:
                return
            kind = failure_kind(error)
            self._metrics.upstream_failed(kind)
            LOGGER.warning("imitrace: the model's API failed (%s): %s", kind, type(error).__name__)
            if not answer.passed.status:
                await answer.refuse(_STATUS.get(kind, 502), f"the model's API can't be reached: {kind}", kind)


class Answering:
    """An answer on its way to a caller."""

    def __init__(self, send: Send, note: Headers, passed: Passed) -> None:
        self.passed = passed
        self._send = send
        self._note = note

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers, and who acted."""
        self.passed.status, self.passed.headers = status, headers
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self._note]})

    async def more(self, piece: bytes) -> None:
        """Send a piece of the body."""
        self.passed.take(piece)
        await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self) -> None:
        """Say that this was all."""
        self.passed.whole = True
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def whole(self, status: int, kind: str, body: bytes) -> None:
        """Send an answer of our own."""
        self.passed.status = status
        sized = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await self._send({"type": "http.response.start", "status": status, "headers": [*sized, *self._note]})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def refuse(self, status: int, message: str, code: str) -> None:
        """Send an error of our own, in OpenAI's form."""
        await self.whole(status, "application/json", json.dumps(error_body(message, code)).encode())


def error_body(message: str, code: str) -> Json:
    """Return an error of the proxy's own as OpenAI's clients read errors."""
    return {"error": {"message": f"imitrace serve: {message}", "type": "imitrace_error", "param": None, "code": code}}
