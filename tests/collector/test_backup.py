import json
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.exceptions import StoreError
from imitrace_collector import backup as backups
from imitrace_collector import otlp
from imitrace_collector.backup import restore, write_backup
from imitrace_collector.derive import derive_all
from imitrace_collector.ingest import Writer, ingest
from imitrace_collector.rows import Batch
from imitrace_collector.store import Store
from imitrace_collector.store_files import StoreHeldError

MakeExport = Callable[..., ExportTraceServiceRequest]
Beside = Callable[..., AbstractContextManager[None]]
Contents = Callable[[Store], dict[str, list[str]]]
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LONG = 60.0


def batch(export: MakeExport, name: str) -> Batch:
    return otlp.read(otlp.TRACES, export(name), 0).batch


@pytest.fixture
def backup(tmp_path: Path, export: MakeExport) -> Path:
    """A backup of one trajectory."""
    with Store.open(tmp_path / "origin" / "s.duckdb") as store:
        ingest(store, [batch(export, "t1")])
        return Path(write_backup(store, tmp_path / "backups", NOW)["path"])


def test_the_drill(tmp_path: Path, export: MakeExport, contents: Contents, beside: Beside) -> None:
    """Back up while ingest goes on, destroy the store, restore, and go on with what the backup had."""
    path = tmp_path / "home" / "traces.duckdb"
    acknowledged: list[str] = []
    begun = threading.Event()
    with Store.open(path) as store, store.session() as session:
        writer = Writer(session)

        def write() -> None:
            writer.write([batch(export, f"t{len(acknowledged)}")])
            derive_all(session)
            acknowledged.append(f"t{len(acknowledged)}")
            if len(acknowledged) == 5:
                begun.set()

        with beside(write):
            assert begun.wait(LONG)
            before = len(acknowledged)
            written = write_backup(store, tmp_path / "backups", NOW)
            after = len(acknowledged)

    with Store.open(Path(written["path"]) / "traces.duckdb", read_only=True) as copy:
        expected = contents(copy)
    assert 3 * before <= len(expected["spans"]) <= 3 * (after + 1)
    assert {table: len(rows) for table, rows in expected.items()} == written["manifest"]["counts"]

    path.write_bytes(b"destroyed")
    path.with_name("traces.duckdb.wal").write_bytes(b"destroyed too")
    done = restore(Path(written["path"]), path, NOW, force=True)
    assert done["counts"] == written["manifest"]["counts"]
    assert Path(done["kept"]).read_bytes() == b"destroyed"
    with Store.open(path) as store:
        assert contents(store) == expected
        again = ingest(store, [batch(export, name) for name in acknowledged])
        assert again.spans == 3 * len(acknowledged) - len(expected["spans"])
        assert ingest(store, [batch(export, "new")]).spans == 3
        assert len(contents(store)["trajectories"]) == len(acknowledged) + 1


def test_a_backup_is_a_folder_named_by_its_time(backup: Path) -> None:
    assert backup.name == "20261121T120000000000Z"
    assert sorted(path.name for path in backup.iterdir()) == ["manifest.json", "traces.duckdb"]
    assert [path.name for path in backup.parent.iterdir()] == [backup.name]
    manifest = json.loads((backup / "manifest.json").read_text())
    assert (manifest["created_at"], manifest["counts"]["spans"]) == ("2026-11-21T12:00:00+00:00", 3)


def test_a_store_that_is_there_stays_unless_forced(backup: Path, tmp_path: Path, export: MakeExport) -> None:
    path = tmp_path / "home" / "s.duckdb"
    with Store.open(path) as store:
        ingest(store, [batch(export, "mine"), batch(export, "mine too")])
    with pytest.raises(StoreError, match=r"there is a store at .*; name another --home, or say --force"):
        restore(backup, path, NOW)
    kept = restore(backup, path, NOW, force=True)["kept"]
    with Store.open(Path(kept), read_only=True) as store, store.reader() as reader:
        assert reader.rows("SELECT count(*) AS n FROM trajectories") == [{"n": 2}]
    with Store.open(path, read_only=True) as store, store.reader() as reader:
        assert reader.rows("SELECT trajectory_id AS id FROM trajectories") == [{"id": "t1"}]


def test_a_store_that_a_process_holds_stays(backup: Path, tmp_path: Path) -> None:
    path = tmp_path / "home" / "s.duckdb"
    Store.open(path).close()
    script = f"import duckdb; c = duckdb.connect({str(path)!r}); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StoreHeldError, match=f"held by process {holder.pid}"):
            restore(backup, path, NOW, force=True)
        holder.communicate(b"\n")
    assert [left.name for left in path.parent.iterdir()] == [path.name]


def test_a_damaged_backup_is_refused(backup: Path, tmp_path: Path) -> None:
    copy = backup / "traces.duckdb"
    damaged = bytearray(copy.read_bytes())
    damaged[-1] ^= 1
    copy.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"has SHA-256 .*, its manifest .*; take another backup"):
        restore(backup, tmp_path / "home" / "s.duckdb", NOW)
    assert list((tmp_path / "home").iterdir()) == []


def test_a_backup_with_other_rows_than_it_says_is_refused(backup: Path, tmp_path: Path) -> None:
    manifest = json.loads((backup / "manifest.json").read_text())
    manifest["counts"]["spans"] = 4
    (backup / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=r"its manifest says .*'spans': 4"):
        restore(backup, tmp_path / "s.duckdb", NOW)


@pytest.mark.parametrize("text", [None, "{", "[]", "{}", '{"bytes": 1, "counts": 1}', "[" * 10_000])
def test_what_is_no_backup_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(StoreError, match="is not a backup"):
        restore(tmp_path, tmp_path / "home" / "s.duckdb", NOW)


def test_a_backup_that_fails_leaves_nothing(
    tmp_path: Path, store: Store, export: MakeExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    ingest(store, [batch(export, "t1")])
    monkeypatch.setattr(backups, "put_in_place", full)
    with pytest.raises(StoreError, match="can't be written: No space left on device; name another folder"):
        write_backup(store, tmp_path / "backups", NOW)
    assert list((tmp_path / "backups").iterdir()) == []


def test_two_backups_of_one_moment_are_not_mixed(tmp_path: Path, store: Store) -> None:
    write_backup(store, tmp_path / "backups", NOW)
    with pytest.raises(StoreError, match="can't be written"):
        write_backup(store, tmp_path / "backups", NOW)
    assert len(list((tmp_path / "backups").iterdir())) == 1
