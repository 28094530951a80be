"""Say whether the collector can take more, and why not."""

import shutil
import time
from collections.abc import Callable

from imitrace.exceptions import StoreError
from imitrace_collector.batcher import Batcher, Commit
from imitrace_collector.budget import Budget
from imitrace_collector.config import CollectorConfig
from imitrace_collector.rows import Batch

NEARLY_FULL = 0.9
"""Share of the queue's bytes above which a collector is not ready."""

FAILED_SECONDS = 10.0
"""Seconds that a failed commit counts; then traffic may try again, or nothing would ever mend it."""

_DISK_SECONDS = 1.0


class Health:
    """Watch the queue, the disk and the commits of one collector."""

    pending: Callable[[], int]
    """Returns how much waits to be derived; the server sets it."""

    def __init__(
        self,
        config: CollectorConfig,
        batcher: Batcher[Batch],
        budget: Budget,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pending = lambda: 0
        self._config = config
        self._batcher = batcher
        self._budget = budget
        self._clock = clock
        self._disk = (float("-inf"), 0)

    def disk_free(self) -> int:
        """Return the free bytes on the store's disk, at most a second old."""
        at, free = self._disk
        now = self._clock()
        if now - at > _DISK_SECONDS:
            folders = (self._config.home, *self._config.home.absolute().parents)
            free = shutil.disk_usage(next(folder for folder in folders if folder.exists())).free
            self._disk = (now, free)
        return free

    def check_disk(self) -> None:
        """Refuse to take more while the disk is nearly full.

        Raises:
            StoreError: fewer than ``min_free_bytes`` are free.
        """
        free = self.disk_free()
        if free < self._config.min_free_bytes:
            raise StoreError(
                f"the store's disk has {free} bytes free, at least {self._config.min_free_bytes} are needed; send again"
            )

    def troubles(self) -> list[str]:
        """Return why the collector is not ready, in words; an empty list when it is."""
        found = []
        last = self._batcher.last_commit
        if last is not None and last.error is not None and self._clock() - last.ended_at < FAILED_SECONDS:
            found.append("the last commit failed")
        if self.disk_free() < self._config.min_free_bytes:
            found.append("the disk is nearly full")
        if self._held() > NEARLY_FULL * self._config.queue_bytes:
            found.append("the queue is nearly full")
        return found

    def figures(self) -> dict[str, float | None]:
        """Return the figures of this moment by name; None where there is none yet."""
        last = self._batcher.last_commit
        return {
            "queue_bytes": self._held(),
            "queue_depth": self._batcher.depth,
            "disk_free_bytes": self.disk_free(),
            "store_bytes": self._store_bytes(),
            "seconds_since_commit": None if last is None else self._since(last),
            "pending_derivation": self.pending(),
        }

    def _held(self) -> int:
        return max(self._budget.held, self._batcher.bytes)

    def _since(self, commit: Commit) -> float:
        return round(self._clock() - commit.ended_at, 3)

    def _store_bytes(self) -> int:
        store = self._config.store
        files = (store, store.with_name(store.name + ".wal"))
        return sum(file.stat().st_size for file in files if file.exists())
