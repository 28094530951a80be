from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans, Span

from imitrace.semconv import TRAJECTORY_ID
from imitrace_collector.records import Unpacker, event_name, framed, trajectory_id
from imitrace_collector.rows import Origin

NOBODY = Origin("o", None, b"", b"")


@given(st.lists(st.text(max_size=40_000), max_size=5), st.lists(st.binary(max_size=300), max_size=5))
def test_what_is_packed_comes_out_again(names: list[str], ids: list[bytes]) -> None:
    spans = [Span(name=name) for name in names] + [Span(span_id=span_id) for span_id in ids]
    rows = list(Unpacker().spans(framed(span.SerializeToString() for span in spans), NOBODY))
    assert [row.name for row in rows] == [*names, *[""] * len(ids)]
    assert [row.span_id for row in rows[len(names) :]] == [span_id.hex() for span_id in ids]


@given(st.lists(st.integers(0, 2**21 + 9), max_size=3))
def test_a_body_is_framed_as_protobuf_frames_it(lengths: list[int]) -> None:
    spans = [Span(name="x" * length) for length in lengths]
    body = framed(span.SerializeToString() for span in spans)
    assert body == ScopeSpans(spans=spans).SerializeToString()


def test_of_equal_attributes_the_last_counts() -> None:
    twice = [KeyValue(key=TRAJECTORY_ID, value=AnyValue(string_value=name)) for name in ("first", "last")]
    assert trajectory_id(twice, 2) == "last"
    body = framed([Span(attributes=twice).SerializeToString()])
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
    body = framed([Span(name="n").SerializeToString()])
    for number in range(2500):
        (row,) = unpacker.spans(body, NOBODY._replace(origin=str(number)))
        assert row.resource == {}
    assert len(unpacker._origins) <= 1000
