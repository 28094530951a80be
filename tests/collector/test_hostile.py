"""What senders may do wrong on purpose: read, stored and derived all the same, or refused with the reason."""

import json
import runpy
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from imitrace import semconv
from imitrace.canonical import step_digest
from imitrace.exceptions import WireError
from imitrace.schema import TABLES
from imitrace_collector import otlp, trajectories
from imitrace_collector.compression import ENCODINGS, decompress
from imitrace_collector.derive import rebuild
from imitrace_collector.ingest import Writer, ingest
from imitrace_collector.reads import list_trajectories, trajectory_detail
from imitrace_collector.rendering import render_detail
from imitrace_collector.rows import Batch, SpanRow
from imitrace_collector.store import Store

Json = dict[str, Any]  # a JSON object

ODD = ("", "\0", "a\0b", "'; DROP TABLE steps; --", "\u202e", "\ufffe", "\U0001f600", "e\u0301", "{", "null", "t" * 32)
TRACE_IDS = (b"t" * 16, b"u" * 16)
HUGE = (0, 1, 2, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63))
ENUMS: st.SearchStrategy[Any] = st.sampled_from([0, 1, 99, -7])
BROKEN_JSON = (
    '{"a": "\\ud800"}',
    '[{"role": "\\udc00", "parts": []}]',
    '[{"role": "user", "parts": [{"type": "text", "content": "\\\\\\ud800"}]}]',
    '[{"role": "tool", "parts": [{"type": "tool_call_response", "id": "t", "response": {"\\ud800": NaN}}]}]',
    '[{"role": "tool", "content": [3, null], "tool_call_id": []}]',
    '[{"name": "\\ud800", "parameters": 1e999}, {"function": {"name": "f"}}]',
    "[" * 200 + "]" * 200,
    "9" * 5000,
)

texts = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ids = st.sampled_from([*ODD, TRACE_IDS[0].hex()])
span_ids = st.integers(1, 8).map(lambda number: number.to_bytes(8, "big"))
numbers = st.sampled_from(HUGE) | st.integers(0, 4)
times = st.sampled_from([0, 1, 2, 10**18, 2**63 - 1, 2**63, 2**64 - 1])
payloads = st.sampled_from(BROKEN_JSON) | st.just('[{"role": "user", "parts": []}]') | texts
scalars = st.one_of(
    st.builds(AnyValue, string_value=texts | payloads),
    st.builds(AnyValue, int_value=numbers),
    st.builds(AnyValue, double_value=st.floats()),
    st.builds(AnyValue, bool_value=st.booleans()),
    st.builds(AnyValue, bytes_value=st.binary(max_size=4)),
    st.just(AnyValue()),
)
keys = st.sampled_from([getattr(semconv, name) for name in dir(semconv) if name.isupper()]) | texts
keys = keys.filter(lambda key: isinstance(key, str))
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda items: AnyValue(array_value=ArrayValue(values=items)))
        | st.lists(st.builds(KeyValue, key=keys, value=inner), max_size=2).map(
            lambda items: AnyValue(kvlist_value=KeyValueList(values=items))
        )
    ),
    max_leaves=4,
)
pairs = st.lists(st.builds(KeyValue, key=keys, value=values), max_size=6)


def kept(strategy: st.SearchStrategy[Any], *, odd: st.SearchStrategy[AnyValue] = values) -> st.SearchStrategy[AnyValue]:
    """Return what fits most of the time, and anything else at times."""

    def fitting(value: object) -> AnyValue:
        return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=str(value))

    return st.one_of(*[strategy.map(fitting)] * 5, odd)


