"""Count a dataset's steps while they are written, as they are never held all at once."""

from collections import Counter
from collections.abc import Callable
from typing import Final

import polars as pl

from imitrace_trainer.cohort import SPLITS
from imitrace_trainer.progress import Progress
from imitrace_trainer.tool_migration import CHANGES, count_changes

CORRECTIONS: Final = "corrections"
"""Source of the trajectories that come of correcting a clone, not of recordings."""


class StepCounts:
    """Count the steps of each split, what became of their calls, and what handovers gave."""

    def __init__(self, trajectories: pl.DataFrame, progress: Progress) -> None:
        self._trajectories, self._progress = trajectories, progress
        self._steps: Counter[str] = Counter()
        self._trained: Counter[str] = Counter()
        self._changes: Counter[str] = Counter()
        self._handed: Counter[str] = Counter()
        self._led: str | None = None
        self._gained: str | None = None
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

    def handovers(self) -> dict[str, int]:
        """Return what recordings gained by a clone that acted and handed over, both 0 where none did.

        ``learnt``: decisions of others than the clone in the train split, to learn from, that stand behind one of the
        clone's own in the same trajectory. ``trajectories``: in how many of them. Corrections are not among them.
        """
        return {name: self._handed[name] for name in ("trajectories", "learnt")}

    def _add(self, steps: pl.DataFrame) -> None:
        self._changes.update(count_changes(steps))
        self._add_handed(steps)
        facts = steps.group_by("split").agg(pl.len(), pl.col("loss_mask").sum())
        for split, found, trained in facts.iter_rows():
            self._steps[split] += found
            self._trained[split] += trained
        self._done += len(steps)
        self._progress("write", min(1.0, self._done / self._total))

    def _add_handed(self, steps: pl.DataFrame) -> None:
        """Count what stands behind a clone's step; a portion may begin in the middle of a trajectory."""
        by_clone, name = pl.col("policy_role") == "clone", pl.col("trajectory_id")
        if steps.is_empty() or (self._led is None and not steps.select(by_clone.any()).item()):
            return
        behind = by_clone.cast(pl.Int8).cum_max().over("trajectory_id").cast(pl.Boolean)
        behind |= name.eq_missing(pl.lit(self._led, pl.String))
        marked = steps.select(name, "split", "loss_mask", by_clone.alias("own"), behind.alias("behind"))
        *_, led = marked.row(-1)
        self._led = marked["trajectory_id"][-1] if led else None
        recorded = self._trajectories.filter(pl.col("source").ne_missing(CORRECTIONS))
        learnt = (pl.col("split") == "train") & pl.col("loss_mask") & ~pl.col("own") & pl.col("behind")
        gained = marked.filter(learnt).join(recorded, on="trajectory_id", how="semi", maintain_order="left")
        if len(gained):
            again = gained["trajectory_id"][0] == self._gained
            self._handed.update(learnt=len(gained), trajectories=gained["trajectory_id"].n_unique() - again)
            self._gained = gained["trajectory_id"][-1]

    def _of(self, split: str) -> dict[str, int]:
        trajectories = self._trajectories.filter(pl.col("split") == split)
        return {
            "tasks": trajectories["task_key"].n_unique(),
            "trajectories": len(trajectories),
            "steps": self._steps[split],
            "trained_steps": self._trained[split],
        }
