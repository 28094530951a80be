"""Make the OTLP exporters and deliver through them, over HTTP or gRPC."""

import threading
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.trace.export import SpanExportResult

from imitrace.pipeline import Pipeline, TracingConfig

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
_ACCEPTED = (SpanExportResult.SUCCESS, LogRecordExportResult.SUCCESS)


class Exporter(Protocol[T_contra]):
    """What OpenTelemetry's span and log exporters have in common."""

    def export(self, batch: Sequence[T_contra], /) -> SpanExportResult | LogRecordExportResult:
        """Deliver a batch."""

    def shutdown(self) -> None:
        """Break off retries and refuse later batches."""


class ExporterDelivery(Generic[T]):
    """Deliver through an exporter that is made on first use, and anew in a forked child."""

    def __init__(self, make: Callable[[], Exporter[T]]) -> None:
        self._make = make
        self.reset()

    def reset(self) -> None:
        """Forget the exporter; its sockets belong to the parent process."""
        self._lock = threading.Lock()
        self._exporter: Exporter[T] | None = None
        self._closed = False

    def send(self, batch: Sequence[T]) -> bool:
        """Deliver a batch; the exporter retries what can be retried, for ten seconds at most."""
        with self._lock:
            if self._closed:
                return False
            exporter = self._exporter = self._exporter or self._make()
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            return exporter.export(batch) in _ACCEPTED
        finally:
            detach(token)

    def close(self) -> None:
        """Break off a delivery in progress and refuse later ones."""
        with self._lock:
            closing, self._closed = not self._closed, True
            exporter = self._exporter
        if closing and exporter is not None:
            exporter.shutdown()


def connect(config: TracingConfig) -> Pipeline:
    """Return a pipeline to the collector that ``config`` names; nothing is sent before the first record."""
    return _connect_grpc(config) if config.protocol == "grpc" else _connect_http(config)


def _connect_http(config: TracingConfig) -> Pipeline:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    def spans() -> OTLPSpanExporter:
        return OTLPSpanExporter(f"{config.address}/v1/traces", headers=_headers(config), compression=Compression.Gzip)

    def scores() -> OTLPLogExporter:
        return OTLPLogExporter(f"{config.address}/v1/logs", headers=_headers(config), compression=Compression.Gzip)

    return Pipeline(config, ExporterDelivery(spans), ExporterDelivery(scores))


def _connect_grpc(config: TracingConfig) -> Pipeline:
    from grpc import Compression
    from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    plain = config.address.startswith("http://")

    def spans() -> OTLPSpanExporter:
        return OTLPSpanExporter(config.address, plain, headers=_headers(config), compression=Compression.Gzip)

    def scores() -> OTLPLogExporter:
        return OTLPLogExporter(config.address, plain, headers=_headers(config), compression=Compression.Gzip)

    return Pipeline(config, ExporterDelivery(spans), ExporterDelivery(scores))


def _headers(config: TracingConfig) -> dict[str, str] | None:
    return {"authorization": f"Bearer {config.token}"} if config.token else None
