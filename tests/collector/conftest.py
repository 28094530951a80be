"""A real collector on free ports, a small trajectory in chat form, and the folder of recorded data."""

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from imitrace import semconv
from imitrace.canonical import content_hash, step_digest
from imitrace_collector import otlp
from imitrace_collector.batcher import Batcher
from imitrace_collector.chat_jsonl import read_line
from imitrace_collector.config import CollectorConfig
from imitrace_collector.copying import EVERY_TABLE
from imitrace_collector.records import Unpacker
from imitrace_collector.rows import Batch, SpanRow
from imitrace_collector.server import CollectorServer
from imitrace_collector.store import Store

Json = dict[str, Any]  # a JSON object
MakeExport = Callable[..., ExportTraceServiceRequest]
MakePart = Callable[..., list[SpanRow]]
Beside = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def line() -> Json:
    """Two decisions: look an order up, then answer."""
    call = {"id": "c1", "type": "function", "function": {"name": "get_order", "arguments": '{"id": "A-1"}'}}
    return {
        "id": "t1",
        "task_id": 7,
        "model": "gpt",
        "reward": 1.0,
        "messages": [
            {"role": "system", "content": "desk"},
            {"role": "user", "content": "where is A-1?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "shipped"},
            {"role": "assistant", "content": "It is on its way."},
        ],
    }


@pytest.fixture
def export(line: Json) -> MakeExport:
    """Make the export request of the small trajectory, under another id when asked."""

    def make(trajectory_id: str = "t1") -> ExportTraceServiceRequest:
        tool = {"name": "get_order", "description": "", "parameters": {"type": "object", "properties": {}}}
        read = read_line(line | {"id": trajectory_id}, 0, "desk", [tool])
        return ExportTraceServiceRequest(resource_spans=[read.spans])

    return make


@pytest.fixture
def part() -> MakePart:
    """Make the spans of one part of trajectory ``t1``: its steps, with their chunks, then its own span.

    Step ``index`` of part ``name`` sees one new message and calls a tool; its span is ``name.index``. ``parent`` names
    the part that it joined, ``width`` is how many characters an attribute may have before it goes into chunks, and
    other keywords are attributes of its own span, by their constant in ``semconv``.
    """

    def make(
        name: str, steps: int = 2, *, at: int = 0, parent: str = "", width: int = 1000, **attributes: Any
    ) -> list[SpanRow]:
        spans: list[Span] = []
        for index in range(steps):
            spans += _step(name, index, at + index, width)
        root = {"STEP_COUNT": steps} | attributes
        named = {getattr(semconv, key.replace("STEP_COUNT", "TRAJECTORY_STEP_COUNT")): root[key] for key in root}
        spans.append(_span(f"invoke_agent {name}", name, parent, (at, at + 100), named))
        scope = InstrumentationScope(name="imitrace")
        sent = ResourceSpans(scope_spans=[ScopeSpans(scope=scope, spans=spans)])
        return decoded(otlp.read(otlp.TRACES, ExportTraceServiceRequest(resource_spans=[sent]), 0).batch)

    return make


def decoded(batch: Batch) -> list[SpanRow]:
    """Return the spans of a batch, all of one origin, in their order."""
    body = b"".join(span.record for span in batch.spans)
    return list(Unpacker().spans(body, batch.origins[0]))


def encoded(spans: Sequence[SpanRow]) -> Batch:
    """Return spans as the batch that their request would be."""
    message = ExportTraceServiceRequest()
    for span in spans:
        group = message.resource_spans.add(resource=Resource(attributes=_pairs(span.resource)))
        sent = group.scope_spans.add(scope=InstrumentationScope(name=span.scope["name"])).spans.add(
            name=span.name,
            trace_id=bytes.fromhex(span.trace_id),
            span_id=bytes.fromhex(span.span_id),
            parent_span_id=bytes.fromhex(span.parent_span_id or ""),
            start_time_unix_nano=span.started_at,
            end_time_unix_nano=span.ended_at,
            attributes=_pairs(span.attributes),
            dropped_attributes_count=span.dropped_attributes,
        )
        for event in span.events:
            sent.events.add(name=event["name"], time_unix_nano=event["time"], attributes=_pairs(event["attributes"]))
    return otlp.read(otlp.TRACES, message, 0).batch


@pytest.fixture
def decode() -> Callable[[Batch], list[SpanRow]]:
    """Return a batch's spans, decoded."""
    return decoded


@pytest.fixture
def encode() -> Callable[[Sequence[SpanRow]], Batch]:
    """Return spans as the batch that their request would be."""
    return encoded


def _step(name: str, index: int, at: int, width: int) -> list[Span]:
    own = f"{name}.{index}"
    sent = {
        semconv.STEP_INDEX: index,
        semconv.STEP_MESSAGES: json.dumps([{"role": "user", "parts": [{"type": "text", "content": f"{own} asks"}]}]),
        semconv.STEP_MESSAGES_OFFSET: index,
        semconv.STEP_ACTION_KIND: "tool_call",
        semconv.TOOL_NAME: own,
        semconv.TOOL_CALL_ID: own,
        semconv.TOOL_CALL_ARGUMENTS: "{}",
        semconv.TOOL_CALL_RESULT: f"{own} came back",
    }
    sent[semconv.STEP_DIGEST] = step_digest(sent)
    large = {key: str(sent.pop(key)) for key in semconv.DIGEST_PAYLOADS if len(str(sent.get(key, ""))) > width}
    chunks = [
        {
            semconv.CHUNK_ATTRIBUTE: key,
            semconv.CHUNK_INDEX: start // width,
            semconv.CHUNK_COUNT: -(-len(text) // width),
            semconv.CHUNK_TEXT: text[start : start + width],
        }
        for key, text in large.items()
        for start in range(0, len(text), width)
    ]
    if chunks:
        sent[semconv.STEP_CHUNKS] = len(chunks)
    return [
        _span(semconv.SPAN_STEP, own, name, (at, at + 1), sent),
        *(
            _span(semconv.SPAN_CHUNK, f"{own} chunk {number}", own, (at, at + 1), chunk)
            for number, chunk in enumerate(chunks)
        ),
    ]


def _span(kind: str, name: str, parent: str, times: tuple[int, int], attributes: Mapping[str, object]) -> Span:
    pairs = {semconv.TRAJECTORY_ID: "t1", **attributes}
    return Span(
        name=kind,
        trace_id=b"t" * 16,
        span_id=_span_id(name),
        parent_span_id=_span_id(parent) if parent else b"",
        start_time_unix_nano=times[0],
        end_time_unix_nano=times[1],
        attributes=_pairs(pairs),
    )


def _span_id(name: str) -> bytes:
    return bytes.fromhex(content_hash(name))[:8]


def _pairs(values: Mapping[str, object]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items()]


def _value(value: object) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=map(_value, value)))
    if isinstance(value, dict):
        return AnyValue(kvlist_value=KeyValueList(values=_pairs(value)))
    return AnyValue() if value is None else AnyValue(string_value=str(value))


