"""Keep spans and what is derived from them in one DuckDB file; the one file that knows DuckDB."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa

from imitrace.exceptions import StoreError
from imitrace.schema import SCHEMA_VERSION, TABLES
from imitrace_collector.rows import LogRow, SpanRow

STORE_VERSION = 1
"""The version of the raw tables and of how they are kept; ``imitrace.schema`` has its own for the derived ones."""

_VERSIONS = {"store_version": STORE_VERSION, "schema_version": SCHEMA_VERSION}

ORDER = {
    "trajectories": "started_at, trajectory_id",
    "steps": "trajectory_id, step_index",
    "messages": "message_id",
    "tools": "tools_hash, position",
    "scores": "trajectory_id, step_index, name, scored_at, evaluator, evaluator_version, label, value, explanation",
}
"""In which order each derived table is read."""

_OF_AGENT = "trajectory_id IN (SELECT trajectory_id FROM trajectories WHERE agent = $agent)"
_AGENT_FILTER = {
    "trajectories": "agent = $agent",
    "steps": _OF_AGENT,
    "scores": _OF_AGENT,
    "messages": f"message_id IN (SELECT unnest(state) FROM steps WHERE {_OF_AGENT})",  # noqa: S608 - a literal
    "tools": f"tools_hash IN (SELECT tools_hash FROM steps WHERE {_OF_AGENT})",  # noqa: S608 - a literal
}

_DERIVED_TYPES = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
_ROW_TYPES = {int: pa.int64(), str: pa.string(), str | None: pa.string()}

Row = Mapping[str, Any]
"""A row of a derived table by column; the columns and types are those of ``imitrace.schema``."""


def arrow_schema(table: str) -> pa.Schema:
    """Return a derived table's columns as Arrow types."""
    return pa.schema([(name, _arrow_type(kind.rstrip("?"))) for name, kind in TABLES[table].items()])


def _arrow_type(kind: str) -> pa.DataType:
    if kind.startswith("list<"):
        return pa.list_(_arrow_type(kind[5:-1]))
    return _DERIVED_TYPES[kind]


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

    def table(self, table: str, agent: str | None = None) -> pa.RecordBatchReader:
        """Return a derived table as Arrow batches, in ``ORDER``; only what belongs to ``agent`` when named."""
        where, parameters = ("", {}) if agent is None else (f"WHERE {_AGENT_FILTER[table]}", {"agent": agent})
        with _as_store_error("query"):
            relation = self._connection.sql(_select(table, where), params=parameters)
            return relation.to_arrow_reader(4096)

    def write_parquet(self, table: str, path: Path) -> int:
        """Write a derived table as a zstd Parquet file, in ``ORDER``, and return its number of rows."""
        target = str(path).replace("'", "''")
        sql = f"COPY ({_select(table)}) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
        with _as_store_error("snapshot"):
            return int(self._connection.execute(sql).fetchall()[0][0])


def _select(table: str, where: str = "") -> str:
    columns = ", ".join(TABLES[table])
    return f"SELECT {columns} FROM {table} {where} ORDER BY {ORDER[table]}"  # noqa: S608 - names are our own


