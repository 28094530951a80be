"""Keep what is derived from raw items: the tables of ``imitrace.schema``, what senders lost, and how far this went."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any
from zlib import crc32

import duckdb
import pyarrow as pa

from imitrace.exceptions import StoreError
from imitrace.schema import TABLES
from imitrace_collector.blocks import insert_rows
from imitrace_collector.fingerprints import Fingerprints
from imitrace_collector.histories import BARE_STEPS, HISTORIES

LOSSES = {"service": "string", "process": "string", "lost": "int64"}
"""Columns of ``losses``: each time a process said how many records it had lost since its start."""

STORED = ("trajectories", "bare_steps", "histories", "messages", "tools", "scores")
"""The tables that the rows of ``schema.TABLES`` are kept in."""

ORDER = {
    "trajectories": "started_at, trajectory_id",
    "steps": "trajectory_id, step_index",
    "messages": "message_id",
    "tools": "tools_hash, position",
    "scores": "trajectory_id, step_index, name, scored_at, evaluator, evaluator_version, label, value, explanation",
}
"""In which order each derived table is read."""

_COLUMNS: Mapping[str, Mapping[str, str]] = {
    **TABLES,
    "bare_steps": BARE_STEPS,
    "histories": HISTORIES,
    "losses": LOSSES,
}
_TYPES = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
_ROWS = 50_000

Row = Mapping[str, Any]
"""A row of a derived table by column; the columns and types are those of ``imitrace.schema``."""


def arrow_schema(table: str) -> pa.Schema:
    """Return a derived table's columns as Arrow types."""
    return pa.schema([(name, _arrow_type(kind.rstrip("?"))) for name, kind in _COLUMNS[table].items()])


def _arrow_type(kind: str) -> pa.DataType:
    if kind.startswith("list<"):
        return pa.list_(_arrow_type(kind[5:-1]))
    return _TYPES[kind]


def as_arrow(table: str, rows: Sequence[Row]) -> pa.Table:
    """Return rows in a derived table's columns and types, so that DuckDB has nothing left to refuse.

    Raises:
        Exception: a value fits no such column; each kind of value has an error of its own.
    """
    found = pa.table(
        {field.name: pa.array(list(map(itemgetter(field.name), rows)), field.type) for field in arrow_schema(table)}
    )
    for name, kind in _COLUMNS[table].items():
        if not kind.endswith("?") and found[name].null_count:
            raise StoreError(f"{name} is null, {table} must have it")
    return found


class KnownMessages:
    """Which messages a store has, by fingerprint, once somebody asked; for whoever may change derived tables."""

    def __init__(self) -> None:
        self._known: Fingerprints | None = None

    def forget(self) -> None:
        """Look again before the next is written: some may be gone."""
        self._known = None

    def not_there(self, connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> pa.Table:
        """Return the rows of messages that are not there, each once; they will be."""
        if self._known is None:
            self._known = Fingerprints(wide=True)
            cursor = connection.execute("SELECT message_id FROM messages")
            while found := cursor.fetchmany(_ROWS):
                for (message_id,) in found:
                    self._known.add(hash(message_id), _further(message_id))
        ids = rows.column("message_id").to_pylist()
        new = [not self._known.add(hash(message_id), _further(message_id)) for message_id in ids]
        return rows.filter(pa.array(new, pa.bool_()))


def _further(message_id: str) -> int:
    """Return 32 bits that say nothing of ``hash``, which has a secret key."""
    return crc32(message_id.encode())


class DerivedTables:
    """Write the derived tables over one connection, for one thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, messages: KnownMessages) -> None:
        self._connection = connection
        self._messages = messages

    def derived_chunk(self) -> int:
        """Return the number of the chunk up to which everything is derived."""
        sql = "SELECT value FROM meta WHERE key = 'derived_chunk'"
        found = self._connection.execute(sql).fetchall()
        return int(found[0][0]) if found else 0

    def advance(self, chunk: int) -> None:
        """Say that everything up to a chunk is derived."""
        sql = "INSERT OR REPLACE INTO meta VALUES ('derived_chunk', $chunk::VARCHAR)"
        self._connection.execute(sql, {"chunk": chunk})

    def insert(self, table: str, rows: pa.Table) -> None:
        """Insert rows that ``as_arrow`` made; messages and tools that are there already stay as they are."""
        if table == "messages":
            rows = self._messages.not_there(self._connection, rows)
        if not rows.num_rows:
            return
        conflict = "ON CONFLICT DO NOTHING" if table == "tools" else ""
        insert_rows(self._connection, table, rows, conflict)

    def messages_change(self) -> None:
        """Hear that messages are deleted otherwise than by these methods."""
        self._messages.forget()

    def delete(self, table: str, rows: pa.Table) -> None:
        """Delete as many rows as these of each that are equal in every column; for tables without a key."""
        if not rows.num_rows:
            return
        first, *_ = arrow_schema(table).names
        names = ", ".join(arrow_schema(table).names)
        number = f"row_number() OVER (PARTITION BY {names}) AS number"
        same = " AND ".join(
            f"t.{name} IS NOT DISTINCT FROM d.{name}" for name in (*arrow_schema(table).names, "number")
        )
        self._connection.register("derived", rows)
        self._connection.execute(
            f"DELETE FROM {table} WHERE rowid IN (SELECT t.row FROM (SELECT *, rowid AS row, {number} FROM {table} "  # noqa: S608
            f"WHERE {first} IN (SELECT {first} FROM derived)) t "
            f"JOIN (SELECT *, {number} FROM derived) d ON {same})"
        )
        self._connection.unregister("derived")

    def forget(self, trajectory_ids: Sequence[str]) -> None:
        """Delete the trajectories and steps of these ids, to be derived anew."""
        named = {"ids": list(trajectory_ids)}
        of_ids = "trajectory_id IN (SELECT unnest($ids::VARCHAR[]))"
        known = self._connection.execute(f"DELETE FROM trajectories WHERE {of_ids}", named).fetchall()  # noqa: S608
        if known[0][0]:
            for table in ("bare_steps", "histories"):
                self._connection.execute(f"DELETE FROM {table} WHERE {of_ids}", named)  # noqa: S608 - literals
