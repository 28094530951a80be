"""Speak HTTP with senders that are slow, endless or many, at a bounded cost."""

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from imitrace_collector.config import CollectorConfig

_PIPELINED = 8
_FRAMING = 8
"""Bytes that may frame one byte of a body: a chunk of a single byte has five."""


def guarded_protocol(limits: CollectorConfig) -> type[asyncio.Protocol]:
    """Return a protocol class for uvicorn that keeps a collector's limits."""
    return type("LimitedProtocol", (_GuardedProtocol,), {"limits": limits})


class _GuardedProtocol(HttpToolsProtocol):
    """Add what uvicorn leaves open: limits on time, headers, connections and on what is sent after a refusal."""

    limits: CollectorConfig

    def __init__(self, config: Config, *arguments: Any, **keywords: Any) -> None:  # uvicorn's own
        super().__init__(config, *arguments, **keywords)
        self._timer: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._reading_headers = True
        self._header_bytes = 0
        self._body_bytes = self._framing_bytes = 0
        self._unwanted_bytes = 0
        self._answering: RequestResponseCycle | None = None
        self._closed = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._arm(self.limits.header_seconds)
        if len(self.connections) > self.limits.connections:
            self._refuse(503, "too many connections; send again", "retry-after: 1\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._timer, self._stall):
            if timer is not None:
                timer.cancel()
        self._nobody_hears()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._closed:
            self._discard(len(data))
            return
        within, body_bytes = None if self._reading_headers else self.scope, self._body_bytes
        if self._reading_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._reading_headers and self._header_bytes > self.limits.header_bytes:
            self._refuse(431, "headers are too large")
        elif within is self.scope and not self._reading_headers:
            self._count_framing(len(data) - (self._body_bytes - body_bytes))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._closed:  # read together with what was refused: it must not put the close off
            return
        self._unwanted_bytes = self._body_bytes = self._framing_bytes = 0
        self._arm(self.limits.header_seconds)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._reading_headers:
            super().on_header(name, value)
        else:  # a trailer, of which nothing is used
            self._discard(len(name) + len(value))

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.limits.header_bytes or len(self.pipeline) >= _PIPELINED:
            self._refuse(431 if size > self.limits.header_bytes else 400, "too much at once")
        if self._closed:
            return
        self._reading_headers = False
        self._arm(self.limits.body_seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._closed:
            return
        self._body_bytes += len(body)
        if self.cycle.response_complete:
            self._discard(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self._closed:
            return
        self._disarm()
        self._reading_headers = True
        self._header_bytes = 0
        super().on_message_complete()
        if self.cycle.response_complete:  # refused early: uvicorn's own clock for idle connections was stopped
            self._arm(self.limits.keep_alive_seconds)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def send_400_response(self, msg: str) -> None:
        self._nobody_hears()
        super().send_400_response(msg)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(self.limits.body_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self._too_slow)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        waiting_for_body = not self._reading_headers and not self.cycle.response_started
        if waiting_for_body or (self._reading_headers and self._header_bytes):
            self._refuse(408, "the request did not arrive in time")
        else:
            self.transport.close()

    def _discard(self, size: int) -> None:
        """Let pass what comes after an answer, so that the sender can read it, but not without end."""
        self._unwanted_bytes += size
        if self._unwanted_bytes > self.limits.max_request_bytes:
            self.transport.abort()

    def _count_framing(self, size: int) -> None:
        """Bound what is neither head nor body, and told to nobody: sizes of chunks, and what may stand after them."""
        self._framing_bytes += size
        if self.cycle.response_complete:
            self._discard(size)
        elif self._framing_bytes > self.limits.header_bytes + _FRAMING * self._body_bytes:
            self._refuse(400, "sizes of chunks are too long")

    def _nobody_hears(self) -> None:
        """End the request that is being answered, which with several in a row is not the last one that was read."""
        self.pipeline.clear()
        for cycle in (self._answering, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def _refuse(self, status: int, message: str, header: str = "") -> None:
        """Answer without the application, and close once the sender had a second to read that."""
        if self._closed:
            return
        self._closed = True
        self._disarm()
        self._unset_keepalive_if_required()
        self._nobody_hears()
        text = f"HTTP/1.1 {status} Refused\r\ncontent-type: text/plain\r\n{header}"
        text += f"content-length: {len(message)}\r\nconnection: close\r\n\r\n{message}"
        self.transport.write(text.encode("ascii"))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer = self.loop.call_later(1.0, self.transport.close)
