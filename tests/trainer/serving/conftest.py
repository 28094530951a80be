"""Put a proxy before a model's API that answers as a test says, and the lamps' clone into it."""

import importlib.util
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from imitrace_trainer.serving.config import ServeConfig
from imitrace_trainer.serving.server import ProxyServer

_LOAD_SECONDS = 60.0
_WAIT_SECONDS = 20.0


def _module(path: Path) -> Any:
    """Return what another folder has that is needed here too: a conftest with its fixtures, a scripted model."""
    spec = importlib.util.spec_from_file_location(f"sdk_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_SDK = _module(Path(__file__).parents[2] / "sdk" / "conftest.py")
_SCRIPTED = _module(Path(__file__).parents[2] / "sdk" / "programs" / "model_server.py")
lamp_home, lamp_tools, lamps, seen = _SDK.lamp_home, _SDK.lamp_tools, _SDK.lamps, _SDK.seen


class Received(NamedTuple):
    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for found, value in self.headers if found.lower() == name.lower()), None)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "Origin"

    def _serve(self) -> None:
        received = Received(self.command, self.path, list(self.headers.items()), self._body())
        self.server.received.append(received)
        self.server.answer(self, received)

    do_GET = do_POST = do_DELETE = do_PUT = do_HEAD = _serve  # noqa: N815 - the base class names them so

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def start_chunks(self, kind: str = "text/event-stream") -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def chunk(self, piece: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def end_chunks(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        pass


Answer = Callable[[Handler, Received], None]


def say_ok(handler: Handler, received: Received) -> None:
    message = {"role": "assistant", "content": "ok"}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    completion = {"id": "chatcmpl-1", "object": "chat.completion", "model": "expert-1", "choices": [choice]}
    handler.reply(200, json.dumps(completion).encode(), Content_Type="application/json")


def play(handler: Handler, received: Received) -> None:
    """Answer as the scripted model does, which looks orders up and switches lamps."""
    body, api = json.loads(received.body), _SCRIPTED.APIS[received.path]
    answer = api.read(body).answer()
    if not body.get("stream"):
        handler.reply(200, json.dumps(api.whole(body, answer)).encode(), Content_Type="application/json")
        return
    handler.start_chunks()
    for event in api.events(body, answer):
        name = f"event: {event['type']}\n" if "type" in event else ""
        data = event if isinstance(event, str) else json.dumps(event)
        handler.chunk(f"{name}data: {data}\n\n".encode())
    handler.end_chunks()


class Origin(ThreadingHTTPServer):
    """A model's API that answers as it is told."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.forget()

    def forget(self) -> None:
        self.received: list[Received] = []
        self.answer: Answer = say_ok

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of callers that were cut off."""


@pytest.fixture(scope="session")
def _origin() -> Iterator[Origin]:
    with Origin() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def origin(_origin: Origin) -> Origin:
    _origin.forget()
    return _origin


@pytest.fixture
def scripted(origin: Origin) -> Origin:
    """Return the origin, answering as the scripted model does."""
    origin.answer = play
    return origin


@pytest.fixture
def serve(_origin: Origin) -> Iterator[Callable[..., ProxyServer]]:
    """Return what starts a proxy before the origin."""
    with ExitStack() as stack:

        def start(**options: Any) -> ProxyServer:
            return stack.enter_context(ProxyServer(ServeConfig(**{"upstream": _origin.url, "port": 0, **options})))

        yield start


@pytest.fixture
def proxy(serve: Callable[..., ProxyServer]) -> ProxyServer:
    """Return a proxy without a clone."""
    return serve()


def _cloned(origin: Origin, home: Path, **options: Any) -> ProxyServer:
    patient = {"ask_seconds": _WAIT_SECONDS, "home": home, "clone": "lamps", "port": 0}
    return ProxyServer(ServeConfig(upstream=origin.url, **{**patient, **options}))


@pytest.fixture(scope="session")
def acting(_origin: Origin, lamp_home: Path) -> Iterator[ProxyServer]:
    """Return a proxy whose clone switches lamps."""
    with _cloned(_origin, lamp_home) as server:
        assert server.clone_known(_LOAD_SECONDS)
        yield server


@pytest.fixture(scope="session")
def watching(_origin: Origin, lamp_home: Path) -> Iterator[ProxyServer]:
    """Return a proxy whose clone is only watched."""
    with _cloned(_origin, lamp_home, shadow=True) as server:
        assert server.clone_known(_LOAD_SECONDS)
        yield server


class Answered(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """A caller of a proxy that says exactly what it is told to, over a connection of its own."""

    def __init__(self, server: ProxyServer) -> None:
        host, _, port = server.url.removeprefix("http://").partition(":")
        self.connection = HTTPConnection(host, int(port), timeout=_WAIT_SECONDS)

    def open(self, method: str, path: str, body: Any = None, **headers: str) -> HTTPResponse:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request(method, path, data, named)
        return self.connection.getresponse()

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answered:
        response = self.open(method, path, body, **headers)
        return Answered(
            response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        )

    def chat(self, body: Any, **headers: str) -> Answered:
        return self.ask("POST", "/v1/chat/completions", body, **headers)


@pytest.fixture
def client() -> Iterator[Callable[[ProxyServer], Client]]:
    """Return what opens a connection to a proxy."""
    with ExitStack() as stack:

        def connect(server: ProxyServer) -> Client:
            made = Client(server)
            stack.callback(made.connection.close)
            return made

        yield connect


@pytest.fixture(scope="session")
def offered(lamp_tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the lamps' tools as OpenAI's chat takes them."""
    return [{"type": "function", "function": tool} for tool in lamp_tools]
