"""Turn OTLP bytes into rows, or into the reason why not; no I/O."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from imitrace.exceptions import WireError
from imitrace.semconv import EVENT_LOSS, EVENT_SCORE, TRAJECTORY_ID
from imitrace_collector.records import event_name, text_of, trajectory_id
from imitrace_collector.rows import Batch, Origin, RawLog, RawSpan

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
MEDIA_TYPES = (PROTOBUF, JSON)

_MAX_TIME = 2**63 - 1
_TRAJECTORY_ID, _SCORE, _LOSS = (name.encode() for name in (TRAJECTORY_ID, EVENT_SCORE, EVENT_LOSS))
"""What must stand in an item's bytes before it is searched for such an attribute or event."""
_ID_KEYS = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")

# Protobuf's generated classes are untyped here, hence Any for messages throughout this file.
Proto = Any


@dataclass(frozen=True)
class Signal:
    """One of OTLP's signals: its messages, how they become rows, and what a refused item is called in answers."""

    request: Callable[[], Proto]
    response: Callable[[], Proto]
    rows: Callable[[Proto, int, Counter[str]], Batch]
    noun: str
    rejected_field: str


@dataclass(frozen=True)
class Reading:
    """What a request held: rows to store, and the answer to give once they are stored."""

    batch: Batch
    response: Proto


def parse(signal: Signal, body: bytes, media_type: str) -> Proto:
    """Return a decompressed body as the signal's request message.

    Raises:
        WireError: the body is not such a message.
    """
    message = signal.request()
    try:
        if media_type == PROTOBUF:
            message.ParseFromString(body)
            return message
        found = json.loads(body, object_hook=_base64_ids)
        if not isinstance(found, dict):
            raise WireError(f"request is not an OTLP {signal.noun} export in {media_type}: it is no JSON object")
        return json_format.ParseDict(found, message, ignore_unknown_fields=True)
    except (DecodeError, json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise WireError(f"request is not an OTLP {signal.noun} export in {media_type}: {error}") from error


def read(signal: Signal, message: Proto, received_at: int) -> Reading:
    """Return a request's good rows, and the answer that counts the others with their reasons."""
    reasons: Counter[str] = Counter()
    batch = signal.rows(message, received_at, reasons)
    response = signal.response()
    if reasons:
        listed = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common(5))
        setattr(response.partial_success, signal.rejected_field, reasons.total())
        response.partial_success.error_message = f"{reasons.total()} {signal.noun} rejected: {listed}"
    return Reading(batch, response)


def encode(message: Proto, media_type: str) -> bytes:
    """Return an answer in the media type that the request came in."""
    if media_type == PROTOBUF:
        return bytes(message.SerializeToString())
    return str(json_format.MessageToJson(message, indent=None)).encode()


def _base64_ids(item: dict[str, Any]) -> dict[str, Any]:  # any JSON object of a request
    """Rewrite ids from OTLP/JSON's hex to the base64 that protobuf's JSON has; what is not hex becomes empty."""
    for key in _ID_KEYS:
        if isinstance(item.get(key), str):
            try:
                item[key] = base64.b64encode(bytes.fromhex(item[key])).decode()
            except ValueError:
                item[key] = ""
    return item


def _span_batch(request: Proto, received_at: int, reasons: Counter[str]) -> Batch:
    rows: list[RawSpan] = []
    origins: dict[str, Origin] = {}
    for group in request.resource_spans:
        for scoped in group.scope_spans:
            origin = _origin(group.resource, scoped.scope)
            origins[origin.origin] = origin
            for span in scoped.spans:
                reason = _span_problem(span)
                if reason:
                    reasons[reason] += 1
                else:
                    rows.append(_raw_span(span, origin, received_at))
    return Batch(spans=tuple(rows), origins=tuple(origins.values()) if rows else ())


def _span_problem(span: Proto) -> str | None:
    for name, value, length in (("trace id", span.trace_id, 16), ("span id", span.span_id, 8)):
        if len(value) != length:
            return f"{name} has {len(value)} bytes, expected {length}"
        if not any(value):
            return f"{name} is all zero"
    if span.end_time_unix_nano > _MAX_TIME or span.start_time_unix_nano > _MAX_TIME:
        return "time is beyond the year 2262"
    return None


def _raw_span(span: Proto, origin: Origin, received_at: int) -> RawSpan:
    record = span.SerializeToString()
    return RawSpan(
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex() or None,
        span.name,
        span.kind,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code,
        trajectory_id(span.attributes, record.count(_TRAJECTORY_ID)),
        origin.service,
        received_at,
        origin.origin,
        _SCORE in record,
        record,
    )


def _log_batch(request: Proto, received_at: int, reasons: Counter[str]) -> Batch:
    rows: list[RawLog] = []
    origins: dict[str, Origin] = {}
    for group in request.resource_logs:
        for scoped in group.scope_logs:
            origin = _origin(group.resource, scoped.scope)
            origins[origin.origin] = origin
            for record in scoped.log_records:
                if max(record.time_unix_nano, record.observed_time_unix_nano) > _MAX_TIME:
                    reasons["time is beyond the year 2262"] += 1
                else:
                    rows.append(_raw_log(record, origin, received_at))
    return Batch(logs=tuple(rows), origins=tuple(origins.values()) if rows else ())


def _raw_log(log: Proto, origin: Origin, received_at: int) -> RawLog:
    record = log.SerializeToString(deterministic=True)
    return RawLog(
        _hash(record, origin.origin.encode()),
        log.trace_id.hex() or None,
        log.span_id.hex() or None,
        event_name(log),
        log.time_unix_nano or log.observed_time_unix_nano or received_at,
        log.severity_number,
        trajectory_id(log.attributes, record.count(_TRAJECTORY_ID)),
        origin.service,
        received_at,
        origin.origin,
        _SCORE in record or _LOSS in record,
        record,
    )


def _origin(resource: Proto, scope: Proto) -> Origin:
    parts = resource.SerializeToString(deterministic=True), scope.SerializeToString(deterministic=True)
    service = next((text_of(pair.value) for pair in resource.attributes if pair.key == "service.name"), None)
    return Origin(_hash(*parts), service, *parts)


def _hash(*parts: bytes) -> str:
    lengths = b",".join(b"%d" % len(part) for part in parts)
    return hashlib.blake2b(lengths + b"".join(parts), digest_size=16).hexdigest()


TRACES = Signal(
    trace_service_pb2.ExportTraceServiceRequest,
    trace_service_pb2.ExportTraceServiceResponse,
    _span_batch,
    "spans",
    "rejected_spans",
)
LOGS = Signal(
    logs_service_pb2.ExportLogsServiceRequest,
    logs_service_pb2.ExportLogsServiceResponse,
    _log_batch,
    "log records",
    "rejected_log_records",
)
