import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.exceptions import WireError
from imitrace_collector import otlp
from imitrace_collector.ingest import ingest
from imitrace_collector.reads import NotFoundError
from imitrace_collector.store import Store
from imitrace_collector.traces import render_trace, trace_detail

MakeExport = Callable[..., ExportTraceServiceRequest]
TRACE = "0123456789abcdef" * 2


@pytest.fixture
def filled(store: Store, export: MakeExport) -> Store:
    """Return a store with one trace: a trajectory's spans, and a log record of the first."""
    message = export()
    spans = message.resource_spans[0].scope_spans[0].spans
    for span in spans:
        span.trace_id = bytes.fromhex(TRACE)
    logs = ExportLogsServiceRequest()
    log = logs.resource_logs.add().scope_logs.add().log_records.add(event_name="retry", time_unix_nano=5)
    log.trace_id, log.span_id = spans[0].trace_id, spans[0].span_id
    log.attributes.add(key="why").value.string_value = "\x1b[31mred\nline"
    ingest(store, [otlp.read(otlp.TRACES, export("t2"), 0).batch, otlp.read(otlp.TRACES, message, 0).batch])
    ingest(store, [otlp.read(otlp.LOGS, logs, 0).batch])
    return store


def test_a_trace_comes_whole_and_decoded(filled: Store) -> None:
    detail = json.loads(json.dumps(trace_detail(filled, TRACE.upper())))
    assert {span["trace_id"] for span in detail["spans"]} == {TRACE}
    assert sorted(span["name"] for span in detail["spans"]) == ["agent.trajectory.step"] * 2 + ["invoke_agent desk"]
    assert any(span["attributes"].get("gen_ai.tool.name") == "get_order" for span in detail["spans"])
    assert [log["event_name"] for log in detail["log_records"]] == ["retry"]


def test_a_trace_is_shown_as_a_tree(filled: Store) -> None:
    first, *lines = render_trace(trace_detail(filled, TRACE), width=100).splitlines()
    assert first == f"trace {TRACE}  3 spans  1 log records"
    assert sum(line.startswith("  agent.trajectory.step  [") for line in lines) == 2
    assert any(line.startswith("invoke_agent desk  [") and " ms" in line for line in lines)
    assert all(len(line) <= 100 and line.isprintable() for line in lines)
    assert "* retry  why= [31mred line" in "\n".join(lines)


@pytest.mark.parametrize(
    ("parents", "expected"),
    [
        ({"a": None, "b": "a", "c": "b"}, ["a", "  b", "    c"]),
        ({"a": "gone", "b": None}, ["a", "b"]),
        ({"a": "a"}, ["a"]),
        ({"a": "b", "b": "a", "c": None}, ["c", "a", "  b"]),
    ],
)
def test_every_span_is_shown_once_whatever_its_parent(parents: dict[str, str | None], expected: list[str]) -> None:
    spans = [span(name, parent) for name, parent in parents.items()]
    detail = {"trace_id": TRACE, "spans": spans, "log_records": []}
    assert [line.partition("  [")[0] for line in render_trace(detail).splitlines()[1:]] == expected


def test_a_deep_trace_is_no_trouble() -> None:
    spans = [span(str(number), str(number - 1) if number else None) for number in range(5000)]
    assert len(render_trace({"trace_id": TRACE, "spans": spans, "log_records": []}).splitlines()) == 5001


def span(name: str, parent: str | None) -> dict[str, Any]:
    times = {"started_at": 0, "ended_at": 1_000_000, "status": 0}
    return {"span_id": name, "parent_span_id": parent, "name": name, "resource": {}, "attributes": {}} | times


def test_what_is_no_trace_is_told(filled: Store) -> None:
    with pytest.raises(WireError, match="trace id is 'x', expected 32 hexadecimal digits"):
        trace_detail(filled, "x")
    with pytest.raises(NotFoundError, match=f"no trace {'0' * 32} in the store"):
        trace_detail(filled, "0" * 32)
