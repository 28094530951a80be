"""Open a store's file: whether it is one, which versions it has, and what DuckDB may use for it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import duckdb

from imitrace.exceptions import StoreError
from imitrace.schema import SCHEMA_VERSION

STORE_VERSION = 3
"""The version of the raw tables and of how they are kept; ``imitrace.schema`` has its own for the derived ones."""

_VERSIONS = {"store_version": STORE_VERSION, "schema_version": SCHEMA_VERSION}

ATTACHED = "ROW_GROUP_SIZE 2048"
"""How a store file is attached: a checkpoint writes a row group anew when rows were added, and of DuckDB's own 122,880
rows that would be seconds of work each time."""
_BLOCK_SIZE = 16384
"""Bytes of a new file's block: row groups are so small that of DuckDB's own 262,144 a sixth would stay unused."""
_CHECKPOINT_AT = "16MB"
_MEMORY = "128MiB"
"""What DuckDB may work with; no table that grows with what came in has a key, whose index could not leave memory."""


class StoreHeldError(StoreError):
    """Report that another process holds the store file."""


def roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    """End a transaction; a failed commit has ended it already, and so has closing the file, or giving it up."""
    try:
        connection.execute("ROLLBACK")
    except (duckdb.TransactionException, duckdb.ConnectionException):
        return
    except duckdb.Error as error:
        if not gave_up(error):
            raise


def connect(path: Path, read_only: bool = False) -> duckdb.DuckDBPyConnection:
    """Return a connection that has a file, of whatever version, as its database ``store``.

    Raises:
        StoreError: another process holds it, or it is no DuckDB file.
    """
    _check_kind(path)
    options = "READ_ONLY" if read_only else ATTACHED
    quoted = str(path).replace("'", "''")
    connection = duckdb.connect()
    try:
        connection.execute(f"SET default_block_size = {_BLOCK_SIZE}")
        connection.execute(f"SET memory_limit = '{_MEMORY}'")
        connection.execute(f"SET wal_autocheckpoint = '{_CHECKPOINT_AT}'")
        connection.execute(f"SET temp_directory = '{quoted}.tmp'")
        connection.execute(f"ATTACH '{quoted}' AS store ({options}); USE store")
    except duckdb.Error as error:
        connection.close()
        raise why_not_open(path, str(error)) from error
    return connection


def make_folder(path: Path) -> None:
    """Make the folder of a file that is to be a store.

    Raises:
        StoreError: it can't be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # what agents saw is nobody else's
    except OSError as error:
        raise StoreError(f"folder {path.parent} can't be made: {error.strerror}; name another --home") from error


@contextmanager
def as_store_error(what: str) -> Iterator[None]:
    """Raise what goes wrong inside as a ``StoreError``."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        raise StoreError(f"store {what} failed: {_first_line(error)}") from error


def gave_up(error: BaseException) -> bool:
    """Return whether DuckDB will do nothing more on a file that an error came of, until it is opened anew.

    It gives a file up where it can't know any more what is in memory: a checkpoint failed, or an assumption of its own.
    What was committed is in the file or its write-ahead log.
    """
    return "has been invalidated" in str(error)


def tables_in(connection: duckdb.DuckDBPyConnection) -> set[str]:
    """Return the names of the tables that are there."""
    return {row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}


def ddl() -> str:
    """Return the statements that make what is not there, and say which versions it has."""
    tables = files("imitrace_collector").joinpath("schema.sql").read_text(encoding="utf-8")
    values = ", ".join(f"('{key}', '{value}')" for key, value in _VERSIONS.items())
    return f"{tables} INSERT INTO meta VALUES {values};"  # noqa: S608 - our own numbers


def versions(connection: duckdb.DuckDBPyConnection, path: Path) -> dict[str, int]:
    """Return what a store file says which versions it has, none of them newer than this program.

    Raises:
        StoreError: it is no store, or a newer program wrote it.
    """
    if "meta" not in tables_in(connection):
        raise StoreError(f"{path} is a DuckDB file but not a store of imitrace; name another --home")
    rows = connection.execute("SELECT key, value FROM meta").fetchall()
    found = {key: int(value) for key, value in rows if key in _VERSIONS}
    for key, ours in _VERSIONS.items():
        if found.get(key, 0) > ours:
            raise StoreError(f"store {path} has {key} {found[key]}, this program knows up to {ours}; upgrade imitrace")
    return found


def check_version(connection: duckdb.DuckDBPyConnection, path: Path, older: bool) -> None:
    """Refuse a file that another version wrote.

    Args:
        connection: on it.
        path: where it is.
        older: take one whose derived tables are an older program's.

    Raises:
        StoreError: it is no store, or its version is another.
    """
    found = versions(connection, path)
    for key, ours, mend in (
        ("store_version", STORE_VERSION, "migrate"),
        ("schema_version", SCHEMA_VERSION, "rebuild"),
    ):
        if found.get(key, 0) < ours and not (older and mend == "rebuild"):
            raise StoreError(
                f"store {path} has {key} {found.get(key, 0)}, this program needs {ours}; "
                f"stop its collector and run `imitrace {mend}`"
            )


def _check_kind(path: Path) -> None:
    """Refuse another program's file before DuckDB looks for an extension that could read it."""
    if not path.exists():
        return
    with path.open("rb") as file:
        if file.read(12)[8:] != b"DUCK":
            raise StoreError(f"{path} is not a DuckDB file; move it away, or name another --home")


def why_not_open(path: Path, message: str) -> StoreError:
    """Return the error for a file that DuckDB does not open."""
    if "Could not set lock" in message:
        pid = re.search(r"PID (\d+)", message)
        holder = f"process {pid.group(1)}" if pid else "another process"
        return StoreHeldError(
            f"store {path} is held by {holder}, most likely a running `imitrace collect`; stop it, or ask it by HTTP"
        )
    return StoreError(f"store {path} can't be opened: {message.splitlines()[0]}")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
