"""Copy a store into another file as one consistent view, while it is written to."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb

from imitrace_collector.derived_tables import STORED
from imitrace_collector.durable import forget
from imitrace_collector.link_tables import COMPONENT_TABLES
from imitrace_collector.store import Store
from imitrace_collector.store_files import ATTACHED, as_store_error, roll_back

CAME_IN = {"spans": "chunk", "log_records": "chunk", "chunks": "chunk", "bodies": "block"}
"""Tables of what came in, and the column that says with which chunk a row came, or after which."""
EVERY_TABLE = ("origins", *CAME_IN, *STORED, "losses", *COMPONENT_TABLES, "meta")

_NAMED = {
    "origins": "origin IN (SELECT origin FROM store.chunks)",
    "messages": "message_id IN (SELECT message_id FROM store.histories)",
    "tools": "tools_hash IN (SELECT tools_hash FROM store.bare_steps)",
    "meta": "key <> 'deleted'",
}
"""Which rows are still of use; of the other tables all are."""


def copy_everything(store: Store, target: Path, *, named_only: bool = False) -> int:
    """Copy one consistent view of a store, and return the number of the last chunk in it.

    Args:
        store: may be written to meanwhile.
        target: a new file, whole only once this returns; nothing else may hold it.
        named_only: leave out origins, messages and tools that nothing names any more.
    """
    forget(target)
    Store.open(target).close()
    with store.entered(), closing(store.connected()) as connection, _attached(connection, target):
        for table in EVERY_TABLE:
            where = f"WHERE {_NAMED[table]}" if named_only and table in _NAMED else ""
            how = "OR REPLACE" if table == "meta" else ""
            connection.execute(f"INSERT {how} INTO fresh.{table} BY NAME SELECT * FROM store.{table} {where}")  # noqa: S608
        return _last_chunk(connection)


def copy_rest(connection: duckdb.DuckDBPyConnection, target: Path, after: int) -> int:
    """Copy what came in after a chunk, and return the number of the last one.

    Args:
        connection: of the store that is copied, with no transaction open.
        target: made by ``copy_everything``; what follows from the new chunks is still to be derived there.
        after: the last chunk that is there.
    """
    last = _last_chunk(connection)
    if last <= after:
        return after
    new = "chunk BETWEEN $first AND $last"
    named = f"SELECT * FROM store.origins WHERE origin IN (SELECT origin FROM store.chunks WHERE {new})"  # noqa: S608
    numbers = {"first": after + 1, "last": last}
    with _attached(connection, target):
        connection.execute(f"INSERT INTO fresh.origins BY NAME {named} ON CONFLICT DO NOTHING", numbers)
        for table, came_with in CAME_IN.items():
            rows = f"SELECT * FROM store.{table} WHERE {came_with} BETWEEN $first AND $last"  # noqa: S608 - literals
            connection.execute(f"INSERT INTO fresh.{table} BY NAME {rows}", numbers)
    return last


def used_bytes(store: Store) -> tuple[int, int]:
    """Return how many bytes of the store's file are in use, and how many are free inside it."""
    sql = "SELECT used_blocks * block_size AS used, free_blocks * block_size AS free FROM pragma_database_size()"
    with store.reader() as reader:
        (found,) = reader.rows(f"{sql} WHERE database_name = 'store'")
    return int(found["used"]), int(found["free"])


def counts(store: Store) -> dict[str, int]:
    """Return the number of rows of every table, of one consistent view."""
    with store.reader() as reader:
        return {name: reader.rows(f"SELECT count(*) AS n FROM {name}")[0]["n"] for name in EVERY_TABLE}  # noqa: S608


@contextmanager
def _attached(connection: duckdb.DuckDBPyConnection, target: Path) -> Iterator[None]:
    """Write to a second file, ``fresh``, in one transaction that sees one view of ``store``."""
    quoted = str(target).replace("'", "''")
    with as_store_error("copy"):
        connection.execute(f"ATTACH '{quoted}' AS fresh ({ATTACHED})")
        try:
            connection.execute("BEGIN")
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                roll_back(connection)
                raise
            connection.execute("CHECKPOINT fresh")
        finally:
            connection.execute("DETACH fresh")


def _last_chunk(connection: duckdb.DuckDBPyConnection) -> int:
    return int(connection.execute("SELECT coalesce(max(chunk), 0) FROM store.chunks").fetchall()[0][0])
