import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace_collector.app import create_app
from imitrace_collector.batcher import Batcher
from imitrace_collector.config import CollectorConfig
from imitrace_collector.derive import Deriver
from imitrace_collector.http_server import HttpServer
from imitrace_collector.intake import Intake
from imitrace_collector.rows import Batch
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]
Serve = Callable[..., tuple[str, Intake]]
SECONDS = 20
HEAD = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\n"


@pytest.fixture
def serve(config: CollectorConfig, store: Store) -> Iterator[Serve]:
    """Serve with other limits; what is sent is taken and forgotten, or given to ``write``."""
    stops: list[Callable[[], object]] = []

    def start(write: Callable[[object], object] = lambda _: None, **limits: Any) -> tuple[str, Intake]:
        changed = replace(config, **limits)
        batcher = Batcher[Batch](write, changed.queue_bytes)
        intake, deriver = Intake(changed, batcher), Deriver(store)
        server = HttpServer(create_app(intake, store, deriver), changed)
        stops.extend((deriver.stop, batcher.stop, intake.stop, server.stop))
        return urlsplit(server.url).netloc, intake

    yield start
    for stop in reversed(stops):
        stop()


@contextmanager
def connected(place: str) -> Iterator[socket.socket]:
    host, _, port = place.partition(":")
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        yield connection


def heard(connection: socket.socket) -> bytes:
    """Return everything up to the end."""
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def given_back(intake: Intake) -> None:
    """Wait until no request holds bytes: that is so soon after its sender was answered, not before."""
    last = time.monotonic() + 10
    while intake.budget.held:
        assert time.monotonic() < last
        threading.Event().wait(0.01)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"POST /v1/tra", 408),
        (HEAD, 408),
        (HEAD + b"Content-Length: 100\r\n\r\nabc", 408),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", 408),
    ],
)
def test_a_sender_that_is_too_slow_is_cut_off(serve: Serve, sent: bytes, expected: int) -> None:
    place, intake = serve(header_seconds=0.3, body_seconds=0.3)
    with connected(place) as connection:
        connection.sendall(sent)
        assert status(heard(connection)) == expected
    given_back(intake)


def test_a_sender_that_trickles_is_cut_off_all_the_same(serve: Serve) -> None:
    place, _ = serve(header_seconds=0.5)
    with connected(place) as connection:
        began = time.monotonic()
        connection.settimeout(0.05)
        connection.sendall(b"GET /")
        answer = b""
        while not answer and time.monotonic() - began < SECONDS:
            try:
                connection.sendall(b"a")
                answer = connection.recv(1000)
            except TimeoutError:
                continue
        assert status(answer) == 408
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("sent", [b"", HEAD + b"Content-Length: 0\r\n\r\n"])
def test_an_idle_connection_is_closed(serve: Serve, sent: bytes) -> None:
    place, _ = serve(header_seconds=0.3, keep_alive_seconds=1)
    with connected(place) as connection:
        connection.sendall(sent)
        assert heard(connection).count(b"HTTP/1.1 200") == (1 if sent else 0)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 5000,
        b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 1000 + b"\r\n",
    ],
)
def test_headers_over_the_limit_are_refused(serve: Serve, sent: bytes) -> None:
    place, _ = serve(header_bytes=2000)
    with connected(place) as connection:
        for start in range(0, len(sent), 500):
            try:
                connection.sendall(sent[start : start + 500])
            except (BrokenPipeError, ConnectionResetError):
                break
        assert status(heard(connection)) == 431


def test_a_gigabyte_is_refused_before_it_is_sent(serve: Serve) -> None:
    place, intake = serve()
    with connected(place) as connection:
        connection.sendall(HEAD + b"Content-Length: 1073741824\r\n\r\n")
        assert status(connection.recv(1000)) == 413
        sent = 0
        try:
            while sent < 2**30:
                sent += connection.send(bytes(65536))
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert sent < 4 * intake.config.max_request_bytes
        assert intake.budget.held == 0


def test_a_body_of_unknown_length_is_refused_when_it_passes_the_limit(serve: Serve) -> None:
    place, intake = serve(max_request_bytes=100_000)
    with connected(place) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            connection.sendall(b"9c40\r\n" + bytes(40_000) + b"\r\n")
        assert status(connection.recv(1000)) == 413
    assert intake.budget.held == 0


