import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from imitrace.cli import main
from imitrace_collector import otlp
from imitrace_collector.config import CollectorConfig
from imitrace_collector.explanations import explain_services, explain_trace, render_services, render_trace
from imitrace_collector.ingest import ingest
from imitrace_collector.reads import NotFoundError
from imitrace_collector.server import CollectorServer
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]
Json = dict[str, Any]  # a JSON object


def request(trace: int, scope: str, **attributes: str) -> ExportTraceServiceRequest:
    pairs = [KeyValue(key=key.replace("__", "."), value=AnyValue(string_value=at)) for key, at in attributes.items()]
    made = ExportTraceServiceRequest()
    service = KeyValue(key="service.name", value=AnyValue(string_value="shop"))
    group = made.resource_spans.add(resource=Resource(attributes=[service]))
    spans = group.scope_spans.add(scope=InstrumentationScope(name=scope)).spans
    spans.add(name="x", trace_id=bytes([trace] * 16), span_id=bytes([trace] * 8), attributes=pairs)
    return made


def message(role: str, text: str) -> str:
    return json.dumps([{"role": role, "parts": [{"type": "text", "content": text}]}])


TALKING = request(
    1,
    "opentelemetry.instrumentation.openai_v2",
    gen_ai__operation__name="chat",
    gen_ai__input__messages=message("user", "hi"),
    gen_ai__output__messages=message("assistant", "hello"),
)
SILENT = request(2, "opentelemetry.instrumentation.openai_v2", gen_ai__operation__name="chat")
OTHER = request(3, "requests", http__method="GET")


@pytest.fixture
def filled(store: Store, export: MakeExport) -> Store:
    for sent in (TALKING, SILENT, OTHER, export("t1")):
        ingest(store, [otlp.read(otlp.TRACES, sent, 0).batch])
    return store


def test_services_are_told_what_was_recognised_and_what_was_not(filled: Store) -> None:
    found = explain_services(filled, 1000)
    assert [(one["service"], one["spans"]) for one in found["own"]] == [("", 3)]
    (spoken,) = found["spoken"]
    counts = [spoken[key] for key in ("spans", "model_calls", "with_content", "without_content")]
    assert (spoken["service"], spoken["dialect"], counts) == ("shop", "otel-genai", [2, 2, 1, 1])
    assert "CAPTURE_MESSAGE_CONTENT" in spoken["switch"]
    assert [(one["scope"], one["spans"]) for one in found["unread"]] == [("requests", 1)]
    text = render_services(found)
    assert "-: imitrace, 3 spans of our own" in text
    assert "1 with content, 1 without" in text and "to send content: OTEL_" in text
    assert "shop: not read, 1 spans of requests" in text


def test_only_the_newest_traces_are_looked_at(filled: Store) -> None:
    found = explain_services(filled, 1)
    assert (found["traces"], found["spoken"], len(found["unread"])) == (1, [], 1)


def test_a_step_names_the_span_that_it_came_from(filled: Store) -> None:
    found = explain_trace(filled, "01" * 16)
    assert [one["trajectory_id"] for one in found["trajectories"]] == ["01" * 16]
    (step,) = found["steps"]
    sides = {side["side"]: side for side in step["sides"]}
    assert sides["action"]["span_id"] == sides["state"]["span_id"] == "01" * 8
    assert "gen_ai.output.messages" in sides["action"]["rule"]
    assert "step 0  message  complete" in render_trace(found)


def test_a_trace_without_content_says_why_there_are_no_steps(filled: Store) -> None:
    text = render_trace(explain_trace(filled, "02" * 16))
    assert "no steps are made of it" in text and "to send content: OTEL_" in text


def test_our_own_steps_are_told(filled: Store, export: MakeExport) -> None:
    trace = export("t1").resource_spans[0].scope_spans[0].spans[0].trace_id.hex()
    found = explain_trace(filled, trace)
    assert [step["step_index"] for step in found["own_steps"]] == [0, 1]
    assert "t1 step 0: imitrace's own span" in render_trace(found)


def test_an_unknown_trace_is_told(filled: Store) -> None:
    with pytest.raises(NotFoundError, match="no trace"):
        explain_trace(filled, "ff" * 16)


def test_commands_say_the_same_alone_and_beside_a_collector(config: CollectorConfig) -> None:
    with Store.open(config.store) as store:
        for sent in (TALKING, SILENT):
            ingest(store, [otlp.read(otlp.TRACES, sent, 0).batch])
    asked = (["dialects", "--json"], ["doctor", "--trace", "01" * 16, "--json"])

    def answers() -> list[Json]:
        return [json.loads(CliRunner().invoke(main, [*given, "--home", str(config.home)]).stdout) for given in asked]

    alone = answers()
    assert alone[0]["spoken"] and alone[1]["steps"]
    with CollectorServer(config):
        assert answers() == alone


def test_captures_are_recognised(store: Store, data: Path) -> None:
    expected = {"langgraph__openinference": "openinference", "strands__native-latest": "strands"}
    for name in expected:
        for file in sorted((data / "captures" / name).glob("*.pb")):
            sent = otlp.parse(otlp.TRACES, file.read_bytes(), otlp.PROTOBUF)
            ingest(store, [otlp.read(otlp.TRACES, sent, 0).batch])
    found = explain_services(store, 1000)
    assert {one["dialect"] for one in found["spoken"]} == set(expected.values())
    assert all(one["with_content"] == one["model_calls"] for one in found["spoken"])
