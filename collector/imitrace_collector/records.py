"""Find items' own bytes in a request, and decode them; no I/O."""

import base64
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans

from imitrace.canonical import canonical_json
from imitrace.semconv import TRAJECTORY_ID
from imitrace_collector.rows import LogRow, Origin, SpanRow, Values

Proto = Any
"""A protobuf message: the generated classes are untyped here."""

_ITEM = 0x12
"""Tag of ``ScopeSpans.spans`` and of ``ScopeLogs.log_records``: field 2, length-delimited."""
_TAGS = (0x0A, 0x12, _ITEM)
"""Tags on the way to an item: a request's groups, which are its field 1, and a group's scopes, field 2."""
_FIXED = {1: 8, 5: 4}
"""Bytes of a field's value, by its wire type."""
_ORIGINS = 1000


def framed(record: bytes) -> bytes:
    """Return a serialised span, or log record, with its tag and its length: many of them are a body."""
    return bytes((_ITEM,)) + _varint(len(record)) + record


def items_in(request: bytes, most: int) -> list[memoryview] | None:
    """Return the items of a serialised export request as they stand in it, each with its tag and its length.

    To serialise each anew takes longer than to parse all of them, and as much memory as the request.

    Args:
        request: it can be parsed, and isn't changed as long as an item is used.
        most: fields to look at, at most; it takes far longer than to parse them.

    Returns:
        None where there are more fields, or groups, which protobuf no longer has.
    """
    view, found = memoryview(request), list[memoryview]()
    at, ends = 0, [len(request)]
    for _ in range(most):
        while ends and at == ends[-1]:
            ends.pop()
        if not ends:
            return found
        start = at
        tag, at = _number(request, at)
        if tag & 7 == 2:  # length-delimited
            size, at = _number(request, at)
            if tag != _TAGS[len(ends) - 1]:
                at += size
            elif len(ends) == len(_TAGS):
                at += size
                found.append(view[start:at])
            else:
                ends.append(at + size)
        elif tag & 7 == 0:
            _, at = _number(request, at)
        elif tag & 7 in _FIXED:
            at += _FIXED[tag & 7]
        else:
            break
    return None


class Unpacker:
    """Decode bodies into rows; remembers the origins that it has decoded. For one thread."""

    def __init__(self) -> None:
        self._origins: dict[str, tuple[Values, Values]] = {}

    def spans(self, body: bytes, origin: Origin) -> Iterator[SpanRow]:
        """Yield the spans of a body."""
        resource, scope = self._decoded(origin)
        for span in ScopeSpans.FromString(body).spans:
            attributes = values(span.attributes)
            yield SpanRow(
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_span_id=span.parent_span_id.hex() or None,
                name=span.name,
                kind=span.kind,
                started_at=span.start_time_unix_nano,
                ended_at=span.end_time_unix_nano,
                status=span.status.code,
                status_message=span.status.message,
                attributes=attributes,
                dropped_attributes=span.dropped_attributes_count,
                events=[_event(event) for event in span.events],
                links=[_link(link) for link in span.links],
                trace_state=span.trace_state,
                resource=resource,
                scope=scope,
                trajectory_id=_id_of(attributes),
            )

    def logs(self, body: bytes, origin: Origin, received_at: int) -> Iterator[LogRow]:
        """Yield the log records of a body; what has no time of its own has that of its arrival."""
        resource, scope = self._decoded(origin)
        for log in ScopeLogs.FromString(body).log_records:
            attributes = values(log.attributes)
            yield LogRow(
                trace_id=log.trace_id.hex() or None,
                span_id=log.span_id.hex() or None,
                event_name=event_name(log),
                logged_at=log.time_unix_nano or log.observed_time_unix_nano or received_at,
                severity=log.severity_number,
                body=_value(log.body),
                attributes=attributes,
                resource=resource,
                scope=scope,
                trajectory_id=_id_of(attributes),
            )

    def _decoded(self, origin: Origin) -> tuple[Values, Values]:
        found = self._origins.get(origin.origin)
        if found is None:
            if len(self._origins) >= _ORIGINS:
                self._origins.clear()
            scope = InstrumentationScope.FromString(origin.scope)
            named = {"name": scope.name, "version": scope.version, "attributes": values(scope.attributes)}
            found = self._origins[origin.origin] = values(Resource.FromString(origin.resource).attributes), named
        return found


def event_name(log: Proto) -> str:
    """Return a log record's event name; an attribute says it where the sender's protocol is older."""
    return log.event_name or next((text_of(pair.value) for pair in log.attributes if pair.key == "event.name"), "")


def trajectory_id(pairs: Iterable[Proto], mentions: int) -> str | None:
    """Return the trajectory that attributes name; of equal names the last counts, as in ``values``.

    Args:
        pairs: the attributes.
        mentions: how often the attribute's name stands in the item's bytes, so that no more than needed is read.
    """
    found = None
    for pair in pairs if mentions else ():
        if pair.key == TRAJECTORY_ID:
            found = pair.value
            if mentions == 1:
                break
    return None if found is None else text_of(found) or None


def text_of(value: Proto) -> str:
    """Return an AnyValue as text; what is no text as canonical JSON."""
    plain = _value(value)
    return plain if isinstance(plain, str) else "" if plain is None else canonical_json(plain)


def values(pairs: Iterable[Proto]) -> Values:
    """Return attributes as JSON values by name."""
    return {pair.key: pair.value.string_value or _value(pair.value) for pair in pairs}


def _id_of(attributes: Mapping[str, object]) -> str | None:
    found = attributes.get(TRAJECTORY_ID)
    if found in (None, ""):
        return None
    return found if isinstance(found, str) else canonical_json(found)


def _event(event: Proto) -> Values:
    return {"name": event.name, "time": event.time_unix_nano, "attributes": values(event.attributes)}


def _link(link: Proto) -> Values:
    return {"trace_id": link.trace_id.hex(), "span_id": link.span_id.hex(), "attributes": values(link.attributes)}


def _value(value: Proto) -> Any:  # any JSON value
    """Return an AnyValue as JSON; bytes as base64, and the doubles that JSON lacks as text, as OTLP/JSON has them."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return values(value.kvlist_value.values)
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    plain = getattr(value, kind)
    if isinstance(plain, float) and not math.isfinite(plain):
        return "NaN" if math.isnan(plain) else "Infinity" if plain > 0 else "-Infinity"
    return plain


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of variable width that stands at a place, and the place behind it."""
    number, shift = data[at], 7
    if number < 128:
        return number, at + 1
    number &= 127
    while (more := data[at := at + 1]) > 127:
        number |= (more & 127) << shift
        shift += 7
    return number | more << shift, at + 1


def _varint(number: int) -> bytes:
    """Return a length in protobuf's variable width.

    Source: https://protobuf.dev/programming-guides/encoding/#varints
    """
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
