"""Make dataset versions from sources of traces: what `imitrace curate` does, without what training needs."""

from pathlib import Path

from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.curate import curate
from imitrace_trainer.datasets import Dataset, write_dataset
from imitrace_trainer.frames import open_source
from imitrace_trainer.progress import Progress, silent


def curate_stage(home: Path, cohort: CohortConfig, source: str | None = None, progress: Progress = silent) -> Dataset:
    """Make a dataset version from what the source holds; an unchanged cohort gives the version that exists."""
    opened = open_source(source, home)
    curated = curate(opened.frames(), cohort, progress)
    return write_dataset(home, cohort, curated, opened.describe(), progress)
