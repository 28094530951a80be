"""Serve an application by HTTP, from a thread of its own."""

import asyncio
import socket
import ssl
import threading
from concurrent.futures import Future
from functools import partial

import uvicorn
from starlette.applications import Starlette

from imitrace.listening import address, bound
from imitrace_collector.config import CollectorConfig
from imitrace_collector.http_protocol import guarded_protocol

GRACE_SECONDS = 10
_BACKLOG = 1024


class HttpServer:
    """Serve an application, on a port that is bound before it starts."""

    def __init__(self, app: Starlette, config: CollectorConfig, tls: ssl.SSLContext | None = None) -> None:
        """Bind, and return once requests are answered.

        Raises:
            ConfigError: the port is taken, or the host is not this machine's.
        """
        self._socket = bound(config.host, config.http_port, "HTTP port", "--http-port", _BACKLOG)
        self.host, self.port = config.host, int(self._socket.getsockname()[1])
        self.scheme = "http" if tls is None else "https"
        self._server = _Server(app, config, tls)
        self._thread = threading.Thread(target=self._run, name="imitrace-http", daemon=True)
        self._thread.start()
        self._server.listening.result()

    @property
    def url(self) -> str:
        """Return the address to send requests to."""
        return f"{self.scheme}://{address(self.host, self.port)}"

    def stop(self) -> None:
        """Answer what was begun, then close."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except BaseException as error:  # whoever waits for the start must hear of it
            if self._server.listening.done():
                raise
            self._server.listening.set_exception(error)


class _Server(uvicorn.Server):
    """Uvicorn's server with limits on TLS handshakes, which tells when it listens."""

    def __init__(self, app: Starlette, limits: CollectorConfig, tls: ssl.SSLContext | None) -> None:
        config = uvicorn.Config(
            app,
            http=guarded_protocol(limits),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_keep_alive=round(limits.keep_alive_seconds),
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        super().__init__(config)
        self.listening = Future[None]()
        self._limits = limits
        self._tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets."""
        make = partial(self.config.http_protocol_class, self.config, self.server_state, {})  # type: ignore[call-arg]  # ours
        loop = asyncio.get_running_loop()
        seconds = None if self._tls is None else self._limits.header_seconds
        self.servers = [
            await loop.create_server(
                make, sock=listener, ssl=self._tls, ssl_handshake_timeout=seconds, backlog=_BACKLOG
            )
            for listener in sockets or []
        ]
        self.started = True
        self.listening.set_result(None)
