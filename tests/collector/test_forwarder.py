"""A forwarder in front that batches, retries and compresses: nothing is lost or doubled, even if the collector dies."""

import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
import yaml

from imitrace import semconv
from imitrace.config import child_environment
from imitrace_collector.client import CollectorClient
from imitrace_collector.derive import derive_all
from imitrace_collector.store import Store

PROGRAMS = Path(__file__).parent / "programs"
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
INGEST, READ = "only-for-sending", "only-for-reading"
SECONDS = 60
AGENTS, TRAJECTORIES, LINES = 3, 40, 3000
AGENT = f"""
import sys
import imitrace
imitrace.configure(agent=sys.argv[1])
for number in range({TRAJECTORIES}):
    if number == {TRAJECTORIES // 2}:
        imitrace.flush()
        sys.stdin.readline()  # goes on when it is told to
    with imitrace.trajectory(task=str(number)):
        for step in range(2):
            with imitrace.step([{{"role": "user", "content": f"question {{step}} of {{number}}"}}]) as decision:
                decision.message(f"answer {{step}} of {{number}}")
        imitrace.score("TaskCompletion", 1.0)
imitrace.flush()
stats = imitrace.stats()
assert stats.exported == stats.records, stats
"""

Process = subprocess.Popen[str]


@contextmanager
def running(command: list[str], **environment: str) -> Iterator[Process]:
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, text=True, env=child_environment(environment)) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def collecting(home: Path, ports: tuple[str, str] = ("0", "0")) -> Iterator[tuple[Process, str, tuple[str, str]]]:
    """Run the real command; give its process, its address and its ports."""
    script = [sys.executable, "-c", "from imitrace.cli import main; main()"]
    arguments = ["collect", "--home", str(home), "--http-port", ports[0], "--grpc-port", ports[1]]
    with running([*script, *arguments], IMITRACE_INGEST_TOKEN=INGEST, IMITRACE_READ_TOKEN=READ) as process:
        assert process.stdout is not None
        ready = re.match(r"collector ready http=(\S+:(\d+)) grpc=\S+:(\d+) ", process.stdout.readline())
        assert ready is not None
        yield process, ready[1], (ready[2], ready[3])


