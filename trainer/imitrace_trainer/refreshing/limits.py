"""Stop a run that takes longer, or would learn from more, than its schedule allows."""

import time
from dataclasses import dataclass, field

from imitrace.exceptions import BudgetError
from imitrace_trainer.datasets import Dataset
from imitrace_trainer.progress import Progress
from imitrace_trainer.refreshing.config import ScheduleConfig


@dataclass(frozen=True)
class Limits:
    """What one run may take at most; a limit of 0 is none."""

    minutes: float = 0.0
    rows: int = 0
    calls: int = 0
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, schedule: ScheduleConfig | None) -> "Limits":
        """Return the limits of a schedule, none without one; the clock runs from now on."""
        if schedule is None:
            return cls()
        return cls(schedule.most_minutes, schedule.most_rows, schedule.expert_calls)

    @property
    def expert_calls(self) -> int | None:
        """Return how often a gate may ask the expert, None for any number."""
        return self.calls or None

    def watching(self, progress: Progress) -> Progress:
        """Return a progress that stops the work when its time is over."""

        def shown(stage: str, share: float) -> None:
            progress(stage, share)
            self.check_time()

        return shown

    def check_time(self) -> None:
        """Refuse to go on when the time is over.

        Raises:
            BudgetError: it is.
        """
        if self.minutes and time.monotonic() - self.began > 60 * self.minutes:
            raise BudgetError(f"most_minutes is {self.minutes:g} and over; the next run goes on where this one stopped")

    def check_rows(self, dataset: Dataset) -> None:
        """Refuse to train on more decisions than it may.

        Raises:
            BudgetError: the dataset has more.
        """
        rows = len(dataset.tables("train")["steps"])
        if self.rows and rows > self.rows:
            raise BudgetError(
                f"dataset {dataset.name} v{dataset.version} has {rows} decisions to train on, most_rows is "
                f"{self.rows}; raise it, or narrow the cohort by 'since' or 'caps'"
            )