class Store:
    """Own the connection to a store file; writing is for one thread, readers may be many."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, path: Path) -> None:
        self._connection = connection
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
            path.parent.mkdir(parents=True, exist_ok=True)
        _check_kind(path)
        try:
            connection = duckdb.connect(str(path), read_only=read_only)
        except duckdb.Error as error:
            raise StoreError(_why_not_open(path, str(error))) from error
        try:
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
            self._connection.execute("CHECKPOINT")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything written inside durable at the end, or nothing of it."""
        with _as_store_error("write"):
            self._connection.execute("BEGIN")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        try:
            self._connection.execute("ROLLBACK")
        except duckdb.TransactionException:  # a failed commit has ended the transaction already
            return

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Open one consistent view; writing goes on beside it."""
        with self._connection.cursor() as cursor:
            cursor.execute("BEGIN")
            try:
                yield Reader(cursor)
            finally:
                cursor.execute("ROLLBACK")

    def add_spans(self, spans: Sequence[SpanRow]) -> list[SpanRow]:
        """Insert raw spans that are not there yet, and return those; of equal keys the first wins."""
        by_key: dict[tuple[Any, ...], SpanRow] = {}
        for span in spans:
            by_key.setdefault((span.trace_id, span.span_id), span)
        return [by_key[key] for key in self._insert_new("spans", list(by_key.values()), "trace_id, span_id")]

    def add_logs(self, logs: Sequence[LogRow]) -> list[LogRow]:
        """Insert raw log records that are not there yet, and return those."""
        by_key: dict[tuple[Any, ...], LogRow] = {}
        for log in logs:
            by_key.setdefault((log.log_id,), log)
        return [by_key[key] for key in self._insert_new("log_records", list(by_key.values()), "log_id")]

    def _insert_new(self, table: str, rows: Sequence[SpanRow] | Sequence[LogRow], key: str) -> list[tuple[Any, ...]]:
        if not rows:
            return []
        fields = dataclasses.fields(rows[0])
        columns = {field.name: [getattr(row, field.name) for row in rows] for field in fields}
        schema = pa.schema([(field.name, _ROW_TYPES[field.type]) for field in fields])  # type: ignore[index]  # a type here
        return self._insert(table, pa.table(columns, schema=schema), f"ON CONFLICT DO NOTHING RETURNING {key}")

    def _insert(self, table: str, rows: pa.Table, conflict: str) -> list[tuple[Any, ...]]:
        self._connection.register("incoming", rows)
        try:
            sql = f"INSERT INTO {table} BY NAME SELECT * FROM incoming {conflict}"  # noqa: S608 - names are our own
            return self._connection.execute(sql).fetchall()
        finally:
            self._connection.unregister("incoming")

    def insert(self, table: str, rows: Sequence[Row]) -> None:
        """Insert rows of a derived table; messages and tools that are there already stay as they are."""
        if rows:
            content_addressed = table in ("messages", "tools")
            arrow = pa.Table.from_pylist(list(rows), schema=arrow_schema(table))
            self._insert(table, arrow, "ON CONFLICT DO NOTHING" if content_addressed else "")

    def forget(self, trajectory_ids: Sequence[str]) -> None:
        """Delete the derived rows of trajectories, to be derived anew."""
        for table in ("trajectories", "steps"):
            self._connection.execute(
                f"DELETE FROM {table} WHERE trajectory_id IN (SELECT unnest($ids::VARCHAR[]))",  # noqa: S608 - literals
                {"ids": list(trajectory_ids)},
            )

    def forget_all(self) -> None:
        """Make every derived table anew, empty and in this program's columns; raw spans and log records stay."""
        drops = "".join(f"DROP TABLE {table}; " for table in TABLES)
        self._connection.execute(f"{drops} DELETE FROM meta; {_ddl()}")  # noqa: S608 - names are our own

    def spans_of(self, trajectory_ids: Sequence[str]) -> list[SpanRow]:
        """Return the raw spans of trajectories, as the writing transaction sees them."""
        return self._raw_spans("trajectory_id IN (SELECT unnest($ids::VARCHAR[]))", ids=list(trajectory_ids))

    def trajectory_ids(self) -> list[str]:
        """Return the id of every trajectory that a raw span names."""
        sql = "SELECT DISTINCT trajectory_id FROM spans WHERE trajectory_id IS NOT NULL ORDER BY 1"
        return [row[0] for row in self._connection.execute(sql).fetchall()]

    def scoring_spans(self, event_name: str) -> list[SpanRow]:
        """Return the raw spans that may carry a score: so named, or with an event so named."""
        return self._raw_spans("starts_with(name, $event) OR contains(events, $event)", event=event_name)

    def logs_named(self, event_name: str) -> list[LogRow]:
        """Return the raw log records of that event name."""
        names = ", ".join(field.name for field in dataclasses.fields(LogRow))
        sql = f"SELECT {names} FROM log_records WHERE event_name = $event"  # noqa: S608 - names are our own
        rows = self._connection.execute(sql, {"event": event_name}).fetchall()
        return [LogRow(**dict(zip(names.split(", "), row, strict=True))) for row in rows]

    def _raw_spans(self, where: str, **parameters: object) -> list[SpanRow]:
        names = ", ".join(field.name for field in dataclasses.fields(SpanRow))
        sql = f"SELECT {names} FROM spans WHERE {where}"  # noqa: S608 - names are our own
        rows = self._connection.execute(sql, parameters).fetchall()
        return [SpanRow(**dict(zip(names.split(", "), row, strict=True))) for row in rows]


@contextmanager
def _as_store_error(what: str) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
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