def until(reached: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if reached():
            return
        threading.Event().wait(0.05)
    raise AssertionError(f"{what} did not happen within {SECONDS} s")


def rows(home: Path, sql: str) -> list[dict[str, Any]]:
    with Store.open(home / "traces.duckdb") as store:
        with store.session() as session:
            derive_all(session)
        with store.reader() as reader:
            return list(reader.rows(sql))


def send_while_it_is_killed(process: Process, address: str, endpoint: str) -> None:
    """Run agents that send to a forwarder at ``endpoint``, and kill the collector when they are half done."""
    agents = [
        subprocess.Popen(
            [sys.executable, "-c", AGENT, f"agent-{number}"],
            stdin=subprocess.PIPE,
            env=child_environment({"IMITRACE_ENDPOINT": endpoint}),
        )
        for number in range(AGENTS)
    ]
    client = CollectorClient(address, READ)
    until(lambda: len(client.get("/v1/trajectories", limit=1000)["trajectories"]) > 5, "the first arrival")
    os.kill(process.pid, signal.SIGKILL)
    process.wait(SECONDS)  # Rotel loses what it sends into a connection that dies at that very moment
    for agent in agents:
        agent.communicate(b"\n", SECONDS)
    assert [agent.returncode for agent in agents] == [0] * AGENTS  # nobody is there, and they don't notice


def check(home: Path) -> None:
    """Compare what is stored with what the agents did: all of it, and nothing twice."""
    found = rows(home, "SELECT agent, task, step_count, complete FROM trajectories ORDER BY agent, task::INT")
    assert [(row["agent"], row["task"]) for row in found] == [
        (f"agent-{agent}", str(number)) for agent in range(AGENTS) for number in range(TRAJECTORIES)
    ]
    assert {(row["step_count"], row["complete"]) for row in found} == {(2, True)}
    (count,) = rows(home, "SELECT count(*) AS n, count(DISTINCT trajectory_id) AS of FROM scores")
    assert count == {"n": len(found), "of": len(found)}
    (count,) = rows(home, "SELECT count(*) AS n FROM spans")
    assert count == {"n": 3 * len(found)}


def test_a_killed_collector_behind_a_forwarder_gets_everything_once(tmp_path: Path) -> None:
    with ExitStack() as stack:
        process, address, ports = stack.enter_context(collecting(tmp_path))
        program = [sys.executable, str(PROGRAMS / "forwarder.py"), address, INGEST]
        with running(program) as forwarder:
            assert forwarder.stdout is not None
            send_while_it_is_killed(process, address, forwarder.stdout.readline().strip())
            with collecting(tmp_path, ports):
                forwarder.terminate()
                told = json.loads(forwarder.communicate(timeout=SECONDS)[0])
    check(tmp_path)
    traces = told["/v1/traces"]
    assert traces["retries"] > 0
    assert traces["batches"] < traces["requests"]
    assert "dropped" not in traces | told["/v1/logs"]


@pytest.fixture
def rotel() -> str:
    """Return Rotel, a forwarder that its package on PyPI carries as a program."""
    found = importlib.util.find_spec("rotel")
    carried = "rotel-agent" if found is None or found.origin is None else Path(found.origin).with_name("rotel-agent")
    named = os.environ.get("IMITRACE_ROTEL", str(carried))  # noqa: TID251 - tells tests where a program is
    try:
        subprocess.run([named, "--version"], check=True, capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"no Rotel is {named!r}; pip install rotel, or name its program in IMITRACE_ROTEL")
    return named


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_killed_collector_behind_rotel_gets_everything_once(rotel: str, protocol: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        process, address, ports = stack.enter_context(collecting(tmp_path))
        http, grpc = free_port(), free_port()
        options = {
            "otlp-http-endpoint": f"127.0.0.1:{http}",
            "otlp-grpc-endpoint": f"127.0.0.1:{grpc}",
            "otlp-exporter-endpoint": address if protocol == "http" else f"http://127.0.0.1:{ports[1]}",
            "otlp-exporter-protocol": protocol,
            "otlp-exporter-compression": "gzip",
            "otlp-exporter-custom-headers": f"authorization=Bearer {INGEST}",
            "otlp-exporter-retry-max-backoff": "2s",  # half a minute else, which is most of what the test waits for
            "otlp-exporter-retry-max-elapsed-time": "300s",
            "batch-timeout": "200ms",
        }
        command = [rotel, "start", "--exporter", "otlp", *(f"--{name}={value}" for name, value in options.items())]
        stack.enter_context(running(command))
        until(lambda: listens(http), "Rotel's start")
        send_while_it_is_killed(process, address, f"http://127.0.0.1:{http}")
        with collecting(tmp_path, ports):
            client, wanted = CollectorClient(address, READ), AGENTS * TRAJECTORIES
            counted = "SELECT (SELECT count(*) FROM spans), (SELECT count(*) FROM scores)"
            until(
                lambda: client.post("/v1/sql", {"sql": counted})["rows"] == [[3 * wanted, wanted]], "the last arrival"
            )
    check(tmp_path)


@pytest.fixture
def otelcol() -> str:
    """Return a real OpenTelemetry Collector of the contrib distribution."""
    named = os.environ.get("IMITRACE_OTELCOL", "otelcol-contrib")  # noqa: TID251 - tells tests where a program is
    try:
        subprocess.run([named, "--version"], check=True, capture_output=True, timeout=SECONDS)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"no OpenTelemetry Collector is {named!r}; name its contrib distribution in IMITRACE_OTELCOL")
    return named


def documented(lines: Path, address: str) -> str:
    """Return the forwarder's configuration as the page has it, but that it reads a file, and keeps nothing in one."""
    (text,) = re.findall(r"```yaml\n(receivers:.*?)```", OPERATIONS.read_text(encoding="utf-8"), re.DOTALL)
    settings = yaml.safe_load(text)
    settings["receivers"] = {
        "filelog": {
            "include": [str(lines)],
            "start_at": "beginning",
            "poll_interval": "50ms",
            "operators": [{"type": "json_parser"}],
        }
    }
    settings["exporters"]["otlphttp/imitrace"]["endpoint"] = address
    del settings["exporters"]["otlphttp/imitrace"]["sending_queue"]["storage"], settings["extensions"]
    service = settings["service"]
    del service["extensions"], service["pipelines"]["traces"]
    service["pipelines"]["logs"]["receivers"] = ["filelog"]
    service["telemetry"] = {"metrics": {"level": "none"}}
    return json.dumps(settings)


def write(lines: Path, numbers: range) -> None:
    """Write scores as a judge might, for a forwarder that reads them out of its file."""
    with lines.open("a", encoding="utf-8") as file:
        for number in numbers:
            score = {
                semconv.TRAJECTORY_ID: f"t{number}",
                "event.name": semconv.EVENT_SCORE,
                semconv.SCORE_NAME: "TaskCompletion",
                semconv.SCORE_VALUE: number / LINES,
            }
            file.write(json.dumps(score) + "\n")


def scores(address: str) -> list[tuple[str, float]]:
    """Return what the collector has, each trajectory with its score."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=SECONDS)
    connection.request("GET", "/v1/tables/scores", headers={"Authorization": f"Bearer {READ}"})
    table = pa.ipc.open_stream(connection.getresponse().read()).read_all()
    connection.close()
    return sorted((row["trajectory_id"], row["value"]) for row in table.to_pylist())


def test_the_documented_configuration_of_an_opentelemetry_collector_loses_nothing(otelcol: str, tmp_path: Path) -> None:
    home, lines = tmp_path / "home", tmp_path / "scores.jsonl"
    third = LINES // 3
    with collecting(home) as (process, address, ports):
        settings = tmp_path / "forwarder.json"
        settings.write_text(documented(lines, address), encoding="utf-8")
        write(lines, range(third))
        with running([otelcol, "--config", str(settings)], IMITRACE_INGEST_TOKEN=INGEST):
            until(lambda: len(scores(address)) > 0, "the first arrival")
            write(lines, range(third, 2 * third))
            os.kill(process.pid, signal.SIGKILL)
            process.wait(SECONDS)
            write(lines, range(2 * third, LINES))
            threading.Event().wait(2)  # it sends to nobody, and has to come again
            with collecting(home, ports):
                until(lambda: len(scores(address)) >= LINES, "the last arrival")
                assert scores(address) == sorted((f"t{number}", number / LINES) for number in range(LINES))
