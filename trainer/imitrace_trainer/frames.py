"""Read Parquet files as lazy frames, checked against ``schema.py`` and against the manifest beside them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from pyarrow import ArrowException
from pyarrow.parquet import FileMetaData, read_metadata

from imitrace.exceptions import DatasetError
from imitrace.schema import SCHEMA_VERSION

_TYPES: Mapping[str, pl.DataType] = {
    "string": pl.String(),
    "int64": pl.Int64(),
    "float64": pl.Float64(),
    "bool": pl.Boolean(),
    "list<string>": pl.List(pl.String()),
}


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
    folder: Path, tables: Mapping[str, Mapping[str, str]], counts: Mapping[str, int], source: str | None = None
) -> dict[str, pl.LazyFrame]:
    """Return a folder's Parquet files as lazy frames.

    Args:
        folder: holds ``TABLE.parquet`` for each table.
        tables: columns by table, in the types of ``schema.py``.
        counts: rows by table, as the folder's manifest says.
        source: names where they come from, in errors about columns; None: the files.

    Raises:
        DatasetError: a file is absent or broken, its columns are others, or its rows are not as many.
    """
    frames = {}
    for table, columns in tables.items():
        path = folder / f"{table}.parquet"
        try:
            footer = read_metadata(path)
            where = str(path) if source is None else f"{source}, table {table}"
            frames[table] = checked(pl.scan_parquet(path, glob=False), columns, where, _counted_nulls(footer))
            rows = footer.num_rows
        except (OSError, ArrowException, pl.exceptions.PolarsError) as error:
            raise DatasetError(f"{path} can't be read: {first_line(error)}") from error
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


def first_line(error: Exception) -> str:
    """Return the first line of an error's text; libraries add hints to it."""
    return str(error).strip().split("\n", 1)[0]
