import gzip
import socket
import ssl
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsPartialSuccess, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from imitrace.delivery.otlp_http import HttpTransport
from imitrace.delivery.transports import Answer, Connection

Request = tuple[str, dict[str, str], bytes]
Behaviour = Callable[[socket.socket], object]
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
UNPACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress, "none": bytes}


def read_request(peer: socket.socket) -> Request | None:
    with peer.makefile("rb") as stream:
        start = stream.readline().decode()
        headers = {}
        while line := stream.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        return (start.strip(), headers, stream.read(int(headers.get("content-length", 0)))) if start else None


def hang_up(opened: socket.socket) -> None:
    with suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)


class Listener:
    """A server of raw sockets: reads a request where it is told to, then behaves as it is told."""

    def __init__(self, behave: Behaviour, tls: ssl.SSLContext | None = None, reads: bool = True) -> None:
        self.requests: list[Request] = []
        self.over = threading.Event()
        self.answering = threading.Event()
        self._behave, self._tls, self._reads = behave, tls, reads
        self._server = socket.create_server(("127.0.0.1", 0))
        self._peers: list[socket.socket] = []
        self.address = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self.over.set()
        hang_up(self._server)
        self._threads[0].join(10)
        for peer in self._peers:
            hang_up(peer)
        for thread in self._threads[1:]:
            thread.join(10)
        for opened in (self._server, *self._peers):
            opened.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._server.accept()
                if self._tls is not None:
                    peer = self._tls.wrap_socket(peer, server_side=True, do_handshake_on_connect=False)
                self._peers.append(peer)
                self._threads.append(threading.Thread(target=self._serve, args=(peer,), daemon=True))
                self._threads[-1].start()

    def _serve(self, peer: socket.socket) -> None:
        with suppress(OSError, ValueError):
            if isinstance(peer, ssl.SSLSocket):
                peer.do_handshake()
            while not self.over.is_set() and (not self._reads or (request := read_request(peer))):
                if self._reads and request:
                    self.requests.append(request)
                self.answering.set()
                self._behave(peer)
        hang_up(peer)


@contextmanager
def listening(behave: Behaviour, tls: ssl.SSLContext | None = None, reads: bool = True) -> Iterator[Listener]:
    listener = Listener(behave, tls, reads)
    try:
        yield listener
    finally:
        listener.close()


def says(status: str, body: bytes = b"", *headers: str) -> Behaviour:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return lambda peer: peer.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def then_closes(data: bytes) -> Behaviour:
    def behave(peer: socket.socket) -> None:
        peer.sendall(data)
        peer.shutdown(socket.SHUT_RDWR)

    return behave


def close_when(begun: threading.Event, transport: HttpTransport) -> None:
    begun.wait(10)
    transport.close()


def post(address: str, body: bytes = b"request", timeout: float = 10.0) -> Answer:
    transport = HttpTransport(Connection(address=address), "traces")
    try:
        return transport.post(body, timeout)
    finally:
        transport.close()


@pytest.mark.parametrize("compression", ["gzip", "deflate", "none"])
@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_a_request_arrives_as_otlp_over_one_kept_connection(compression: str, signal: str) -> None:
    with listening(says("200 OK")) as listener:
        connection = Connection(address=listener.address + "/base/", compression=compression, headers={"x-key": "k"})
        transport = HttpTransport(connection, signal)  # type: ignore[arg-type]  # parametrize knows only str
        assert [transport.post(body, 10) for body in (b"one", b"two")] == [Answer("accepted")] * 2
        transport.close()
    (start, headers, body), (_, _, second) = listener.requests
    assert start == f"POST /base/v1/{signal} HTTP/1.1"
    assert (headers["content-type"], headers["x-key"]) == ("application/x-protobuf", "k")
    assert headers.get("content-encoding") == (None if compression == "none" else compression)
    assert [UNPACK[compression](sent) for sent in (body, second)] == [b"one", b"two"]
    assert len(listener._peers) == 1


