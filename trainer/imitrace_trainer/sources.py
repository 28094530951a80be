"""Open a source of traces: a snapshot folder, the address of a running collector, or a store file that none holds."""

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

import polars as pl

from imitrace.exceptions import DatasetError
from imitrace.schema import TABLES
from imitrace_trainer.collector_reads import CollectorTables
from imitrace_trainer.frames import check_files, checked, first_line, read_manifest, scan_tables

if TYPE_CHECKING:  # imported where it is used: at the end of a process that has torch it complains of leaks else
    import duckdb

_STEPS_AT_ONCE = 512
_PROBE_SECONDS = 2.0


class Source(Protocol):
    """Where traces are read from."""

    def frames(self) -> dict[str, pl.LazyFrame]:
        """Return the five tables of ``schema.TABLES``, with exactly its columns.

        Raises:
            DatasetError: the source can't be read, or a column is not as ``schema.py`` says.
        """

    def describe(self) -> str:
        """Name the source in a few words."""


@dataclass(frozen=True)
class SnapshotSource:
    """A folder of Parquet files and ``manifest.json``, as ``imitrace snapshot`` writes it."""

    path: Path

    def frames(self) -> dict[str, pl.LazyFrame]:
        """Return the tables, scanned when they are used."""
        manifest = read_manifest(self.path)
        check_files(self.path, manifest)
        counts = manifest.get("counts")
        return scan_tables(self.path, TABLES, counts if isinstance(counts, dict) else {})

    def describe(self) -> str:
        """Name the folder."""
        return f"snapshot {self.path}"


@dataclass(frozen=True)
class CollectorSource:
    """A running collector's read API."""

    url: str

    def frames(self) -> dict[str, pl.LazyFrame]:
        """Return the tables as they are now, trajectories first, so that what they name comes with them."""
        tables = self.tables()
        return {
            table: checked(pl.concat(tables.batches(table)).lazy(), columns, f"{self.describe()}, table {table}")
            for table, columns in TABLES.items()
        }

    def describe(self) -> str:
        """Name the address."""
        return f"collector {self.url}"

    def tables(self) -> CollectorTables:
        """Return its tables, to be read as they come."""
        return CollectorTables(self.url)


@dataclass(frozen=True)
class StoreSource:
    """A DuckDB store file that no collector holds."""

    path: Path

    def frames(self) -> dict[str, pl.LazyFrame]:
        """Return the tables, read at once and let go, so that a collector may start again."""
        with self.connect() as connection:
            return {table: self._read(connection, table) for table in TABLES}

    def describe(self) -> str:
        """Name the file."""
        return f"store {self.path}"

    def connect(self, **options: str) -> "duckdb.DuckDBPyConnection":
        """Return a connection that reads the file, with options of DuckDB's.

        Raises:
            DatasetError: it is no store, a collector holds it, or not all that it holds is ready to be read.
        """
        import duckdb

        try:
            connection = duckdb.connect(self.path, read_only=True, config=dict(options))
        except duckdb.Error as error:
            if "lock" in str(error).lower():
                raise DatasetError(
                    f"store {self.path} is held by a running collector; name its address instead, "
                    "for instance http://127.0.0.1:4318, or stop it"
                ) from error
            raise DatasetError(f"store {self.path} can't be opened: {first_line(error)}") from error
        try:
            self._check_derived(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_derived(self, connection: "duckdb.DuckDBPyConnection") -> None:
        """Refuse a store whose collector was killed before it had derived the steps of all that it had taken."""
        there = {row[0] for row in connection.sql("SELECT table_name FROM duckdb_tables()").fetchall()}
        if not {"chunks", "meta"} <= there:
            return
        sql = (
            "SELECT count(*) FROM chunks WHERE chunk > "
            "coalesce((SELECT value::BIGINT FROM meta WHERE key = 'derived_chunk'), 0)"
        )
        pending = connection.sql(sql).fetchall()[0][0]
        if pending:
            raise DatasetError(
                f"{self.describe()} holds {pending} chunks of which no steps are derived yet; "
                "run `imitrace trajectories` on it once, or start its collector"
            )

    def _read(self, connection: "duckdb.DuckDBPyConnection", table: str) -> pl.LazyFrame:
        import duckdb

        where = f"{self.describe()}, table {table}"
        try:
            if table == "steps" and has_histories(connection):
                found = with_states(_table(connection, "bare_steps"), _table(connection, "histories"))
            else:
                found = _table(connection, table)
        except duckdb.Error as error:
            raise DatasetError(f"{where} can't be read: {first_line(error)}") from error
        return checked(found.lazy(), TABLES[table], where)


def has_histories(connection: "duckdb.DuckDBPyConnection") -> bool:
    """Tell whether a store keeps steps without their states, and these once, as histories."""
    return bool(connection.sql("FROM duckdb_tables() WHERE table_name = 'bare_steps'").fetchall())


def _table(connection: "duckdb.DuckDBPyConnection", table: str) -> pl.DataFrame:
    order = " ORDER BY position" if table == "histories" else ""
    return pl.DataFrame(connection.sql(f"FROM {table}{order}").to_arrow_table())


def with_states(steps: pl.DataFrame, histories: pl.DataFrame) -> pl.DataFrame:
    """Return ``bare_steps`` with ``state``, the first messages of their histories, a few at a time to save memory."""
    keys = ["trajectory_id", "history"]
    ids = histories.group_by(keys, maintain_order=True).agg(pl.col("message_id").alias("state"))
    nothing = pl.lit([], pl.List(pl.String()))
    state = pl.col("state").list.head("history_length").fill_null(nothing)
    few = (rows.join(ids, on=keys, how="left").with_columns(state) for rows in steps.iter_slices(_STEPS_AT_ONCE))
    return pl.concat([steps.clear().with_columns(nothing.alias("state")), *few])


def open_source(url: str | None, home: Path) -> Source:
    """Open a snapshot folder, a collector's address or a store file.

    Args:
        url: a folder, an ``http://`` address or a file; None for the workspace's running collector, else its store.
        home: the workspace folder.

    Raises:
        DatasetError: there is nothing to open.
    """
    if url is None:
        return _workspace_source(home)
    if url.startswith(("http://", "https://")):
        return CollectorSource(url)
    path = Path(url)
    if path.is_dir():
        return SnapshotSource(path)
    if path.is_file():
        return StoreSource(path)
    raise DatasetError(f"source {url!r} does not exist, expected a snapshot folder, a store file or an http:// address")


def _workspace_source(home: Path) -> Source:
    address = _running_collector(home)
    if address is not None:
        return CollectorSource(address)
    store = home / "traces.duckdb"
    if store.is_file():
        return StoreSource(store)
    raise DatasetError(
        f"workspace {home} has no traces: record some with 'imitrace collect' running, "
        "or load a file with 'imitrace import'"
    )


def _running_collector(home: Path) -> str | None:
    try:
        record = json.loads((home / "collector.json").read_text(encoding="utf-8"))
        process, address = int(record["pid"]), str(record["http"])
        parts = urlsplit(address)
        place = (parts.hostname or "", parts.port or 80)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return address if _alive(process) and _listens(place) else None


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:  # another user's
        return True
    except (OSError, OverflowError):
        return False
    return process > 0


def _listens(place: tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, timeout=_PROBE_SECONDS).close()
    except OSError:
        return False
    return True
