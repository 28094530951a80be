from collections.abc import Callable
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.exceptions import StoreError
from imitrace_collector import otlp
from imitrace_collector.copying import copy_everything, copy_rest, counts
from imitrace_collector.derive import derive_all
from imitrace_collector.ingest import Writer, ingest
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]
Contents = Callable[[Store], dict[str, list[str]]]


def test_a_copy_has_every_row_and_takes_new_ones(
    store: Store, tmp_path: Path, export: MakeExport, contents: Contents
) -> None:
    ingest(store, [otlp.read(otlp.TRACES, export(name), 0).batch for name in ("t1", "t2")])
    assert copy_everything(store, tmp_path / "copy") == 2
    with Store.open(tmp_path / "copy") as copy:
        assert contents(copy) == contents(store)
        assert ingest(copy, [otlp.read(otlp.TRACES, export("t2"), 0).batch]).duplicates == 3
        assert ingest(copy, [otlp.read(otlp.TRACES, export("t3"), 0).batch]).chunk == 3


def test_what_came_in_after_a_copy_is_copied_too(
    store: Store, tmp_path: Path, export: MakeExport, contents: Contents
) -> None:
    with store.session() as session:
        writer = Writer(session)
        writer.write([otlp.read(otlp.TRACES, export("t1"), 0).batch])
        last = copy_everything(store, tmp_path / "copy")
        writer.write([otlp.read(otlp.TRACES, export("t2"), 0).batch])
        derive_all(session)
        with store.connected() as connection:
            assert copy_rest(connection, tmp_path / "copy", last) == 2
            assert copy_rest(connection, tmp_path / "copy", 2) == 2
    with Store.open(tmp_path / "copy") as copy:
        with copy.session() as session:
            derive_all(session)
        assert contents(copy) == contents(store)


def test_what_nothing_names_may_be_left_out(store: Store, tmp_path: Path, export: MakeExport) -> None:
    ingest(store, [otlp.read(otlp.TRACES, export("t1"), 0).batch])
    with store.session() as session, session.transaction():
        session.execute("DELETE FROM bare_steps; DELETE FROM histories; DELETE FROM chunks")
        session.execute("INSERT INTO meta VALUES ('deleted', 'true')")
    copy_everything(store, tmp_path / "copy", named_only=True)
    with Store.open(tmp_path / "copy") as copy:
        found = counts(copy)
    assert [found[table] for table in ("origins", "messages", "tools")] == [0, 0, 0]
    assert found["meta"] == 3


def test_a_copy_that_fails_says_so_and_the_store_goes_on(store: Store, tmp_path: Path, export: MakeExport) -> None:
    with store.session() as session, session.transaction():
        session.execute("ALTER TABLE scores RENAME TO gone")
    for _ in range(2):
        with pytest.raises(StoreError, match="store copy failed"):
            copy_everything(store, tmp_path / "copy")
    with store.session() as session, session.transaction():
        session.execute("ALTER TABLE gone RENAME TO scores")
    copy_everything(store, tmp_path / "copy")
