"""Answer SQL over the store, read-only: in one consistent view, and at a cost that is known before."""

import json
import math
import threading
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

import pyarrow as pa

from imitrace.exceptions import StoreError
from imitrace.schema import TABLES
from imitrace_collector.sql_sandbox import run_aside
from imitrace_collector.sql_wire import Parameters, Request, SqlError, packed
from imitrace_collector.store import Reader, Store

SQL_TABLES = (*TABLES, "spans", "log_records")
MOST_ROWS = 1_000_000
AT_ONCE = 2
"""Queries that run at once; others wait for their turn, as long as they may run."""

_FORM = '{"sql": TEXT, "parameters": [...], "limit": ROWS}'
_HIDDEN = "chunk"
_SCANS = 8
"""Tables that a query may read at the same time."""

_turns = threading.BoundedSemaphore(AT_ONCE)

Json = dict[str, Any]
"""A JSON object."""


@dataclass(frozen=True, kw_only=True)
class SqlLimits:
    """What a query may cost."""

    rows: int = 10_000
    """Rows of the answer; it is cut there."""
    seconds: float = 10.0
    """Time to run; it is ended then."""
    bytes: int = 64_000_000
    """Size of the answer in Arrow's form; it is cut there."""
    memory: int = 512_000_000
    """Bytes to work with."""


DEFAULT_LIMITS = SqlLimits()


@dataclass(frozen=True)
class SqlQuery:
    """What somebody asks: one SELECT in DuckDB's dialect over ``SQL_TABLES``."""

    sql: str
    parameters: Parameters = ()
    limits: SqlLimits = DEFAULT_LIMITS
    as_json: bool = True

    @property
    def may_read_derived(self) -> bool:
        """Return whether it may read a table that is derived; what came in can be read without waiting for that."""
        text = self.sql.lower()
        return "query_table" in text or any(table in text for table in TABLES)

    """Give what JSON can't say as text; False keeps DuckDB's types, for Arrow."""

    @classmethod
    def from_json(cls, body: bytes | bytearray, *, as_json: bool = True) -> Self:
        """Return what the body of an HTTP request asks.

        Raises:
            SqlError: it is no ``{"sql": TEXT, "parameters": [...], "limit": ROWS}``; the last two may be left out.
        """
        try:
            found = json.loads(body)
            sql, parameters, rows = found["sql"], found.get("parameters", []), found.get("limit", DEFAULT_LIMITS.rows)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SqlError(f"body is not {_FORM}") from error
        if not isinstance(sql, str) or not isinstance(parameters, list | dict) or type(rows) is not int:
            raise SqlError(f"body is not {_FORM}")
        if not 0 < rows <= MOST_ROWS:
            raise SqlError(f"limit is {rows}, allowed: 1 to {MOST_ROWS}")
        return cls(sql, parameters, SqlLimits(rows=rows), as_json)


@dataclass(frozen=True)
class SqlResult:
    """The rows that a query gave."""

    columns: list[str]
    types: list[str]
    """DuckDB's names for the types."""
    table: pa.Table
    truncated: bool
    """Whether there was more than the limits let through."""

    @property
    def rows(self) -> list[list[Any]]:
        """Return the rows as JSON values, if the query was asked ``as_json``."""
        columns = [[_plain(value) for value in column.to_pylist()] for column in self.table.columns]
        return [list(row) for row in zip(*columns, strict=True)]

    def to_json(self) -> Json:
        """Return it as a JSON object."""
        return {"columns": self.columns, "types": self.types, "rows": self.rows, "truncated": self.truncated}

    def to_arrow(self) -> bytes:
        """Return the rows as an Arrow IPC stream."""
        with pa.BufferOutputStream() as sink:
            with pa.ipc.new_stream(sink, self.table.schema) as stream:
                stream.write_table(self.table)
            return bytes(sink.getvalue().to_pybytes())


def run_sql(store: Store, query: SqlQuery) -> SqlResult:
    """Run a query in one consistent view of the store, in a process of its own that can reach nothing else.

    Raises:
        SqlError: it is no SELECT, it fails, or it takes more time or memory than it may.
        StoreError: other queries took all turns, or the store can't be read.
    """
    if not _turns.acquire(timeout=query.limits.seconds):
        raise StoreError(f"{AT_ONCE} SQL queries run already; ask again")
    try:
        with store.readers(_SCANS + 1) as readers:
            answer = run_aside(_request(readers[0], query), readers)
    finally:
        _turns.release()
    line, _, body = answer.partition(b"\n")
    head = json.loads(line)
    if "error" in head:
        raise SqlError(head["error"])
    return SqlResult(head["columns"], head["types"], pa.ipc.open_stream(body).read_all(), head["truncated"])


def _request(reader: Reader, query: SqlQuery) -> Request:
    limits = query.limits
    return Request(
        sql=query.sql,
        parameters=query.parameters,
        rows=limits.rows,
        seconds=limits.seconds,
        size=limits.bytes,
        memory=limits.memory,
        as_json=query.as_json,
        tables={name: packed(_schema(reader, name)) for name in SQL_TABLES},
    )


def _schema(reader: Reader, table: str) -> pa.Schema:
    found = reader.batches(f"SELECT * FROM {table} LIMIT 0", 1).schema  # noqa: S608 - our own name
    return pa.schema([field for field in found if field.name != _HIDDEN])


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
