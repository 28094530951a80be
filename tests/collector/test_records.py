import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from imitrace.semconv import TRAJECTORY_ID
from imitrace_collector.records import Unpacker, event_name, framed, items_in, trajectory_id
from imitrace_collector.rows import Origin

NOBODY = Origin("o", None, b"", b"")


@given(st.lists(st.text(max_size=40_000), max_size=5), st.lists(st.binary(max_size=300), max_size=5))
def test_what_is_packed_comes_out_again(names: list[str], ids: list[bytes]) -> None:
    spans = [Span(name=name) for name in names] + [Span(span_id=span_id) for span_id in ids]
    rows = list(Unpacker().spans(b"".join(framed(span.SerializeToString()) for span in spans), NOBODY))
    assert [row.name for row in rows] == [*names, *[""] * len(ids)]
    assert [row.span_id for row in rows[len(names) :]] == [span_id.hex() for span_id in ids]


@given(st.lists(st.integers(0, 2**21 + 9), max_size=3))
def test_a_body_is_framed_as_protobuf_frames_it(lengths: list[int]) -> None:
    spans = [Span(name="x" * length) for length in lengths]
    body = b"".join(framed(span.SerializeToString()) for span in spans)
    assert body == ScopeSpans(spans=spans).SerializeToString()


@given(st.lists(st.lists(st.lists(st.text(max_size=300), max_size=3), max_size=3), max_size=3))
def test_items_stand_in_a_request_as_they_stand_in_a_body(groups: list[list[list[str]]]) -> None:
    request = ExportTraceServiceRequest()
    for scopes in groups:
        group = request.resource_spans.add(schema_url="u", resource=Resource(dropped_attributes_count=3))
        for names in scopes:
            spans = [Span(name=name, trace_id=b"t" * 16) for name in names]
            group.scope_spans.add(scope=InstrumentationScope(name="s"), spans=spans, schema_url="v")
    found = items_in(request.SerializeToString(), 100)
    assert found is not None
    spans = [span for group in request.resource_spans for scope in group.scope_spans for span in scope.spans]
    assert list(map(bytes, found)) == [framed(span.SerializeToString()) for span in spans]


ODD_FIELDS = {
    "a number": b"\x98\x06\x96\x80\x00",
    "eight bytes": b"\x99\x06" + bytes(8),
    "four bytes": b"\x9d\x06" + bytes(4),
    "text": b"\x9a\x06\x03abc",
    "a tag that is longer than it need be": b"\x9a\x86\x00\x03abc",
}


@pytest.mark.parametrize("odd", ODD_FIELDS.values(), ids=ODD_FIELDS)
def test_items_are_found_beside_fields_that_nobody_knows(odd: bytes) -> None:
    item = b"\x12\x83\x80\x00\x2a\x01n"  # its length, too, is longer than it need be
    scope = odd + item + odd
    group = odd + b"\x12" + bytes((len(scope),)) + scope + odd
    request = odd + b"\x0a" + bytes((len(group),)) + group + odd
    assert list(map(bytes, items_in(request, 100) or ())) == [item]
    assert [span.name for span in ScopeSpans.FromString(item).spans] == ["n"]
    assert len(ExportTraceServiceRequest.FromString(request).resource_spans[0].scope_spans[0].spans) == 1


@pytest.mark.parametrize("request_", [b"\x13\x14", b"\x0a\x00" * 9], ids=["a group", "too many fields"])
def test_items_that_are_not_plain_to_see_are_not_told(request_: bytes) -> None:
    ExportTraceServiceRequest.FromString(request_)
    assert items_in(request_, 9) is None


def test_of_equal_attributes_the_last_counts() -> None:
    twice = [KeyValue(key=TRAJECTORY_ID, value=AnyValue(string_value=name)) for name in ("first", "last")]
    assert trajectory_id(twice, 2) == "last"
    body = framed(Span(attributes=twice).SerializeToString())
    (row,) = Unpacker().spans(body, NOBODY)
    assert (row.trajectory_id, row.attributes[TRAJECTORY_ID]) == ("last", "last")


def test_a_trajectory_id_that_is_no_text_is_its_json() -> None:
    assert trajectory_id([KeyValue(key=TRAJECTORY_ID, value=AnyValue(int_value=7))], 1) == "7"
    assert trajectory_id([KeyValue(key=TRAJECTORY_ID, value=AnyValue(string_value=""))], 1) is None
    assert trajectory_id([KeyValue(key=TRAJECTORY_ID)], 1) is None


def test_an_older_senders_event_name_is_an_attribute() -> None:
    named = [KeyValue(key="event.name", value=AnyValue(string_value="old"))]
    assert event_name(LogRecord(attributes=named)) == "old"
    assert event_name(LogRecord(event_name="new", attributes=named)) == "new"


def test_origins_are_decoded_once_and_forgotten_before_they_are_many() -> None:
    unpacker = Unpacker()
    body = framed(Span(name="n").SerializeToString())
    for number in range(2500):
        (row,) = unpacker.spans(body, NOBODY._replace(origin=str(number)))
        assert row.resource == {}
    assert len(unpacker._origins) <= 1000
