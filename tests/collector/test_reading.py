"""What reads a running collector: tables, SQL and traces by HTTP, the commands, and the page that shows them."""

import http.client
import json
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import polars as pl
import pytest
from click.testing import CliRunner, Result
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.cli import main
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer

MakeExport = Callable[..., ExportTraceServiceRequest]
ARROW = "application/vnd.apache.arrow.stream"
PAGE = (Path(__file__).parents[2] / "docs" / "reading.md").read_text(encoding="utf-8")
TRACE = re.compile(r"[0-9a-f]{32}")


@pytest.fixture(params=["alone", "beside a collector"])
def home(request: pytest.FixtureRequest, config: CollectorConfig, export: MakeExport) -> Path:
    """Return a workspace with a trajectory, with and without a running collector: commands must not differ."""
    if request.param == "alone":
        with CollectorServer(config) as server:
            send(server, export())
    else:
        send(request.getfixturevalue("collector"), export())
    return config.home


def send(collector: CollectorServer, message: ExportTraceServiceRequest) -> None:
    CollectorClient(collector.http).export("/v1/traces", message.SerializeToString())


def imitrace(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def ask(collector: CollectorServer, path: str, body: object = None, accept: str = "*/*") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(collector.http).netloc, timeout=30)
    try:
        method, sent = ("GET", None) if body is None else ("POST", json.dumps(body))
        connection.request(method, path, sent, {"Accept": accept})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_table_is_chosen_by_its_query(collector: CollectorServer, export: MakeExport) -> None:
    send(collector, export())
    _, found = ask(collector, "/v1/tables/steps?agent=desk&since=1970-01-01&columns=step_index,agent")
    assert pl.read_ipc_stream(found).rows() == [(0, "desk"), (1, "desk")]
    status, refused = ask(collector, "/v1/tables/steps?since=noon")
    assert (status, json.loads(refused)["message"][:14]) == (400, "time is 'noon'")


def test_a_client_that_hangs_up_is_no_trouble(collector: CollectorServer, export: MakeExport) -> None:
    send(collector, export())
    place = urlsplit(collector.http)
    for _ in range(20):
        with socket.create_connection((place.hostname or "", place.port or 0)) as connection:
            connection.sendall(b"GET /v1/tables/steps HTTP/1.1\r\nHost: x\r\n\r\n")
    assert pl.read_ipc_stream(ask(collector, "/v1/tables/steps")[1]).height == 2


def test_sql_answers_in_json_and_in_arrow(collector: CollectorServer, export: MakeExport) -> None:
    send(collector, export())
    question = {
        "sql": "SELECT agent, count(*) AS n FROM steps WHERE agent = $a GROUP BY 1",
        "parameters": {"a": "desk"},
    }
    expected = {"columns": ["agent", "n"], "types": ["VARCHAR", "BIGINT"], "rows": [["desk", 2]], "truncated": False}
    assert json.loads(ask(collector, "/v1/sql", question)[1]) == expected
    assert pl.read_ipc_stream(ask(collector, "/v1/sql", question, ARROW)[1]).rows() == [("desk", 2)]


def test_wrong_sql_is_the_askers_fault(collector: CollectorServer) -> None:
    status, told = ask(collector, "/v1/sql", {"sql": "SELECT nosuch FROM steps"})
    assert status == 400
    assert 'column "nosuch" not found' in json.loads(told)["message"]


def test_the_command_sql_prints_a_table_csv_or_json(home: Path) -> None:
    text = "SELECT step_index, action_name, state[1:0] AS none FROM steps ORDER BY 1"
    assert imitrace("sql", text, "--home", home).output.splitlines() == [
        "step_index  action_name  none",
        "0           get_order    []",
        "1           -            []",
    ]
    assert (
        imitrace("sql", text, "--csv", "--home", home).output == "step_index,action_name,none\n0,get_order,[]\n1,,[]\n"
    )
    found = imitrace("sql", text, "--limit", "1", "--json", "--home", home)
    assert json.loads(found.stdout)["rows"] == [[0, "get_order", []]]
    assert found.stderr == "imitrace: only the first 1 rows; raise --limit, or ask for less\n"


def test_the_command_sql_tells_what_is_wrong_in_one_line(home: Path) -> None:
    found = imitrace("sql", "SELEC 1", "--home", home)
    assert found.exit_code == 2
    assert 'syntax error at or near "SELEC" (line 1, column 1)' in found.stderr
    assert found.stderr.count("\n") == 1


def test_the_command_spans_prints_a_trace(home: Path) -> None:
    trace = imitrace("sql", "SELECT DISTINCT trace_id FROM spans", "--csv", "--home", home).output.split()[1]
    shown = imitrace("spans", trace, "--home", home, "--width", "60").output.splitlines()
    assert shown[0] == f"trace {trace}  3 spans  0 log re..."
    detail = json.loads(imitrace("spans", trace, "--home", home, "--json").output)
    assert {span["trace_id"] for span in detail["spans"]} == {trace}
    gone = imitrace("spans", "0" * 32, "--home", home)
    assert gone.exit_code == 2
    assert f"no trace {'0' * 32} in the store" in gone.stderr


@pytest.mark.parametrize("command", ["sql", "spans"])
def test_every_command_has_help_with_examples(command: str) -> None:
    assert f"Examples:\n    imitrace {command}" in imitrace(command, "--help").output


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(("number", "told"), [(0, '"get_order"'), (1, '[[0, "get_order"], [1, None]]')])
def test_the_programs_of_the_page_run(collector: CollectorServer, export: MakeExport, number: int, told: str) -> None:
    message = export()
    for span in message.resource_spans[0].scope_spans[0].spans:
        for pair in span.attributes:
            if pair.key == "gen_ai.agent.name":
                pair.value.string_value = "support"
    send(collector, message)
    program = blocks("python")[number].replace("since=2026-01-01", "since=1970-01-01")
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={"IMITRACE_ENDPOINT": collector.http},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert told.strip('"').replace('"', "'") in ran.stdout


def test_the_commands_of_the_page_run(home: Path) -> None:
    for line in blocks("sh")[0].splitlines():
        _, *arguments = shlex.split(line)
        found: Any = imitrace(*arguments, "--home", home)
        assert found.exit_code == 0, found.output
