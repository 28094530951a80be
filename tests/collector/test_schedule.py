import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.exceptions import ConfigError
from imitrace_collector import compaction, otlp
from imitrace_collector.ingest import ingest
from imitrace_collector.periodic import Periodic
from imitrace_collector.retention import RetentionConfig
from imitrace_collector.schedule import Expirer, SnapshotSchedule, Upkeep, snapshots_of, upkeep_from
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LONG = 20.0
SOON, DAY = timedelta(milliseconds=5), timedelta(days=1)


class Clock:
    """Tell a time that is an hour later each time a snapshot has been written, and say when there were so many."""

    def __init__(self, turns: int) -> None:
        self.at = NOW
        self.over = threading.Event()
        self._turns = turns

    def __call__(self) -> datetime:
        return self.at

    def written(self) -> None:
        self.at += timedelta(hours=1)
        self._turns -= 1
        if not self._turns:
            self.over.set()


def after(periodic: Periodic, count: int) -> None:
    """Wait until so many turns are over."""
    for _ in range(int(LONG / 0.01)):
        if periodic.done + periodic.failed >= count:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{periodic.done} turns")


def counted(store: Store, home: Path, clock: Clock) -> Callable[[datetime], dict[str, Any]]:
    real = snapshots_of(store, home, lambda: None)

    def write(now: datetime) -> dict[str, Any]:
        written = real(now)
        clock.written()
        return written

    return write


def test_the_newest_of_its_own_stay_and_all_others(store: Store, tmp_path: Path) -> None:
    theirs = Path(snapshots_of(store, tmp_path, lambda: None)(NOW - DAY)["path"])
    clock = Clock(4)
    schedule = SnapshotSchedule(counted(store, tmp_path, clock), tmp_path, SOON, 2, clock)
    assert clock.over.wait(LONG)
    schedule.stop()
    last = clock.at - timedelta(hours=1)
    left = sorted(path.name[:9] + path.name[9:11] for path in theirs.parent.iterdir() if path.name[0] != ".")
    assert left == [theirs.name[:11], *(f"{at:%Y%m%dT%H}" for at in (last - timedelta(hours=1), last))]
    assert schedule.failed == 0


def test_it_goes_on_after_a_restart_when_the_next_is_due(store: Store, tmp_path: Path) -> None:
    clock = Clock(1)
    first = SnapshotSchedule(counted(store, tmp_path, clock), tmp_path, DAY, 2, clock)
    assert clock.over.wait(LONG)
    first.stop()
    clock = Clock(1)
    clock.at = NOW + timedelta(hours=3)
    second = SnapshotSchedule(counted(store, tmp_path, clock), tmp_path, DAY, 2, clock)
    assert timedelta(hours=20) < second._first <= timedelta(hours=21)
    second.stop()
    clock.at = NOW + 2 * DAY
    third = SnapshotSchedule(counted(store, tmp_path, clock), tmp_path, DAY, 2, clock)
    assert clock.over.wait(LONG)
    third.stop()
    assert len(json.loads((tmp_path / "snapshots" / ".scheduled.json").read_text())) == 2


@pytest.mark.parametrize("text", ["{", "[1]", '[{"name": "../../x"}]', '[{"name": "x", "at": "never"}]'])
def test_a_broken_list_of_its_own_deletes_nothing(store: Store, tmp_path: Path, text: str) -> None:
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / ".scheduled.json").write_text(text)
    (tmp_path / "x").mkdir()
    clock = Clock(1)
    schedule = SnapshotSchedule(counted(store, tmp_path, clock), tmp_path, DAY, 1, clock)
    assert clock.over.wait(LONG)
    schedule.stop()
    assert (tmp_path / "x").is_dir()


@pytest.mark.parametrize(("every", "keep"), [(timedelta(0), 1), (DAY, 0)])
def test_a_schedule_that_could_not_be_kept_is_refused(
    store: Store, tmp_path: Path, every: timedelta, keep: int
) -> None:
    with pytest.raises(ConfigError, match="can't be scheduled; allowed: both above 0"):
        SnapshotSchedule(snapshots_of(store, tmp_path, lambda: None), tmp_path, every, keep)


def test_what_is_old_expires_and_the_file_is_compacted(
    store: Store, export: MakeExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_LEAST_FREE", 0)
    old, new = (int((NOW - DAY * days).timestamp()) * 10**9 for days in (9, 1))
    ingest(store, [otlp.read(otlp.TRACES, export(f"old {number}"), old).batch for number in range(300)])
    ingest(store, [otlp.read(otlp.TRACES, export("new"), new).batch])
    store.checkpoint()
    before = store.path.stat().st_ino
    config = RetentionConfig(max_age=DAY * 5, every=DAY, compact_share=0.01)
    expirer = Expirer(store, config, lambda: NOW)
    after(expirer, 1)
    expirer.stop()
    assert expirer.failed == 0
    assert expirer.gone["desk"].trajectories == 300
    assert store.path.stat().st_ino != before
    with store.reader() as reader:
        assert reader.rows("SELECT trajectory_id AS id FROM trajectories") == [{"id": "new"}]


def test_upkeep_is_read_from_the_tables_below_the_collectors() -> None:
    upkeep = upkeep_from({"retention": {"max_age": "30d"}, "snapshots": {"every": "24h", "keep": 3}, "host": "::1"})
    assert upkeep.retention.max_age == timedelta(days=30)
    assert (upkeep.snapshots_every, upkeep.snapshots_kept) == (timedelta(days=1), 3)
    assert upkeep_from({}) == Upkeep()
    assert Upkeep().retention.limits_nothing


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"snapshots": {"often": 1}}, r"\[collector.snapshots\] has the key 'often', allowed: every, keep"),
        ({"snapshots": {"every": "24h", "keep": "all"}}, "keep is 'all', expected a whole number"),
        ({"snapshots": {"every": "24h", "keep": 0}}, "allowed: both above 0"),
        ({"snapshots": 7}, r"snapshots is 7, expected a table \[collector.snapshots\]"),
        ({"retention": {"max": "30d"}}, r"\[collector.retention\] has the key 'max'"),
    ],
)
def test_upkeep_that_can_not_be_read_is_refused(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        upkeep_from(table)
