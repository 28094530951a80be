import json
from collections.abc import Callable

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from imitrace.exceptions import WireError
from imitrace.semconv import EVENT_SCORE, TRAJECTORY_ID
from imitrace_collector import otlp
from imitrace_collector.compression import TooLargeError
from imitrace_collector.rows import Batch, SpanRow

OTLP_JSON = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
            "unknownField": 1,
            "scopeSpans": [
                {
                    "spans": [
                        {
                            "traceId": "5B8EFFF798038103D269B633813FC60C",
                            "spanId": "eee19b7ec3c1b174",
                            "parentSpanId": "eee19b7ec3c1b173",
                            "name": "s",
                            "kind": 2,
                            "startTimeUnixNano": "1544712660000000000",
                            "endTimeUnixNano": "1544712661000000000",
                            "attributes": [
                                {"key": "agent.trajectory.id", "value": {"stringValue": "t"}},
                                {"key": "n", "value": {"intValue": "9007199254740993"}},
                                {"key": "x", "value": {"doubleValue": "NaN"}},
                                {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": True}, {}]}}},
                                {
                                    "key": "map",
                                    "value": {
                                        "kvlistValue": {"values": [{"key": "b", "value": {"bytesValue": "AQI="}}]}
                                    },
                                },
                            ],
                        }
                    ]
                }
            ],
        }
    ]
}


def test_otlp_json_is_read_with_hex_ids_and_numbers_as_text(decode: Callable[[Batch], list[SpanRow]]) -> None:
    message = otlp.parse(otlp.TRACES, json.dumps(OTLP_JSON).encode(), otlp.JSON)
    (span,) = decode(otlp.read(otlp.TRACES, message, 5).batch)
    assert (span.trace_id, span.span_id) == ("5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174")
    assert (span.parent_span_id, span.kind, span.trajectory_id) == ("eee19b7ec3c1b173", 2, "t")
    assert span.started_at == 1544712660000000000
    attributes = span.attributes
    assert attributes["n"] == 9007199254740993
    assert attributes["x"] == "NaN"
    assert attributes["list"] == [True, None]
    assert attributes["map"] == {"b": "AQI="}
    assert span.resource == {"service.name": "shop"}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"3",
        b'{"resourceSpans": 3}',
        b"\xff",
        b"[" * 100_000,
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":7}]}]}]}',
    ],
)
def test_what_is_no_otlp_json_is_refused_with_the_reason(body: bytes) -> None:
    with pytest.raises(WireError, match="not an OTLP spans export in application/json"):
        otlp.parse(otlp.TRACES, body, otlp.JSON)


@given(st.binary(max_size=200), st.sampled_from(otlp.MEDIA_TYPES))
def test_any_bytes_are_read_or_refused_never_worse(body: bytes, media_type: str) -> None:
    try:
        otlp.read(otlp.TRACES, otlp.parse(otlp.TRACES, body, media_type), 0, body if media_type != otlp.JSON else None)
    except WireError as error:
        assert "not an OTLP" in str(error)


def test_bad_spans_are_counted_by_reason_and_good_ones_kept() -> None:
    message = ExportTraceServiceRequest()
    spans = message.resource_spans.add().scope_spans.add().spans
    spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, name="good")
    spans.add(trace_id=b"", span_id=b"s" * 8)
    spans.add(trace_id=b"t" * 16, span_id=b"s" * 7)
    spans.add(trace_id=b"\0" * 16, span_id=b"s" * 8)
    spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, end_time_unix_nano=2**63)
    reading = otlp.read(otlp.TRACES, message, 0)
    assert [span.name for span in reading.batch.spans] == ["good"]
    assert reading.response.partial_success.rejected_spans == 4
    told = reading.response.partial_success.error_message
    for reason in ("trace id has 0 bytes", "span id has 7 bytes", "trace id is all zero", "beyond the year 2262"):
        assert reason in told


@pytest.mark.parametrize("more", [b"", b"\x13\x14"], ids=["plain", "and a group"])
def test_spans_are_kept_as_they_came(more: bytes) -> None:
    message = ExportTraceServiceRequest()
    spans = message.resource_spans.add().scope_spans.add().spans
    named = KeyValue(key=TRAJECTORY_ID, value=AnyValue(string_value="t1"))
    spans.add(trace_id=b"t" * 16, span_id=b"s" * 8, attributes=[named], events=[Span.Event(name=EVENT_SCORE)])
    spans.add(trace_id=b"", span_id=b"s" * 8)
    spans.add(trace_id=b"t" * 16, span_id=b"u" * 8, name=TRAJECTORY_ID + EVENT_SCORE, events=[Span.Event()])
    body = message.SerializeToString() + more
    found = otlp.read(otlp.TRACES, otlp.parse(otlp.TRACES, body, otlp.PROTOBUF), 0, body)
    assert found == otlp.read(otlp.TRACES, message, 0)
    assert all(bytes(span.record) in body for span in found.batch.spans)
    assert [(span.trajectory_id, span.noted) for span in found.batch.spans] == [("t1", True), (None, True)]


def test_an_id_that_is_not_hex_rejects_its_span_alone() -> None:
    text = json.dumps(OTLP_JSON).replace("eee19b7ec3c1b174", "no hex")
    reading = otlp.read(otlp.TRACES, otlp.parse(otlp.TRACES, text.encode(), otlp.JSON), 0)
    assert reading.response.partial_success.error_message == "1 spans rejected: span id has 0 bytes, expected 8 (1)"


def test_a_log_record_has_one_name_however_often_it_comes() -> None:
    message = ExportLogsServiceRequest()
    record = message.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=5, event_name="e")
    first = otlp.read(otlp.LOGS, message, 1).batch.logs[0]
    assert otlp.read(otlp.LOGS, message, 2).batch.logs[0].log_id == first.log_id
    record.time_unix_nano = 6
    assert otlp.read(otlp.LOGS, message, 1).batch.logs[0].log_id != first.log_id


def test_an_answer_comes_in_the_media_type_of_the_request() -> None:
    response = otlp.TRACES.response()
    response.partial_success.rejected_spans = 2
    assert json.loads(otlp.encode(response, otlp.JSON)) == {"partialSuccess": {"rejectedSpans": "2"}}
    assert otlp.TRACES.response().FromString(otlp.encode(response, otlp.PROTOBUF)) == response
    assert json_format.MessageToDict(response)


@pytest.mark.parametrize(("spans", "scopes"), [(50_000, 1), (0, 50_001)])
def test_a_request_of_too_many_items_is_refused_whole(spans: int, scopes: int) -> None:
    message = ExportTraceServiceRequest()
    group = message.resource_spans.add()
    group.scope_spans.extend([ScopeSpans()] * scopes)
    group.scope_spans[0].spans.extend([Span()] * spans)
    with pytest.raises(TooLargeError, match="request has 50001 spans and scopes, allowed: 50000; send smaller batches"):
        otlp.read(otlp.TRACES, message, 0)
