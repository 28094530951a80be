"""Send requests to the model's API as they came, and hand on what it answers as it comes."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
from yarl import URL

from imitrace_trainer.serving.config import ServeConfig, forward_proxy
from imitrace_trainer.serving.headers import Headers

UpstreamError = (aiohttp.ClientError, TimeoutError, OSError)
"""What keeps the model's API from answering, or from ending its answer."""

_HEADER_BYTES = 64 * 1024
_IDLE_SECONDS = 30.0
_PIECE = 256 * 1024
_NOT_OURS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


class Upstream:
    """The model's API, by HTTP/1.1 over connections that are kept; certificates are verified."""

    def __init__(self, config: ServeConfig) -> None:
        self._base = config.upstream.rstrip("/")
        self._proxy = forward_proxy(config.upstream)
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=config.connect_seconds, sock_read=config.silence_seconds
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=_NOT_OURS,
            timeout=timeout,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )

    def send(
        self, method: str, path: str, headers: Headers, body: bytes | AsyncIterator[bytes] | None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send a request and return its answer, whose body is not read yet.

        Args:
            method: HTTP's word.
            path: what stands behind the base address, with its query, escaped as it came.
            headers: all that is sent, but what the connection itself needs.
            body: the whole, or its pieces; None for none.
        """
        pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
        options: dict[str, Any] = {"proxy": self._proxy} if self._proxy else {}
        if isinstance(body, bytes) and len(body) > _PIECE:
            body = _in_pieces(body)
        return self._session.request(
            method,
            URL(f"{self._base}/{path}", encoded=True),
            headers=pairs,
            data=body,
            allow_redirects=False,
            **options,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()


async def _in_pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), _PIECE):
        yield body[start : start + _PIECE]


def failure_kind(error: BaseException) -> str:
    """Return in a word how the model's API failed."""
    kinds: Mapping[type[BaseException], str] = {
        aiohttp.ClientConnectorCertificateError: "certificate",
        aiohttp.ClientConnectorError: "connect",
        aiohttp.ConnectionTimeoutError: "connect_timeout",
        TimeoutError: "silent",
        aiohttp.ClientPayloadError: "cut",
        aiohttp.ServerDisconnectedError: "cut",
    }
    return next((word for kind, word in kinds.items() if isinstance(error, kind)), "broken")
