"""Run the whole collector in one process: store, writing thread, HTTP and gRPC."""

import json
import os
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import uvicorn
from starlette.applications import Starlette

from imitrace.exceptions import ConfigError
from imitrace_collector.app import create_app
from imitrace_collector.batcher import Batcher
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import RUNNING_FILE, CollectorConfig
from imitrace_collector.derive import Deriver
from imitrace_collector.grpc_server import start_grpc
from imitrace_collector.ingest import Writer
from imitrace_collector.rows import Batch
from imitrace_collector.store import Store

_GRACE_SECONDS = 10


class HttpServer:
    """Serve an application from a thread of its own, on a port that is bound before it starts."""

    def __init__(self, app: Starlette, host: str, port: int) -> None:
        """Bind and start.

        Raises:
            ConfigError: the port is taken, or the host is not this machine's.
        """
        self._socket = _bind(host, port)
        self.host, self.port = host, int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="imitrace-http", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Return the address to send requests to."""
        return f"http://{address(self.host, self.port)}"

    def stop(self) -> None:
        """Answer what was begun, then close."""
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()


class CollectorServer:
    """A running collector: enter it to start, leave it to drain and close."""

    def __init__(self, config: CollectorConfig) -> None:
        self.config = config
        self.http = ""
        self.grpc = ""
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        """Open the store, listen, and tell ``collector.json`` where.

        Raises:
            StoreError: the store can't be opened.
            ConfigError: a port is taken.
        """
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()

    def ready_line(self) -> str:
        """Return the line that says where the collector listens."""
        return f"collector ready http={self.http} grpc={self.grpc} store={self.config.store}"

    def _start(self) -> None:
        """Start one thing after the other; what is started last is stopped first."""
        later = self._cleanup.callback
        store = Store.open(self.config.store)
        later(store.close)
        later(store.checkpoint)
        deriver = Deriver(store)
        later(deriver.stop)
        writer = Writer(self._cleanup.enter_context(store.session()))

        def write(batches: Sequence[Batch]) -> None:
            deriver.committed(writer.write(batches).chunk)

        batcher = Batcher[Batch](write, self.config.queue_bytes)
        later(batcher.stop)
        grpc_server, grpc_port = start_grpc(self.config, batcher)
        later(lambda: grpc_server.stop(_GRACE_SECONDS).wait())
        app = create_app(self.config, store, deriver, batcher)
        http_server = HttpServer(app, self.config.host, self.config.http_port)
        later(http_server.stop)
        self.http, self.grpc = http_server.url, address(self.config.host, grpc_port)
        CollectorClient(self.http).get("/healthz")
        self._announce()
        later((self.config.home / RUNNING_FILE).unlink, missing_ok=True)

    def _announce(self) -> None:
        """Write ``collector.json``, so that other commands find this collector."""
        running = {"pid": os.getpid(), "http": self.http, "grpc": self.grpc, "store": str(self.config.store.absolute())}
        aside = self.config.home / f".{RUNNING_FILE}"
        aside.write_text(json.dumps(running) + "\n", encoding="utf-8")
        aside.replace(self.config.home / RUNNING_FILE)


def address(host: str, port: int) -> str:
    """Return ``HOST:PORT``, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"HTTP port {port} on {host} can't be listened on: {error.strerror}; name another with --http-port"
        ) from error
    return listener
