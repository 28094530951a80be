import itertools
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
import zstandard
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans

from imitrace.exceptions import StoreError
from imitrace.schema import TABLES
from imitrace_collector import otlp
from imitrace_collector.derive import rebuild
from imitrace_collector.derived_tables import STORED, arrow_schema, as_arrow
from imitrace_collector.histories import BARE_STEPS, HISTORIES
from imitrace_collector.ingest import Writer, ingest
from imitrace_collector.raw_tables import Written
from imitrace_collector.store import Session, Store

MakeExport = Callable[..., ExportTraceServiceRequest]
Beside = Callable[..., AbstractContextManager[None]]

SQL_TYPES = {
    "string": "VARCHAR",
    "int64": "BIGINT",
    "float64": "DOUBLE",
    "bool": "BOOLEAN",
    "list<string>": "VARCHAR[]",
}


def columns_of(path: Path, table: str) -> list[tuple[str, str, bool]]:
    with duckdb.connect(str(path), read_only=True) as connection:
        sql = "SELECT column_name, data_type, is_nullable FROM duckdb_columns()"
        sql += " WHERE table_name = ? ORDER BY column_index"
        return [(name, kind, bool(null)) for name, kind, null in connection.execute(sql, [table]).fetchall()]


@pytest.mark.parametrize("table", [*TABLES, *STORED])
def test_the_derived_tables_have_exactly_the_columns_of_the_contract(tmp_path: Path, table: str) -> None:
    Store.open(tmp_path / "s.duckdb").close()
    columns = TABLES.get(table) or {"bare_steps": BARE_STEPS, "histories": HISTORIES}[table]
    expected = [(name, SQL_TYPES[kind.rstrip("?")], kind.endswith("?")) for name, kind in columns.items()]
    found = columns_of(tmp_path / "s.duckdb", table)
    if table == "steps":  # of a view every column may be null
        assert [column[:2] for column in found] == [column[:2] for column in expected]
    else:
        assert found == expected
    assert arrow_schema(table).names == list(columns)


def test_a_store_held_by_another_process_says_which(tmp_path: Path) -> None:
    path = tmp_path / "s.duckdb"
    script = f"import duckdb; c = duckdb.connect({str(path)!r}); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(
            StoreError, match=rf"held by process {holder.pid}, most likely a running `imitrace collect`"
        ):
            Store.open(path)
        holder.communicate(b"\n")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello " * 1000)
    with sqlite3.connect(tmp_path / "lite") as lite:
        lite.execute("CREATE TABLE t (a)")
    lite.close()
    for name in ("text", "lite"):
        with pytest.raises(StoreError, match=f"{name} is not a DuckDB file"):
            Store.open(tmp_path / name)


def test_a_duckdb_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "theirs")) as connection:
        connection.execute("CREATE TABLE t (a INT)")
    with pytest.raises(StoreError, match="not a store of imitrace"):
        Store.open(tmp_path / "theirs")


