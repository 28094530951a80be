import ctypes
import gzip
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest
import zstandard
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.exceptions import ConfigError, ImitraceError, StoreError, WireError
from imitrace_collector.backup import restore
from imitrace_collector.client import CollectorClient, running_collector
from imitrace_collector.config import CollectorConfig
from imitrace_collector.derive import derive_all
from imitrace_collector.retention import RetentionConfig
from imitrace_collector.schedule import Upkeep
from imitrace_collector.server import CollectorServer
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]
Process = subprocess.Popen[str]


@contextmanager
def collecting(home: Path) -> Iterator[tuple[Process, CollectorClient]]:
    """Run the real command in a process of its own."""
    script = "from imitrace.cli import main; main()"
    arguments = ["collect", "--http-port", "0", "--grpc-port", "0", "--home", str(home)]
    with subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline().split()
            assert ready[:2] == ["collector", "ready"]
            yield process, CollectorClient(dict(word.split("=", 1) for word in ready[2:])["http"])
        finally:
            process.kill()


def stored_trajectories(home: Path) -> set[str]:
    """Return the complete ones, after whatever a killed collector had not derived yet is."""
    with Store.open(home / "traces.duckdb") as store:
        with store.session() as session:
            derive_all(session)
        with store.reader() as reader:
            complete = {row["trajectory_id"] for row in reader.rows("SELECT * FROM trajectories WHERE complete")}
            steps = reader.rows("SELECT trajectory_id, count(*) AS n FROM steps GROUP BY ALL")
            assert {row["trajectory_id"]: row["n"] for row in steps} == dict.fromkeys(complete, 2)
            return complete


def test_what_was_acknowledged_is_in_the_file_after_kill_9(tmp_path: Path, export: MakeExport) -> None:
    acknowledged: set[str] = set()
    enough = threading.Event()

    def send(client: CollectorClient, sender: int) -> None:
        try:
            for number in range(1000):
                client.export("/v1/traces", export(f"{sender}-{number}").SerializeToString())
                acknowledged.add(f"{sender}-{number}")
                if len(acknowledged) > 40:
                    enough.set()
        except ImitraceError:  # killed
            return

    with collecting(tmp_path) as (process, client):
        senders = [threading.Thread(target=send, args=(client, number)) for number in range(4)]
        for sender in senders:
            sender.start()
        assert enough.wait(30)
        os.kill(process.pid, signal.SIGKILL)
        for sender in senders:
            sender.join()
    assert acknowledged <= stored_trajectories(tmp_path)
    assert len(acknowledged) < 4000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_closes(tmp_path: Path, export: MakeExport, number: signal.Signals) -> None:
    with collecting(tmp_path) as (process, client):
        client.export("/v1/traces", export().SerializeToString())
        assert json.loads((tmp_path / "collector.json").read_text())["pid"] == process.pid
        process.send_signal(number)
        assert process.wait(20) == 0
    assert not (tmp_path / "collector.json").exists()
    assert not (tmp_path / "traces.duckdb.wal").exists()
    assert stored_trajectories(tmp_path) == {"t1"}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets one name the thread that gets a signal")
def test_a_signal_that_another_thread_gets_stops_it_too(tmp_path: Path) -> None:
    with collecting(tmp_path) as (process, _):
        others = sorted(int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir())[1:]
        assert ctypes.CDLL(None).tgkill(process.pid, others[-1], signal.SIGTERM) == 0
        assert process.wait(20) == 0


def test_a_running_collector_is_found_by_its_workspace(collector: CollectorServer, config: CollectorConfig) -> None:
    found = running_collector(config.home, None)
    assert found is not None
    assert found.endpoint == collector.http
    told = json.loads((config.home / "collector.json").read_text())
    assert told == {
        "pid": os.getpid(),
        "http": collector.http,
        "grpc": collector.grpc,
        "store": str(config.store.absolute()),
    }


def test_a_collector_that_died_is_not_found(config: CollectorConfig) -> None:
    with CollectorServer(config):
        left = (config.home / "collector.json").read_text()
    assert running_collector(config.home, None) is None
    (config.home / "collector.json").write_text(left)
    assert running_collector(config.home, None) is None


