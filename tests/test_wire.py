"""What the way between the SDK and the store may do to spans, and that no row which it cut is ever learnt from."""

import gzip
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import polars as pl
import pytest
from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import imitrace
from imitrace.provider import install
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer
from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.curate import Curated, curate
from imitrace_trainer.sources import open_source

LIMIT = 200
LONG = "every word of this counts. " * 20
CHUNKED = "many words. " * 200_000
TOOL = {"name": "look_up", "description": "Look it up.", "parameters": {"type": "object", "properties": {}}}
REQUESTS: dict[str, Callable[[], Any]] = {"/v1/traces": ExportTraceServiceRequest, "/v1/logs": ExportLogsServiceRequest}


def cut(message: Any) -> None:  # protobuf's generated classes are untyped
    """Cut the text of every attribute value in a message, wherever it stands."""
    for field, value in message.ListFields():
        if field.name == "string_value":
            message.string_value = value[:LIMIT]
        elif field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                cut(part)


class CuttingProxy(BaseHTTPRequestHandler):
    """Pass exports on to the collector, every attribute value cut."""

    collector: ClassVar[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        message = REQUESTS[self.path]()
        message.ParseFromString(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        cut(message)
        connection = http.client.HTTPConnection(urlsplit(self.collector).netloc, timeout=20)
        connection.request("POST", self.path, message.SerializeToString(), {"Content-Type": "application/x-protobuf"})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def cutting_proxy(collector: str) -> Iterator[str]:
    handler = type("Handler", (CuttingProxy,), {"collector": collector})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[CollectorServer]:
    with CollectorServer(CollectorConfig(home=tmp_path, http_port=0, grpc_port=0)) as server:
        yield server
    imitrace.shutdown(0.1)
    install(None)


def act(name: str, **told: Any) -> None:
    """Run a short trajectory; what is told replaces one of its payloads."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": told.get("question", "where is it?")}]
    tools = [told.get("tool", TOOL)]
    with imitrace.trajectory(name, id=name) as trajectory:
        with imitrace.step(messages, tools) as step:
            step.tool_call("look_up", {"id": told.get("argument", "A-1")}, "c1")
            if "observed" in told:
                step.observe(told["observed"])
        with imitrace.tool("look_up", call_id="c1") as run:
            run.result(told.get("result", "shipped"))
        messages.append({"role": "tool", "tool_call_id": "c1", "content": told.get("result", "shipped")})
        with imitrace.step(messages, tools) as step:
            step.message(told.get("answer", "It is on its way."))
        trajectory.outcome("success")


def curated(collector: CollectorServer, tmp_path: Path) -> Curated:
    folder = CollectorClient(collector.http).post("/v1/snapshot")["path"]
    cohort = CohortConfig(name="desk", agent="desk", split=SplitConfig(calibration=0, gate=0))
    return curate(open_source(folder, tmp_path).frames(), cohort)


def texts(curated: Curated) -> set[str]:
    """Return every text that a clone could learn from."""
    columns = ("action_arguments", "action_message", "observation")
    steps, messages, tools = pl.collect_all([curated.steps, curated.messages, curated.tools])
    said = {text for column in columns for text in steps[column] if text is not None}
    return said | set(messages["content"]) | set(tools["definition"])


PAYLOADS: list[dict[str, Any]] = [
    *({payload: LONG} for payload in ("question", "argument", "observed", "result", "answer")),
    *({payload: CHUNKED} for payload in ("question", "argument", "observed", "result", "answer")),
    {"tool": {**TOOL, "description": LONG}},
]


def test_no_row_that_was_cut_on_the_way_ends_in_a_cohort(collector: CollectorServer, tmp_path: Path) -> None:
    with cutting_proxy(collector.http) as proxy:
        imitrace.configure(agent="desk", endpoint=proxy)
        for number, told in enumerate(PAYLOADS):
            act(f"cut-{number}", **told)
            act(f"whole-{number}")
        assert imitrace.flush(20)
    found = curated(collector, tmp_path)
    assert set(found.trajectories["trajectory_id"]) == {f"whole-{number}" for number in range(len(PAYLOADS))}
    assert dict(found.rejected.group_by("rule").len().iter_rows()) == {"complete": len(PAYLOADS)}
    assert not any("every word" in text or "many words" in text for text in texts(found))
    assert found.rejected.filter(~pl.col("reason").str.contains("digest is|chunks")).is_empty()


def test_without_a_proxy_between_them_the_same_rows_are_whole(collector: CollectorServer, tmp_path: Path) -> None:
    imitrace.configure(agent="desk", endpoint=collector.http)
    for number, told in enumerate(PAYLOADS):
        act(f"whole-{number}", **told)
    assert imitrace.flush(20)
    found = curated(collector, tmp_path)
    assert found.rejected.is_empty()
    learnt = texts(found)
    assert {LONG, CHUNKED} <= learnt
    assert json.dumps(LONG)[1:-1] in "".join(learnt)
