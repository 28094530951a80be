"""Answer OTLP over gRPC, through the same queue as HTTP."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

from imitrace.exceptions import ConfigError, StoreError
from imitrace_collector import otlp
from imitrace_collector.batcher import Batcher
from imitrace_collector.config import CollectorConfig
from imitrace_collector.rows import Batch

RETRY_AFTER_SECONDS = 1
_WORKERS = 32  # each holds one request until it is durable, so this many can share a commit


class _Exports:
    """Take export requests of one signal."""

    def __init__(self, signal: otlp.Signal, config: CollectorConfig, batcher: Batcher[Batch]) -> None:
        self._signal = signal
        self._config = config
        self._batcher = batcher

    def Export(self, request: otlp.Proto, context: Any) -> otlp.Proto:  # noqa: N802 - gRPC's name; context is untyped
        """Answer once the request is durable."""
        metadata = dict(context.invocation_metadata())
        if not self._config.allows(metadata.get("authorization")):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the bearer token is missing or wrong")
        size = request.ByteSize()
        if size > self._config.max_request_bytes:
            limit = self._config.max_request_bytes
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"request has {size} bytes, allowed: {limit}")
        reading = otlp.read(self._signal, request, time.time_ns())
        try:
            if reading.batch != Batch():
                self._batcher.submit(reading.batch, size).result()
        except StoreError as error:
            context.set_trailing_metadata((("grpc-status-details-bin", _come_again(str(error))),))
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        return reading.response


class _Traces(_Exports, trace_service_pb2_grpc.TraceServiceServicer):
    pass


class _Logs(_Exports, logs_service_pb2_grpc.LogsServiceServicer):
    pass


def start_grpc(config: CollectorConfig, batcher: Batcher[Batch]) -> tuple[Any, int]:  # grpc is untyped
    """Start the gRPC server and return it with its port.

    Raises:
        ConfigError: the port is taken.
    """
    server = grpc.server(
        ThreadPoolExecutor(_WORKERS, "imitrace-grpc"),
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", config.max_request_bytes)],
    )
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(otlp.TRACES, config, batcher), server)  # type: ignore[no-untyped-call]  # generated
    logs_service_pb2_grpc.add_LogsServiceServicer_to_server(_Logs(otlp.LOGS, config, batcher), server)  # type: ignore[no-untyped-call]  # generated
    host = f"[{config.host}]" if ":" in config.host else config.host
    try:
        port = server.add_insecure_port(f"{host}:{config.grpc_port}")
    except RuntimeError as error:
        raise ConfigError(
            f"gRPC port {config.grpc_port} on {config.host} can't be listened on, most likely it is taken; "
            "name another with --grpc-port"
        ) from error
    server.start()
    return server, port


def _come_again(message: str) -> bytes:
    """Return the status that tells a sender to try again, and when."""
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=RETRY_AFTER_SECONDS))
    detail = AnyMessage()
    detail.Pack(retry)
    status = status_pb2.Status(code=code_pb2.UNAVAILABLE, message=message, details=[detail])
    return bytes(status.SerializeToString())
