"""Serve the proxy by HTTP, from a thread of its own."""

import asyncio
import socket
import threading
from concurrent.futures import Future
from types import TracebackType
from typing import Self

import uvicorn

from imitrace.exceptions import ConfigError
from imitrace.listening import address, bound
from imitrace_trainer.serving.app import App, create_app
from imitrace_trainer.serving.config import ServeConfig

_BACKLOG = 1024
_GRACE_SECONDS = 10


class ProxyServer:
    """A running proxy: enter it to start, leave it to finish what was begun and close."""

    def __init__(self, config: ServeConfig) -> None:
        self.config = config
        self.url = ""
        self._app = create_app(config)

    def __enter__(self) -> Self:
        """Listen, and return once requests are answered; the clone is loaded meanwhile.

        Raises:
            ConfigError: the port is taken, or the host is not this machine's.
        """
        self._socket = bound(self.config.host, self.config.port, "port", "--port")
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://{address(host, port)}"
        self._server = _Server(self._app, self.config)
        self._thread = threading.Thread(target=self._run, name="imitrace-serve", daemon=True)
        self._thread.start()
        try:
            self._server.listening.result()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def clone_known(self, seconds: float) -> bool:
        """Wait until the clone is loaded, or can't be; return whether that was in time."""
        return asyncio.run_coroutine_threadsafe(self._app.clone.known(seconds), self._server.loop).result()

    def settle(self) -> None:
        """Wait until every request that came so far is answered and recorded."""
        asyncio.run_coroutine_threadsafe(self._app.proxy.settle(), self._server.loop).result()

    def ready_line(self) -> str:
        """Return the line that says what is served where."""
        clone = self.config.clone or "none"
        mode = " shadow" if self.config.shadow else ""
        return f"proxy ready http={self.url}/v1 upstream={self.config.upstream} clone={clone}{mode}"

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        except BaseException as error:  # whoever waits for the start must hear of it
            if self._server.listening.done():
                raise
            self._server.listening.set_exception(error)


class _Server(uvicorn.Server):
    """Uvicorn's server, which tells when it listens."""

    def __init__(self, app: App, config: ServeConfig) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                http="httptools",
                lifespan="on",
                ws="none",
                proxy_headers=False,
                server_header=False,
                date_header=False,
                limit_concurrency=config.connections,
                backlog=_BACKLOG,
                timeout_keep_alive=round(config.keep_alive_seconds),
                timeout_graceful_shutdown=_GRACE_SECONDS,
            )
        )
        self.listening = Future[None]()
        self.loop: asyncio.AbstractEventLoop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the sockets."""
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.should_exit:
            raise ConfigError("the proxy could not start; the log says why")
        self.listening.set_result(None)
