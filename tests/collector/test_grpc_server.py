import gc
import re
import socket
import threading
import tracemalloc
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from imitrace import semconv
from imitrace.exceptions import ConfigError
from imitrace_collector import arrivals
from imitrace_collector.batcher import Batcher
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.grpc_server import GrpcServer
from imitrace_collector.intake import Intake
from imitrace_collector.rows import Batch
from imitrace_collector.server import CollectorServer

MakeExport = Callable[..., ExportTraceServiceRequest]
SECONDS = 20
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def send(address: str, message: ExportTraceServiceRequest, **options: Any) -> Any:  # grpc is untyped
    with grpc.insecure_channel(address) as channel:
        return TraceServiceStub(channel).Export(message, timeout=SECONDS, **options)  # type: ignore[no-untyped-call]  # generated


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_the_real_trace_exporter_is_understood(collector: CollectorServer, compression: Any) -> None:
    provider = TracerProvider()
    exporter = OTLPSpanExporter(collector.grpc, insecure=True, compression=compression)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("test").start_as_current_span("invoke_agent") as span:
        span.set_attribute(semconv.TRAJECTORY_ID, "t1")
    provider.shutdown()
    assert CollectorClient(collector.http).get("/v1/trajectories/t1")["trajectory"]["ended_at"] is not None


def test_the_real_log_exporter_brings_scores(collector: CollectorServer, export: MakeExport) -> None:
    send(collector.grpc, export())
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(OTLPLogExporter(collector.grpc, insecure=True)))
    attributes: Mapping[str, Any] = {semconv.TRAJECTORY_ID: "t1", semconv.SCORE_NAME: "late", semconv.SCORE_VALUE: 0.5}
    provider.get_logger("judge").emit(LogRecord(event_name=semconv.EVENT_SCORE, attributes=attributes))
    provider.shutdown()
    scores = CollectorClient(collector.http).get("/v1/trajectories/t1")["scores"]
    assert {score["name"]: score["value"] for score in scores} == {"TaskCompletion": 1.0, "late": 0.5}


def test_bad_spans_are_told_by_partial_success(collector: CollectorServer, export: MakeExport) -> None:
    message = export()
    message.resource_spans[0].scope_spans[0].spans.add(trace_id=b"short", span_id=b"s" * 8)
    assert send(collector.grpc, message).partial_success.rejected_spans == 1


def test_a_full_queue_tells_the_sender_when_to_come_again(
    config: CollectorConfig, export: MakeExport, full_batcher: Batcher[Batch]
) -> None:
    intake = Intake(config, full_batcher)
    server = GrpcServer(intake)
    with pytest.raises(grpc.RpcError) as refused:
        send(f"127.0.0.1:{server.port}", export())
    server.stop()
    intake.stop()
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    details = dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
    retry = error_details_pb2.RetryInfo()
    assert status_pb2.Status.FromString(details).details[0].Unpack(retry)
    assert retry.retry_delay.seconds == 1


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_a_request_over_the_limit_is_refused(config: CollectorConfig, export: MakeExport, compression: Any) -> None:
    message = export()
    message.resource_spans[0].scope_spans[0].spans[0].name = "x" * 20_000
    with (
        CollectorServer(replace(config, max_request_bytes=10_000)) as server,
        pytest.raises(grpc.RpcError) as refused,
    ):
        send(server.grpc, message, compression=compression)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "grpc-status-details-bin" not in dict(refused.value.trailing_metadata() or ())  # or senders would retry


def test_the_token_comes_as_metadata(config: CollectorConfig, export: MakeExport) -> None:
    with CollectorServer(replace(config, token="secret")) as server:
        with pytest.raises(grpc.RpcError) as refused:
            send(server.grpc, export())
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        send(server.grpc, export(), metadata=(("authorization", "Bearer secret"),))


def test_a_port_that_is_taken_is_named_with_its_flag(collector: CollectorServer, config: CollectorConfig) -> None:
    port = int(collector.grpc.rpartition(":")[2])
    with (
        pytest.raises(ConfigError, match=f"gRPC port {port} .* --grpc-port"),
        CollectorServer(replace(config, home=config.home / "other", grpc_port=port)),
    ):
        pass


def call(address: str, body: bytes, method: str = "trace.v1.TraceService", **options: Any) -> Any:  # grpc is untyped
    """Send any bytes as an export request."""
    unlimited = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(address, options=unlimited) as channel:
        path = f"/opentelemetry.proto.collector.{method}/Export"
        return channel.unary_unary(path)(body, timeout=SECONDS, **options)


def code_of(address: str, body: bytes, **options: Any) -> str:
    with pytest.raises(grpc.RpcError) as refused:
        call(address, body, **options)
    return str(refused.value.code().name)


def test_bytes_that_are_no_request_are_refused_for_good(collector: CollectorServer) -> None:
    assert code_of(collector.grpc, b"\xff\xff") == "INVALID_ARGUMENT"


def test_metrics_are_refused_in_words(collector: CollectorServer) -> None:
    with pytest.raises(grpc.RpcError, match="turn the metrics exporter off") as refused:
        call(collector.grpc, b"", method="metrics.v1.MetricsService")
    assert refused.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_a_message_that_is_too_large_leaves_nothing_behind(
    config: CollectorConfig, caplog: pytest.LogCaptureFixture
) -> None:
    with CollectorServer(replace(config, max_request_bytes=10_000)) as server:
        assert code_of(server.grpc, bytes(20_000)) == "RESOURCE_EXHAUSTED"
        assert call(server.grpc, b"") == b""
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_what_is_in_flight_is_bounded_and_given_back(
    config: CollectorConfig, export: MakeExport, full_batcher: Batcher[Batch]
) -> None:
    intake = Intake(config, full_batcher)
    server = GrpcServer(intake)
    address = f"127.0.0.1:{server.port}"
    with intake.budget.reserve(config.queue_bytes):
        assert code_of(address, export().SerializeToString()) == "UNAVAILABLE"
    assert intake.budget.held == 0
    server.stop()
    intake.stop()


