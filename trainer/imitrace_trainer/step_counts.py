"""Count a dataset's steps while they are written, as they are never held all at once."""

from collections import Counter
from collections.abc import Callable

import polars as pl

from imitrace_trainer.cohort import SPLITS
from imitrace_trainer.progress import Progress
from imitrace_trainer.tool_migration import CHANGES, count_changes


class StepCounts:
    """Count the steps of each split, and what became of their calls."""

    def __init__(self, trajectories: pl.DataFrame, progress: Progress) -> None:
        self._trajectories, self._progress = trajectories, progress
        self._steps: Counter[str] = Counter()
        self._trained: Counter[str] = Counter()
        self._changes: Counter[str] = Counter()
        self._done, self._total = 0, max(1, int(trajectories["step_count"].sum()))

    def watch(self, table: str) -> Callable[[pl.DataFrame], None] | None:
        """Return what is to be shown the portions of a table."""
        return self._add if table == "steps" else None

    def counts(self) -> dict[str, dict[str, int]]:
        """Return by split how many of what it has."""
        return {split: self._of(split) for split in SPLITS}

    def changes(self) -> dict[str, int]:
        """Return how many steps each of ``CHANGES`` befell."""
        return {change: self._changes[change] for change in CHANGES if change in self._changes}

    def _add(self, steps: pl.DataFrame) -> None:
        self._changes.update(count_changes(steps))
        facts = steps.group_by("split").agg(pl.len(), pl.col("loss_mask").sum())
        for split, found, trained in facts.iter_rows():
            self._steps[split] += found
            self._trained[split] += trained
        self._done += len(steps)
        self._progress("write", min(1.0, self._done / self._total))

    def _of(self, split: str) -> dict[str, int]:
        trajectories = self._trajectories.filter(pl.col("split") == split)
        return {
            "tasks": trajectories["task_key"].n_unique(),
            "trajectories": len(trajectories),
            "steps": self._steps[split],
            "trained_steps": self._trained[split],
        }
