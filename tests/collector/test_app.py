import asyncio
import base64
import gzip
import http.client
import itertools
import json
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pyarrow as pa
import pytest
import zstandard
from google.protobuf import json_format
from google.rpc import code_pb2, status_pb2
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Route
from starlette.types import Message

from imitrace.schema import TABLES
from imitrace_collector import otlp
from imitrace_collector.app import Api, TableAnswer, create_app
from imitrace_collector.batcher import Batcher
from imitrace_collector.chat_jsonl import read_line
from imitrace_collector.config import CollectorConfig
from imitrace_collector.derive import Deriver
from imitrace_collector.derived_tables import arrow_schema
from imitrace_collector.http_server import HttpServer
from imitrace_collector.ingest import ingest
from imitrace_collector.intake import Intake
from imitrace_collector.rows import Batch
from imitrace_collector.server import CollectorServer
from imitrace_collector.store import Store
from imitrace_collector.table_stream import Selection, stream_table
from imitrace_collector.tokens import Role

MakeExport = Callable[..., ExportTraceServiceRequest]
PROTOBUF = {"Content-Type": "application/x-protobuf"}
JSON = {"Content-Type": "application/json; charset=utf-8"}
SECONDS = 20


class Answer:
    """What a server said."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def json(self) -> Any:  # any JSON
        return json.loads(self.body)


def ask(url: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=SECONDS)
    try:
        connection.request("GET" if body is None else "POST", path, body, dict(headers or {}))
        answer = connection.getresponse()
        return Answer(answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def count(url: str) -> int:
    return len(ask(url, "/v1/trajectories").json()["trajectories"])


def as_otlp_json(message: ExportTraceServiceRequest) -> bytes:
    found = json_format.MessageToDict(message)
    for span in found["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        for key in ("traceId", "spanId", "parentSpanId"):
            if key in span:
                span[key] = base64.b64decode(span[key]).hex()
    return json.dumps(found).encode()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstandard.ZstdCompressor().compress), (None, None)],
)
@pytest.mark.parametrize("headers", [PROTOBUF, JSON])
def test_an_export_is_stored_in_each_form_and_answered_in_the_same(
    collector: CollectorServer,
    export: MakeExport,
    headers: dict[str, str],
    encoding: str | None,
    pack: Callable[[bytes], bytes] | None,
) -> None:
    body = export().SerializeToString() if headers is PROTOBUF else as_otlp_json(export())
    if pack is not None and encoding is not None:
        body, headers = pack(body), {**headers, "Content-Encoding": encoding}
    answer = ask(collector.http, "/v1/traces", body, headers)
    assert (answer.status, answer.headers["content-type"]) == (200, headers["Content-Type"].partition(";")[0])
    (trajectory,) = ask(collector.http, "/v1/trajectories").json()["trajectories"]
    assert (trajectory["trajectory_id"], trajectory["complete"], trajectory["step_count"]) == ("t1", True, 2)


def test_the_real_http_exporter_is_understood(collector: CollectorServer) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{collector.http}/v1/traces")))
    with provider.get_tracer("test").start_as_current_span("invoke_agent") as span:
        span.set_attribute("agent.trajectory.id", "t1")
    provider.shutdown()
    (trajectory,) = ask(collector.http, "/v1/trajectories").json()["trajectories"]
    assert trajectory["source"] == "imitrace"


def test_a_retry_writes_nothing_twice(collector: CollectorServer, export: MakeExport) -> None:
    for _ in range(3):
        assert ask(collector.http, "/v1/traces", export().SerializeToString(), PROTOBUF).status == 200
    detail = ask(collector.http, "/v1/trajectories/t1").json()
    assert (len(detail["steps"]), len(detail["scores"]), len(detail["messages"])) == (2, 1, 4)


def test_many_senders_at_once_are_all_stored(collector: CollectorServer, export: MakeExport) -> None:
    bodies = [export(f"t{number}").SerializeToString() for number in range(40)]
    statuses: list[int] = []
    senders = [
        threading.Thread(
            target=lambda body=body: statuses.append(ask(collector.http, "/v1/traces", body, PROTOBUF).status)
        )
        for body in bodies
    ]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert statuses == [200] * 40
    assert count(collector.http) == 40


def test_bad_spans_are_told_by_partial_success_and_the_good_ones_kept(
    collector: CollectorServer, export: MakeExport
) -> None:
    message = export()
    message.resource_spans[0].scope_spans[0].spans.add(trace_id=b"short", span_id=b"s" * 8)
    answer = ask(collector.http, "/v1/traces", message.SerializeToString(), PROTOBUF)
    partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert (answer.status, partial.rejected_spans) == (200, 1)
    assert "trace id has 5 bytes, expected 16" in partial.error_message
    assert count(collector.http) == 1


@pytest.mark.parametrize(
    ("body", "headers", "status", "told"),
    [
        (b"\xff\xff", PROTOBUF, 400, "not an OTLP spans export"),
        (b"{", JSON, 400, "not an OTLP spans export"),
        (b"no gzip", PROTOBUF | {"Content-Encoding": "gzip"}, 400, "not valid gzip"),
        (b"x", PROTOBUF | {"Content-Encoding": "br"}, 415, "content encoding is 'br', allowed: gzip, deflate"),
        (b"x", {"Content-Type": "text/plain"}, 415, "content type is 'text/plain', allowed"),
        (b"x", {}, 415, "content type is ''"),
    ],
)
def test_what_can_not_be_read_is_refused_with_a_status(
    collector: CollectorServer, body: bytes, headers: dict[str, str], status: int, told: str
) -> None:
    answer = ask(collector.http, "/v1/traces", body, headers)
    assert answer.status == status
    protobuf = headers.get("Content-Type") == PROTOBUF["Content-Type"]
    found = (
        status_pb2.Status.FromString(answer.body) if protobuf else json_format.Parse(answer.body, status_pb2.Status())
    )
    assert told in found.message
    assert found.code == code_pb2.INVALID_ARGUMENT


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_request_over_the_limit_is_too_large(config: CollectorConfig, pack: Callable[[bytes], bytes]) -> None:
    headers = PROTOBUF | ({} if pack is bytes else {"Content-Encoding": "gzip"})
    with CollectorServer(replace(config, max_request_bytes=10_000)) as server:
        answer = ask(server.http, "/v1/traces", pack(b"\0" * 10_001), headers)
    assert answer.status == 413
    assert "10000 bytes" in status_pb2.Status.FromString(answer.body).message


@pytest.fixture
def full(config: CollectorConfig, store: Store, full_batcher: Batcher[Batch]) -> Iterator[str]:
    """Serve with a queue that is full."""
    config = replace(config, max_request_bytes=50_000, queue_bytes=100_000)
    intake, deriver = Intake(config, full_batcher), Deriver(store)
    server = HttpServer(create_app(intake, store, deriver), config)
    yield server.url
    server.stop()
    intake.stop()
    deriver.stop()


@pytest.mark.parametrize("headers", [PROTOBUF, JSON])
def test_a_full_queue_tells_the_sender_to_come_again(full: str, export: MakeExport, headers: dict[str, str]) -> None:
    body = export().SerializeToString() if headers is PROTOBUF else as_otlp_json(export())
    answer = ask(full, "/v1/traces", body, headers)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert b"100000 of 100000 bytes wait" in answer.body


def test_metrics_are_refused_in_words(collector: CollectorServer) -> None:
    answer = ask(collector.http, "/v1/metrics", b"", JSON)
    assert answer.status == 404
    assert "no metrics; turn the metrics exporter off" in answer.json()["message"]


ROLES = {
    "token": {Role.OPEN, Role.INGEST, Role.READ, Role.ADMIN},
    "ingest_token": {Role.OPEN, Role.INGEST},
    "read_token": {Role.OPEN, Role.READ},
    "admin_token": {Role.OPEN, Role.INGEST, Role.READ, Role.ADMIN},
}


def test_every_route_asks_for_the_token_that_opens_it(
    config: CollectorConfig, store: Store, full_batcher: Batcher[Batch]
) -> None:
    intake = Intake(config, full_batcher)
    deriver = Deriver(store)
    doors = Api(intake, store, deriver).doors()
    assert {door.path for door in doors if door.role is Role.OPEN} == {"/healthz"}
    app = create_app(intake, store, deriver)
    assert {
        (route.path, frozenset(route.methods or ()) - {"HEAD"}) for route in app.routes if isinstance(route, Route)
    } == {(door.path, frozenset({door.method})) for door in doors}
    deriver.stop()
    intake.stop()
    guarded = replace(config, **{name: name for name in ROLES})  # type: ignore[arg-type]  # texts only
    with CollectorServer(guarded) as server:
        for door, (token, opens) in itertools.product(doors, ROLES.items()):
            path, body = door.path.replace("{", "").replace("}", ""), None if door.method == "GET" else b"{}"
            refused = ask(server.http, path, body)
            assert refused.status == (200 if door.role is Role.OPEN else 401), path
            assert refused.headers.get("www-authenticate") == (None if door.role is Role.OPEN else "Bearer")
            answer = ask(server.http, path, body, {"Authorization": f"Bearer {token}"})
            assert (answer.status == 403) is (door.role not in opens), (path, token)


def test_a_token_that_sends_too_much_is_told_when_to_come_again(config: CollectorConfig, export: MakeExport) -> None:
    body = export().SerializeToString()
    with CollectorServer(replace(config, rate_bytes=len(body) / 3)) as server:
        assert ask(server.http, "/v1/traces", body, PROTOBUF).status == 200
        answer = ask(server.http, "/v1/traces", body, PROTOBUF)
        assert (answer.status, ask(server.http, "/healthz").status) == (429, 200)
        assert 1 <= int(answer.headers["retry-after"]) <= 3


def test_a_collector_says_that_it_is_ready_and_why(collector: CollectorServer, export: MakeExport) -> None:
    assert ask(collector.http, "/readyz").json()["seconds_since_commit"] is None
    ask(collector.http, "/v1/traces", export().SerializeToString(), PROTOBUF)
    answer = ask(collector.http, "/readyz")
    found = answer.json()
    assert (answer.status, found["ready"], found["why_not"]) == (200, True, [])
    assert 0 <= found["seconds_since_commit"] < 20
    assert found["disk_free_bytes"] > 0 < found["store_bytes"]
    assert {"queue_bytes", "queue_depth", "pending_derivation"} <= set(found)


def test_a_full_queue_is_not_ready(full: str) -> None:
    answer = ask(full, "/readyz")
    assert (answer.status, answer.json()["why_not"]) == (503, ["the queue is nearly full"])


def test_a_full_disk_is_told_and_nothing_is_taken(config: CollectorConfig, export: MakeExport) -> None:
    with CollectorServer(replace(config, min_free_bytes=2**62)) as server:
        assert ask(server.http, "/readyz").json()["why_not"] == ["the disk is nearly full"]
        answer = ask(server.http, "/v1/traces", export().SerializeToString(), PROTOBUF)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert b"bytes free" in answer.body


def test_what_was_counted_is_told_to_prometheus(collector: CollectorServer, export: MakeExport) -> None:
    message = export()
    count = len(message.resource_spans[0].scope_spans[0].spans)
    message.resource_spans[0].scope_spans[0].spans.add(trace_id=b"short", span_id=b"s" * 8)
    for _ in range(2):
        ask(collector.http, "/v1/traces", message.SerializeToString(), PROTOBUF)
    ask(collector.http, "/v1/traces", b"\xff", PROTOBUF)
    answer = ask(collector.http, "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {
        (sample.name.removeprefix("imitrace_"), *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    assert found["requests_total", "200", "http", "traces"] == 2
    assert found["requests_total", "400", "http", "traces"] == 1
    assert found["items_total", "accepted", "traces"] == 2 * count
    assert found["items_total", "rejected", "traces"] == 2
    assert found["items_total", "all", "duplicate"] == count
    assert found["commit_seconds_count",] == found["commit_requests_sum",] == 2
    assert found["store_bytes",] > 0
    assert found["queue_bytes",] == 0


def test_a_route_that_fails_says_no_more_than_that(
    config: CollectorConfig, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def write(_: Sequence[Batch]) -> None:
        raise ValueError("/etc/secret")

    batcher = Batcher[Batch](write, config.queue_bytes)
    intake, deriver = Intake(config, batcher), Deriver(store)
    server = HttpServer(create_app(intake, store, deriver), config)
    body = b"\x0a\x24\x12\x22\x12\x20\x0a\x10" + b"t" * 16 + b"\x12\x08" + b"s" * 8 + b"\x2a\x02no"
    answer = ask(server.url, "/v1/traces", body, PROTOBUF)
    for stop in (server.stop, deriver.stop, intake.stop, batcher.stop):
        stop()
    assert (answer.status, "retry-after" in answer.headers) == (500, False)
    assert b"secret" not in answer.body
    assert "request failed" in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_streamed_as_arrow_in_the_contracts_columns(
    collector: CollectorServer, export: MakeExport, table: str
) -> None:
    empty = ask(collector.http, f"/v1/tables/{table}")
    assert pa.ipc.open_stream(empty.body).read_all().num_rows == 0
    ask(collector.http, "/v1/traces", export().SerializeToString(), PROTOBUF)
    answer = ask(collector.http, f"/v1/tables/{table}")
    assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
    found = pa.ipc.open_stream(answer.body).read_all()
    assert [(field.name, field.type) for field in found.schema] == [(f.name, f.type) for f in arrow_schema(table)]
    assert pl.read_ipc_stream(answer.body).height == found.num_rows > 0


def test_a_large_table_comes_in_many_batches(collector: CollectorServer, export: MakeExport) -> None:
    message = export()
    for number in range(5000):
        copied = message.resource_spans[0].scope_spans[0].spans.add()
        copied.CopyFrom(message.resource_spans[0].scope_spans[0].spans[1])
        copied.span_id = number.to_bytes(8, "big") if number else b"12345678"
        next(pair for pair in copied.attributes if pair.key == "agent.trajectory.step.index").value.int_value = (
            number + 2
        )
    ask(collector.http, "/v1/traces", message.SerializeToString(), PROTOBUF)
    body = ask(collector.http, "/v1/tables/steps").body
    assert [batch.num_rows for batch in pa.ipc.open_stream(body)] == [4096, 906]
    assert pl.read_ipc_stream(body).get_column("step_index").to_list() == list(range(5002))


def test_a_client_that_hangs_up_holds_no_view_though_its_answer_is_still_held(store: Store, export: MakeExport) -> None:
    ingest(store, [otlp.read(otlp.TRACES, export(), 0).batch])
    answer = TableAnswer(stream_table(store, "steps", Selection()))
    first_piece, never = asyncio.Event(), asyncio.Event()

    async def hang_up() -> Message:
        await first_piece.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            first_piece.set()
            await never.wait()

    asyncio.run(answer({"type": "http", "method": "GET"}, hang_up, send))
    with store.gate.alone(0) as nobody_reads:
        assert nobody_reads
    assert answer.status_code == 200


@pytest.mark.parametrize(("agent", "rows"), [("desk", 2), ("nobody", 0)])
def test_a_table_may_be_asked_for_one_agent(
    collector: CollectorServer, export: MakeExport, agent: str, rows: int
) -> None:
    ask(collector.http, "/v1/traces", export().SerializeToString(), PROTOBUF)
    found = {
        table: pl.read_ipc_stream(ask(collector.http, f"/v1/tables/{table}?agent={agent}").body).height
        for table in TABLES
    }
    assert found == {name: number if rows else 0 for name, number in zip(TABLES, (1, 2, 4, 1, 1), strict=True)}


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/v1/tables/secrets", 404, "table is 'secrets', allowed: trajectories, steps"),
        ("/v1/trajectories/none", 404, "no trajectory 'none'"),
        ("/v1/trajectories?limit=0", 400, "limit is '0', allowed: 1 to 10000"),
        ("/nothing", 404, "Not Found"),
    ],
)
def test_a_wrong_question_is_answered_in_words(collector: CollectorServer, path: str, status: int, told: str) -> None:
    answer = ask(collector.http, path)
    assert answer.status == status
    assert told in answer.json()["message"]


def test_a_trajectory_comes_with_what_its_steps_name(collector: CollectorServer, export: MakeExport) -> None:
    ask(collector.http, "/v1/traces", export("a/b c").SerializeToString(), PROTOBUF)
    detail = ask(collector.http, "/v1/trajectories/a/b%20c").json()
    assert detail["trajectory"]["tags"] == {}
    assert {message_id for step in detail["steps"] for message_id in step["state"]} == set(detail["messages"])
    assert list(detail["tools"].values()) == [["get_order"]]


def test_a_message_with_a_lone_surrogate_is_shown(collector: CollectorServer, line: dict[str, Any]) -> None:
    line["messages"][1]["content"] = "\ud83d"
    spans = read_line(line, 0, "desk", []).spans
    body = ExportTraceServiceRequest(resource_spans=[spans]).SerializeToString()
    ask(collector.http, "/v1/traces", body, PROTOBUF)
    messages = ask(collector.http, "/v1/trajectories/t1").json()["messages"].values()
    assert "\ud83d" in [part.get("content") for message in messages for part in message["parts"]]


def test_a_lookup_names_the_traces_of_what_is_stored(collector: CollectorServer, export: MakeExport) -> None:
    ask(collector.http, "/v1/traces", export().SerializeToString(), PROTOBUF)
    answer = ask(collector.http, "/v1/trajectories/lookup", b'{"trajectories": ["t1", "t2"]}', JSON)
    span = export().resource_spans[0].scope_spans[0].spans[0]
    assert answer.json() == {"traces": {"t1": [span.trace_id.hex()]}}
    assert ask(collector.http, "/v1/trajectories/lookup", b"[]", JSON).status == 400


def test_a_snapshot_may_be_asked_for(collector: CollectorServer, export: MakeExport) -> None:
    ask(collector.http, "/v1/traces", export().SerializeToString(), PROTOBUF)
    written = ask(collector.http, "/v1/snapshot", b"").json()
    assert json.loads((Path(written["path"]) / "manifest.json").read_text()) == written["manifest"]
    assert written["manifest"]["counts"]["steps"] == 2