SHAPES: dict[str, dict[str, st.SearchStrategy[AnyValue]]] = {
    semconv.SPAN_STEP: {
        semconv.STEP_INDEX: kept(st.integers(0, 3)),
        semconv.STEP_MESSAGES: kept(payloads),
        semconv.STEP_MESSAGES_OFFSET: kept(st.integers(0, 3)),
        semconv.STEP_ACTION_KIND: kept(st.sampled_from(semconv.ACTION_KINDS)),
        semconv.TOOL_NAME: kept(texts),
        semconv.TOOL_CALL_ID: kept(texts),
        semconv.TOOL_CALL_ARGUMENTS: kept(payloads),
        semconv.TOOL_DEFINITIONS: kept(payloads),
        semconv.STEP_SHADOW: kept(payloads),
        semconv.STEP_CHUNKS: kept(st.integers(0, 3)),
    },
    semconv.SPAN_CHUNK: {
        semconv.CHUNK_ATTRIBUTE: kept(st.sampled_from(semconv.DIGEST_PAYLOADS)),
        semconv.CHUNK_INDEX: kept(st.integers(0, 2)),
        semconv.CHUNK_COUNT: kept(st.integers(1, 2)),
        semconv.CHUNK_TEXT: kept(payloads),
    },
    f"{semconv.SPAN_TRAJECTORY} a": {
        semconv.TRAJECTORY_STEP_COUNT: kept(st.integers(0, 3)),
        semconv.PART_POSITION: kept(numbers),
        semconv.TRAJECTORY_TAGS: kept(payloads),
        semconv.TRAJECTORY_OUTCOME: kept(texts),
        semconv.AGENT_NAME: kept(texts),
    },
    f"{semconv.SPAN_TOOL} x": {semconv.TOOL_CALL_ID: kept(texts), semconv.TOOL_CALL_RESULT: kept(payloads)},
    semconv.EVENT_SCORE: {semconv.SCORE_NAME: kept(texts), semconv.SCORE_VALUE: values},
}
events = st.builds(Span.Event, name=st.just(semconv.EVENT_SCORE) | texts, time_unix_nano=times, attributes=pairs)


@st.composite
def spans(draw: st.DrawFn) -> Span:
    name = draw(st.sampled_from([*SHAPES]) | texts)
    shape = SHAPES.get(name, {})
    named = {key: draw(strategy) for key, strategy in shape.items() if draw(st.integers(0, 5))}
    if draw(st.booleans()):
        plain = {key: value.string_value for key, value in named.items() if value.WhichOneof("value") == "string_value"}
        named[semconv.STEP_DIGEST] = AnyValue(string_value=step_digest(plain))
    sent = [KeyValue(key=key, value=value) for key, value in named.items()] + draw(pairs)
    if draw(st.integers(0, 5)):
        sent.append(KeyValue(key=semconv.TRAJECTORY_ID, value=draw(kept(ids))))
    return Span(
        trace_id=draw(st.sampled_from([*TRACE_IDS, TRACE_IDS[0], TRACE_IDS[0]])),
        span_id=draw(span_ids),
        parent_span_id=draw(span_ids | st.just(b"") | st.binary(max_size=3)),
        name=name,
        kind=draw(ENUMS),
        start_time_unix_nano=draw(times),
        end_time_unix_nano=draw(times),
        attributes=sent,
        events=draw(st.lists(events, max_size=2)),
        status=Status(code=draw(ENUMS), message=draw(texts)),
        dropped_attributes_count=draw(st.sampled_from([0, 0, 2**32 - 1])),
    )


resources = st.builds(
    Resource,
    attributes=st.lists(
        st.builds(KeyValue, key=st.sampled_from(["service.name", "service.instance.id"]) | texts, value=values),
        max_size=2,
    ),
)
scopes = st.builds(
    InstrumentationScope,
    name=st.sampled_from(["imitrace", "imitrace.import.", "other"]) | texts,
    version=texts,
    attributes=pairs,
)
traces = st.builds(
    ExportTraceServiceRequest,
    resource_spans=st.lists(
        st.builds(
            ResourceSpans,
            resource=resources,
            scope_spans=st.lists(
                st.builds(ScopeSpans, scope=scopes, spans=st.lists(spans(), min_size=1, max_size=8)),
                min_size=1,
                max_size=2,
            ),
        ),
        min_size=1,
        max_size=2,
    ),
)
records = st.builds(
    LogRecord,
    event_name=st.sampled_from([semconv.EVENT_SCORE, semconv.EVENT_LOSS, ""]) | texts,
    time_unix_nano=times,
    observed_time_unix_nano=times,
    severity_number=st.sampled_from([0, 9, 2**31 - 1]),
    trace_id=st.binary(max_size=20),
    span_id=st.binary(max_size=9),
    body=values,
    attributes=pairs,
)
logs = st.builds(
    ExportLogsServiceRequest,
    resource_logs=st.lists(
        st.builds(
            ResourceLogs,
            resource=resources,
            scope_logs=st.lists(
                st.builds(ScopeLogs, scope=scopes, log_records=st.lists(records, max_size=4)), min_size=1, max_size=1
            ),
        ),
        min_size=1,
        max_size=2,
    ),
)


