import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.exceptions import StoreError
from imitrace.schema import TABLES
from imitrace_collector import otlp
from imitrace_collector.ingest import ingest, rebuild
from imitrace_collector.store import Store, arrow_schema

MakeExport = Callable[..., ExportTraceServiceRequest]

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


@pytest.mark.parametrize("table", TABLES)
def test_the_derived_tables_have_exactly_the_columns_of_the_contract(tmp_path: Path, table: str) -> None:
    Store.open(tmp_path / "s.duckdb").close()
    expected = [(name, SQL_TYPES[kind.rstrip("?")], kind.endswith("?")) for name, kind in TABLES[table].items()]
    assert columns_of(tmp_path / "s.duckdb", table) == expected
    assert arrow_schema(table).names == list(TABLES[table])


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
    with Store.open(path, create=False, older=True) as store:
        assert rebuild(store) == 1
    with Store.open(path) as store, store.reader() as reader:
        assert reader.rows("SELECT shadow, complete FROM steps") == [{"shadow": None, "complete": True}] * 2
    assert [name for name, *_ in columns_of(path, "steps")] == list(TABLES["steps"])


def make_older(path: Path) -> None:
    Store.open(path).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute("ALTER TABLE steps DROP COLUMN shadow")
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'schema_version'")


def test_a_store_that_is_only_read_is_never_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no store at .* `imitrace collect`"):
        Store.open(tmp_path / "absent" / "s.duckdb", read_only=True)
    assert not (tmp_path / "absent").exists()


def test_spans_that_are_there_or_twice_in_a_batch_are_written_once(store: Store, export: MakeExport) -> None:
    spans = otlp.read(otlp.TRACES, export(), 0).batch.spans
    with store.transaction():
        assert len(store.add_spans([*spans, *spans])) == len(spans)
        assert store.add_spans(spans) == []


def test_a_failed_transaction_leaves_nothing(store: Store, export: MakeExport) -> None:
    with pytest.raises(StoreError, match="write failed"), store.transaction():
        store.add_spans(otlp.read(otlp.TRACES, export(), 0).batch.spans)
        raise duckdb.Error("disk full")
    assert store.spans_of(["t1"]) == []


def test_a_reader_sees_one_view_while_writing_goes_on(store: Store, export: MakeExport) -> None:
    with store.reader() as reader:
        assert reader.rows("SELECT count(*) AS n FROM spans") == [{"n": 0}]
        with store.transaction():
            store.add_spans(otlp.read(otlp.TRACES, export(), 0).batch.spans)
        assert reader.rows("SELECT count(*) AS n FROM spans") == [{"n": 0}]
    with store.reader() as reader:
        assert reader.rows("SELECT count(*) AS n FROM spans") == [{"n": 3}]