def test_a_taken_http_port_is_named_with_its_flag_and_leaves_nothing_open(
    collector: CollectorServer, config: CollectorConfig
) -> None:
    port = int(collector.http.rpartition(":")[2])
    other = replace(config, home=config.home / "other", http_port=port)
    with pytest.raises(ConfigError, match=rf"HTTP port {port} on 127\.0\.0\.1 .* --http-port"), CollectorServer(other):
        pass
    with CollectorServer(replace(other, http_port=0)) as server:
        assert CollectorClient(server.http).get("/healthz")["status"] == "ok"


def test_a_second_collector_on_one_store_is_told_who_holds_it(tmp_path: Path) -> None:
    with (
        collecting(tmp_path) as (process, _),
        pytest.raises(StoreError, match=f"held by process {process.pid}"),
        CollectorServer(CollectorConfig(home=tmp_path, http_port=0, grpc_port=0)),
    ):
        pass


def test_the_ready_line_says_where_everything_is(collector: CollectorServer, config: CollectorConfig) -> None:
    assert collector.ready_line() == f"collector ready http={collector.http} grpc={collector.grpc} store={config.store}"


def resident(pid: int) -> int:
    """Return the most MiB that a process has had in memory."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def test_decompression_bombs_cost_little_memory(tmp_path: Path) -> None:
    bomb = bytes(400 * 1024 * 1024)
    with collecting(tmp_path) as (process, client):
        before = resident(process.pid)
        address = json.loads((tmp_path / "collector.json").read_text())["grpc"]
        with grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
            export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
            with pytest.raises(grpc.RpcError) as refused:
                export(bomb, compression=grpc.Compression.Gzip, timeout=60)
        assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        for encoding, body in (("gzip", gzip.compress(bomb, 1)), ("zstd", zstandard.compress(bomb))):
            connection = http.client.HTTPConnection(urlsplit(client.endpoint).netloc)
            headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": encoding}
            connection.request("POST", "/v1/traces", body, headers)
            assert connection.getresponse().status == 413
            connection.close()
        assert resident(process.pid) - before < 80


def test_an_idle_collector_is_small(tmp_path: Path) -> None:
    with collecting(tmp_path) as (process, client):
        client.get("/healthz")
        assert resident(process.pid) < 150


def test_what_listens_on_every_address_is_found_on_this_machine(config: CollectorConfig) -> None:
    with CollectorServer(replace(config, host="0.0.0.0", token="secret")):  # noqa: S104 - with a token
        told = json.loads((config.home / "collector.json").read_text())
        assert told["http"].startswith("http://127.0.0.1:")
        assert running_collector(config.home, "secret") is not None


def test_large_grpc_messages_are_not_kept_after_their_answers(tmp_path: Path) -> None:
    size = 8 * 1024 * 1024
    body = b"\x7a" + bytes([0x80, 0x80, 0x80, 0x04]) + bytes(size)  # an unknown field, which is ignored
    with collecting(tmp_path) as (process, _):
        address = json.loads((tmp_path / "collector.json").read_text())["grpc"]
        before = resident(process.pid)
        with grpc.insecure_channel(address) as channel:
            export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
            for _ in range(40):
                assert export(body, timeout=60) == b""
        assert resident(process.pid) - before < 120


def test_a_running_collector_keeps_itself_up(config: CollectorConfig, export: MakeExport, tmp_path: Path) -> None:
    upkeep = Upkeep(retention=RetentionConfig(max_age=timedelta(days=1)), snapshots_every=timedelta(hours=1))
    with CollectorServer(config, upkeep) as server:
        client = CollectorClient(server.http)
        client.export("/v1/traces", export("t1").SerializeToString())
        written = client.post("/v1/backup", {"target": str(tmp_path / "backups")})
        with pytest.raises(WireError, match="expected the absolute path of a folder"):
            client.post("/v1/backup", {"target": "here"})
        names = {thread.name for thread in threading.enumerate()}
    assert {"imitrace-expiry", "imitrace-snapshot"} <= names
    restore(Path(written["path"]), tmp_path / "again" / "traces.duckdb", datetime.now(UTC))
    assert stored_trajectories(tmp_path / "again") == {"t1"}
    assert len(list((config.home / "snapshots").glob("2*"))) == 1