def test_what_a_collector_rejects_of_a_request_is_told() -> None:
    spans = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=2, error_message="no\nid")
    )
    logs = ExportLogsServiceResponse(partial_success=ExportLogsPartialSuccess(rejected_log_records=3))
    with listening(says("200 OK", spans.SerializeToString())) as listener:
        assert post(listener.address) == Answer("accepted", "no id", 2)
    with listening(says("202 Accepted", logs.SerializeToString())) as listener:
        transport = HttpTransport(Connection(address=listener.address), "logs")
        assert transport.post(b"request", 10) == Answer("accepted", "", 3)
        transport.close()


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(f"{code} Later", "later") for code in (429, 502, 503, 504)]
    + [(f"{code} No", "refused") for code in (301, 307, 400, 401, 404, 413, 500, 501)],
)
def test_a_status_says_whether_to_come_again(status: str, verdict: str) -> None:
    elsewhere = "location: http://127.0.0.1:1/v1/traces"
    with listening(says(status, b"the reason", elsewhere)) as listener:
        assert post(listener.address)[:2] == (verdict, f"{status} the reason")
        assert len(listener.requests) == 1


def test_the_reason_is_read_from_a_status_message() -> None:
    body = Status(message="span 3 has no id").SerializeToString()
    with listening(says("400 Bad Request", body, "content-type: application/x-protobuf")) as listener:
        assert post(listener.address).reason == "400 Bad Request span 3 has no id"


@pytest.mark.parametrize(("value", "delay"), [("7", 7.0), ("999999999", 60.0), ("soon", None), ("-3", 0.0)])
def test_the_wait_that_a_collector_asks_for_is_told_up_to_a_minute(value: str, delay: float | None) -> None:
    with listening(says("503 Busy", b"", f"retry-after: {value}")) as listener:
        assert post(listener.address).delay == delay


def test_a_web_page_is_no_success() -> None:
    with listening(says("200 OK", b"<html>log in</html>", "content-type: text/html; charset=utf-8")) as listener:
        assert post(listener.address).verdict == "later"


@pytest.mark.parametrize(
    "answer",
    [b"", b"\x00\xff garbage\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"],
)
def test_what_is_no_answer_is_tried_again(answer: bytes) -> None:
    with listening(then_closes(answer)) as listener:
        assert post(listener.address).verdict == "later"


def test_a_success_with_an_unreadable_body_is_a_success() -> None:
    with listening(says("200 OK", b"\xff\xff\xff not protobuf")) as listener:
        assert post(listener.address).verdict == "accepted"


def test_an_answer_that_ends_with_its_connection_is_read() -> None:
    body = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=1)).SerializeToString()
    with listening(then_closes(b"HTTP/1.0 200 OK\r\n\r\n" + body)) as listener:
        transport = HttpTransport(Connection(address=listener.address), "traces")
        assert [transport.post(b"request", 10).rejected for _ in range(2)] == [1, 1]
        transport.close()


