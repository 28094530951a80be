"""Copy what a collector or a store file holds into Parquet files, so that however much it is, it is read in portions.

The copy stands in the workspace for as long as it is read; what a killed reader left goes with the next one.
"""

import signal
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow.parquet as pq

from imitrace.exceptions import DatasetError
from imitrace.schema import TABLES
from imitrace_trainer.drafts import draft
from imitrace_trainer.frames import first_line, scan_tables
from imitrace_trainer.progress import Progress, silent
from imitrace_trainer.sources import CollectorSource, Source, StoreSource, has_histories, with_states

if TYPE_CHECKING:  # imported where it is used: see sources
    import duckdb

COPIES: Final = "copies"
"""Folder of the workspace that copies are in."""

_ROWS_AT_ONCE: Final = 8_192
_IDS_AT_ONCE: Final = 2**19
"""Ids of states that are in memory at once, unless one state has more."""
_MEMORY: Final = "512MB"
_ORDER: Final = {
    "trajectories": "started_at, trajectory_id",
    "steps": "trajectory_id, step_index",
    "messages": "message_id",
    "tools": "tools_hash, position",
    "scores": "trajectory_id, step_index, name, scored_at, evaluator, evaluator_version, label, value, explanation",
}
"""As snapshots are ordered, so that a copy is read like one."""
_HISTORIES: Final = (
    "SELECT trajectory_id, history, message_id FROM histories SEMI JOIN needed USING (trajectory_id, history) "
    "ORDER BY trajectory_id, history, position"
)


@dataclass(frozen=True)
class CopiedSource:
    """A source's tables, copied into a folder."""

    source: Source
    path: Path
    counts: dict[str, int]
    """Rows by table."""

    def frames(self) -> dict[str, pl.LazyFrame]:
        """Return the tables, scanned when they are used."""
        return scan_tables(self.path, TABLES, self.counts, self.describe())

    def describe(self) -> str:
        """Name what was copied."""
        return self.source.describe()


@contextmanager
def at_hand(source: Source, home: Path, progress: Progress = silent) -> Iterator[Source]:
    """Give a source of which no table is in memory: a snapshot as it is, of others a copy for as long as it is used.

    Args:
        source: any.
        home: the workspace folder.
        progress: is told how many tables are copied.

    Raises:
        DatasetError: the source can't be read, or the copy not be written.
    """
    if not isinstance(source, CollectorSource | StoreSource):
        yield source
        return
    with ExitStack() as stack:
        folder = home / COPIES
        try:
            folder = stack.enter_context(draft(folder))
            counts: dict[str, int] = {}
            for table, rows in _copied(source, folder):
                counts[table] = rows
                progress("copy", len(counts) / len(TABLES))
        except OSError as error:
            raise DatasetError(f"copy of {source.describe()} can't be written to {folder}: {error}") from error
        except RuntimeError as error:
            if "interrupted" in str(error):  # how DuckDB takes SIGINT
                signal.default_int_handler(signal.SIGINT, None)
            raise
        yield CopiedSource(source, folder, counts)


def _copied(source: CollectorSource | StoreSource, folder: Path) -> Iterator[tuple[str, int]]:
    """Write each table, and yield its name and how many rows it has."""
    return _copy_store(source, folder) if isinstance(source, StoreSource) else _copy_collector(source, folder)


def _copy_collector(source: CollectorSource, folder: Path) -> Iterator[tuple[str, int]]:
    """Write the tables as they are now, trajectories first, so that what they name comes with them."""
    tables = source.tables()
    for table in TABLES:
        yield table, _write(tables.batches(table), folder / f"{table}.parquet")


def _copy_store(source: StoreSource, folder: Path) -> Iterator[tuple[str, int]]:
    """Write the tables and let the file go, so that a collector may start again."""
    import duckdb

    with source.connect(memory_limit=_MEMORY, temp_directory=str(folder / "spilt")) as connection:
        for table in TABLES:
            path = folder / f"{table}.parquet"
            try:
                if table == "steps":
                    rows = _write(_steps(connection), path)
                else:
                    target = str(path).replace("'", "''")
                    sql = (
                        f"COPY (FROM {table} ORDER BY {_ORDER[table]}) TO '{target}' "
                        f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROWS_AT_ONCE})"
                    )
                    rows = int(connection.execute(sql).fetchall()[0][0])
            except duckdb.Error as error:
                raise DatasetError(f"{source.describe()}, table {table} can't be read: {first_line(error)}") from error
            yield table, rows


def _steps(connection: "duckdb.DuckDBPyConnection") -> Iterator[pl.DataFrame]:
    bare = has_histories(connection)
    table = "bare_steps" if bare else "steps"
    rows = connection.sql(f"FROM {table} ORDER BY {_ORDER['steps']}").to_arrow_reader(_ROWS_AT_ONCE if bare else 512)
    nothing = pl.DataFrame(rows.schema.empty_table())
    yield nothing.with_columns(pl.Series("state", [], pl.List(pl.String))) if bare else nothing
    with connection.cursor() as beside:
        for batch in rows:
            steps = pl.DataFrame(batch)
            yield from (with_states(few, _of(few, beside)) for few in _few(steps)) if bare else (steps,)


def _few(steps: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield steps in slices whose states have not too many ids together."""
    start, ids = 0, 0
    for place, length in enumerate(steps["history_length"]):
        ids += length
        if place > start and ids > _IDS_AT_ONCE:
            yield steps[start:place]
            start, ids = place, length
    if start < len(steps):
        yield steps[start:]


def _of(steps: pl.DataFrame, beside: "duckdb.DuckDBPyConnection") -> pl.DataFrame:
    """Return the rows of the histories that states of steps are of."""
    beside.register("needed", steps.select("trajectory_id", "history").unique().to_arrow())
    found = pl.DataFrame(beside.sql(_HISTORIES).to_arrow_table())
    beside.unregister("needed")
    return found


def _write(portions: Iterable[pl.DataFrame], path: Path) -> int:
    """Write portions as row groups of a Parquet file, the first of which settles the columns; return the rows."""
    writer: pq.ParquetWriter | None = None
    rows = 0
    try:
        for portion in portions:
            table = portion.to_arrow(compat_level=pl.CompatLevel.oldest())
            if writer is None:
                writer = pq.ParquetWriter(path, table.schema, compression="zstd")
            if len(portion):
                writer.write_table(table, row_group_size=len(portion))
            rows += len(portion)
    finally:
        if writer is not None:
            writer.close()
    return rows
