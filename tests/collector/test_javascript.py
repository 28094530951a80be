"""Spans and log records of OpenTelemetry's JavaScript exporters, which share no code with Python's.

    npm install @opentelemetry/{api,api-logs,resources,sdk-logs,sdk-trace-node} \
        @opentelemetry/exporter-{trace,logs}-otlp-{proto,http,grpc}
"""

import http.client
import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from imitrace import semconv
from imitrace.canonical import step_digest
from imitrace.config import child_environment
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer

PROGRAM = Path(__file__).parent / "programs" / "exporter.cjs"
TOKEN = "only-for-sending"
SECONDS = 60
STEPS = 3

Json = dict[str, Any]  # a JSON object


@pytest.fixture
def modules() -> Path:
    """Return where npm put the exporters."""
    named = os.environ.get("IMITRACE_NODE_MODULES", "node_modules")  # noqa: TID251 - tells tests where packages are
    folder = Path(named).absolute()
    if shutil.which("node") is None or not (folder / "@opentelemetry" / "exporter-trace-otlp-grpc").exists():
        pytest.skip(f"no node, or no OpenTelemetry exporters in {folder}; name the folder in IMITRACE_NODE_MODULES")
    return folder


@pytest.fixture
def guarded(config: CollectorConfig) -> CollectorConfig:
    return replace(config, ingest_token=TOKEN, read_token="only-for-reading")


def decision(index: int) -> Json:
    messages = [{"role": "user", "parts": [{"type": "text", "content": f"question {index}, naïve 😀"}]}]
    attributes = {
        semconv.TRAJECTORY_ID: "from-node",
        semconv.STEP_INDEX: index,
        semconv.STEP_MESSAGES: json.dumps(messages, ensure_ascii=False),
        semconv.STEP_MESSAGES_OFFSET: index,
        semconv.STEP_ACTION_KIND: "message",
        semconv.STEP_MESSAGE: f"answer {index}",
    }
    attributes[semconv.STEP_DIGEST] = step_digest(attributes)
    return {"name": semconv.SPAN_STEP, "attributes": attributes}


def sent() -> Json:
    """Return a trajectory of three steps and its score."""
    whole = {
        semconv.TRAJECTORY_ID: "from-node",
        semconv.OPERATION: "invoke_agent",
        semconv.AGENT_NAME: "desk",
        semconv.TRAJECTORY_STEP_COUNT: STEPS,
    }
    score = {
        semconv.TRAJECTORY_ID: "from-node",
        semconv.SCORE_NAME: "TaskCompletion",
        semconv.SCORE_VALUE: 0.5,
    }
    return {
        "spans": [{"name": "invoke_agent desk", "attributes": whole}, *map(decision, range(STEPS))],
        "logs": [{"name": semconv.EVENT_SCORE, "attributes": score}],
    }


@contextmanager
def sending(modules: Path, asked: Json) -> Iterator[subprocess.Popen[str]]:
    """Run the program; what it is to send is on its way."""
    command = ["node", str(PROGRAM)]
    environment = child_environment({"NODE_PATH": str(modules)})
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(sent() | asked | {"token": TOKEN}))
            process.stdin.close()
            process.stdin = None
            yield process
        finally:
            process.kill()


def stored(server: CollectorServer) -> Json:
    found = CollectorClient(server.http, "only-for-reading").get("/v1/trajectories/from-node")
    assert isinstance(found, dict)
    return found


def assert_whole(found: Json) -> None:
    assert found["trajectory"]["complete"], found["trajectory"]["incomplete_reason"]
    assert [step["action_message"] for step in found["steps"]] == [f"answer {index}" for index in range(STEPS)]
    assert [(score["name"], score["value"]) for score in found["scores"]] == [("TaskCompletion", 0.5)]
    asked = {message["parts"][0]["content"] for message in found["messages"].values()}
    assert asked == {f"question {index}, naïve 😀" for index in range(STEPS)}


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json", "grpc"])
def test_what_they_send_arrives_whole(modules: Path, guarded: CollectorConfig, protocol: str, gzip: bool) -> None:
    with CollectorServer(guarded) as server:
        asked = {"protocol": protocol, "gzip": gzip, "http": server.http, "grpc": server.grpc}
        with sending(modules, asked) as process:
            results, _ = process.communicate(timeout=SECONDS)
        assert json.loads(results) == ["success", "success"]
        assert_whole(stored(server))


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_they_come_again_as_a_503_says(modules: Path, guarded: CollectorConfig, protocol: str) -> None:
    with ExitStack() as until_there_is_room:
        full = until_there_is_room.enter_context(CollectorServer(replace(guarded, min_free_bytes=2**62)))
        roomy = replace(guarded, http_port=port_of(full.http), grpc_port=port_of(full.grpc))
        asked = {"protocol": protocol, "gzip": True, "http": full.http, "grpc": full.grpc}
        with sending(modules, asked) as process:
            for signal in ("traces", "logs"):
                wait_for_refusal(full, signal)
            until_there_is_room.close()
            with CollectorServer(roomy) as server:
                results, _ = process.communicate(timeout=SECONDS)
                assert json.loads(results) == ["success", "success"]
                assert_whole(stored(server))


def wait_for_refusal(server: CollectorServer, signal: str) -> None:
    """Return once the collector has told a sender of this signal to come again."""
    for _ in range(20 * SECONDS):
        connection = http.client.HTTPConnection(urlsplit(server.http).netloc, timeout=SECONDS)
        connection.request("GET", "/metrics", headers={"Authorization": "Bearer only-for-reading"})
        text = connection.getresponse().read().decode()
        connection.close()
        if re.search(rf'imitrace_requests_total{{code="503",protocol="http",signal="{signal}"}} [1-9]', text):
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"no request of {signal} was refused")


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])