@pytest.fixture
def config(tmp_path: Path) -> CollectorConfig:
    return CollectorConfig(home=tmp_path / "home", http_port=0, grpc_port=0)


@pytest.fixture
def collector(config: CollectorConfig) -> Iterator[CollectorServer]:
    with CollectorServer(config) as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "traces.duckdb") as opened:
        yield opened


@pytest.fixture
def contents() -> Callable[[Store], dict[str, list[str]]]:
    """Return every row of every table, in an order that does not depend on how it came there."""

    def read(store: Store) -> dict[str, list[str]]:
        with store.reader() as reader:
            return {table: sorted(map(str, reader.rows(f"SELECT * FROM {table}"))) for table in EVERY_TABLE}  # noqa: S608

    return read


@pytest.fixture
def beside() -> Beside:
    """Return a context that does things again and again, each in a thread of its own, and raises what they raised."""

    @contextmanager
    def run(*works: Callable[[], object]) -> Iterator[None]:
        over = threading.Event()

        def repeat(work: Callable[[], object]) -> None:
            while not over.is_set():
                work()

        with ThreadPoolExecutor(len(works)) as pool:
            running = [pool.submit(repeat, work) for work in works]
            try:
                yield
            finally:
                over.set()
        for work in running:
            work.result()

    return run


@pytest.fixture
def go() -> threading.Event:
    """Let the writer of ``full_batcher`` go on."""
    return threading.Event()


@pytest.fixture
def full_batcher(go: threading.Event) -> Iterator[Batcher[Batch]]:
    """Return a batcher whose queue of 100,000 bytes is full until ``go`` is set."""

    def write(_: Sequence[Batch]) -> None:
        assert go.wait(20)

    batcher = Batcher[Batch](write, 100_000)
    batcher.submit(Batch(), 100_000)
    yield batcher
    go.set()
    batcher.stop()


@pytest.fixture
def data() -> Path:
    """Return the folder of recorded data, or skip."""
    named = os.environ.get("IMITRACE_DATA", "../shared/data")  # noqa: TID251 - tells tests where recorded data is
    folder = (Path(__file__).parents[2] / named).resolve()
    if not folder.is_dir():
        pytest.skip(f"no recorded data at {folder}; name the folder in IMITRACE_DATA")
    return folder
