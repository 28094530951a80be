import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.exceptions import StoreError
from imitrace_collector import compaction, otlp
from imitrace_collector.compaction import compact, worth_compacting
from imitrace_collector.derive import Deriver
from imitrace_collector.ingest import Writer, ingest
from imitrace_collector.pace import Rest
from imitrace_collector.rows import Batch
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]
Beside = Callable[..., AbstractContextManager[None]]
Contents = Callable[[Store], dict[str, list[str]]]
Usage = namedtuple("Usage", "total used free")
LONG = 60.0

KILLED = """
import os, signal, sys
from pathlib import Path
from imitrace_collector import compaction, store as stores
from imitrace_collector.store import Store

def kill(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

module, name, when = sys.argv[2:]
module = {"compaction": compaction, "store": stores}[module]
real = getattr(module, name)

def killed(*arguments, **named):
    if when == "before":
        kill()
    real(*arguments, **named)
    kill()

setattr(module, name, killed)
with Store.open(Path(sys.argv[1])) as store:
    with store.session() as session, session.transaction():
        session.execute("INSERT INTO losses VALUES ('acknowledged', 'and still in the log', 1)")
    compaction.compact(store)
"""


def batch(export: MakeExport, name: str) -> Batch:
    return otlp.read(otlp.TRACES, export(name), 0).batch


def fill(store: Store, export: MakeExport, count: int = 40) -> None:
    ingest(store, [batch(export, f"t{number}") for number in range(count)])
    store.checkpoint()


def bulky(store: Store) -> None:
    """Write a few megabytes into the store, and delete them again."""
    with store.session() as session:
        with session.transaction():
            session.execute("INSERT INTO bodies SELECT -1, i, repeat(md5(i::VARCHAR), 100)::BLOB FROM range(4000) t(i)")
        store.checkpoint()
        with session.transaction():
            session.execute("DELETE FROM bodies WHERE block = -1")
    store.checkpoint()


def test_the_file_becomes_smaller_and_keeps_every_row(store: Store, export: MakeExport, contents: Contents) -> None:
    fill(store, export)
    bulky(store)
    before = contents(store)
    assert worth_compacting(store, 0.5)
    done = compact(store)
    assert done.after == store.path.stat().st_size < done.before / 2
    assert contents(store) == before
    assert not worth_compacting(store, 0.5)
    assert [path.name for path in store.path.parent.iterdir()] == [store.path.name]


def test_a_compacted_store_takes_new_items_and_knows_the_old_ones(
    store: Store, export: MakeExport, contents: Contents
) -> None:
    with store.session() as session:
        writer = Writer(session)
        writer.write([batch(export, "t1")])
        compact(store)
        assert writer.write([batch(export, "t1"), batch(export, "t2")]).duplicates == 3
    ingest(store, [batch(export, "t3")])
    expected = contents(store)
    path = store.path
    store.close()
    with Store.open(path) as again:
        assert contents(again) == expected
        assert len(expected["trajectories"]) == 3


def test_writing_deriving_and_reading_go_on_meanwhile(store: Store, export: MakeExport, beside: Beside) -> None:
    fill(store, export)
    deriver, problems = Deriver(store, rest=Rest(0.01, calm=0)), []
    written: list[str] = []
    with store.session() as session:
        writer = Writer(session)

        def write() -> None:
            written.append(f"n{len(written)}")
            deriver.committed(writer.write([batch(export, written[-1])]).chunk)

        def read() -> None:
            known = len(written) - 1
            deriver.catch_up(LONG)
            with store.reader() as reader:
                (found,) = reader.rows("SELECT count(*) AS n FROM trajectories WHERE trajectory_id LIKE 'n%'")
            if found["n"] < known:
                problems.append(f"{found['n']} of {known} trajectories")

        with beside(write, read):
            for _ in range(3):
                compact(store)
    deriver.catch_up(LONG)
    deriver.stop()
    assert problems == []
    with store.reader() as reader:
        (found,) = reader.rows("SELECT count(*) AS n, count(DISTINCT trajectory_id) AS ids FROM trajectories")
    assert (found["n"], found["ids"]) == (40 + len(written), 40 + len(written))


def test_a_reader_is_waited_for(
    store: Store, export: MakeExport, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, export)
    monkeypatch.setattr(compaction, "_PATIENCE", 0.01)
    monkeypatch.setattr(compaction, "_PAUSE", 0.01)
    expected = contents(store)
    with ThreadPoolExecutor() as pool:
        with store.reader() as reader:
            done = pool.submit(compact, store)
            with pytest.raises(TimeoutError):
                done.result(0.5)
            assert len(reader.rows("SELECT * FROM trajectories")) == 40
        done.result(LONG)
    assert contents(store) == expected


def test_a_reader_that_never_leaves_is_told(store: Store, export: MakeExport, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(store, export, 1)
    monkeypatch.setattr(compaction, "_PATIENCE", 0.01)
    monkeypatch.setattr(compaction, "_PAUSE", 0.01)
    monkeypatch.setattr(compaction, "_TRIES", 2)
    with store.reader() as reader:
        with pytest.raises(StoreError, match="was read all the time, so its file could not be replaced"):
            compact(store)
        assert len(reader.rows("SELECT * FROM trajectories")) == 1
    assert [path.name for path in store.path.parent.iterdir()] == [store.path.name]


def test_without_room_for_a_second_file_nothing_is_begun(
    store: Store, export: MakeExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, export, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 100))
    with pytest.raises(StoreError, match="has 100 bytes free, this needs"):
        compact(store)


def test_a_failed_swap_leaves_the_store_going_on(
    store: Store, export: MakeExport, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    fill(store, export)
    expected = contents(store)
    with store.session() as session, monkeypatch.context() as patched:
        patched.setattr("imitrace_collector.store.put_in_place", full)
        with pytest.raises(StoreError, match=r"swap failed: .*No space left"):
            compact(store)
        assert Writer(session).write([batch(export, "t1")]).duplicates == 3
    assert contents(store) == expected


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("compaction", "copy_everything"),
        ("compaction", "_nearly_all"),
        ("compaction", "copy_rest"),
        ("store", "put_in_place"),
        ("compaction", "forget"),
    ],
)
def test_a_kill_at_any_point_leaves_one_whole_store(
    store: Store, export: MakeExport, contents: Contents, module: str, name: str, when: str
) -> None:
    fill(store, export)
    expected = contents(store)
    path = store.path
    store.close()
    run = subprocess.run([sys.executable, "-c", KILLED, path, module, name, when], timeout=LONG, check=False)
    assert run.returncode == -9
    expected["losses"] = ["{'service': 'acknowledged', 'process': 'and still in the log', 'lost': 1}"]
    with Store.open(path) as again:
        assert contents(again) == expected
        compact(again)
        assert contents(again) == expected
    assert [left.name for left in path.parent.iterdir()] == [path.name]
