from collections.abc import Callable, Mapping
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
from imitrace_collector.batcher import Batcher
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.grpc_server import start_grpc
from imitrace_collector.rows import Batch
from imitrace_collector.server import CollectorServer

MakeExport = Callable[..., ExportTraceServiceRequest]
SECONDS = 20


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
    server, port = start_grpc(config, full_batcher)
    with pytest.raises(grpc.RpcError) as refused:
        send(f"127.0.0.1:{port}", export())
    server.stop(None).wait()
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