def test_a_connection_that_was_closed_while_idle_is_made_anew() -> None:
    with listening(then_closes(OK)) as listener:
        transport = HttpTransport(Connection(address=listener.address), "traces")
        assert [transport.post(b"request", 10) for _ in range(3)] == [Answer("accepted")] * 3
        transport.close()


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", OK.replace(b"0", b"9")], ids=["line", "head", "body"])
def test_an_answer_that_trickles_ends_in_time(start: bytes) -> None:
    def trickle(peer: socket.socket) -> None:
        peer.sendall(start)
        while not listener.over.wait(0.01):
            peer.sendall(b"x")

    with listening(trickle) as listener:
        began = time.monotonic()
        assert post(listener.address, timeout=0.3).verdict == ("later" if b"content" not in start else "accepted")
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("head", [b"content-length: 99999999999\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n"])
def test_an_endless_body_is_read_for_64_kilobytes(head: bytes) -> None:
    def pour(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\n" + head)
        while not listener.over.is_set():
            peer.sendall(b"fff\r\n" + b"x" * 4095 + b"\r\n")

    with listening(pour) as listener:
        assert post(listener.address).verdict == "accepted"


def test_a_receiver_that_never_reads_ends_in_time() -> None:
    with listening(lambda _: listener.over.wait(10), reads=False) as listener:
        transport = HttpTransport(Connection(address=listener.address, compression="none"), "traces")
        assert transport.post(b"x" * 2**25, 0.3).verdict == "later"


def test_a_refusal_before_the_request_was_read_is_understood() -> None:
    def refuse(peer: socket.socket) -> None:
        peer.recv(1000)
        peer.sendall(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(2**16):
            pass
        raise OSError

    with listening(refuse, reads=False) as listener:
        transport = HttpTransport(Connection(address=listener.address, compression="none"), "traces")
        assert transport.post(b"x" * 2**24, 10) == Answer("refused", "413 Too Large")


def test_close_breaks_off_a_try() -> None:
    with listening(lambda _: listener.over.wait(30)) as listener:
        transport = HttpTransport(Connection(address=listener.address), "traces")
        threading.Thread(target=close_when, args=(listener.answering, transport)).start()
        began = time.monotonic()
        assert transport.post(b"request", 30).verdict == "later"
        assert time.monotonic() - began < 5
        assert transport.post(b"request", 30) == Answer("later", "closed")


def test_a_login_within_the_address_is_used_and_not_shown() -> None:
    with listening(says("200 OK")) as listener:
        connection = Connection(address=listener.address.replace("://", "://me:p%40ss@"))
        transport = HttpTransport(connection, "traces")
        assert transport.post(b"request", 10) == Answer("accepted")
        transport.close()
    assert listener.requests[0][1]["authorization"] == "Basic bWU6cEBzcw=="
    assert connection.place == listener.address


def test_headers_that_cannot_be_written_are_refused() -> None:
    with listening(says("200 OK")) as listener:
        transport = HttpTransport(Connection(address=listener.address, headers={"x": "a\r\nb"}), "traces")
        assert transport.post(b"request", 10).verdict == "refused"


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return a certificate that vouches for itself and 127.0.0.1, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=collector", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return str(certificate), str(key)


def test_tls_trusts_the_authority_that_is_named_and_shows_our_certificate(identity: tuple[str, str]) -> None:
    certificate, key = identity
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    tls.load_verify_locations(certificate)
    tls.verify_mode = ssl.CERT_REQUIRED
    with listening(says("200 OK"), tls) as listener:
        known = Connection(
            address=listener.address, certificate=certificate, client_certificate=certificate, client_key=key
        )
        transport = HttpTransport(known, "traces")
        assert [transport.post(b"x" * 2**21, 10) for _ in range(2)] == [Answer("accepted")] * 2
        transport.close()
        stranger = HttpTransport(Connection(address=listener.address, certificate=certificate), "traces")
        assert stranger.post(b"request", 10).verdict == "later"
        assert "CERTIFICATE_VERIFY_FAILED" in post(listener.address).reason
    assert len(listener.requests) == 2


def test_close_breaks_off_a_try_over_tls(identity: tuple[str, str]) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*identity)
    with listening(lambda _: listener.over.wait(30), tls) as listener:
        transport = HttpTransport(Connection(address=listener.address, certificate=identity[0]), "traces")
        threading.Thread(target=close_when, args=(listener.answering, transport)).start()
        began = time.monotonic()
        assert transport.post(b"request", 30).verdict == "later"
        assert time.monotonic() - began < 5


def test_a_proxy_that_the_system_names_is_used_but_not_for_our_own_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(says("200 OK")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address.replace("://", "://me:pass@"))
        monkeypatch.setenv("https_proxy", proxy.address)
        monkeypatch.setenv("no_proxy", "inside.example")
        assert post("http://collector.example:4318").verdict == "accepted"
        assert post("https://collector.example:4318", timeout=5).verdict == "later"  # no TLS behind this one
        assert post("http://127.0.0.1:1").verdict == "later"
    (start, headers, _), (tunnel, _, _) = proxy.requests
    assert start == "POST http://collector.example:4318/v1/traces HTTP/1.1"
    assert headers["proxy-authorization"] == "Basic bWU6cGFzcw=="
    assert tunnel.startswith("CONNECT collector.example:4318")
