"""A real collector on free ports, a small trajectory in chat form, and the folder of recorded data."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace_collector.batcher import Batcher
from imitrace_collector.chat_jsonl import read_line
from imitrace_collector.config import CollectorConfig
from imitrace_collector.rows import Batch
from imitrace_collector.server import CollectorServer
from imitrace_collector.store import Store

Json = dict[str, Any]  # a JSON object
MakeExport = Callable[..., ExportTraceServiceRequest]


@pytest.fixture
def line() -> Json:
    """Two decisions: look an order up, then answer."""
    call = {"id": "c1", "type": "function", "function": {"name": "get_order", "arguments": '{"id": "A-1"}'}}
    return {
        "id": "t1",
        "task_id": 7,
        "model": "gpt",
        "reward": 1.0,
        "messages": [
            {"role": "system", "content": "desk"},
            {"role": "user", "content": "where is A-1?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "shipped"},
            {"role": "assistant", "content": "It is on its way."},
        ],
    }


@pytest.fixture
def export(line: Json) -> MakeExport:
    """Make the export request of the small trajectory, under another id when asked."""

    def make(trajectory_id: str = "t1") -> ExportTraceServiceRequest:
        tool = {"name": "get_order", "description": "", "parameters": {"type": "object", "properties": {}}}
        read = read_line(line | {"id": trajectory_id}, 0, "desk", [tool])
        return ExportTraceServiceRequest(resource_spans=[read.spans])

    return make


@pytest.fixture
def config(tmp_path: Path) -> CollectorConfig:
    return CollectorConfig(home=tmp_path / "home", http_port=0, grpc_port=0)


@pytest.fixture
def collector(config: CollectorConfig) -> Iterator[CollectorServer]:
    with CollectorServer(config) as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "traces.duckdb") as opened:
        yield opened


@pytest.fixture
def go() -> threading.Event:
    """Let the writer of ``full_batcher`` go on."""
    return threading.Event()


@pytest.fixture
def full_batcher(go: threading.Event) -> Iterator[Batcher[Batch]]:
    """Return a batcher whose queue of 100,000 bytes is full until ``go`` is set."""

    def write(_: Sequence[Batch]) -> None:
        assert go.wait(20)

    batcher = Batcher[Batch](write, 100_000)
    batcher.submit(Batch(), 100_000)
    yield batcher
    go.set()
    batcher.stop()


@pytest.fixture
def data() -> Path:
    """Return the folder of recorded data, or skip."""
    named = os.environ.get("IMITRACE_DATA", "../shared/data")  # noqa: TID251 - tells tests where recorded data is
    folder = (Path(__file__).parents[2] / named).resolve()
    if not folder.is_dir():
        pytest.skip(f"no recorded data at {folder}; name the folder in IMITRACE_DATA")
    return folder
