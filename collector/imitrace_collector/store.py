"""Own the store: one DuckDB file, its versions, its transactions, and consistent views of it."""

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa

from imitrace.exceptions import StoreError
from imitrace.schema import SCHEMA_VERSION, TABLES
from imitrace_collector.derived_tables import ORDER, DerivedTables
from imitrace_collector.raw_tables import RawTables
from imitrace_collector.rows import LogRow, SpanRow

STORE_VERSION = 2
"""The version of the raw tables and of how they are kept; ``imitrace.schema`` has its own for the derived ones."""

_VERSIONS = {"store_version": STORE_VERSION, "schema_version": SCHEMA_VERSION}

_ROW_GROUP = 2048
"""Rows that a checkpoint writes anew when some were added: DuckDB's own 122,880 would be seconds of work each time."""
_CHECKPOINT_AT = "32MB"
_MEMORY = "1GiB"


class Reader:
    """Read one consistent view of the store, on a connection of its own; close it by leaving the ``with``."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def rows(self, sql: str, **parameters: object) -> list[dict[str, Any]]:
        """Return a query's rows as dictionaries."""
        with _as_store_error("query"):
            result = self._connection.execute(sql, parameters)
            names = [column[0] for column in result.description or ()]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def batches(self, sql: str, rows: int, parameters: Mapping[str, object] | None = None) -> pa.RecordBatchReader:
        """Return a query's rows as Arrow batches of at most so many; one such query at a time."""
        with _as_store_error("query"):
            return self._connection.sql(sql, params=dict(parameters or {})).to_arrow_reader(rows)

    def trace(self, trace_id: str) -> tuple[list[SpanRow], list[LogRow]]:
        """Return the spans and the log records of a trace, decoded."""
        raw = RawTables(self._connection)
        with _as_store_error("query"):
            return raw.spans_of_trace(trace_id), raw.logs_of_trace(trace_id)

    def interrupt(self) -> None:
        """End the query that runs; from any thread."""
        self._connection.interrupt()

    def table(self, table: str) -> pa.RecordBatchReader:
        """Return a derived table as Arrow batches, in ``ORDER``."""
        return self.batches(_select(table), 4096)

    def write_parquet(self, table: str, path: Path) -> int:
        """Write a derived table as a zstd Parquet file, in ``ORDER``, and return its number of rows."""
        target = str(path).replace("'", "''")
        sql = f"COPY ({_select(table)}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
        with _as_store_error("snapshot"):
            return int(self._connection.execute(sql).fetchall()[0][0])


def _select(table: str) -> str:
    return f"SELECT {', '.join(TABLES[table])} FROM {table} ORDER BY {ORDER[table]}"  # noqa: S608 - names are our own


class Session:
    """Write over a connection of its own, for one thread; several may write at once where their tables differ."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path, commits: threading.Lock) -> None:
        self._connection = connection
        self._folder = folder
        self._commits = commits
        self.raw = RawTables(connection)
        self.derived = DerivedTables(connection)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything written inside durable at the end, or nothing of it."""
        with _as_store_error("write"):
            self._connection.execute("BEGIN")
            try:
                yield
                with self._commits:
                    self._connection.execute("COMMIT")
                _sync(self._folder)
            except BaseException:
                self._roll_back()
                raise

    def positions(self) -> tuple[int, int]:
        """Return the last chunk that is stored, and the last up to which everything is derived."""
        with _as_store_error("query"):
            return self.raw.last_chunk(), self.derived.derived_chunk()

    def _roll_back(self) -> None:
        try:
            self._connection.execute("ROLLBACK")
        except duckdb.TransactionException:  # a failed commit has ended the transaction already
            return

    def forget_derived(self) -> None:
        """Make every derived table anew, empty and in this program's columns; what came in stays."""
        drops = "".join(f"DROP TABLE IF EXISTS {table}; " for table in (*TABLES, "losses"))
        self._connection.execute(f"{drops} DELETE FROM meta; {_ddl()}")  # noqa: S608 - names are our own


