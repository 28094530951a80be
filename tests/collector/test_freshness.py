import json
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.cli import main
from imitrace.exceptions import StoreError, WireError
from imitrace_collector import app, otlp
from imitrace_collector.batcher import Batcher
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import PENDING_HEADER, RUNNING_FILE, CollectorConfig
from imitrace_collector.derive import Deriver
from imitrace_collector.freshness import Freshness
from imitrace_collector.http_server import HttpServer
from imitrace_collector.ingest import Writer
from imitrace_collector.intake import Intake
from imitrace_collector.rows import Batch
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]
STALE, FRESH = {PENDING_HEADER: "1"}, dict[str, str]()


@pytest.fixture
def deriver(store: Store) -> Iterator[Deriver]:
    deriver = Deriver(store)
    yield deriver
    deriver.stop()


def write(store: Store, deriver: Deriver, export: MakeExport, name: str) -> None:
    with store.session() as session:
        deriver.committed(Writer(session).write([otlp.read(otlp.TRACES, export(name), 0).batch]).chunk)


def test_a_read_has_what_was_acknowledged_before_it(store: Store, deriver: Deriver, export: MakeExport) -> None:
    freshness = Freshness(deriver)
    assert freshness.wait({}) == FRESH
    write(store, deriver, export, "t1")
    assert freshness.wait({}) == FRESH
    with store.reader() as reader:
        assert reader.rows("SELECT trajectory_id FROM trajectories") == [{"trajectory_id": "t1"}]


def test_a_read_is_told_what_it_lacks_when_deriving_takes_longer(
    store: Store, deriver: Deriver, export: MakeExport
) -> None:
    freshness = Freshness(deriver, patience=0.05)
    with store.deriving:  # as long as somebody else has it, nothing is derived
        write(store, deriver, export, "t1")
        assert freshness.wait({}) == freshness.wait({"fresh": "0"}) == STALE
    assert freshness.wait({"fresh": "1"}) == FRESH
    assert freshness.wait({}) == FRESH


def test_after_a_wait_in_vain_others_are_answered_at_once(store: Store, deriver: Deriver, export: MakeExport) -> None:
    times = iter((0.0, 0.0, 5.0, 10.5, 10.5))
    waits: list[float] = []

    class Watched(Deriver):
        def __init__(self) -> None: ...

        def catch_up(self, patience: float = 120.0) -> None:
            waits.append(patience)
            deriver.catch_up(0.0)

    freshness = Freshness(Watched(), 10.0, lambda: next(times))
    with store.deriving:
        write(store, deriver, export, "t1")
        assert [freshness.wait({}) for _ in range(3)] == [STALE] * 3
    assert waits == [10.0, 0.0, 10.0]


def test_an_answer_says_what_it_lacks_and_so_does_a_command(
    store: Store, deriver: Deriver, export: MakeExport, config: CollectorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "Freshness", partial(Freshness, patience=0.05))
    batcher = Batcher[Batch](lambda _: None, config.queue_bytes)
    intake = Intake(config, batcher)
    server = HttpServer(app.create_app(intake, store, deriver), config)
    try:
        client = CollectorClient(server.url)
        config.home.mkdir(exist_ok=True)
        running = {"http": server.url, "store": str(config.store.absolute())}
        (config.home / RUNNING_FILE).write_text(json.dumps(running), encoding="utf-8")
        with store.deriving:
            write(store, deriver, export, "t1")
            assert client.get("/v1/trajectories")["trajectories"] == []
            assert client.pending == 1
            with client.stream("/v1/tables/steps") as answer:
                assert answer.getheader(PENDING_HEADER) == "1"
            with pytest.raises(StoreError, match="may be in 1 chunks that are not derived yet: ask with fresh=1"):
                client.get("/v1/trajectories/t1")
            stale = CliRunner().invoke(main, ["trajectories", "--home", str(config.home)])
            assert "1 chunks are stored and not derived yet" in stale.stderr
        fresh = CliRunner().invoke(main, ["trajectories", "--home", str(config.home), "--fresh"])
        assert ("t1" in fresh.stdout, fresh.stderr) == (True, "")
    finally:
        server.stop()
        batcher.stop()
        intake.stop()


def test_fresh_is_said_in_no_other_words(deriver: Deriver) -> None:
    with pytest.raises(WireError, match="fresh is 'yes', allowed: 0, 1"):
        Freshness(deriver).wait({"fresh": "yes"})
