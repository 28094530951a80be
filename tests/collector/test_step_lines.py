import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.cli import main
from imitrace_collector import otlp
from imitrace_collector.config import CollectorConfig
from imitrace_collector.ingest import ingest
from imitrace_collector.server import CollectorServer
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]
Json = dict[str, Any]  # a JSON object


def lines(home: Path, *options: str) -> list[Json]:
    done = CliRunner().invoke(main, ["steps", "--jsonl", "--home", str(home), *options])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def filled(config: CollectorConfig, export: MakeExport) -> Path:
    with Store.open(config.store) as store:
        ingest(store, [otlp.read(otlp.TRACES, export(name), 0).batch for name in ("t1", "t2")])
    return config.home


def test_each_step_is_a_line(filled: Path) -> None:
    call, answer = lines(filled, "--trajectory", "t2")
    assert call == {
        "trajectory_id": "t2",
        "index": 0,
        "decision": call["decision"],
        "agent": "desk",
        "role": "expert",
        "action_kind": "tool_call",
        "tool_name": "get_order",
        "arguments": {"id": "A-1"},
        "message": None,
        "observation": "shipped",
        "n_state_messages": 2,
        "offered_tools": ["get_order"],
        "complete": True,
        "incomplete_reason": None,
        "input_tokens": None,
        "output_tokens": None,
        "error": None,
    }
    assert (answer["action_kind"], answer["message"], answer["n_state_messages"]) == ("message", "It is on its way.", 4)


def test_a_running_collector_tells_the_same(filled: Path, config: CollectorConfig) -> None:
    alone = lines(filled)
    assert [line["trajectory_id"] for line in alone] == ["t1", "t1", "t2", "t2"]
    with CollectorServer(config):
        assert lines(filled) == alone
        assert lines(filled, "--agent", "nobody") == []


def test_people_get_a_table(filled: Path) -> None:
    done = CliRunner().invoke(main, ["steps", "--trajectory", "t1", "--home", str(filled)])
    heading, first, _ = done.output.splitlines()
    assert heading.split() == ["TRAJECTORY_ID", "INDEX", "AGENT", "ACTION", "OBSERVATION", "STATE"]
    assert 'get_order({"id": "A-1"})' in first