def read_back(store: Store) -> dict[str, list[Json]]:
    with store.reader() as reader:
        return {table: reader.table(table).read_all().to_pylist() for table in TABLES}


def check(path: Path, batches: list[Batch]) -> None:
    """Store what came, request by request, and compare with what a rebuild makes of it."""
    with Store.open(path) as store:
        for batch in batches:
            ingest(store, [batch])
        first = read_back(store)
        keys = {(span.trace_id, span.span_id) for batch in batches for span in batch.spans}
        named = {span.trajectory_id for batch in batches for span in batch.spans} - {None}
        with store.reader() as reader:
            assert reader.rows("SELECT count(*) AS n FROM spans") == [{"n": len(keys)}]
            sql = "SELECT coalesce(sum(items), 0)::BIGINT AS n FROM chunks WHERE kind = 'spans'"
            assert reader.rows(sql) == [{"n": len(keys)}]
            assert reader.rows("SELECT chunk FROM chunks ANTI JOIN origins USING (origin)") == []
        assert {row["trajectory_id"] for row in first["trajectories"]} <= named
        for row in list_trajectories(store, None, 100):
            assert "can't be read" not in (row["incomplete_reason"] or "")
            assert render_detail(trajectory_detail(store, row["trajectory_id"]))
        with store.session() as session:
            rebuild(session)
        again = read_back(store)
        for table in ("trajectories", "steps", "scores"):
            assert again[table] == first[table]
        for table in ("messages", "tools"):  # a later chunk may take back what an earlier one said
            assert all(row in first[table] for row in again[table])


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(traces | logs, min_size=1, max_size=3))
def test_any_request_is_stored_derived_and_read_back_the_same_after_a_rebuild(
    messages: list[ExportTraceServiceRequest | ExportLogsServiceRequest],
) -> None:
    batches = []
    for message in messages:
        signal = otlp.TRACES if isinstance(message, ExportTraceServiceRequest) else otlp.LOGS
        again = otlp.parse(signal, message.SerializeToString(), otlp.PROTOBUF)
        batches.append(otlp.read(signal, again, 5).batch)
    with tempfile.TemporaryDirectory() as folder:
        check(Path(folder) / "traces.duckdb", batches)


@given(st.binary(max_size=300), st.sampled_from(ENCODINGS), st.integers(0, 1000))
def test_any_compressed_bytes_are_within_the_limit_or_refused(body: bytes, encoding: str, limit: int) -> None:
    try:
        assert len(decompress(body, encoding, limit)) <= limit
    except WireError as error:
        assert str(error)


@pytest.mark.parametrize("value", ["1e400", "Infinity", '"\\ud800"', "[]", "{}", "NaN", "9" * 5000])
@pytest.mark.parametrize(
    "field", ["name", "kind", "startTimeUnixNano", "droppedAttributesCount", "attributes", "events"]
)
def test_json_values_that_fit_no_field_are_refused(field: str, value: str) -> None:
    body = f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"{field}":{value}}}]}}]}}]}}'
    try:
        otlp.read(otlp.TRACES, otlp.parse(otlp.TRACES, body.encode(), otlp.JSON), 0)
    except WireError as error:
        assert "not an OTLP spans export" in str(error)


def test_json_of_very_many_empty_objects_is_refused_before_it_is_read() -> None:
    body = b'{"resourceSpans":[' + b",".join([b"{}"] * 200_000) + b"]}"
    with pytest.raises(WireError, match="more than an object for every 16 bytes"):
        otlp.parse(otlp.TRACES, body, otlp.JSON)


def one_span(trajectory_id: str = "", service: str = "x", span_id: bytes = b"s" * 8) -> ExportTraceServiceRequest:
    message = ExportTraceServiceRequest()
    group = message.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = service
    span = group.scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=span_id, name=semconv.SPAN_STEP)
    if trajectory_id:
        span.attributes.add(key=semconv.TRAJECTORY_ID).value.string_value = trajectory_id
    return message


