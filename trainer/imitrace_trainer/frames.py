"""Open a source of traces as lazy frames, checked against ``schema.py``; nothing else in this room reads tables.

A source is a snapshot folder, the address of a running collector, or a store file that no collector holds.
"""

import hashlib
import http.client
import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import duckdb
import polars as pl
from pyarrow import ArrowException
from pyarrow.parquet import FileMetaData, read_metadata

from imitrace.config import setting
from imitrace.exceptions import DatasetError
from imitrace.schema import SCHEMA_VERSION, TABLES

_TYPES: Mapping[str, pl.DataType] = {
    "string": pl.String(),
    "int64": pl.Int64(),
    "float64": pl.Float64(),
    "bool": pl.Boolean(),
    "list<string>": pl.List(pl.String()),
}
_STEPS_AT_ONCE = 512
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_READ_SECONDS = 120.0
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
        return {
            table: checked(self._read(table).lazy(), columns, f"{self.describe()}, table {table}")
            for table, columns in TABLES.items()
        }

    def describe(self) -> str:
        """Name the address."""
        return f"collector {self.url}"

    def _read(self, table: str) -> pl.DataFrame:
        address = f"{self.url.rstrip('/')}/v1/tables/{table}"
        try:
            body = _fetch(f"{address}?fresh=1")
        except urllib.error.HTTPError as error:
            mend = "; set IMITRACE_TOKEN to the collector's token" if error.code in (401, 403) else ""
            with error:
                raise DatasetError(
                    f"{address} answers {error.code} {error.reason}, expected an Arrow stream{mend}"
                ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise DatasetError(
                f"no collector answers at {self.url} ({reason}); start it with 'imitrace collect', "
                "or name a snapshot folder or a store file"
            ) from error
        if not body.endswith(_END_OF_STREAM):
            raise DatasetError(f"{address} sent {len(body)} bytes that are no whole Arrow stream, try again")
        try:
            return pl.read_ipc_stream(body)
        except pl.exceptions.PolarsError as error:
            raise DatasetError(f"{address} sent no Arrow stream: {error}") from error


@dataclass(frozen=True)
class StoreSource:
    """A DuckDB store file that no collector holds."""

    path: Path

    def frames(self) -> dict[str, pl.LazyFrame]:
        """Return the tables, read at once and let go, so that a collector may start again."""
        with self._connect() as connection:
            self._check_derived(connection)
            return {table: self._read(connection, table) for table in TABLES}

    def describe(self) -> str:
        """Name the file."""
        return f"store {self.path}"

    def _connect(self) -> duckdb.DuckDBPyConnection:
        try:
            return duckdb.connect(self.path, read_only=True)
        except duckdb.Error as error:
            if "lock" in str(error).lower():
                raise DatasetError(
                    f"store {self.path} is held by a running collector; name its address instead, "
                    "for instance http://127.0.0.1:4318, or stop it"
                ) from error
            raise DatasetError(f"store {self.path} can't be opened: {_first_line(error)}") from error

    def _check_derived(self, connection: duckdb.DuckDBPyConnection) -> None:
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

    def _read(self, connection: duckdb.DuckDBPyConnection, table: str) -> pl.LazyFrame:
        where = f"{self.describe()}, table {table}"
        try:
            if table == "steps" and connection.sql("FROM duckdb_tables() WHERE table_name = 'bare_steps'").fetchall():
                found = _with_states(_table(connection, "bare_steps"), _table(connection, "histories"))
            else:
                found = _table(connection, table)
        except duckdb.Error as error:
            raise DatasetError(f"{where} can't be read: {_first_line(error)}") from error
        return checked(found.lazy(), TABLES[table], where)


def _table(connection: duckdb.DuckDBPyConnection, table: str) -> pl.DataFrame:
    order = " ORDER BY position" if table == "histories" else ""
    return pl.DataFrame(connection.sql(f"FROM {table}{order}").to_arrow_table())


def _with_states(steps: pl.DataFrame, histories: pl.DataFrame) -> pl.DataFrame:
    """Return steps with their ``state``, the first messages of their history, made a few at a time to save memory."""
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


def read_manifest(folder: Path) -> dict[str, Any]:  # JSON
    """Return a folder's ``manifest.json``.

    Raises:
        DatasetError: it is absent or broken, or a newer imitrace wrote it.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(f"{folder} has no manifest.json, expected a folder made by imitrace") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} can't be read: {error}") from error
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if not isinstance(version, int):
        raise DatasetError(f"{path} has schema_version {version!r}, expected a whole number up to {SCHEMA_VERSION}")
    if version > SCHEMA_VERSION:
        raise DatasetError(
            f"{path} has schema_version {version}, this imitrace reads up to {SCHEMA_VERSION}: upgrade imitrace"
        )
    return dict(manifest)


def check_files(folder: Path, manifest: Mapping[str, Any]) -> None:  # JSON
    """Compare a folder's files with the hashes that its manifest has of them, if it has any.

    Raises:
        DatasetError: a file is absent, or holds something else.
    """
    for name, said in manifest.get("files", {}).items():
        path = folder / name
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DatasetError(f"{path} can't be read: {error}") from error
        if found != said["sha256"]:
            raise DatasetError(f"{path} has sha256 {found}, its manifest says {said['sha256']}: make it again")


def scan_tables(
    folder: Path, tables: Mapping[str, Mapping[str, str]], counts: Mapping[str, int]
) -> dict[str, pl.LazyFrame]:
    """Return a folder's Parquet files as lazy frames.

    Args:
        folder: holds ``TABLE.parquet`` for each table.
        tables: columns by table, in the types of ``schema.py``.
        counts: rows by table, as the folder's manifest says.

    Raises:
        DatasetError: a file is absent or broken, its columns are others, or its rows are not as many.
    """
    frames = {}
    for table, columns in tables.items():
        path = folder / f"{table}.parquet"
        try:
            footer = read_metadata(path)
            frames[table] = checked(pl.scan_parquet(path, glob=False), columns, str(path), _counted_nulls(footer))
            rows = footer.num_rows
        except (OSError, ArrowException, pl.exceptions.PolarsError) as error:
            raise DatasetError(f"{path} can't be read: {_first_line(error)}") from error
        if rows != counts.get(table):
            raise DatasetError(f"{path} has {rows} rows, its manifest says {counts.get(table)}: make it again")
    return frames


def _counted_nulls(footer: FileMetaData) -> dict[str, int]:
    """Return how many nulls a file's footer says of its plain columns; reading them to count takes far longer."""
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    counts: dict[str, int] = {}
    unsaid = set()
    for column in (group.column(number) for group in groups for number in range(group.num_columns)):
        name, said = column.path_in_schema, column.statistics
        if said is None or not said.has_null_count or "." in name:
            unsaid.add(name)
        else:
            counts[name] = counts.get(name, 0) + said.null_count
    return {name: count for name, count in counts.items() if name not in unsaid}


def checked(
    frame: pl.LazyFrame, columns: Mapping[str, str], where: str, counted: Mapping[str, int] | None = None
) -> pl.LazyFrame:
    """Return a frame with exactly these columns.

    Args:
        frame: what was read.
        columns: types of ``schema.py`` by name; one without ``?`` holds no null.
        where: names the table in errors.
        counted: how many nulls columns hold, as far as it is known; the others are counted.

    Raises:
        DatasetError: a column is absent, has another type, or holds a null that it may not.
    """
    found = frame.collect_schema()
    for name, kind in columns.items():
        if name not in found:
            raise DatasetError(f"{where}: column {name!r} is missing, expected {kind}")
        if found[name] != _TYPES[kind.removesuffix("?")]:
            raise DatasetError(f"{where}: column {name!r} is {found[name]}, expected {kind}")
    frame = frame.select(list(columns))
    known = {} if counted is None else counted
    required = [name for name, kind in columns.items() if not kind.endswith("?")]
    unknown = [name for name in required if name not in known]
    found_nulls = frame.select(pl.col(unknown).null_count()).collect().row(0, named=True) if unknown else {}
    for name, count in ({name: known[name] for name in required if name in known} | found_nulls).items():
        if count:
            raise DatasetError(f"{where}: column {name!r} is null in {count} rows, expected {columns[name]}")
    return frame


def empty(columns: Mapping[str, str]) -> pl.DataFrame:
    """Return a table without rows, its columns in the types of ``schema.py``."""
    return pl.DataFrame(schema={name: _TYPES[kind.removesuffix("?")] for name, kind in columns.items()})


def gather(frames: Mapping[str, pl.LazyFrame]) -> dict[str, pl.DataFrame]:
    """Run lazy frames together, so that what they share is read once."""
    return dict(zip(frames, pl.collect_all(list(frames.values())), strict=True))


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


def _fetch(address: str) -> bytes:
    """Get an address past any proxy; the token goes to this host only."""
    request = urllib.request.Request(address)  # noqa: S310 - open_source lets only http and https in
    token = setting("IMITRACE_TOKEN")
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=_READ_SECONDS) as answer:
        return bytes(answer.read())


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
