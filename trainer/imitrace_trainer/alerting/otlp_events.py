"""Send an alert as OpenTelemetry's event, and what stands as its metric, where ``OTEL_EXPORTER_OTLP_*`` says to."""

from collections.abc import Mapping
from typing import Any, Final

from imitrace.delivery.transports import Answer, Transport
from imitrace.exceptions import ConfigError
from imitrace.otel_environment import connection

GAUGE: Final = "imitrace.alerts.standing"
_PLACES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT")


def wanted(environment: Mapping[str, str]) -> bool:
    """Tell whether the environment names a place for log records."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true" or environment.get("OTEL_LOGS_EXPORTER") == "none":
        return False
    return any(environment.get(name) for name in _PLACES)


def send_event(environment: Mapping[str, str], told: Mapping[str, Any], at: int) -> str | None:
    """Send an alert as a log record with an event's name, and return why it was not taken, None where it was.

    Args:
        environment: the ``OTEL_*`` variables.
        told: the alert; ``name`` is the event's, and the rest its attributes.
        at: nanoseconds since 1970.
    """
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs, SeverityNumber

    firing = told["state"] == "firing"
    record = LogRecord(
        time_unix_nano=at,
        observed_time_unix_nano=at,
        severity_number=SeverityNumber.SEVERITY_NUMBER_WARN if firing else SeverityNumber.SEVERITY_NUMBER_INFO,
        severity_text="WARN" if firing else "INFO",
        event_name=told["name"],
        body=AnyValue(string_value=f"{told['clone']}: {told['why']}"),
        attributes=[
            KeyValue(key=f"imitrace.alert.{key}", value=AnyValue(string_value=str(value)))
            for key, value in told.items()
            if value
        ],
    )
    scope = ScopeLogs(scope=InstrumentationScope(name="imitrace.alerts"), log_records=[record])
    whole = ResourceLogs(resource=_resource(environment), scope_logs=[scope])
    return _carried(environment, "logs", ExportLogsServiceRequest(resource_logs=[whole]).SerializeToString())


def send_gauge(environment: Mapping[str, str], counts: Mapping[tuple[str, str], int], at: int) -> str | None:
    """Send how many alerts of each name and clone stand, and return why that was not taken, None where it was.

    Args:
        environment: the ``OTEL_*`` variables.
        counts: by name and clone.
        at: nanoseconds since 1970.
    """
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
    from opentelemetry.proto.metrics.v1.metrics_pb2 import (
        Gauge,
        Metric,
        NumberDataPoint,
        ResourceMetrics,
        ScopeMetrics,
    )

    points = [
        NumberDataPoint(
            time_unix_nano=at,
            as_int=count,
            attributes=[
                KeyValue(key=f"imitrace.alert.{key}", value=AnyValue(string_value=text))
                for key, text in (("name", name), ("clone", clone))
            ],
        )
        for (name, clone), count in counts.items()
    ]
    metric = Metric(name=GAUGE, unit="{alert}", gauge=Gauge(data_points=points))
    scope = ScopeMetrics(scope=InstrumentationScope(name="imitrace.alerts"), metrics=[metric])
    whole = ResourceMetrics(resource=_resource(environment), scope_metrics=[scope])
    return _carried(environment, "metrics", ExportMetricsServiceRequest(resource_metrics=[whole]).SerializeToString())


def _resource(environment: Mapping[str, str]) -> Any:  # a message of protobuf's
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource

    name = environment.get("OTEL_SERVICE_NAME") or "imitrace"
    return Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value=name))])


def _carried(environment: Mapping[str, str], signal: Any, body: bytes) -> str | None:  # a Signal, or metrics
    from imitrace.delivery.otlp_grpc import GrpcTransport
    from imitrace.delivery.otlp_http import HttpTransport

    try:
        link = connection(signal, environment, None, None, None)
    except ConfigError as error:
        return str(error)
    if link.protocol == "grpc" and signal == "metrics":
        return "metrics go by HTTP only: set OTEL_EXPORTER_OTLP_METRICS_PROTOCOL=http/protobuf"
    transport: Transport = GrpcTransport(link, signal) if link.protocol == "grpc" else HttpTransport(link, signal)
    try:
        answer: Answer = transport.post(body, link.timeout)
    finally:
        transport.close()
    return None if answer.verdict == "accepted" else f"{link.place} says of {signal}: {answer.reason}"
