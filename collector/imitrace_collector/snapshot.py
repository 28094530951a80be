"""Write the store's tables as an immutable folder of Parquet files with a manifest."""

import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from imitrace.canonical import content_hash
from imitrace.schema import SCHEMA_VERSION, TABLES
from imitrace_collector.store import Reader, Store
from imitrace_collector.store_files import as_store_error

SNAPSHOTS = "snapshots"
MANIFEST = "manifest.json"


def write_snapshot(store: Store, home: Path, now: datetime) -> dict[str, Any]:
    """Write one consistent view of the store below ``home/snapshots``.

    The folder is written under a name with a leading dot and renamed when it is whole, and never changed after.

    Args:
        store: read in one transaction.
        home: the workspace folder.
        now: names the folder, in UTC.

    Returns:
        ``path``, the folder, and ``manifest``, what ``manifest.json`` in it says.
    """
    snapshots = home / SNAPSHOTS
    aside = snapshots / f".{now.astimezone(UTC):%Y%m%dT%H%M%S%fZ}"
    aside.mkdir(parents=True)
    try:
        with store.readers(2) as (reader, beside):
            manifest = _write_tables(reader, beside, aside, now)
        (aside / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        path = snapshots / f"{aside.name[1:]}-{content_hash(manifest['files'])[:8]}"
        aside.rename(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return {"path": str(path.absolute()), "manifest": manifest}


def _write_tables(reader: Reader, beside: Reader, folder: Path, now: datetime) -> dict[str, Any]:
    counts: dict[str, int] = {}
    files: dict[str, dict[str, Any]] = {}
    for table in TABLES:
        path = folder / f"{table}.parquet"
        counts[table] = _write_parquet(reader.table(table, beside), path)
        files[path.name] = {"sha256": _sha256(path), "rows": counts[table]}
    return {
        "schema_version": SCHEMA_VERSION,
        "created_at": now.astimezone(UTC).isoformat(),
        "counts": counts,
        "time_range": reader.rows("SELECT min(started_at) AS first, max(ended_at) AS last FROM trajectories")[0],
        "files": files,
    }


def _write_parquet(batches: pa.RecordBatchReader, path: Path) -> int:
    """Write rows as a zstd Parquet file, and return how many."""
    from pyarrow.parquet import ParquetWriter  # megabytes, which a collector that writes no snapshot does without

    rows = 0
    with as_store_error("snapshot"), ParquetWriter(path, batches.schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += len(batch)
    return rows


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
