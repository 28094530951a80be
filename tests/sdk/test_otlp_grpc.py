import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import DebugInfo, RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from imitrace.delivery.otlp_grpc import GrpcTransport
from imitrace.delivery.transports import Answer, Connection

Behaviour = Callable[[bytes, Any], bytes]


@contextmanager
def listening(
    behave: Behaviour, credentials: Any = None
) -> Iterator[tuple[str, list[tuple[str, dict[str, Any], bytes]]]]:
    """Run a gRPC server that takes any method, and yield its address and what it was sent."""
    seen: list[tuple[str, dict[str, Any], bytes]] = []

    class Anything(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc is untyped
        def service(self, call: Any) -> Any:
            def answer(body: bytes, context: Any) -> bytes:
                seen.append((call.method, dict(context.invocation_metadata()), body))
                return behave(body, context)

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(2), handlers=[Anything()])
    port = (
        server.add_secure_port("127.0.0.1:0", credentials) if credentials else server.add_insecure_port("127.0.0.1:0")
    )
    server.start()
    try:
        yield f"{'https' if credentials else 'http'}://127.0.0.1:{port}", seen
    finally:
        server.stop(None).wait()


def fails(code: str, details: Sequence[Any] = (), raw: bytes | None = None) -> Behaviour:
    packed = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    status = Status(details=packed).SerializeToString() if raw is None else raw

    def behave(_: bytes, context: Any) -> bytes:
        if details or raw is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", status),))
        context.abort(grpc.StatusCode[code], "the reason")
        return b""

    return behave


def post(address: str, body: bytes = b"request", timeout: float = 10.0, **options: Any) -> Answer:
    transport = GrpcTransport(Connection(address=address, protocol="grpc", **options), "traces")
    try:
        return transport.post(body, timeout)
    finally:
        transport.close()


@pytest.mark.parametrize("compression", ["gzip", "deflate", "none"])
def test_a_request_arrives_as_the_bytes_it_is(compression: str) -> None:
    with listening(lambda *_: b"") as (address, seen):
        assert post(address, b"x" * 10_000, compression=compression, headers={"X-Key": "k"}) == Answer("accepted")
        logs = GrpcTransport(Connection(address=address, protocol="grpc"), "logs")
        assert [logs.post(b"log", 10), logs.post(b"log", 10)] == [Answer("accepted")] * 2
        logs.close()
    (method, metadata, body), (logs_method, _, _), _ = seen
    assert method == "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    assert logs_method == "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
    assert (metadata["x-key"], body) == ("k", b"x" * 10_000)


def test_what_a_collector_rejects_of_a_request_is_told() -> None:
    partly = ExportTracePartialSuccess(rejected_spans=2, error_message="no id")
    body = ExportTraceServiceResponse(partial_success=partly).SerializeToString()
    with listening(lambda *_: body) as (address, _):
        assert post(address) == Answer("accepted", "no id", 2)


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (code, "later")
        for code in ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
    ]
    + [
        (code, "refused")
        for code in ("UNAUTHENTICATED", "PERMISSION_DENIED", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "INTERNAL")
    ],
)
def test_a_code_says_whether_to_come_again(code: str, verdict: str) -> None:
    with listening(fails(code)) as (address, _):
        assert post(address)[:2] == (verdict, f"{code} the reason")


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
@pytest.mark.parametrize(("seconds", "delay"), [(1.5, 1.5), (10**9, 60.0), (-5, 0.0)])
def test_the_wait_that_a_collector_asks_for_is_told_up_to_a_minute(code: str, seconds: float, delay: float) -> None:
    asked = Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
    with listening(fails(code, [DebugInfo(detail="x"), RetryInfo(retry_delay=asked)])) as (address, _):
        assert post(address) == Answer("later", f"{code} the reason", delay=delay)


def test_details_that_cannot_be_read_say_nothing() -> None:
    with listening(fails("UNAVAILABLE", raw=b"\xff\xff garbage")) as (address, _):
        assert post(address) == Answer("later", "UNAVAILABLE the reason")


def test_an_answer_that_does_not_come_ends_in_time() -> None:
    over = threading.Event()
    with listening(lambda *_: b"x" * over.wait(10)) as (address, _):
        began = time.monotonic()
        assert post(address, timeout=0.3).verdict == "later"
        assert time.monotonic() - began < 3
        over.set()


def test_close_breaks_off_a_try() -> None:
    over, answering = threading.Event(), threading.Event()

    def hang(*_: object) -> bytes:
        answering.set()
        return b"x" * over.wait(10)

    with listening(hang) as (address, _):
        transport = GrpcTransport(Connection(address=address, protocol="grpc"), "traces")

        def close_when_begun() -> None:
            answering.wait(10)
            transport.close()

        threading.Thread(target=close_when_begun).start()
        began = time.monotonic()
        assert transport.post(b"request", 30).verdict == "later"
        assert time.monotonic() - began < 5
        assert transport.post(b"request", 30) == Answer("later", "closed")
        over.set()


def test_a_huge_answer_is_not_taken_in() -> None:
    with listening(lambda *_: b"x" * 2**20) as (address, _):
        assert post(address).verdict == "refused"


def test_an_unreadable_answer_of_success_is_a_success() -> None:
    with listening(lambda *_: b"\xff\xff garbage") as (address, _):
        assert post(address).verdict == "accepted"


def test_an_absent_collector_is_tried_again_later() -> None:
    assert post("http://127.0.0.1:1").verdict == "later"


def test_metadata_that_cannot_be_written_is_refused() -> None:
    with listening(lambda *_: b"") as (address, _):
        assert post(address, headers={"bad name": "v"}).verdict == "refused"


def test_tls_trusts_the_authority_that_is_named_and_shows_our_certificate(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=collector"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    pair = (key.read_bytes(), certificate.read_bytes())
    strict = grpc.ssl_server_credentials([pair], certificate.read_bytes(), require_client_auth=True)
    with listening(lambda *_: b"", strict) as (address, _):
        ours = str(certificate)
        assert post(address, certificate=ours, client_certificate=ours, client_key=str(key)) == Answer("accepted")
        assert post(address, certificate=ours).verdict == "later"
        assert post(address).verdict == "later"
