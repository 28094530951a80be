"""Spans of other systems: what goes to the store is what their instrumentors sent, or says the same in one dialect."""

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from pyarrow import parquet

from imitrace_collector import otlp
from imitrace_collector.importer import StoreSink, import_files
from imitrace_collector.imports import langfuse, mlflow, phoenix
from imitrace_collector.imports.conversations import Broken, ForeignTrace, Given, Row
from imitrace_collector.imports.files import rows
from imitrace_collector.imports.foreign_spans import span_key
from imitrace_collector.imports.formats import FORMATS, format_of
from imitrace_collector.rows import Batch, SpanRow
from imitrace_collector.store import Store
from imitrace_collector.traces import trace_detail

Json = dict[str, Any]  # a JSON object
Decode = Callable[[Batch], list[SpanRow]]

SAMPLES = Path(__file__).parent / "samples"
FILES = {"phoenix": "phoenix.jsonl", "langfuse": "langfuse.json", "mlflow": "mlflow.json"}


@pytest.fixture
def spans(decode: Decode) -> Callable[..., list[SpanRow]]:
    """Return a file's spans, decoded, as the store would have them."""

    def read(name: str, path: Path | None = None, agent: str | None = None) -> list[SpanRow]:
        found = FORMATS[name].read(
            [row for row in rows(path or SAMPLES / FILES[name]) if isinstance(row, Row)], Given(agent=agent)
        )
        decoded: list[SpanRow] = []
        for trace in found:
            assert isinstance(trace, ForeignTrace), trace
            request = ExportTraceServiceRequest(resource_spans=[trace.spans])
            decoded += decode(otlp.read(otlp.TRACES, request, 0).batch)
        return decoded

    return read


@pytest.mark.parametrize("name", FILES)
def test_spans_keep_their_tree_and_their_times(spans: Callable[..., list[SpanRow]], name: str) -> None:
    root, *others = spans(name)
    assert root.parent_span_id is None
    assert {span.parent_span_id for span in others} == {root.span_id}
    assert len({span.span_id for span in (root, *others)}) == 4
    assert all(root.started_at <= span.started_at < span.ended_at <= root.ended_at for span in others)
    assert {span.trace_id for span in others} == {root.trace_id}


@pytest.mark.parametrize("name", ["langfuse", "mlflow"])
def test_model_calls_and_tools_speak_the_genai_conventions(spans: Callable[..., list[SpanRow]], name: str) -> None:
    agent, call, tool, _ = (span.attributes for span in spans(name))
    assert agent["gen_ai.operation.name"] == "invoke_agent"
    assert (agent["gen_ai.agent.name"], agent["gen_ai.conversation.id"]) == ("desk", "s1")
    assert [message["role"] for message in json.loads(call["gen_ai.input.messages"])] == ["system", "user"]
    ((part,),) = (message["parts"] for message in json.loads(call["gen_ai.output.messages"]))
    assert (part["type"], part["name"], part["arguments"]) == ("tool_call", "get_order", {"order_id": "A-1"})
    assert [offered["name"] for offered in json.loads(call["gen_ai.tool.definitions"])] == ["get_order"]
    assert (call["gen_ai.usage.input_tokens"], call["gen_ai.request.model"]) == (10, "gpt-5.1")
    assert (tool["gen_ai.tool.name"], json.loads(tool["gen_ai.tool.call.arguments"])) == (
        "get_order",
        {"order_id": "A-1"},
    )
    assert tool["gen_ai.tool.call.result"] == "shipped"


@pytest.mark.parametrize("name", ["langfuse", "mlflow"])
def test_scores_stand_on_the_first_span(spans: Callable[..., list[SpanRow]], name: str) -> None:
    (score,) = spans(name)[0].events
    assert score["attributes"]["gen_ai.evaluation.name"] == "TaskCompletion"
    assert score["attributes"]["gen_ai.evaluation.score.value"] == 1.0


@pytest.mark.parametrize("name", ["langfuse", "mlflow"])
def test_the_agent_that_is_named_is_the_outermost(spans: Callable[..., list[SpanRow]], name: str) -> None:
    assert spans(name, agent="support")[0].attributes["gen_ai.agent.name"] == "support"


def nested(attributes: Mapping[str, Any]) -> Json:
    """Return flat attributes as Phoenix gives them: lists for what is numbered, each item an object."""
    found: Json = {}
    lists: dict[str, dict[int, Json]] = defaultdict(lambda: defaultdict(dict))
    for name, value in attributes.items():
        head, number, rest = numbered(name)
        if number is None:
            found[name] = value
        else:
            lists[head][number][rest] = value
    return found | {head: [item(items[number]) for number in sorted(items)] for head, items in lists.items()}


