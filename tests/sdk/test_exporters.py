import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as trace_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

import imitrace
from imitrace import semconv
from imitrace.canonical import step_digest
from imitrace.delivery.exporters import deliveries
from imitrace.delivery.outbox import Outbox, OutboxConfig, Stats, payload_bytes
from imitrace.delivery.spool import SpoolConfig
from imitrace.delivery.transports import Connection
from imitrace.faults import Faults
from imitrace.messages import from_openai

FORK = """
import os, sys, imitrace
imitrace.configure(agent="desk", endpoint=sys.argv[1])
def emit(name):
    with imitrace.trajectory(id=name), imitrace.step("hi") as step:
        step.message(name)
emit("before")
assert imitrace.flush()
emit("parent")
child = os.fork()
if child == 0:
    emit("child")
    delivered = imitrace.flush() and imitrace.stats().exported == 2
    os._exit(0 if delivered else 1)
assert os.waitpid(child, 0)[1] == 0
assert imitrace.flush() and imitrace.stats().exported == 4
"""
LAST_WORDS = """
import sys, imitrace
imitrace.configure(agent="desk", endpoint=sys.argv[1])
with imitrace.step("hi") as step:
    step.message("bye")
"""


class Receiver:
    """A real OTLP receiver over HTTP or gRPC that keeps what it was sent."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, dict[str, Any]]] = []
        self.scores: list[tuple[str, dict[str, Any]]] = []
        self.services: set[str] = set()
        self.authorizations: set[str | None] = set()
        self.answers: list[int] = []
        self.sizes: list[int] = []

    def steps(self, trajectory: str) -> list[dict[str, Any]]:
        steps = [span for name, span in self.spans if name == semconv.SPAN_STEP]
        return [step for step in steps if step[semconv.TRAJECTORY_ID] == trajectory]

    def take_spans(self, request: ExportTraceServiceRequest) -> None:
        self.sizes.append(request.ByteSize())
        for sent in request.resource_spans:
            self.services.add(attributes(sent.resource.attributes)["service.name"])
            self.spans += [(span.name, attributes(span.attributes)) for part in sent.scope_spans for span in part.spans]

    def take_scores(self, request: ExportLogsServiceRequest) -> None:
        for sent in request.resource_logs:
            records = [record for part in sent.scope_logs for record in part.log_records]
            self.scores += [(record.event_name, attributes(record.attributes)) for record in records]


def attributes(pairs: Any) -> dict[str, Any]:  # a repeated protobuf field
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def http_endpoint(receiver: Receiver) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            body = gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body
            status = receiver.answers.pop(0) if receiver.answers else 200
            receiver.authorizations.add(self.headers.get("authorization"))
            if status == 200 and self.path == "/v1/traces":
                receiver.take_spans(ExportTraceServiceRequest.FromString(body))
            elif status == 200 and self.path == "/v1/logs":
                receiver.take_scores(ExportLogsServiceRequest.FromString(body))
            self.send_response(status)
            self.send_header("content-length", "0")
            self.send_header("retry-after", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def grpc_endpoint(receiver: Receiver) -> Iterator[str]:
    class Traces(trace_grpc.TraceServiceServicer):
        def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:  # noqa: N802
            receiver.authorizations.add(dict(context.invocation_metadata()).get("authorization"))
            receiver.take_spans(request)
            return ExportTraceServiceResponse()

    class Logs(logs_grpc.LogsServiceServicer):
        def Export(self, request: ExportLogsServiceRequest, context: Any) -> ExportLogsServiceResponse:  # noqa: N802
            receiver.take_scores(request)
            return ExportLogsServiceResponse()

    server = grpc.server(ThreadPoolExecutor(2))
    trace_grpc.add_TraceServiceServicer_to_server(Traces(), server)  # type: ignore[no-untyped-call]  # generated
    logs_grpc.add_LogsServiceServicer_to_server(Logs(), server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def endpoint(protocol: str, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(f"{protocol}_endpoint"))


def run_trajectory(name: str) -> list[dict[str, Any]]:
    """Run a short agent and return the conversation that its last step saw."""
    history: list[dict[str, Any]] = [{"role": "user", "content": f"{name} é \ud800"}]
    with imitrace.trajectory("task", id=name):
        with imitrace.step(history, [{"name": "look"}]) as step:
            step.tool_call("look", {"q": "x" * 5000}, "c1")
        history += [{"role": "tool", "tool_call_id": "c1", "content": "found"}]
        with imitrace.step(history, [{"name": "look"}]) as step:
            step.message("bye")
        imitrace.score("reward", 1.0)
    return [from_openai(message) for message in history]


def span(number: int, payload: Any) -> ReadableSpan:
    context = SpanContext(trace_id=1, span_id=number + 1, is_remote=False)
    return ReadableSpan("step", context, resource=Resource({"service.name": "desk"}), attributes={"payload": payload})


def spans_outbox(connection: Connection, faults: Faults | None = None) -> Outbox[ReadableSpan]:
    spans, _ = deliveries(connection, faults=faults)
    return Outbox(spans, lambda span: payload_bytes(span.attributes), OutboxConfig(delay=60, max_bytes=2**28))


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_records_of_megabytes_arrive(receiver: Receiver, endpoint: str, protocol: str, compression: str) -> None:
    outbox = spans_outbox(Connection(address=endpoint, protocol=protocol, compression=compression))
    sizes = [2**20, 3 * 2**20, 10, 3 * 2**20]
    for number, size in enumerate(sizes):
        outbox.put(span(number, "x" * size))
    assert outbox.flush(30)
    assert [len(sent["payload"]) for _, sent in receiver.spans] == sizes
    outbox.close(1)


@pytest.mark.parametrize("payload", ["漢" * 30_000, tuple(range(2**40, 2**40 + 10_000))], ids=["text", "numbers"])
def test_no_request_is_larger_than_a_receiver_takes(receiver: Receiver, grpc_endpoint: str, payload: Any) -> None:
    outbox = spans_outbox(Connection(address=grpc_endpoint, protocol="grpc"))
    for number in range(50):
        outbox.put(span(number, payload))
    assert outbox.flush(30)
    assert (len(receiver.spans), max(receiver.sizes) < 4 * 2**20, len(receiver.sizes) > 1) == (50, True, True)
    outbox.close(1)


@pytest.mark.parametrize("bad", [[0], [3], [0, 1, 2, 3, 4]])
def test_a_record_that_cannot_be_encoded_fails_alone(receiver: Receiver, http_endpoint: str, bad: list[int]) -> None:
    faults = Faults()
    outbox = spans_outbox(Connection(address=http_endpoint), faults)
    for number in range(5):
        outbox.put(ReadableSpan("no context") if number in bad else span(number, str(number)))
    assert not outbox.flush(30)
    assert outbox.stats() == Stats(records=5, exported=5 - len(bad), failed=len(bad))
    assert faults.counts() == {"not_encoded": len(bad)}
    outbox.close(1)


def test_log_records_can_go_elsewhere(receiver: Receiver, http_endpoint: str, tmp_path: Path) -> None:
    elsewhere = Connection(address=http_endpoint, headers={"authorization": "Bearer logs"})
    nowhere = Connection(address="http://127.0.0.1:1")
    for spool in (None, SpoolConfig(folder=tmp_path / "spool")):
        _, logs = deliveries(nowhere, spool, logs=elsewhere)
        outbox = Outbox(logs, lambda _: 1)
        outbox.put(ReadableLogRecord(LogRecord(event_name="score"), Resource({})))
        assert outbox.flush(30)
        outbox.close(1)
    assert ([name for name, _ in receiver.scores], receiver.authorizations) == (["score"] * 2, {"Bearer logs"})


@pytest.mark.usefixtures("untraced")
def test_trajectories_arrive_whole_and_prove_it(
    receiver: Receiver, endpoint: str, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "16")
    imitrace.configure(agent="desk", endpoint=endpoint, protocol=protocol, token="secret")
    histories = {name: run_trajectory(name) for name in ("first-trajectory", "other-trajectory")}
    assert imitrace.flush()
    for name, history in histories.items():
        steps = receiver.steps(name)
        assert [step[semconv.STEP_DIGEST] for step in steps] == [step_digest(step) for step in steps]
        assert [message for step in steps for message in json.loads(step[semconv.STEP_MESSAGES])] == history
    assert [score[semconv.TRAJECTORY_ID] for _, score in receiver.scores] == list(histories)
    assert (receiver.services, receiver.authorizations) == ({"desk"}, {"Bearer secret"})
    assert imitrace.stats() == imitrace.Stats(steps=4, records=8, exported=8)


@pytest.mark.usefixtures("untraced")
def test_a_busy_collector_is_tried_again(receiver: Receiver, http_endpoint: str) -> None:
    receiver.answers = [503, 429]
    imitrace.configure(agent="desk", endpoint=http_endpoint)
    run_trajectory("first")
    assert imitrace.flush()
    assert len(receiver.steps("first")) == 2
    assert imitrace.stats().lost == 0


@pytest.mark.usefixtures("untraced")
def test_a_refusal_is_counted(receiver: Receiver, http_endpoint: str) -> None:
    receiver.answers = [400]
    imitrace.configure(agent="desk", endpoint=http_endpoint)
    with imitrace.trajectory():
        pass
    assert not imitrace.flush()
    assert (imitrace.stats().failed, imitrace.stats().exported) == (1, 0)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.usefixtures("untraced")
def test_an_absent_collector_costs_the_agent_nothing(protocol: str, unused_endpoint: str) -> None:
    imitrace.configure(agent="desk", endpoint=unused_endpoint, protocol=protocol)
    run_trajectory("first")
    assert not imitrace.flush(0.05)
    assert imitrace.stats().pending == 4
    assert not imitrace.shutdown(0.05)
    stats = imitrace.stats()
    assert (stats.records, stats.exported, stats.lost) == (4, 0, 4)


@pytest.fixture
def unused_endpoint() -> str:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.server_close()
    return f"http://127.0.0.1:{server.server_port}"


def test_a_forked_child_sends_its_own_records_and_only_those(receiver: Receiver, http_endpoint: str) -> None:
    subprocess.run([sys.executable, "-c", FORK, http_endpoint], check=True, timeout=60)
    sent = [step[semconv.TRAJECTORY_ID] for name, step in receiver.spans if name == semconv.SPAN_STEP]
    assert sorted(sent) == ["before", "child", "parent"]


def test_what_is_left_at_the_end_of_the_process_is_sent(receiver: Receiver, http_endpoint: str) -> None:
    subprocess.run([sys.executable, "-c", LAST_WORDS, http_endpoint], check=True, timeout=60)
    assert [name for name, _ in receiver.spans] == [semconv.SPAN_STEP, semconv.SPAN_TRAJECTORY]