@pytest.mark.parametrize("key", ["store_version", "schema_version"])
def test_a_store_of_a_newer_program_is_refused(tmp_path: Path, key: str) -> None:
    path = tmp_path / "s.duckdb"
    Store.open(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = ?", [key])
    with pytest.raises(StoreError, match=rf"{key} 99, this program knows up to \d; upgrade"):
        Store.open(path)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_store_of_an_older_program_says_how_to_mend_it(tmp_path: Path, read_only: bool) -> None:
    path = tmp_path / "s.duckdb"
    make_older(path)
    with pytest.raises(StoreError, match=r"schema_version 1, this program needs \d; .* run `imitrace rebuild`"):
        Store.open(path, read_only=read_only)


def test_rebuilding_mends_a_store_of_an_older_program(tmp_path: Path, export: MakeExport) -> None:
    path = tmp_path / "s.duckdb"
    with Store.open(path) as store:
        ingest(store, [otlp.read(otlp.TRACES, export(), 0).batch])
    make_older(path)
    with Store.open(path, create=False, older=True) as store, store.session() as session:
        assert rebuild(session) == 1
    with Store.open(path) as store, store.reader() as reader:
        assert reader.rows("SELECT shadow, complete FROM steps") == [{"shadow": None, "complete": True}] * 2
    assert [name for name, *_ in columns_of(path, "steps")] == list(TABLES["steps"])


def make_older(path: Path) -> None:
    Store.open(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE older AS SELECT * EXCLUDE (shadow) FROM steps; DROP VIEW steps")
        connection.execute("DROP TABLE bare_steps; DROP TABLE histories; ALTER TABLE older RENAME TO steps")
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'schema_version'")


def test_a_store_that_is_only_read_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no store at .* `imitrace collect`"):
        Store.open(tmp_path / "absent" / "s.duckdb", read_only=True)
    assert not (tmp_path / "absent").exists()


def test_items_that_are_there_or_twice_in_a_batch_are_written_once(store: Store, export: MakeExport) -> None:
    first, second = (otlp.read(otlp.TRACES, export(name), 0).batch for name in ("t1", "t2"))
    twice = replace(first, spans=(*first.spans, *first.spans))
    with store.session() as session:
        writer = Writer(session)
        assert writer.write([twice, first]) == Written(spans=3, logs=0, duplicates=6, chunk=1)
        assert writer.write([first, second]) == Written(spans=3, logs=0, duplicates=3, chunk=2)
        assert [len(session.raw.spans_of([name])) for name in ("t1", "t2")] == [3, 3]
        assert session.raw.last_chunk() == 2


def test_a_trajectory_that_is_named_like_its_trace_is_kept_apart_from_the_rest_of_it(
    store: Store, export: MakeExport
) -> None:
    whole = otlp.read(otlp.TRACES, export(), 0).batch
    other, *own = (span._replace(trajectory_id=span.trace_id) for span in whole.spans)
    ingest(store, [replace(whole, spans=(other._replace(trajectory_id=None), *own))])
    with store.reader() as reader:
        found = reader.rows("SELECT trajectory_id AS id, items FROM chunks ORDER BY chunk")
    assert found == [{"id": None, "items": 1}, {"id": whole.spans[0].trace_id, "items": 2}]


def test_what_came_in_is_kept_byte_for_byte(store: Store, export: MakeExport) -> None:
    message = export()
    span = message.resource_spans[0].scope_spans[0].spans[0]
    span.MergeFromString(b"\xa2\x06\x03new")  # field 100, which this program does not know
    ingest(store, [otlp.read(otlp.TRACES, message, 0).batch])
    with store.reader() as reader:
        (body,) = reader.rows("SELECT body FROM bodies")
    kept = ScopeSpans.FromString(zstandard.decompress(body["body"])).spans
    assert list(kept) == list(message.resource_spans[0].scope_spans[0].spans)


def test_a_failed_transaction_leaves_nothing(store: Store, export: MakeExport) -> None:
    batch = otlp.read(otlp.TRACES, export(), 0).batch
    with store.session() as session:
        with pytest.raises(StoreError, match="write failed: disk full"), session.transaction():
            session.raw.write([batch], 0)
            raise duckdb.Error("disk full")
        assert session.raw.spans_of(["t1"]) == []


def test_a_reader_sees_one_view_while_writing_goes_on(store: Store, export: MakeExport) -> None:
    batch = otlp.read(otlp.TRACES, export(), 0).batch
    with store.reader() as reader, store.session() as session:
        assert reader.rows("SELECT count(*) AS n FROM spans") == [{"n": 0}]
        with session.transaction():
            session.raw.write([batch], 0)
        assert reader.rows("SELECT count(*) AS n FROM spans") == [{"n": 0}]
    with store.reader() as reader:
        assert reader.rows("SELECT count(*) AS n FROM spans") == [{"n": 3}]


def test_several_readers_have_the_same_view_while_writing_goes_on(store: Store, beside: Beside) -> None:
    numbers = itertools.count()
    seen = set()
    with store.session() as session:

        def write() -> None:
            number = next(numbers)
            with session.transaction():
                row = {"service": "a", "process": str(number), "lost": number}
                session.derived.insert("losses", as_arrow("losses", [row]))

        with beside(write):
            for _ in range(50):
                with store.readers(8) as readers:
                    counts = [reader.rows("SELECT count(*) AS n FROM losses")[0]["n"] for reader in readers]
                assert len(set(counts)) == 1
                seen.add(counts[0])
    assert len(seen) > 1


def given_up(store: Store, session: Session) -> None:
    """Have DuckDB give a store's file up: a checkpoint fails."""
    session.execute("SET debug_checkpoint_abort = 'before_header'")
    with pytest.raises(StoreError, match="has been invalidated"):
        store.checkpoint()


def test_a_file_that_duckdb_gave_up_is_opened_anew_with_all_that_was_committed(
    store: Store, export: MakeExport
) -> None:
    with store.session() as session, store.session() as other:
        writer = Writer(session)
        assert writer.write([otlp.read(otlp.TRACES, export("1"), 0).batch]).spans == 3
        given_up(store, session)
        assert writer.write([otlp.read(otlp.TRACES, export("2"), 0).batch]).spans == 3
        with other.transaction():
            assert other.execute("SELECT count(*) FROM spans") == [(6,)]
        store.checkpoint()
    with store.reader() as reader:
        assert reader.rows("SELECT count(*) AS spans FROM spans") == [{"spans": 6}]


def test_a_file_that_was_given_up_waits_for_who_reads(store: Store, export: MakeExport) -> None:
    with store.session() as session:
        with store.reader() as reader:
            reader.rows("SELECT key FROM meta")
            given_up(store, session)
            with pytest.raises(StoreError, match="must be opened anew, and somebody still reads; try again"):
                Writer(session).write([otlp.read(otlp.TRACES, export("1"), 0).batch])
        assert Writer(session).write([otlp.read(otlp.TRACES, export("1"), 0).batch]).spans == 3