def item(found: Json) -> Any:
    return found[""] if set(found) == {""} else nested(found)


def numbered(name: str) -> tuple[str, int | None, str]:
    parts = name.split(".")
    place = next((place for place, part in enumerate(parts) if part.isdigit()), None)
    if place is None:
        return name, None, ""
    return ".".join(parts[:place]), int(parts[place]), ".".join(parts[place + 1 :])


@pytest.mark.parametrize("capture", ["langgraph__openinference", "openai-agents__openinference"])
def test_what_phoenix_exports_is_what_the_instrumentor_sent(
    data: Path, tmp_path: Path, decode: Decode, spans: Callable[..., list[SpanRow]], capture: str
) -> None:
    sent: list[SpanRow] = []
    for path in sorted((data / "captures" / capture).glob("*.traces.otlp.pb")):
        request = ExportTraceServiceRequest.FromString(path.read_bytes())
        for group in request.resource_spans:
            for scoped in group.scope_spans:
                message = ExportTraceServiceRequest()
                message.resource_spans.add(resource=group.resource).scope_spans.add().CopyFrom(scoped)
                sent += decode(otlp.read(otlp.TRACES, message, 0).batch)
    table = [
        {
            "name": span.name,
            "span_kind": span.attributes.get("openinference.span.kind", "UNKNOWN"),
            "parent_id": span.parent_span_id,
            "start_time": span.started_at,
            "end_time": span.ended_at,
            "status_code": ("UNSET", "OK", "ERROR")[span.status],
            "status_message": span.status_message,
            "context.span_id": span.span_id,
            "context.trace_id": span.trace_id,
            **{f"attributes.{name}": value for name, value in nested(span.attributes).items()},
        }
        for span in sent
    ]
    times = {name: pa.array([row.pop(name) for row in table], pa.timestamp("ns", "UTC")) for name in TIMES}
    columns = pa.Table.from_pylist([{name: row.get(name) for name in names(table)} for row in table])
    for name, values in times.items():
        columns = columns.append_column(name, values)
    parquet.write_table(columns, tmp_path / "spans.parquet")
    assert format_of(tmp_path / "spans.parquet").name == "phoenix"
    found = {span.span_id: span for span in spans("phoenix", tmp_path / "spans.parquet")}
    assert len(found) == len(sent)
    for span in sent:
        same = found[span.span_id]
        kind = {"openinference.span.kind": span.attributes.get("openinference.span.kind", "UNKNOWN")}
        assert dict(same.attributes) == dict(span.attributes) | kind
        assert (same.started_at, same.ended_at, same.parent_span_id) == (
            span.started_at,
            span.ended_at,
            span.parent_span_id,
        )


TIMES = ("start_time", "end_time")


def names(table: list[Json]) -> list[str]:
    return list(dict.fromkeys(name for row in table for name in row))


@pytest.mark.parametrize("name", FILES)
def test_the_store_makes_the_same_steps_of_all_of_them(spans: Callable[..., list[SpanRow]], name: str) -> None:
    assembly = pytest.importorskip("imitrace_collector.foreign.assembly")
    (found,) = assembly.assemble(spans(name), []).trajectories
    (trajectory,) = found.trajectories
    assert (trajectory["trajectory_id"], trajectory["agent"], trajectory["complete"]) == ("s1", "desk", True)
    lookup, answer = found.steps
    assert (lookup["action_name"], lookup["action_arguments"]) == ("get_order", '{"order_id":"A-1"}')
    assert (lookup["observation"], len(lookup["state"])) == ("shipped", 2)
    assert (answer["action_message"], len(answer["state"])) == ("It is on its way.", 4)
    assert lookup["input_tokens"] == 10


def test_rows_of_one_export_may_stand_in_several_files(store: Store, tmp_path: Path) -> None:
    (trace,) = json.loads((SAMPLES / "langfuse.json").read_text())["data"]
    observations, scores = trace.pop("observations"), trace.pop("scores")
    files = [tmp_path / f"{name}.jsonl" for name in ("observations", "scores", "traces")]
    for path, listed in zip(files, (observations, scores, [trace]), strict=True):
        path.write_text("".join(json.dumps(snake(row)) + "\n" for row in listed))
    report = import_files(files, StoreSink(store), Given())
    assert (report.foreign_traces, report.foreign_spans, report.broken) == (1, 4, [])
    assert set(report.formats.values()) == {"langfuse"}
    detail = trace_detail(store, span_key("tr1", 16).hex())
    root = next(span for span in detail["spans"] if span["parent_span_id"] is None)
    assert root["attributes"]["gen_ai.conversation.id"] == "s1"
    assert [event["name"] for event in root["events"]] == ["gen_ai.evaluation.result"]
    assert root["resource"]["service.name"] == "support"