class Store:
    """Hold a store file open; sessions write, readers read, each on a connection of its own."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, path: Path) -> None:
        self._connection = connection
        self._commits = threading.Lock()
        self.path = path

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False, create: bool = True, older: bool = False) -> Self:
        """Open the store file.

        Args:
            path: the file; it and its folder are made when absent.
            read_only: never write; then several processes may read.
            create: False or ``read_only`` refuse to make it.
            older: take one whose derived tables are an older program's, to rebuild them.

        Raises:
            StoreError: another process holds it, it is no store, a newer or older program wrote it, or it is absent.
        """
        create = create and not read_only
        if not create and not path.exists():
            raise StoreError(f"no store at {path}; fill one by `imitrace collect` or `imitrace import`, or name --home")
        if create:
            _make_folder(path)
        _check_kind(path)
        connection = duckdb.connect()
        try:
            _attach(connection, path, read_only)
            with _as_store_error("opening"):
                if not read_only and not _tables(connection):
                    connection.execute(f"BEGIN; {_ddl()} COMMIT;")
                _check_version(connection, path, older)
        except BaseException:
            connection.close()
            raise
        return cls(connection, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was committed is in it."""
        self._connection.close()

    def checkpoint(self) -> None:
        """Move what is in the write-ahead log into the file itself."""
        with _as_store_error("checkpoint"):
            self._connection.execute("CHECKPOINT store")

    def underived(self) -> bool:
        """Return whether something is stored that nothing is derived from yet."""
        with self.session() as session:
            stored, derived = session.positions()
        return derived < stored

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Open a connection to write on."""
        with self._cursor() as cursor:
            yield Session(cursor, self.path.parent, self._commits)

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Open one consistent view; writing goes on beside it."""
        with self._cursor() as cursor:
            cursor.execute("BEGIN")
            try:
                yield Reader(cursor)
            finally:
                cursor.execute("ROLLBACK")

    @contextmanager
    def readers(self, count: int) -> Iterator[list[Reader]]:
        """Open several connections on one and the same view, for as many threads."""
        with ExitStack() as stack:
            with self._commits:  # a view begins with the first read
                opened = [stack.enter_context(self.reader()) for _ in range(count)]
                for reader in opened:
                    reader.rows("SELECT key FROM meta LIMIT 1")
            yield opened

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._connection.cursor() as cursor:
            cursor.execute("USE store")
            yield cursor


def _sync(folder: Path) -> None:
    """Make a folder's entries durable: DuckDB syncs its write-ahead log, but not the name of a new one."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # what agents saw is nobody else's
    except OSError as error:
        raise StoreError(f"folder {path.parent} can't be made: {error.strerror}; name another --home") from error


def _attach(connection: duckdb.DuckDBPyConnection, path: Path, read_only: bool) -> None:
    options = "READ_ONLY" if read_only else f"ROW_GROUP_SIZE {_ROW_GROUP}"
    quoted = str(path).replace("'", "''")
    try:
        connection.execute(f"SET wal_autocheckpoint = '{_CHECKPOINT_AT}'; SET memory_limit = '{_MEMORY}'")
        connection.execute(f"SET temp_directory = '{quoted}.tmp'")
        connection.execute(f"ATTACH '{quoted}' AS store ({options}); USE store")
    except duckdb.Error as error:
        raise StoreError(_why_not_open(path, str(error))) from error


@contextmanager
def _as_store_error(what: str) -> Iterator[None]:
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise StoreError(f"store {what} failed: {_first_line(error)}") from error


def _tables(connection: duckdb.DuckDBPyConnection) -> set[str]:
    return {row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}


def _ddl() -> str:
    """Return the statements that make what is not there, and say which versions it has."""
    tables = files("imitrace_collector").joinpath("schema.sql").read_text(encoding="utf-8")
    values = ", ".join(f"('{key}', '{value}')" for key, value in _VERSIONS.items())
    return f"{tables} INSERT INTO meta VALUES {values};"  # noqa: S608 - our own numbers


def _check_version(connection: duckdb.DuckDBPyConnection, path: Path, older: bool) -> None:
    if "meta" not in _tables(connection):
        raise StoreError(f"{path} is a DuckDB file but not a store of imitrace; name another --home")
    found = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    for key, ours in _VERSIONS.items():
        if int(found.get(key, 0)) > ours:
            raise StoreError(f"store {path} has {key} {found[key]}, this program knows up to {ours}; upgrade imitrace")
    if int(found.get("schema_version", 0)) < SCHEMA_VERSION and not older:
        raise StoreError(
            f"store {path} has schema_version {found.get('schema_version')}, this program needs {SCHEMA_VERSION}; "
            "stop its collector and run `imitrace rebuild`"
        )


def _check_kind(path: Path) -> None:
    """Refuse another program's file before DuckDB looks for an extension that could read it."""
    if not path.exists():
        return
    with path.open("rb") as file:
        if file.read(12)[8:] != b"DUCK":
            raise StoreError(f"{path} is not a DuckDB file; move it away, or name another --home")


def _why_not_open(path: Path, message: str) -> str:
    if "Could not set lock" in message:
        pid = re.search(r"PID (\d+)", message)
        holder = f"process {pid.group(1)}" if pid else "another process"
        return f"store {path} is held by {holder}, most likely a running `imitrace collect`; stop it, or ask it by HTTP"
    return f"store {path} can't be opened: {message.splitlines()[0]}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
