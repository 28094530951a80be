"""Make export requests whose ids can be counted up: span 1 to n of request number k of sender s."""

import json
import random
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from imitrace import semconv

PROTOBUF, JSON = "application/x-protobuf", "application/json"
PARTS = 4
"""Requests that bring one trajectory: most of its steps come late."""
_MARK, _GROUP = b"@@mark@@", b"@@part@@"
"""What stands in a template for the eight characters of a request, and of the trajectory that it is a part of."""
_STARTED = 1_790_000_000_000_000_000
_WORDS_EACH = 260
"""Words of text in a step; with the rest it has 2 kB."""
_TEXT = (
    "Order A-1001 has two items: a lamp (39.90) and a shade (12.50), and the label is in the box. Our carrier says it "
    "will arrive within three days; please tell me which of both addresses is right, or call back before Monday."
)

Proto = Any  # protobuf's generated classes are untyped here


class Template:
    """A request of ``count`` steps, or of that many scores as log records, to be filled with a number."""

    def __init__(self, signal: str, media_type: str, count: int) -> None:
        make = {"traces": _spans, "logs": _scores}[signal]
        encode = {PROTOBUF: lambda message: message.SerializeToString(), JSON: _json}[media_type]
        self._parts: list[bytes] = [encode(make(part, count)) for part in range(PARTS)]
        self._hex = media_type == JSON

    def body(self, sender: int, number: int) -> bytes:
        """Return the request; no two have an id in common."""
        body = self._parts[number % PARTS]
        for place, found in ((_MARK, mark(sender, number)), (_GROUP, mark(sender, number // PARTS))):
            body = body.replace(place, found.encode())
            if self._hex:
                body = body.replace(place.hex().encode(), found.encode().hex().encode())
        return body


def mark(sender: int, number: int) -> str:
    return f"{sender:02x}{number:06x}"


def value(given: str | int | float) -> AnyValue:
    if isinstance(given, str):
        return AnyValue(string_value=given)
    return AnyValue(int_value=given) if isinstance(given, int) else AnyValue(double_value=given)


def attributes(given: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(found)) for key, found in given.items()]


def request_of(spans: list[Span]) -> ExportTraceServiceRequest:
    scope = ScopeSpans(scope=InstrumentationScope(name="faults"), spans=spans)
    return ExportTraceServiceRequest(resource_spans=[ResourceSpans(resource=_resource(), scope_spans=[scope])])


def _resource() -> Resource:
    return Resource(attributes=attributes({"service.name": "faults"}))


def _spans(part: int, count: int) -> ExportTraceServiceRequest:
    return request_of([_step(part * count + place, place) for place in range(count)])


def _step(index: int, place: int) -> Span:
    mine = f"{_MARK.decode()} {place}: "
    text = mine + " ".join(random.Random(index).choices(_TEXT.split(), k=_WORDS_EACH))
    sent = {
        semconv.TRAJECTORY_ID: f"faults-{_GROUP.decode()}",
        semconv.AGENT_NAME: "faults",
        semconv.STEP_INDEX: index,
        semconv.STEP_MESSAGES: json.dumps([{"role": "user", "parts": [{"type": "text", "content": text}]}]),
        semconv.STEP_MESSAGES_OFFSET: 0,
        semconv.STEP_ACTION_KIND: "tool_call",
        semconv.TOOL_NAME: "get_order",
        semconv.TOOL_CALL_ID: mine,
        semconv.TOOL_CALL_ARGUMENTS: '{"order_id": "A-1001"}',
        semconv.TOOL_CALL_RESULT: "sent on Monday",
    }
    return Span(
        name=semconv.SPAN_STEP,
        trace_id=_MARK + _GROUP,
        span_id=(place + 1).to_bytes(8, "big"),
        start_time_unix_nano=_STARTED + index,
        end_time_unix_nano=_STARTED + index + 1,
        attributes=attributes(sent),
    )


def _scores(part: int, count: int) -> ExportLogsServiceRequest:
    records = []
    for place in range(count):
        sent = {
            semconv.TRAJECTORY_ID: f"faults-{_MARK.decode()}{_GROUP.decode()}",
            semconv.STEP_INDEX: place + 1,
            semconv.SCORE_NAME: "kept",
            semconv.SCORE_VALUE: 1.0,
        }
        at = _STARTED + part * count + place
        records.append(LogRecord(event_name=semconv.EVENT_SCORE, time_unix_nano=at, attributes=attributes(sent)))
    scope = ScopeLogs(scope=InstrumentationScope(name="faults"), log_records=records)
    return ExportLogsServiceRequest(resource_logs=[ResourceLogs(resource=_resource(), scope_logs=[scope])])


def _json(message: Proto) -> bytes:
    """Return OTLP/JSON: ids are hex there, not base64."""
    found = json_format.MessageToDict(message)
    for group, made in zip(found.get("resourceSpans", ()), getattr(message, "resource_spans", ()), strict=True):
        for span, sent in zip(group["scopeSpans"][0]["spans"], made.scope_spans[0].spans, strict=True):
            span["traceId"], span["spanId"] = sent.trace_id.hex(), sent.span_id.hex()
    return json.dumps(found).encode()