def test_a_refused_message_is_let_go_of_at_once(config: CollectorConfig, full_batcher: Batcher[Batch]) -> None:
    """Garbage is collected seldom: under overload refused messages had three times the queue's bytes."""
    intake = Intake(config, full_batcher)
    server = GrpcServer(intake)
    message, times = bytes(1_000_000), 20
    gc.disable()
    tracemalloc.start()
    try:
        with intake.budget.reserve(config.queue_bytes - len(message) // 2):
            for _ in range(times):
                assert code_of(f"127.0.0.1:{server.port}", message) == "UNAVAILABLE"
        assert tracemalloc.get_traced_memory()[0] < times * len(message) / 4
    finally:
        tracemalloc.stop()
        gc.enable()
        server.stop()
        intake.stop()


def test_a_sender_that_is_too_slow_is_cut_off(config: CollectorConfig) -> None:
    go = threading.Event()

    def nothing() -> Iterator[bytes]:
        go.wait(SECONDS)
        yield b""

    with CollectorServer(replace(config, body_seconds=0.3)) as server:
        with grpc.insecure_channel(server.grpc) as channel:
            export = channel.stream_unary(EXPORT)
            with pytest.raises(grpc.RpcError) as refused:
                export(nothing(), timeout=SECONDS)
        go.set()
        assert refused.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert call(server.grpc, b"") == b""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame of HTTP/2, as RFC 9113 says in 4.1."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def headers(**given: str) -> bytes:
    """Return literal header fields, as RFC 7541 says in 6.2.2, without Huffman's code."""
    named = {":method": "POST", ":scheme": "http", ":path": EXPORT, ":authority": "x", "te": "trailers"} | given
    parts = [b"\0" + b"".join(bytes([len(text)]) + text.encode() for text in pair) for pair in named.items()]
    return b"".join(parts)


@contextmanager
def trickling(address: str, senders: int) -> Iterator[None]:
    """Send messages of a megabyte, each from a connection of its own and a byte at a time."""
    host, port = address.split(":")
    begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)
    begin += frame(1, 4, 1, headers(**{"content-type": "application/grpc"}))
    begin += frame(0, 0, 1, b"\0" + (2**20).to_bytes(4, "big"))
    over = threading.Event()

    def trickle() -> None:
        while not over.wait(0.01):
            for connection in connections:
                with suppress(OSError):  # some are cut off meanwhile
                    connection.sendall(frame(0, 0, 1, b"x"))

    with ExitStack() as held:
        connections = [held.enter_context(socket.create_connection((host, int(port)))) for _ in range(senders)]
        for connection in connections:
            connection.sendall(begin)
        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def test_senders_that_trickle_make_room_for_one_that_does_not(
    config: CollectorConfig, export: MakeExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "_LONG", 0.2)
    monkeypatch.setattr(arrivals, "_SHORT", 0.2)
    with CollectorServer(config) as server, trickling(server.grpc, 16):
        assert call(server.grpc, export().SerializeToString()) == b""
        assert call(server.grpc, export("t2").SerializeToString()) == b""
        with urllib.request.urlopen(f"{server.http}/metrics") as answer:  # noqa: S310 - our own address
            counted = answer.read().decode()
    cut_off = re.search(r'imitrace_requests_total\{code="UNAVAILABLE",protocol="grpc",signal="traces"\} (\d+)', counted)
    assert cut_off is not None, counted
    assert int(cut_off[1]) >= 8  # all places were theirs


def test_a_token_that_asks_too_often_is_told_when_to_come_again(config: CollectorConfig) -> None:
    with CollectorServer(replace(config, rate_requests=1.0)) as server:
        call(server.grpc, b"")
        with pytest.raises(grpc.RpcError, match="1 requests a second") as refused:
            for _ in range(5):
                call(server.grpc, b"")
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    status = status_pb2.Status.FromString(dict(refused.value.trailing_metadata())["grpc-status-details-bin"])
    retry = error_details_pb2.RetryInfo()
    assert status.details[0].Unpack(retry)
    assert 0 < retry.retry_delay.ToTimedelta().total_seconds() <= 1


def test_a_read_token_may_not_send(config: CollectorConfig, export: MakeExport) -> None:
    with CollectorServer(replace(config, read_token="r", ingest_token="i")) as server:
        body = export().SerializeToString()
        assert code_of(server.grpc, body, metadata=(("authorization", "Bearer r"),)) == "PERMISSION_DENIED"
        call(server.grpc, body, metadata=(("authorization", "Bearer i"),))


def test_many_senders_at_once_are_all_stored(collector: CollectorServer, export: MakeExport) -> None:
    with grpc.insecure_channel(collector.grpc) as channel:
        stub = TraceServiceStub(channel)  # type: ignore[no-untyped-call]  # generated
        answers = [stub.Export.future(export(f"t{number}"), timeout=SECONDS) for number in range(200)]
        assert all(answer.result() is not None for answer in answers)
    assert len(CollectorClient(collector.http).get("/v1/trajectories", limit=1000)["trajectories"]) == 200
