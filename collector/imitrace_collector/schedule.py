"""Write snapshots, let items expire and compact, unasked, beside a running collector."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from imitrace.exceptions import ConfigError
from imitrace_collector.amounts import age
from imitrace_collector.compaction import compact, worth_compacting
from imitrace_collector.periodic import Periodic
from imitrace_collector.retention import Gone, RetentionConfig, expire, retention_from
from imitrace_collector.snapshot import SNAPSHOTS, write_snapshot
from imitrace_collector.store import Store

SCHEDULED = ".scheduled.json"
"""In the folder of snapshots: which of them the schedule made, oldest first; no others are ever deleted."""

UPKEEP_TABLES = ("retention", "snapshots")
"""Tables of ``imitrace.toml`` below ``[collector]`` that ``upkeep_from`` reads."""

_GOING = ".deleted"

Now = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


class Expirer(Periodic):
    """Let items expire every so often, and compact the file where much of it is free."""

    def __init__(self, store: Store, config: RetentionConfig, now: Now = utc_now) -> None:
        """Start the thread; the first time is at once."""
        self.gone: dict[str, Gone] = {}
        """What expired the last time, by agent."""
        self._store = store
        self._config = config
        self._now = now
        super().__init__("expiry", config.every, self._expire, first=timedelta(0))

    def _expire(self) -> None:
        self.gone = expire(self._store, self._config, int(self._now().timestamp()) * 10**9)
        if self._config.compact_share < 1 and worth_compacting(self._store, self._config.compact_share):
            compact(self._store)


class SnapshotSchedule(Periodic):
    """Write a snapshot every so often, and keep the newest of those that it made itself, also over restarts."""

    def __init__(
        self,
        write: Callable[[datetime], dict[str, Any]],
        home: Path,
        every: timedelta,
        keep: int,
        now: Now = utc_now,
    ) -> None:
        """Start the thread; the first time is ``every`` after the last snapshot that it made, or at once.

        Args:
            write: makes a snapshot and returns what ``write_snapshot`` does.
            home: the workspace folder.
            every: how often.
            keep: how many of its own stay.
            now: the time.

        Raises:
            ConfigError: ``every`` or ``keep`` is not above 0.
        """
        if every <= timedelta(0) or keep < 1:
            raise ConfigError(f"snapshots every {every}, keeping {keep}, can't be scheduled; allowed: both above 0")
        self._write = write
        self._folder = home / SNAPSHOTS
        self._keep = keep
        self._now = now
        made = self._made()
        due = _time(made[-1]["at"]) + every if made else now()
        super().__init__("snapshot", every, self._turn, first=min(every, due - now()))

    def _turn(self) -> None:
        now = self._now()
        written = Path(self._write(now)["path"])
        made = [*self._made(), {"name": written.name, "at": now.isoformat()}]
        self._remember(made)  # before anything is deleted, so that nothing it made is ever forgotten
        for old in made[: -self._keep]:
            self._delete(old["name"])
        self._remember(made[-self._keep :])

    def _delete(self, name: str) -> None:
        """Delete a snapshot; nobody sees half of one, and what a crash left of one goes too."""
        if (self._folder / name).exists():
            (self._folder / name).rename(self._folder / f".{name}{_GOING}")
        for going in self._folder.glob(f".*{_GOING}"):
            shutil.rmtree(going, ignore_errors=True)

    def _made(self) -> list[dict[str, str]]:
        try:
            found = json.loads((self._folder / SCHEDULED).read_text(encoding="utf-8"))
            return [{"name": Path(one["name"]).name, "at": _time(one["at"]).isoformat()} for one in found]
        except (OSError, ValueError, TypeError, KeyError):
            return []

    def _remember(self, made: list[dict[str, str]]) -> None:
        aside = self._folder / f"{SCHEDULED}.new"
        aside.write_text(json.dumps(made) + "\n", encoding="utf-8")
        aside.replace(self._folder / SCHEDULED)


@dataclass(frozen=True, kw_only=True)
class Upkeep:
    """What a running collector does unasked."""

    retention: RetentionConfig = field(default_factory=RetentionConfig)
    """What it lets go of; by default nothing."""

    snapshots_every: timedelta | None = None
    """How often it writes a snapshot; None never does."""

    snapshots_kept: int = 7
    """How many of its own snapshots stay."""

    def __post_init__(self) -> None:
        """Check what can be checked before anything is started.

        Raises:
            ConfigError: a value is not above 0.
        """
        if self.snapshots_kept < 1 or (self.snapshots_every is not None and self.snapshots_every <= timedelta(0)):
            raise ConfigError(
                f"[collector.snapshots] says every {self.snapshots_every}, keep {self.snapshots_kept}; "
                "allowed: both above 0"
            )

    def start(self, store: Store, home: Path, catch_up: Callable[[], object]) -> list[Periodic]:
        """Start the threads that this asks for.

        Args:
            store: of the running collector.
            home: its workspace folder.
            catch_up: returns once everything acknowledged is derived.
        """
        started: list[Periodic] = []
        if not self.retention.limits_nothing:
            started.append(Expirer(store, self.retention))
        if self.snapshots_every is not None:
            write = snapshots_of(store, home, catch_up)
            started.append(SnapshotSchedule(write, home, self.snapshots_every, self.snapshots_kept))
        return started


def upkeep_from(collector: Mapping[str, Any]) -> Upkeep:
    """Return what ``[collector.retention]`` and ``[collector.snapshots]`` ask for.

    Args:
        collector: the ``[collector]`` table.

    Raises:
        ConfigError: a key is unknown, or a value can't be read.
    """
    retention, snapshots = (collector.get(name, {}) for name in UPKEEP_TABLES)
    for name, table in zip(UPKEEP_TABLES, (retention, snapshots), strict=True):
        if not isinstance(table, Mapping):
            raise ConfigError(f"[collector] {name} is {table!r}, expected a table [collector.{name}]")
    for key in snapshots:
        if key not in ("every", "keep"):
            raise ConfigError(f"[collector.snapshots] has the key {key!r}, allowed: every, keep")
    keep = snapshots.get("keep", 7)
    if isinstance(keep, bool) or not isinstance(keep, int):
        raise ConfigError(f"[collector.snapshots] keep is {keep!r}, expected a whole number")
    every = age(str(snapshots["every"])) if "every" in snapshots else None
    return Upkeep(retention=retention_from(retention), snapshots_every=every, snapshots_kept=keep)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def snapshots_of(store: Store, home: Path, catch_up: Callable[[], object]) -> Callable[[datetime], dict[str, Any]]:
    """Return what writes a running collector's snapshots, once everything acknowledged is derived."""

    def write(now: datetime) -> dict[str, Any]:
        catch_up()
        return write_snapshot(store, home, now)

    return write
