"""Turn OTLP bytes into rows, or into the reason why not; no I/O."""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from imitrace.exceptions import WireError
from imitrace.semconv import EVENT_LOSS, EVENT_SCORE, TRAJECTORY_ID
from imitrace_collector.compression import TooLargeError
from imitrace_collector.records import event_name, framed, items_in, text_of, trajectory_id
from imitrace_collector.rows import Batch, Origin, RawLog, RawSpan

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
MEDIA_TYPES = (PROTOBUF, JSON)

MAX_ITEMS = 50_000
"""Most spans or log records, and scopes, of one request: a few bytes on the wire cost a hundred times that here."""

_MAX_TIME = 2**63 - 1
_LATE = "time is beyond the year 2262"
_TRAJECTORY_ID, _SCORE, _LOSS = (name.encode() for name in (TRAJECTORY_ID, EVENT_SCORE, EVENT_LOSS))
"""What must stand in an item's bytes before it is searched for such an attribute or event."""
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_COLUMNS = attrgetter(
    "trace_id",
    "span_id",
    "parent_span_id",
    "name",
    "kind",
    "start_time_unix_nano",
    "end_time_unix_nano",
    "status.code",
)
"""What a span's row needs of it, all at once: a third of the time that one after the other takes."""
_LONGEST_ID = 1000
_LONGEST_SERVICE = 1000
"""Characters of a service's name that stand in each of its items' rows; its resource has it whole."""
_ORIGIN_BYTES = 64 * 1024 * 1024
"""What the resources and scopes of one request may have: each scope is kept with its whole resource."""
_JSON_DENSITY = 16
"""Bytes of JSON for each object in it, at least, where there are many: each costs 10 µs to read."""
_MANY_OBJECTS = 100_000
_ID_KEYS = ("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id")

_LONG_ID = f"trajectory id has more than {_LONGEST_ID} characters"
_TOO_MANY_ORIGINS = f"resources, repeated for each scope, have more than {_ORIGIN_BYTES >> 20} MiB; send fewer scopes"
_UNREADABLE = (
    DecodeError,
    json_format.ParseError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    SystemError,
)
"""What protobuf's readers raise; the last is for an enum's name with a lone surrogate."""

# Protobuf's generated classes are untyped here, hence Any for messages throughout this file.
Proto = Any


@dataclass(frozen=True)
class Signal:
    """One of OTLP's signals: its messages, how they become rows, and what a refused item is called in answers."""

    request: Callable[[], Proto]
    response: Callable[[], Proto]
    rows: Callable[[Proto, int, Counter[str], bytes | None], Batch]
    count: Callable[[Proto], int]
    noun: str
    rejected_field: str


@dataclass(frozen=True)
class Reading:
    """What a request held: rows to store, and the answer to give once they are stored."""

    batch: Batch
    response: Proto