@pytest.mark.parametrize("chunks", [b"", b"4\r\nabcd\r\n"])
def test_a_chunk_size_without_end_is_refused(serve: Serve, chunks: bytes) -> None:
    place, intake = serve(header_bytes=2000, body_seconds=SECONDS)
    with connected(place) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"1;")
        for _ in range(1000):
            if select.select([connection], [], [], 0.01)[0]:
                break
            connection.sendall(b"a" * 1000)
        assert status(connection.recv(1000)) == 400
    given_back(intake)


def test_a_body_in_the_smallest_chunks_is_taken(serve: Serve, export: MakeExport) -> None:
    place, _ = serve(header_bytes=200)
    body = export().SerializeToString()
    with connected(place) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
        assert status(connection.recv(1000)) == 200


def test_who_sends_too_many_requests_in_a_row_leaves_no_error(
    serve: Serve, export: MakeExport, caplog: pytest.LogCaptureFixture
) -> None:
    """Uvicorn ends the last request that was read; the one that is being answered comes before it."""
    began, closed = threading.Event(), threading.Event()

    def write(_: object) -> None:
        began.set()
        closed.wait(SECONDS)

    place, intake = serve(write)
    body = export().SerializeToString()
    with connected(place) as connection:
        connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert began.wait(SECONDS)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        assert status(heard(connection)) == 400
        refused = time.monotonic()
        with suppress(BrokenPipeError, ConnectionResetError):
            while not closed.wait(0.01):
                connection.send(b"a")
        assert time.monotonic() - refused < 5  # the requests behind the refused one do not put the close off
    closed.set()
    given_back(intake)
    assert "Exception" not in caplog.text


def test_a_full_memory_is_told_without_reading_and_the_connection_goes_on(serve: Serve, export: MakeExport) -> None:
    place, intake = serve(max_request_bytes=100_000, queue_bytes=200_000)
    body = export().SerializeToString()
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
    with connected(place) as connection:
        with intake.budget.reserve(199_000):
            connection.sendall(request)
            answer = connection.recv(1000)
            assert status(answer) == 503
            assert b"retry-after: 1\r\n" in answer
            assert intake.budget.held == 199_000
        connection.sendall(body + request + body)
        assert status(connection.recv(1000)) == 200
    given_back(intake)


def test_bytes_are_held_while_a_body_arrives(serve: Serve) -> None:
    place, intake = serve(max_request_bytes=100_000, queue_bytes=200_000)
    with connected(place) as slow, connected(place) as other:
        for connection in (slow, other):
            connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
        with connected(place) as third:
            deadline = time.monotonic() + SECONDS
            while intake.budget.held < 200_000 and time.monotonic() < deadline:
                threading.Event().wait(0.01)
            third.sendall(HEAD + b"Content-Length: 1\r\n\r\n")
            assert status(third.recv(1000)) == 503


def test_connections_over_the_limit_are_told_to_come_again(serve: Serve) -> None:
    place, _ = serve(connections=2)
    with connected(place) as first, connected(place) as second:
        for connection in (first, second):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert status(connection.recv(1000)) == 200
        with connected(place) as third:
            answer = heard(third)
            assert status(answer) == 503
            assert b"retry-after: 1" in answer
    deadline = time.monotonic() + SECONDS
    answer = b""
    while b" 200 " not in answer and time.monotonic() < deadline:
        with connected(place) as again:
            again.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = again.recv(1000)
    assert status(answer) == 200


def test_what_is_no_http_is_refused(serve: Serve) -> None:
    place, _ = serve()
    for sent in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"\0" * 100_000):
        with connected(place) as connection:
            connection.sendall(sent)
            assert status(heard(connection)) == 400


def test_a_flood_of_requests_on_one_connection_is_refused(serve: Serve) -> None:
    place, _ = serve()
    with connected(place) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        assert heard(connection).count(b"HTTP/1.1 200") < 20


def test_answers_on_a_kept_connection_come_at_once(serve: Serve) -> None:
    place, _ = serve()
    with connected(place) as connection:
        began = time.monotonic()
        for _ in range(20):
            connection.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
            assert status(connection.recv(1000)) == 404
        assert time.monotonic() - began < 0.6
