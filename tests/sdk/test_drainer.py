"""Deliveries with a spool to a collector that comes and goes; run as a program, this file is one of the agents."""

import gzip
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from imitrace.delivery.exporters import deliveries
from imitrace.delivery.outbox import Outbox, OutboxConfig, Stats, payload_bytes
from imitrace.delivery.sender import RetryConfig
from imitrace.delivery.spool import SpoolConfig
from imitrace.delivery.transports import Connection
from imitrace.faults import Faults

RESOURCE = Resource({"service.name": "desk"})
RETRY = RetryConfig(first_delay=0.05, max_delay=0.1, patience=0.2)


def span(number: int, text: str = "x" * 200) -> ReadableSpan:
    context = SpanContext(trace_id=1, span_id=number + 1, is_remote=False)
    return ReadableSpan("step", context, resource=RESOURCE, attributes={"number": number, "text": text})


def score(number: int) -> ReadableLogRecord:
    return ReadableLogRecord(LogRecord(event_name="score", attributes={"number": number}), RESOURCE)


class Agent:
    """Two outboxes over a spool, as a traced agent has them."""

    def __init__(self, address: str, spool: SpoolConfig | None, **bounds: int) -> None:
        self.faults = Faults()
        traces, logs = deliveries(Connection(address=address), spool, faults=self.faults, retry=RETRY)
        config = OutboxConfig(delay=60, **{"max_records": 10**6, "batch_records": 256, **bounds})
        self.spans = Outbox(traces, lambda span: payload_bytes(span.attributes), config)
        self.scores = Outbox(logs, lambda score: payload_bytes(score.log_record.attributes), config)

    def put(self, numbers: range) -> None:
        for number in numbers:
            self.spans.put(span(number))

    def save(self) -> int:
        """Wait until nothing is only in memory, and return how many records wait on disk."""
        for _ in range(100):
            self.spans.flush(0.2)
            if not self.spans.stats().pending:
                break
        return self.spans.stats().spooled

    def close(self, timeout: float = 0.1) -> bool:
        spans = self.spans.close(timeout)
        return self.scores.close(timeout) and spans


class Collector:
    """A real receiver that keeps the numbers it was sent, in order."""

    def __init__(self) -> None:
        self.spans: list[int] = []
        self.scores: list[int] = []
        self.answers: list[tuple[int, bytes]] = []
        self.came = threading.Event()

    def take(self, path: str, body: bytes) -> tuple[int, bytes]:
        self.came.set()
        answer = self.answers.pop(0) if self.answers else (200, b"")
        if answer[0] == 200 and path == "/v1/traces":
            traces = ExportTraceServiceRequest.FromString(body)
            found = [span for r in traces.resource_spans for s in r.scope_spans for span in s.spans]
            self.spans += [span.attributes[0].value.int_value for span in found]
        elif answer[0] == 200:
            logs = ExportLogsServiceRequest.FromString(body)
            records = [record for r in logs.resource_logs for s in r.scope_logs for record in s.log_records]
            self.scores += [record.attributes[0].value.int_value for record in records]
        return answer


@contextmanager
def up(collector: Collector, port: int = 0) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
            status, answer = collector.take(self.path, body)
            self.send_response(status)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def spool(tmp_path: Path) -> SpoolConfig:
    return SpoolConfig(folder=tmp_path / "spool" / "desk", segment_bytes=200_000)


@pytest.fixture
def port() -> int:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return server.server_port


