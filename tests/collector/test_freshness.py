import http.client
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pyarrow as pa
import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.cli import main
from imitrace.exceptions import StoreError, WireError
from imitrace_collector import app, freshness, otlp
from imitrace_collector.batcher import Batcher
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import AS_OF_HEADER, PENDING_HEADER, RUNNING_FILE, CollectorConfig
from imitrace_collector.derive import BehindError, Deriver
from imitrace_collector.freshness import Freshness
from imitrace_collector.http_server import HttpServer
from imitrace_collector.ingest import Writer
from imitrace_collector.intake import Intake
from imitrace_collector.rows import Batch
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]
LONG = 20
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
    waits_for = Freshness(deriver)
    assert waits_for.wait({}) == FRESH
    write(store, deriver, export, "t1")
    assert waits_for.wait({}) == FRESH
    with store.reader() as reader:
        assert reader.rows("SELECT trajectory_id FROM trajectories") == [{"trajectory_id": "t1"}]


def test_a_read_is_told_what_it_lacks_when_deriving_takes_longer(
    store: Store, deriver: Deriver, export: MakeExport
) -> None:
    waits_for = Freshness(deriver, patience=0.05)
    with store.deriving:  # as long as somebody else has it, nothing is derived
        write(store, deriver, export, "t1")
        assert waits_for.wait({}) == waits_for.wait({"fresh": "0"}) == STALE
    assert waits_for.wait({"fresh": "1"}) == {AS_OF_HEADER: "1"}
    assert waits_for.wait({}) == FRESH


def test_after_a_wait_in_vain_others_are_answered_at_once(store: Store, deriver: Deriver, export: MakeExport) -> None:
    times = iter((0.0, 0.0, 5.0, 10.5, 10.5))
    waits: list[float] = []

    class Watched(Deriver):
        def __init__(self) -> None: ...

        def catch_up(self, patience: float = 120.0, up_to: int | None = None) -> int:
            waits.append(patience)
            return deriver.catch_up(0.0, up_to)

    waits_for = Freshness(Watched(), 10.0, lambda: next(times))
    with store.deriving:
        write(store, deriver, export, "t1")
        assert [waits_for.wait({}) for _ in range(3)] == [STALE] * 3
    assert waits == [10.0, 0.0, 10.0]


@pytest.fixture
def url(store: Store, deriver: Deriver, config: CollectorConfig) -> Iterator[str]:
    """Serve a store, whose deriver is the test's."""
    batcher = Batcher[Batch](lambda _: None, config.queue_bytes)
    intake = Intake(config, batcher)
    server = HttpServer(app.create_app(intake, store, deriver), config)
    yield server.url
    server.stop()
    batcher.stop()
    intake.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "Freshness", partial(Freshness, patience=0.05))


@pytest.mark.usefixtures("impatient")
def test_an_answer_says_what_it_lacks_and_so_does_a_command(
    store: Store, deriver: Deriver, export: MakeExport, config: CollectorConfig, url: str
) -> None:
    client = CollectorClient(url)
    config.home.mkdir(exist_ok=True)
    running = {"http": url, "store": str(config.store.absolute())}
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
    for fresh in (["--fresh"], ["--fresh-for", "900"]):
        found = CliRunner().invoke(main, ["trajectories", "--home", str(config.home), *fresh])
        assert ("t1" in found.stdout, found.stderr) == (True, "")


def test_what_is_not_fresh_in_time_is_refused_with_what_is_left_and_how_long_that_takes(
    store: Store, deriver: Deriver, export: MakeExport, url: str
) -> None:
    write(store, deriver, export, "t1")
    deriver.catch_up(LONG)  # now it knows how long a chunk takes
    with store.deriving:
        write(store, deriver, export, "t2")
        deriver.release()
        asked = http.client.HTTPConnection(url.removeprefix("http://"), timeout=LONG)
        for method, path in (("GET", "/v1/tables/scores?fresh=600"), ("POST", "/v1/snapshot?fresh=2")):
            asked.request(method, path)
            answer = asked.getresponse()
            told = json.loads(answer.read())["message"]
            assert re.fullmatch(r"1 chunks are still to be derived, in about \d+ s; ask again.*", told)
            assert (answer.status, answer.headers[PENDING_HEADER], answer.headers[AS_OF_HEADER]) == (503, "1", "2")
            assert int(answer.headers["Retry-After"]) >= 1
        asked.close()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_asks_on_for_what_was_there_at_first_and_says_how_it_goes(
    store: Store, deriver: Deriver, export: MakeExport, url: str, streamed: bool
) -> None:
    client, told = CollectorClient(url), list[str]()
    held = ExitStack()

    def hear(text: str) -> None:
        told.append(text)
        write(store, deriver, export, "t2")  # of which a read that was asked before knows nothing
        held.close()

    client.tell = hear
    deriver.release()  # so that nothing is waited for in vain
    with held:
        held.enter_context(store.deriving)
        write(store, deriver, export, "t1")
        if streamed:
            with client.stream("/v1/tables/trajectories", fresh=600) as answer, pa.ipc.open_stream(answer) as stream:
                found, as_of = stream.read_all().column("trajectory_id").to_pylist(), answer.headers[AS_OF_HEADER]
                assert as_of == "1"
        else:
            found = [row["trajectory_id"] for row in client.get("/v1/trajectories", fresh=600)["trajectories"]]
    assert "t1" in found
    assert "1 chunks are still to be derived" in told[0]


def test_a_client_gives_up_when_its_time_is_over(store: Store, deriver: Deriver, export: MakeExport, url: str) -> None:
    with store.deriving:
        write(store, deriver, export, "t1")
        with pytest.raises(StoreError, match="answers 503: 1 chunks are still to be derived"):
            CollectorClient(url).get("/v1/trajectories", fresh=2)


def test_not_all_threads_wait_for_reads_that_must_be_fresh(
    store: Store, deriver: Deriver, export: MakeExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freshness, "_WAITERS", 0)
    full = Freshness(deriver)
    with store.deriving:
        write(store, deriver, export, "t1")
        with pytest.raises(BehindError):
            full.wait({"fresh": "3600"})
    deriver.catch_up(LONG)
    assert full.wait({"fresh": "3600"}) == {AS_OF_HEADER: "1"}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"fresh": "yes"}, "fresh is 'yes', allowed: 0, 1 for as long as is usual, or up to 3600 seconds"),
        ({"fresh": "3601"}, "fresh is '3601'"),
        ({"fresh": "-1"}, "fresh is '-1'"),
        (
            {"fresh": "1", "as_of": "\u0663"},
            "as_of is '\u0663', allowed: the number that an answer has as imitrace-as-of",
        ),
        ({"fresh": "1", "as_of": "9" * 5000}, "as_of is"),
    ],
)
def test_fresh_is_said_in_no_other_words(deriver: Deriver, query: dict[str, str], message: str) -> None:
    with pytest.raises(WireError, match=message):
        Freshness(deriver).wait(query)
