"""Turn OTLP bytes into rows, or into the reason why not; no I/O."""

import base64
import json
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from imitrace.canonical import canonical_json, content_hash
from imitrace.exceptions import WireError
from imitrace.semconv import TRAJECTORY_ID
from imitrace_collector.rows import Batch, LogRow, SpanRow

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
MEDIA_TYPES = (PROTOBUF, JSON)
ENCODINGS = {"gzip": 31, "deflate": 15}
"""Content encodings besides ``identity``, and the window bits by which zlib knows them."""

_MAX_TIME = 2**63 - 1
_ID_KEYS = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")

# Protobuf's generated classes are untyped here, hence Any for messages throughout this file.
Proto = Any


class TooLargeError(WireError):
    """Report a request above the collector's size limit."""


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


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Return a body decompressed, never holding more than ``limit`` bytes of it.

    Args:
        body: as it came.
        encoding: ``identity``, or one of ``ENCODINGS``.
        limit: most bytes allowed, before and after.

    Raises:
        TooLargeError: the body is larger than that.
        WireError: it is cut short or not in that encoding.
    """
    if len(body) > limit:
        raise TooLargeError(f"request has {len(body)} bytes, allowed: {limit}; send smaller batches")
    if encoding == "identity":
        return body
    stream = zlib.decompressobj(ENCODINGS[encoding])
    try:
        result = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise WireError(f"request is not valid {encoding}: {error}") from error
    if len(result) > limit:
        raise TooLargeError(f"request has more than {limit} bytes decompressed; send smaller batches")
    if not stream.eof or stream.unused_data:
        raise WireError(f"request's {encoding} data {'goes on after its end' if stream.eof else 'ends early'}")
    return result


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


def _span_rows(request: Proto, received_at: int, reasons: Counter[str]) -> Batch:
    rows = []
    for group in request.resource_spans:
        resource = _attributes_json(group.resource.attributes)
        for scoped in group.scope_spans:
            scope = _scope_json(scoped.scope)
            for span in scoped.spans:
                reason = _span_problem(span)
                if reason:
                    reasons[reason] += 1
                else:
                    rows.append(_span_row(span, resource, scope, received_at))
    return Batch(spans=tuple(rows))


def _span_problem(span: Proto) -> str | None:
    for name, value, length in (("trace id", span.trace_id, 16), ("span id", span.span_id, 8)):
        if len(value) != length:
            return f"{name} has {len(value)} bytes, expected {length}"
        if not any(value):
            return f"{name} is all zero"
    if max(span.start_time_unix_nano, span.end_time_unix_nano) > _MAX_TIME:
        return "time is beyond the year 2262"
    return None


def _span_row(span: Proto, resource: str, scope: str, received_at: int) -> SpanRow:
    attributes = _attributes(span.attributes)
    return SpanRow(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex() or None,
        name=span.name,
        kind=span.kind,
        started_at=span.start_time_unix_nano,
        ended_at=span.end_time_unix_nano,
        status=span.status.code,
        status_message=span.status.message,
        attributes=canonical_json(attributes),
        dropped_attributes=span.dropped_attributes_count,
        events=canonical_json([_event(event) for event in span.events]),
        links=canonical_json([_link(link) for link in span.links]),
        trace_state=span.trace_state,
        resource=resource,
        scope=scope,
        trajectory_id=_trajectory_id(attributes),
        received_at=received_at,
    )


def _event(event: Proto) -> dict[str, object]:
    return {"name": event.name, "time": event.time_unix_nano, "attributes": _attributes(event.attributes)}


def _link(link: Proto) -> dict[str, object]:
    return {
        "trace_id": link.trace_id.hex(),
        "span_id": link.span_id.hex(),
        "attributes": _attributes(link.attributes),
    }


def _log_rows(request: Proto, received_at: int, reasons: Counter[str]) -> Batch:
    rows = []
    for group in request.resource_logs:
        resource = _attributes_json(group.resource.attributes)
        for scoped in group.scope_logs:
            scope = _scope_json(scoped.scope)
            for record in scoped.log_records:
                if max(record.time_unix_nano, record.observed_time_unix_nano) > _MAX_TIME:
                    reasons["time is beyond the year 2262"] += 1
                else:
                    rows.append(_log_row(record, resource, scope, received_at))
    return Batch(logs=tuple(rows))


def _log_row(record: Proto, resource: str, scope: str, received_at: int) -> LogRow:
    attributes = _attributes(record.attributes)
    return LogRow(
        log_id=content_hash([record.SerializeToString(deterministic=True).hex(), resource, scope]),
        trace_id=record.trace_id.hex() or None,
        span_id=record.span_id.hex() or None,
        event_name=record.event_name or str(attributes.get("event.name", "")),
        logged_at=record.time_unix_nano or record.observed_time_unix_nano or received_at,
        severity=record.severity_number,
        body=canonical_json(_value(record.body)),
        attributes=canonical_json(attributes),
        resource=resource,
        scope=scope,
        trajectory_id=_trajectory_id(attributes),
        received_at=received_at,
    )


def _trajectory_id(attributes: dict[str, object]) -> str | None:
    value = attributes.get(TRAJECTORY_ID)
    if value in (None, ""):
        return None
    return value if isinstance(value, str) else canonical_json(value)


def _scope_json(scope: Proto) -> str:
    return canonical_json({"name": scope.name, "version": scope.version, "attributes": _attributes(scope.attributes)})


def _attributes_json(pairs: Iterable[Proto]) -> str:
    return canonical_json(_attributes(pairs))


def _attributes(pairs: Iterable[Proto]) -> dict[str, object]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Proto) -> object:
    """Return an AnyValue as JSON; bytes as base64, and the doubles that JSON lacks as text, as OTLP/JSON has them."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    plain: object = getattr(value, kind)
    if isinstance(plain, float) and not math.isfinite(plain):
        return "NaN" if math.isnan(plain) else "Infinity" if plain > 0 else "-Infinity"
    return plain


TRACES = Signal(
    trace_service_pb2.ExportTraceServiceRequest,
    trace_service_pb2.ExportTraceServiceResponse,
    _span_rows,
    "spans",
    "rejected_spans",
)
LOGS = Signal(
    logs_service_pb2.ExportLogsServiceRequest,
    logs_service_pb2.ExportLogsServiceResponse,
    _log_rows,
    "log records",
    "rejected_log_records",
)