class _Origins:
    """The origins of one request, of bounded size together."""

    def __init__(self) -> None:
        self.found: dict[str, Origin] = {}
        self._size = 0

    def add(self, resource: bytes, service: str | None, scope: Proto) -> Origin | None:
        """Return the origin of a scope's items; None where the request repeats too much."""
        parts = resource, scope.SerializeToString(deterministic=True)
        self._size += sum(map(len, parts))
        if self.found and self._size > _ORIGIN_BYTES:
            return None
        origin = Origin(_hash(*parts), service, *parts)
        return self.found.setdefault(origin.origin, origin)


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
        if body.count(b"{") > max(_MANY_OBJECTS, len(body) // _JSON_DENSITY):
            raise WireError(f"request has more than an object for every {_JSON_DENSITY} bytes; send protobuf")
        found = json.loads(body, object_hook=_base64_ids)
        if not isinstance(found, dict):
            raise WireError(f"request is not an OTLP {signal.noun} export in {media_type}: it is no JSON object")
        return json_format.ParseDict(found, message, ignore_unknown_fields=True)
    except _UNREADABLE as error:
        raise WireError(f"request is not an OTLP {signal.noun} export in {media_type}: {error}") from error


def read(signal: Signal, message: Proto, received_at: int, body: bytes | None = None) -> Reading:
    """Return a request's good rows, and the answer that counts the others with their reasons.

    Args:
        signal: what it sends.
        message: the request.
        received_at: in nanoseconds.
        body: what the message was parsed from, if that was protobuf: rows of spans hold parts of it, nothing is copied.

    Raises:
        TooLargeError: it holds more items, or scopes of them, than one request may.
    """
    items = signal.count(message)
    if items > MAX_ITEMS:
        raise TooLargeError(f"request has {items} {signal.noun} and scopes, allowed: {MAX_ITEMS}; send smaller batches")
    reasons: Counter[str] = Counter()
    batch = signal.rows(message, received_at, reasons, body)
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


def _span_batch(request: Proto, received_at: int, reasons: Counter[str], body: bytes | None) -> Batch:
    rows: list[RawSpan] = []
    origins = _Origins()
    records = _records(request, body)
    names = [name for name in (_TRAJECTORY_ID, _SCORE) if body is None or name in body]
    for group in request.resource_spans:
        for origin, spans in _by_origin(
            origins, group.resource, ((it.scope, it.spans) for it in group.scope_spans if it.spans)
        ):
            for span, record in zip(spans, records, strict=False):
                row = _raw_span(span, record, origin, received_at, names) if origin else _TOO_MANY_ORIGINS
                if isinstance(row, str):
                    reasons[row] += 1
                else:
                    rows.append(row)
    return Batch(spans=tuple(rows), origins=tuple(origins.found.values()) if rows else ())


def _records(request: Proto, body: bytes | None) -> Iterator[bytes | memoryview]:
    """Return a request's spans as bytes, as they came where that is plain to see."""
    scopes = [scoped.spans for group in request.resource_spans for scoped in group.scope_spans]
    found = None if body is None else items_in(body, 3 * MAX_ITEMS)
    if found is not None and len(found) == sum(map(len, scopes)):
        return iter(found)
    return (framed(span.SerializeToString()) for spans in scopes for span in spans)


def _by_origin(
    origins: _Origins, resource: Proto, scopes: Iterable[tuple[Proto, Sequence[Proto]]]
) -> Iterator[tuple[Origin | None, Sequence[Proto]]]:
    """Yield each scope's items with their origin; without one when the request repeats too much."""
    service = next((text_of(pair.value) for pair in resource.attributes if pair.key == "service.name"), None)
    named = None if service is None else service[:_LONGEST_SERVICE]
    record = resource.SerializeToString(deterministic=True)
    for scope, items in scopes:
        yield origins.add(record, named, scope), items


def _span_problem(trace_id: bytes, span_id: bytes, latest: int) -> str | None:
    for name, value, none in (("trace id", trace_id, _NO_TRACE), ("span id", span_id, _NO_SPAN)):
        if len(value) != len(none):
            return f"{name} has {len(value)} bytes, expected {len(none)}"
        if value == none:
            return f"{name} is all zero"
    return _LATE if latest > _MAX_TIME else None


def _raw_span(
    span: Proto, record: bytes | memoryview, origin: Origin, received_at: int, names: Collection[bytes]
) -> RawSpan | str:
    """Return a span's row, or why there is none; ``names`` are those that it may have, for its request has them."""
    trace_id, span_id, parent, name, kind, started_at, ended_at, status = _COLUMNS(span)
    problem = _span_problem(trace_id, span_id, max(started_at, ended_at))
    if problem:
        return problem
    mentions = bytes(record).count(_TRAJECTORY_ID) if _TRAJECTORY_ID in names else 0
    trajectory = trajectory_id(span.attributes, mentions) if mentions else None
    if trajectory is not None and len(trajectory) > _LONGEST_ID:
        return _LONG_ID
    return RawSpan(
        trace_id.hex(),
        span_id.hex(),
        parent.hex() or None,
        name,
        kind,
        started_at,
        ended_at,
        status,
        trajectory,
        origin.service,
        received_at,
        origin.origin,
        _SCORE in names and _SCORE in bytes(record),
        record,
    )


def _log_batch(request: Proto, received_at: int, reasons: Counter[str], _: object) -> Batch:
    rows: list[RawLog] = []
    origins = _Origins()
    for group in request.resource_logs:
        for origin, records in _by_origin(
            origins, group.resource, ((it.scope, it.log_records) for it in group.scope_logs if it.log_records)
        ):
            for record in records:
                reason = _log_problem(record) if origin else _TOO_MANY_ORIGINS
                row = None if reason or origin is None else _raw_log(record, origin, received_at)
                if row is None or len(row.trajectory_id or "") > _LONGEST_ID:
                    reasons[reason or _LONG_ID] += 1
                else:
                    rows.append(row)
    return Batch(logs=tuple(rows), origins=tuple(origins.found.values()) if rows else ())


def _log_problem(log: Proto) -> str | None:
    return _LATE if max(log.time_unix_nano, log.observed_time_unix_nano) > _MAX_TIME else None


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
        framed(record),
    )


def _hash(*parts: bytes) -> str:
    lengths = b",".join(b"%d" % len(part) for part in parts)
    return hashlib.blake2b(lengths + b"".join(parts), digest_size=16).hexdigest()


def _count_spans(request: Proto) -> int:
    return sum(1 + len(scoped.spans) for group in request.resource_spans for scoped in group.scope_spans)


def _count_logs(request: Proto) -> int:
    return sum(1 + len(scoped.log_records) for group in request.resource_logs for scoped in group.scope_logs)


TRACES = Signal(
    trace_service_pb2.ExportTraceServiceRequest,
    trace_service_pb2.ExportTraceServiceResponse,
    _span_batch,
    _count_spans,
    "spans",
    "rejected_spans",
)
LOGS = Signal(
    logs_service_pb2.ExportLogsServiceRequest,
    logs_service_pb2.ExportLogsServiceResponse,
    _log_batch,
    _count_logs,
    "log records",
    "rejected_log_records",
)