def agent_process(port: int, spool: SpoolConfig, numbers: range) -> "subprocess.Popen[str]":
    """Start an agent in a process of its own; it says how many records wait on disk, then waits to be ended."""
    command = [sys.executable, __file__, str(port), str(spool.folder), str(numbers.start), str(numbers.stop)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end(process: "subprocess.Popen[str]", kill: bool = False) -> None:
    if kill:
        process.kill()
    process.communicate(timeout=30)


def test_ten_thousand_records_arrive_once_and_in_order_when_the_collector_comes_back(
    collector: Collector, spool: SpoolConfig, port: int
) -> None:
    agent = Agent(f"http://127.0.0.1:{port}", spool)
    agent.put(range(10_000))
    assert agent.save() == 10_000
    assert agent.spans.stats() == Stats(records=10_000, spooled=10_000)
    with up(collector, port):
        assert agent.spans.flush(60)
        assert agent.spans.stats() == Stats(records=10_000, exported=10_000)
        assert collector.spans == list(range(10_000))
        assert agent.close()
    assert list(spool.folder.glob("*.spool")) == []


def test_without_a_spool_the_loss_is_told_exactly(collector: Collector, port: int) -> None:
    agent = Agent(f"http://127.0.0.1:{port}", None, max_records=3000)
    agent.put(range(10_000))
    agent.spans.flush(10)
    lost = agent.spans.stats()
    assert lost.lost > 0
    assert lost.records == 10_000 == lost.failed + lost.dropped + lost.pending
    with up(collector, port):
        agent.put(range(10_000, 10_100))
        agent.spans.flush(10)
        stats = agent.spans.stats()
        assert stats.records == stats.exported + stats.failed + stats.dropped == 10_100
        assert stats.exported == len(collector.spans)
        agent.close()


def test_a_killed_process_loses_nothing_that_was_on_disk(collector: Collector, spool: SpoolConfig, port: int) -> None:
    killed = agent_process(port, spool, range(1000))
    assert read_line(killed) == "1000"
    end(killed, kill=True)
    with up(collector, port) as address:
        agent = Agent(address, spool)
        agent.put(range(1000, 1100))
        assert agent.spans.flush(30)
        assert agent.spans.stats() == Stats(records=100, exported=100, recovered=1000)
        assert agent.close()
    assert collector.spans == list(range(1100))


def test_a_killed_process_in_the_middle_of_a_write_costs_one_request(
    collector: Collector, spool: SpoolConfig, port: int
) -> None:
    killed = agent_process(port, spool, range(1000))
    assert read_line(killed) == "1000"
    end(killed, kill=True)
    last = max(spool.folder.glob("*.spool"))
    os.truncate(last, last.stat().st_size - 1)
    with up(collector, port) as address:
        agent = Agent(address, spool)
        assert agent.spans.flush(30)
        assert (agent.faults.counts(), agent.close()) == ({"spool_torn": 1}, True)
    assert collector.spans == list(range(768))


def test_what_a_process_leaves_at_its_end_is_on_disk(collector: Collector, spool: SpoolConfig, port: int) -> None:
    agent = Agent(f"http://127.0.0.1:{port}", spool)
    agent.put(range(500))
    agent.scores.put(score(7))
    assert not agent.close(0)
    assert (agent.spans.stats(), agent.scores.stats().spooled) == (Stats(records=500, spooled=500), 1)
    agent.spans.put(span(0))
    assert agent.spans.stats().dropped == 1
    with up(collector, port) as address:
        later = Agent(address, spool)
        assert later.spans.flush(30)
        assert (later.spans.stats().recovered, later.scores.stats().recovered) == (500, 1)
        assert later.close()
    assert (collector.spans, collector.scores) == (list(range(500)), [7])


def test_processes_that_share_a_folder_deliver_each_record_once(
    collector: Collector, spool: SpoolConfig, port: int
) -> None:
    agents = [agent_process(port, spool, range(at, at + 500)) for at in range(0, 2000, 500)]
    assert [read_line(agent) for agent in agents] == ["500"] * 4
    end(agents[0], kill=True)
    with up(collector, port):
        for agent in agents[1:]:
            end(agent)
        if len(collector.spans) < 2000:  # the others were done before they looked for what the killed one left
            heir = Agent(f"http://127.0.0.1:{port}", spool)
            assert heir.spans.flush(30)
            heir.close()
    assert sorted(collector.spans) == list(range(2000))
    assert list(spool.folder.glob("*.spool")) == []


def test_a_refused_request_is_set_aside_and_the_rest_goes_on(collector: Collector, spool: SpoolConfig) -> None:
    collector.answers = [(400, b"no")]
    with up(collector) as address:
        agent = Agent(address, spool)
        agent.put(range(300))
        assert not agent.spans.flush(30)
        assert agent.spans.stats() == Stats(records=300, failed=256, exported=44)
        agent.close()
    (aside,) = (spool.folder / "refused").iterdir()
    refused = ExportTraceServiceRequest.FromString(aside.read_bytes())
    assert len(refused.resource_spans[0].scope_spans[0].spans) == 256
    assert agent.faults.counts() == {"collector_refused": 1}


@pytest.mark.parametrize("spooled", [True, False])
def test_what_a_collector_rejects_has_failed(collector: Collector, spool: SpoolConfig, spooled: bool) -> None:
    partly = ExportTracePartialSuccess(rejected_spans=3, error_message="no id")
    collector.answers = [(200, ExportTraceServiceResponse(partial_success=partly).SerializeToString())]
    with up(collector) as address:
        agent = Agent(address, spool if spooled else None)
        agent.put(range(10))
        assert not agent.spans.flush(30)
        assert agent.spans.stats() == Stats(records=10, failed=3, exported=7)
        agent.close()


def test_a_full_spool_drops_the_newest_and_counts_them(collector: Collector, spool: SpoolConfig, port: int) -> None:
    agent = Agent(f"http://127.0.0.1:{port}", replace(spool, max_bytes=200_000))
    agent.put(range(2000))
    agent.save()
    stats = agent.spans.stats()
    assert stats.spooled > 0 < stats.dropped
    assert stats.spooled + stats.dropped == 2000
    with up(collector, port):
        assert not agent.spans.flush(0)
        assert agent.spans.flush(30)
        agent.close()
    assert collector.spans[:256] == list(range(256))
    assert (len(collector.spans), collector.spans) == (stats.spooled, sorted(collector.spans))
    assert agent.faults.counts()["spool_full"] > 0


def test_a_disk_that_cannot_be_written_is_told_once_and_gone_around(
    collector: Collector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with up(collector) as address:
        agent = Agent(address, SpoolConfig(folder=tmp_path / "file" / "desk"))
        agent.put(range(600))
        assert agent.spans.flush(30)
        assert agent.spans.stats() == Stats(records=600, exported=600)
        agent.close()
    assert agent.faults.counts() == {"spool_unwritable": 3}
    assert len(caplog.records) == 1


def test_a_process_that_only_flushes_delivers_what_was_left(
    collector: Collector, spool: SpoolConfig, port: int
) -> None:
    first = Agent(f"http://127.0.0.1:{port}", spool)
    assert first.spans.flush(0)
    assert not spool.folder.exists()
    first.put(range(10))
    first.close(0)
    with up(collector, port) as address:
        assert Agent(address, spool).spans.flush(30)
    assert collector.spans == list(range(10))


def test_a_forked_child_has_a_segment_of_its_own(collector: Collector, spool: SpoolConfig, port: int) -> None:
    parent = agent_process(port, spool, range(-100, 0))
    assert read_line(parent) == "fork 100 50"
    with up(collector, port):
        end(parent)
    assert Counter(collector.spans) == Counter([*range(100), *range(1000, 1050)])
    assert list(spool.folder.glob("*.spool")) == []


def test_many_threads_and_both_signals_lose_nothing(collector: Collector, spool: SpoolConfig, port: int) -> None:
    agent = Agent(f"http://127.0.0.1:{port}", spool, batch_records=16)
    with ThreadPoolExecutor(4) as threads:
        for number in range(400):
            threads.submit(agent.spans.put, span(number))
            threads.submit(agent.scores.put, score(number))
    with up(collector, port):
        assert agent.spans.flush(30)
        assert agent.scores.flush(30)
        agent.close()
    assert sorted(collector.spans) == sorted(collector.scores) == list(range(400))


def test_closing_is_quick_while_the_collector_is_away(spool: SpoolConfig, port: int) -> None:
    agent = Agent(f"http://127.0.0.1:{port}", spool)
    agent.put(range(100))
    began = time.monotonic()
    assert not agent.close(0.2)
    assert time.monotonic() - began < 3


def main(port: str, folder: str, start: str, stop: str) -> None:
    agent = Agent(f"http://127.0.0.1:{port}", SpoolConfig(folder=Path(folder), segment_bytes=200_000))
    if int(start) < 0:
        run_forked(agent)
        return
    agent.put(range(int(start), int(stop)))
    print(agent.save(), flush=True)
    sys.stdin.read()
    delivered = agent.spans.flush(30)
    agent.close()
    sys.exit(0 if delivered else 1)


def run_forked(agent: Agent) -> None:
    agent.put(range(100))
    agent.save()
    child = os.fork()
    if child == 0:
        agent.spans.reset()
        agent.scores.reset()
        agent.put(range(1000, 1050))
        spooled = agent.save()
        agent.close(0)
        os._exit(spooled)
    (_, status) = os.waitpid(child, 0)
    print("fork", agent.spans.stats().spooled, os.waitstatus_to_exitcode(status), flush=True)
    sys.stdin.read()
    agent.spans.flush(30)
    agent.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
