"""Start a server on a new store, in processes of its own, and measure what it takes."""

import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from intake import processes
from intake.load import Route
from intake.products import Ports, Product
from overhead.config import clean_environment

_START_SECONDS, _STOP_SECONDS, _QUIET_SECONDS = 180.0, 60.0, 60.0
_LOOK = 0.01
_WINDOW, _QUIET = 0.5, 0.05
_SHOWN = 400


class Server:
    """A server that runs, and what it was when it had just started."""

    def __init__(self, product: Product, folder: Path) -> None:
        self.product = product
        self.home = folder / "home"
        self.home.mkdir()
        self._printed = folder / "log"
        self.ports = Ports(_free_port(), _free_port())
        self._process: subprocess.Popen[bytes] | None = None
        self.ready_seconds = self.idle_megabytes = 0.0
        self.life_cpu = 0.0
        """CPU seconds of its whole life, once it has stopped."""

    @property
    def log(self) -> str:
        return self._printed.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Return when it is ready and has come to rest; raises ``ConnectionError`` if it does not get there."""
        command, environment = self.product.launch(self.home, self.ports)
        with self._printed.open("wb") as log:
            begun = time.monotonic()
            process = self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**clean_environment(), **environment}, start_new_session=True
            )
        while not self.product.ready(self):
            if process.poll() is not None or time.monotonic() - begun > _START_SECONDS:
                raise ConnectionError(f"{self.product.name} did not start: {self.log[-_SHOWN:]}")
            wait(_LOOK)
        self.ready_seconds = time.monotonic() - begun
        self.rest()
        self.idle_megabytes = processes.memory(self.pid, "VmRSS")

    def rest(self) -> None:
        """Wait until it does nothing: what it still does to start is not what the load costs."""
        until, used = time.monotonic() + _QUIET_SECONDS, processes.cpu_seconds(self.pid)
        while time.monotonic() < until:
            wait(_WINDOW)
            before, used = used, processes.cpu_seconds(self.pid)
            if used - before <= _QUIET * _WINDOW:
                return

    def stop(self) -> None:
        """End it as a service manager would, unless it has been."""
        if self._process is None:
            return
        mine = _reaped()
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None
        self.life_cpu = _reaped() - mine

    def route(self, protocol: str = "http", **headers: str) -> Route:
        """Return how requests get here."""
        port = self.ports.grpc if protocol == "grpc" else self.ports.http
        return Route(f"127.0.0.1:{port}", protocol, {**self.product.headers, **headers})

    def ask(self, path: str, body: object = None) -> Any:  # JSON
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.http, timeout=_START_SECONDS)
        try:
            given = None if body is None else json.dumps(body)
            connection.request("POST" if given else "GET", path, given, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise ConnectionError(f"{path} answers {answer.status}: {content[:_SHOWN]!r}")
        return json.loads(content) if content.startswith((b"{", b"[")) else content

    def bytes_on_disk(self) -> int:
        """Return the size of everything in its folder."""
        return sum(path.stat().st_size for path in self.home.rglob("*") if path.is_file())


@contextmanager
def running(product: Product) -> Iterator[Server]:
    """Start a server on a new store and yield it; what it left is deleted at the end."""
    with ExitStack() as stack:
        server = Server(product, Path(stack.enter_context(tempfile.TemporaryDirectory())))
        try:
            server.start()
            yield server
        finally:
            server.stop()


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _reaped() -> float:
    """Return CPU seconds of our children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