def snake(row: Json) -> Json:
    """Return a row in the spelling of the blob storage's exports, payloads as JSON text."""
    payload = {"input", "output"} & row.keys()
    plain = {name: json.dumps(row[name]) if name in payload else value for name, value in row.items()}
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in name): value for name, value in plain.items()}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("0x4bf92f3577b34da6a3ce929d0e0e4736", "4bf92f3577b34da6a3ce929d0e0e4736"),
    ],
)
def test_an_id_of_otel_stays_itself(name: str, key: str) -> None:
    assert span_key(name, 16).hex() == key


@pytest.mark.parametrize("name", ["", "tr1", "0" * 32])
def test_any_other_id_becomes_one_that_follows_from_it(name: str) -> None:
    assert len(span_key(name, 16)) == 16
    assert any(span_key(name, 16))
    assert span_key(name, 16) == span_key(name, 16) != span_key(name + "x", 16)


def test_content_that_cant_be_read_stays_so_that_its_step_is_marked() -> None:
    line = {"id": "o1", "traceId": "t1", "type": "GENERATION", "input": {"odd": 1}, "output": 3}
    (trace,) = (told for told in langfuse.read([Row("line 1", 0, line)], Given()) if not isinstance(told, Broken))
    assert isinstance(trace, ForeignTrace)
    sent = {pair.key: pair.value.string_value for pair in trace.spans.scope_spans[0].spans[0].attributes}
    assert (sent["gen_ai.input.messages"], sent["gen_ai.output.messages"]) == ('{"odd":1}', "3")


def test_a_span_that_cant_be_read_is_named_in_its_trace() -> None:
    trace = json.loads((SAMPLES / "mlflow.json").read_text())
    trace["data"]["spans"].append({"name": "broken", "attributes": None})
    found = list(mlflow.read([Row("line 1", 0, trace)], Given()))
    assert [told.place for told in found if isinstance(told, Broken)] == ["line 1, span 5"]
    assert [told.count for told in found if isinstance(told, ForeignTrace)] == [4]


def test_what_happened_in_a_span_comes_with_it() -> None:
    event = {"name": "exception", "timestamp": "2026-05-01T10:00:00Z", "attributes": {"exception.message": "timeout"}}
    context = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"}
    row = {"context": context, "span_kind": "TOOL", "status_code": "ERROR", "events": [event, 3]}
    (trace,) = phoenix.read([Row("line 1", 0, row)], Given())
    assert isinstance(trace, ForeignTrace)
    (span,) = trace.spans.scope_spans[0].spans
    assert [(told.name, told.time_unix_nano) for told in span.events] == [("exception", 1_777_629_600 * 10**9)]
    assert span.events[0].attributes[0].value.string_value == "timeout"


def test_numbered_texts_inside_a_message_are_numbered_again() -> None:
    context = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"}
    attributes = {"llm.output_messages": [{"message.content": ["one", "two"]}], "tag.tags": ["a", "b"]}
    (trace,) = phoenix.read([Row("line 1", 0, {"context": context, "attributes": attributes})], Given())
    assert isinstance(trace, ForeignTrace)
    sent = {pair.key: pair.value for pair in trace.spans.scope_spans[0].spans[0].attributes}
    assert sent["llm.output_messages.0.message.content.1"].string_value == "two"
    assert len(sent["tag.tags"].array_value.values) == 2


def test_objects_that_were_json_text_on_the_wire_are_so_again() -> None:
    row = {
        "context": {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"},
        "span_kind": "LLM",
        "attributes": {"metadata": {"thread_id": "t1", "none": None}, "llm": {"model_name": "m"}},
    }
    (trace,) = phoenix.read([Row("line 1", 0, row)], Given())
    assert isinstance(trace, ForeignTrace)
    sent = {pair.key: pair.value.string_value for pair in trace.spans.scope_spans[0].spans[0].attributes}
    assert sent == {"metadata": '{"thread_id":"t1"}', "llm.model_name": "m", "openinference.span.kind": "LLM"}
