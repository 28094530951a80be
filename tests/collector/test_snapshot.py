import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.schema import SCHEMA_VERSION, TABLES
from imitrace_collector import otlp
from imitrace_collector.derived_tables import arrow_schema, as_arrow
from imitrace_collector.ingest import ingest
from imitrace_collector.snapshot import write_snapshot
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]
NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def test_a_snapshot_is_five_files_and_a_manifest_that_fits_them(
    store: Store, export: MakeExport, tmp_path: Path
) -> None:
    ingest(store, [otlp.read(otlp.TRACES, export(), 0).batch])
    written = write_snapshot(store, tmp_path, NOON)
    folder = Path(written["path"])
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest == written["manifest"]
    assert (manifest["schema_version"], manifest["created_at"]) == (SCHEMA_VERSION, "2026-01-02T12:00:00+00:00")
    assert manifest["counts"] == {"trajectories": 1, "steps": 2, "messages": 4, "tools": 1, "scores": 1}
    assert manifest["time_range"] == {"first": 946684800000000000, "last": 946684802000000000}
    for name, told in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == told["sha256"]
        assert (
            pl.read_parquet(folder / name).height == told["rows"] == manifest["counts"][name.removesuffix(".parquet")]
        )


@pytest.mark.parametrize("table", TABLES)
def test_its_columns_are_those_of_the_contract(store: Store, tmp_path: Path, table: str) -> None:
    folder = Path(write_snapshot(store, tmp_path, NOON)["path"])
    found = pq.read_schema(folder / f"{table}.parquet")
    expected = arrow_schema(table)
    assert found.names == expected.names
    kinds = [(field.type.value_type if table == "steps" and field.name == "state" else field.type) for field in found]
    assert kinds == [field.type.value_type if field.name == "state" else field.type for field in expected]


def test_it_is_named_by_time_and_content_and_never_half_there(store: Store, tmp_path: Path) -> None:
    first = Path(write_snapshot(store, tmp_path, NOON)["path"])
    second = Path(write_snapshot(store, tmp_path, NOON + timedelta(seconds=1))["path"])
    assert first.name.startswith("20260102T120000000000Z-")
    assert first.name.rpartition("-")[2] == second.name.rpartition("-")[2]
    assert sorted(path.name for path in (tmp_path / "snapshots").iterdir()) == sorted([first.name, second.name])


def test_what_is_made_in_memory_has_a_bound(store: Store, tmp_path: Path) -> None:
    with store.session() as session, session.transaction():
        rows = [{"trajectory_id": "t1", "step_index": number, "name": "s", "scored_at": 0} for number in range(10_000)]
        session.derived.insert("scores", as_arrow("scores", [dict.fromkeys(TABLES["scores"]) | row for row in rows]))
    written = pq.read_metadata(Path(write_snapshot(store, tmp_path, NOON)["path"]) / "scores.parquet")
    assert [written.row_group(number).num_rows for number in range(written.num_row_groups)] == [8192, 1808]


def test_what_failed_leaves_no_folder(store: Store, tmp_path: Path) -> None:
    write_snapshot(store, tmp_path, NOON)
    with pytest.raises(OSError, match="not empty"):
        write_snapshot(store, tmp_path, NOON)
    assert len(list((tmp_path / "snapshots").iterdir())) == 1
