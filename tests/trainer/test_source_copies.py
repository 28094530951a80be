"""Copies of real stores and of what a real collector holds."""

from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from imitrace.exceptions import DatasetError
from imitrace.schema import TABLES
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer
from imitrace_trainer import source_copies
from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.curation import curate_stage
from imitrace_trainer.frames import gather
from imitrace_trainer.source_copies import COPIES, at_hand
from imitrace_trainer.sources import CollectorSource, SnapshotSource, Source, StoreSource

COHORT = CohortConfig(name="desk", agent="desk")
UNORDERED = "scores"  # some may be equal in all that they are ordered by


def copied(source: Source, home: Path) -> dict[str, pl.DataFrame]:
    with at_hand(source, home) as opened:
        assert opened.describe() == source.describe()
        return gather(opened.frames())


@pytest.fixture(scope="module")
def home(stored: Path) -> Path:
    return stored


@pytest.fixture(scope="module")
def snapshot(home: Path) -> SnapshotSource:
    (folder,) = (home / "snapshots").iterdir()
    return SnapshotSource(folder)


@pytest.mark.parametrize("at_once", [1, 3, 10_000])
def test_a_copy_of_a_store_is_what_a_snapshot_of_it_is_in_portions_of_any_size(
    home: Path, snapshot: SnapshotSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(source_copies, "_IDS_AT_ONCE", at_once)
    monkeypatch.setattr(source_copies, "_ROWS_AT_ONCE", at_once)
    wanted = gather(snapshot.frames())
    with at_hand(StoreSource(home / "traces.duckdb"), tmp_path) as opened:
        found = gather(opened.frames())
        (folder,) = (tmp_path / COPIES).glob(".new-*")
        groups = pq.ParquetFile(folder / "steps.parquet").num_row_groups
    for table in TABLES:
        assert_frame_equal(found[table], wanted[table], check_row_order=table != UNORDERED)
    assert groups == (1 if at_once == 10_000 else len(wanted["steps"]))


def test_a_version_is_the_same_from_a_snapshot_and_from_a_collector(
    home: Path, snapshot: SnapshotSource, tmp_path: Path
) -> None:
    (tmp_path / "traces.duckdb").write_bytes((home / "traces.duckdb").read_bytes())
    wanted = gather(snapshot.frames())
    with CollectorServer(CollectorConfig(home=tmp_path, http_port=0, grpc_port=0)) as running:
        for table, frame in copied(CollectorSource(running.http), tmp_path).items():
            assert_frame_equal(frame, wanted[table], check_row_order=table != UNORDERED)
        version = curate_stage(tmp_path, COHORT, running.http)
    assert version.hash == curate_stage(tmp_path / "other", COHORT, str(snapshot.path)).hash
    assert [*(tmp_path / COPIES).glob(".new-*")] == []


def test_a_snapshot_is_read_where_it_stands(snapshot: SnapshotSource, tmp_path: Path) -> None:
    with at_hand(snapshot, tmp_path) as opened:
        assert opened is snapshot
    assert [*tmp_path.iterdir()] == []


def test_a_store_of_older_form_is_copied_too(home: Path, snapshot: SnapshotSource, tmp_path: Path) -> None:
    path = tmp_path / "old.duckdb"
    with duckdb.connect(path) as connection:
        for table in TABLES:
            connection.execute(f"CREATE TABLE {table} AS FROM '{snapshot.path}/{table}.parquet' ORDER BY random()")
    found, wanted = copied(StoreSource(path), tmp_path), gather(snapshot.frames())
    for table in TABLES:
        assert_frame_equal(found[table], wanted[table], check_row_order=table != UNORDERED)


def test_a_copy_that_fails_is_named_and_leaves_nothing(home: Path, snapshot: SnapshotSource, tmp_path: Path) -> None:
    path = tmp_path / "x.duckdb"
    with duckdb.connect(path) as connection:
        for table in TABLES:
            connection.execute(f"CREATE TABLE {table} AS FROM '{snapshot.path}/{table}.parquet'")
        connection.execute("ALTER TABLE steps DROP policy_role")
    with pytest.raises(DatasetError, match="table steps: column 'policy_role' is missing, expected string"):
        copied(StoreSource(path), tmp_path)
    with duckdb.connect(path) as connection:
        connection.execute("DROP TABLE messages")
    with pytest.raises(DatasetError, match=r"store .*, table messages can't be read"):
        copied(StoreSource(path), tmp_path)
    assert [*(tmp_path / COPIES).glob(".new-*")] == []
    with pytest.raises(DatasetError, match=r"copy of store .* can't be written to .*copies"):
        copied(StoreSource(home / "traces.duckdb"), path)
