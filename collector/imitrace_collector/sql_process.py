"""Run one query in a process of its own, which reaches nothing but the rows that its parent sends.

DuckDB runs with the rights of its process and forgets its memory limit in some functions. So the walls are the
system's: no file can be written, memory and time are the process's own, and where it fails nothing else does.
"""

import json
import os
import re
import resource
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from imitrace_collector.sql_wire import Request, Scan, SqlError, terms_of

_SETTINGS = (
    "TimeZone = 'UTC'",
    "enable_progress_bar = false",  # a program without a file is a person to DuckDB: it would draw into the answer
    "threads = 1",
    "temp_directory = ''",
    "python_enable_replacements = false",
    "autoinstall_known_extensions = false",
    "autoload_known_extensions = false",
    "enable_external_access = false",
    "lock_configuration = true",
)
_FILES = 64
_ROWS_AT_ONCE = 256
_SPOKEN = re.compile(r"(BOOLEAN|U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\(.*\)|VARCHAR|JSON)(\[\])*")
"""Types whose values JSON can say; it gets the others as text."""
_WORD = re.compile(r"\w+")
_PLACE = re.compile(r"\nLINE (\d+): (.*)\n( *)\^")


class _Feed(ds.InMemoryDataset):  # type: ignore[misc]  # untyped
    """A table of the parent's: DuckDB asks it for the columns and rows that a query needs."""

    def __init__(self, name: str, schema: pa.Schema, parent: "_Parent | None") -> None:
        super().__init__([], schema=schema)
        self._name = name
        self._parent = parent

    def scanner(self, columns: list[str] | None = None, filter: Any = None, **_: object) -> Any:  # noqa: A002 - theirs
        """Return the rows as the parent sends them."""
        condition = "" if filter is None else str(filter)
        asked = set(self.schema.names if columns is None else columns) | set(_WORD.findall(condition))
        wanted = [name for name in self.schema.names if name in asked]
        assert self._parent is not None  # noqa: S101 - only a test's database has no rows
        rows = self._parent.rows(Scan(self._name, wanted, terms_of(condition)))
        return _Rows(rows, wanted if columns is None else columns, filter)


class _Rows:
    """Stand for an Arrow scanner, whose own reads all that there is even where a query wants few."""

    def __init__(self, batches: pa.RecordBatchReader, columns: list[str], condition: Any) -> None:
        self._batches = batches
        self._columns = columns
        self._condition = condition

    def to_reader(self) -> pa.RecordBatchReader:
        """Return what DuckDB reads."""
        schema = pa.schema([self._batches.schema.field(name) for name in self._columns])
        return pa.RecordBatchReader.from_batches(schema, self._chosen())

    def _chosen(self) -> Iterator[pa.RecordBatch]:
        for batch in self._batches:
            kept = batch if self._condition is None else batch.filter(self._condition)
            yield kept.select(self._columns)


class _Parent:
    """Ask the process that started this one for rows."""

    def __init__(self) -> None:
        self._control = socket.socket(fileno=0)
        self._lock = threading.Lock()

    def request(self) -> Request:
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self._control.recv(1 << 16) or sys.exit(1)
        return Request.from_json(line)

    def rows(self, scan: Scan) -> pa.RecordBatchReader:
        with self._lock:
            self._control.sendall(scan.to_json() + b"\n")
            _, (descriptor, *_), _, _ = socket.recv_fds(self._control, 1, 1)
        return pa.ipc.open_stream(socket.socket(fileno=descriptor).makefile("rb"))


def _wall_in(request: Request) -> None:
    signal.setitimer(signal.ITIMER_REAL, request.seconds)  # its default action ends the process, whatever that does
    os.nice(10)
    os.chdir("/")
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_NOFILE, _FILES)):
        resource.setrlimit(limit, (value, value))
    with suppress(OSError):  # where there is no /proc there is DuckDB's own limit only
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
        most = pages * resource.getpagesize() + 2 * request.memory
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def connect(request: Request, parent: _Parent | None) -> duckdb.DuckDBPyConnection:
    """Return a database that has the request's tables, and can open nothing."""
    connection = duckdb.connect()
    for name, schema in request.schemas().items():
        connection.register(name, _Feed(name, schema, parent))
    for setting in (f"memory_limit = '{request.memory}B'", *_SETTINGS):
        connection.execute(f"SET {setting}")
    return connection


def run(connection: duckdb.DuckDBPyConnection, request: Request) -> tuple[dict[str, Any], pa.Table]:
    """Return the query's columns, their types and whether it was cut, and its rows."""
    request.sql.encode()  # lone surrogates: JSON can say them, SQL can't
    statements = connection.extract_statements(request.sql)
    kinds = [statement.type.name for statement in statements]
    if kinds != ["SELECT"]:
        raise SqlError(f"SQL is {' and '.join(kinds) or 'empty'}, allowed: one SELECT")
    relation = connection.sql(request.sql, params=request.parameters)
    names, types = list(relation.columns), [str(kind) for kind in relation.types]
    if request.as_json:
        relation = relation.project(", ".join(_spoken(number, kind) for number, kind in enumerate(types, 1)))
    table, truncated = _limited(relation.to_arrow_reader(_ROWS_AT_ONCE), request)
    return {"columns": names, "types": types, "truncated": truncated}, table.rename_columns(names)


def _spoken(number: int, kind: str) -> str:
    expression = f"#{number}" if _SPOKEN.fullmatch(kind) else f"CAST(#{number} AS VARCHAR)"
    return f"{expression} AS c{number}"


def _limited(batches: pa.RecordBatchReader, request: Request) -> tuple[pa.Table, bool]:
    kept: list[pa.RecordBatch] = []
    rows = size = 0
    truncated = False
    for batch in batches:
        size += batch.nbytes
        if size > request.size and not kept:
            raise SqlError(f"the first {batch.num_rows} rows have over {request.size} bytes; select fewer columns")
        truncated = size > request.size or rows + batch.num_rows > request.rows
        if size <= request.size:
            kept.append(batch.slice(0, request.rows - rows))
            rows += kept[-1].num_rows
        if truncated:
            break
    return pa.Table.from_batches(kept, batches.schema), truncated


def _explained(error: Exception) -> str:
    text = str(error)
    place = _PLACE.search(text)
    where = ""
    if place:
        column = len(place[3]) - len(f"LINE {place[1]}: ") + 1
        where = f" (line {place[1]})" if place[2].startswith("...") else f" (line {place[1]}, column {column})"
    return (text.partition("\n")[0] or type(error).__name__) + where


def main() -> NoReturn:
    """Answer the request that stands on standard input: a line of JSON, then the rows as an Arrow stream."""
    parent = _Parent()
    request = parent.request()
    _wall_in(request)
    body = b""
    try:
        head, table = run(connect(request, parent), request)
        with pa.BufferOutputStream() as sink:
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
            body = sink.getvalue().to_pybytes()
    except Exception as error:  # whatever it is, who asked must hear of it
        head = {"error": _explained(error)}
    sys.stdout.buffer.write(json.dumps(head).encode() + b"\n" + body)
    sys.stdout.buffer.flush()
    os._exit(0)  # nothing is to be tidied up, and DuckDB takes its time