def test_a_trajectory_named_like_a_trace_is_kept_apart_from_that_traces_other_spans(store: Store) -> None:
    message = one_span()
    message.MergeFrom(one_span((b"t" * 16).hex(), span_id=b"r" * 8))
    ingest(store, [otlp.read(otlp.TRACES, message, 0).batch])
    assert [row["trajectory_id"] for row in list_trajectories(store, None, 9)] == [(b"t" * 16).hex()]


def test_a_span_is_not_lost_when_its_sender_was_first_seen_with_duplicates_only(store: Store) -> None:
    requests = [one_span("a", "one"), one_span("a", "two"), one_span("b", "two", b"r" * 8)]
    with store.session() as session:
        writer = Writer(session)
        for request in requests:
            writer.write([otlp.read(otlp.TRACES, request, 0).batch])
    ingest(store, [])
    assert {row["trajectory_id"] for row in list_trajectories(store, None, 9)} == {"a", "b"}


def test_a_trajectory_id_without_end_is_refused_and_a_long_service_name_cut_in_rows() -> None:
    reading = otlp.read(otlp.TRACES, one_span("t" * 1001), 0)
    assert "trajectory id has more than 1000 characters (1)" in reading.response.partial_success.error_message
    (span,) = otlp.read(otlp.TRACES, one_span("t", "s" * 5000), 0).batch.spans
    assert span.service == "s" * 1000


def test_a_large_resource_is_not_kept_once_for_each_of_many_scopes() -> None:
    message = one_span(service="x" * 1_000_000)
    for number in range(100):
        scoped = message.resource_spans[0].scope_spans.add()
        scoped.scope.name = str(number)
        scoped.spans.add(trace_id=b"t" * 16, span_id=number.to_bytes(8, "big") or b"", name="s")
    reading = otlp.read(otlp.TRACES, message, 0)
    assert sum(len(origin.resource) for origin in reading.batch.origins) <= 64 * 1024 * 1024
    assert "have more than 64 MiB; send fewer scopes" in reading.response.partial_success.error_message


def test_states_that_repeat_too_much_are_left_out_with_the_reason(
    part: Callable[..., list[SpanRow]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trajectories, "_STATES", 2 + 3)
    rows = trajectories.assemble("t1", part("p", 5))
    assert [len(row["state"]) for row in rows.steps] == [1, 2, 3, 1, 1]
    assert "states have more than 5 message ids" in rows.trajectories[0]["incomplete_reason"]
    assert json.loads(rows.trajectories[0]["tags"]) == {}


def test_histories_that_begin_alike_again_and_again_are_left_out_with_the_reason(
    part: Callable[..., list[SpanRow]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trajectories, "_REPEATED", 32 * 3)
    spans = [replace(span, attributes=cut_back(span.attributes)) for span in part("p", 6)]
    rows = trajectories.assemble("t1", spans)
    assert [len(row["state"]) for row in rows.steps] == [1, 2, 2, 2, 2, 1]
    assert "steps repeat more than 0 MiB" in rows.trajectories[0]["incomplete_reason"]


def cut_back(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return a step's attributes as if only the first message of the step before had stayed."""
    if attributes.get(semconv.STEP_INDEX, 0) == 0:
        return attributes
    cut = attributes | {semconv.STEP_MESSAGES_OFFSET: 1}
    return cut | {semconv.STEP_DIGEST: step_digest(cut)}


CORPUS = Path(__file__).parents[2] / "fuzz"


@pytest.mark.parametrize("target", ["decompress", "otlp_bytes", "derive"])
def test_what_fuzzing_found_breaks_nothing(target: str) -> None:
    called = runpy.run_path(str(CORPUS / "targets.py"))["TARGETS"][target]
    inputs = sorted((CORPUS / "corpus" / target).iterdir())
    assert inputs
    for found in inputs:
        called(found.read_bytes())


def test_tags_with_a_lone_surrogate_are_stored(store: Store) -> None:
    message = one_span("t")
    span = message.resource_spans[0].scope_spans[0].spans[0]
    span.attributes.add(key=semconv.TRAJECTORY_TAGS).value.string_value = '{"a": "\\ud800"}'
    ingest(store, [otlp.read(otlp.TRACES, message, 0).batch])
    assert list_trajectories(store, None, 9)[0]["tags"] == {"a": "\ud800"}
