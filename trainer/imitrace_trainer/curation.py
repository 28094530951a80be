"""Make dataset versions from sources of traces, each with a page that shows what was kept and why not the rest."""

import secrets
from dataclasses import replace
from pathlib import Path

import polars as pl

from imitrace.exceptions import DatasetError
from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.correction_rows import kept, with_corrections
from imitrace_trainer.curate import curate, newest_scores
from imitrace_trainer.curation_page import render
from imitrace_trainer.datasets import Dataset, write_dataset
from imitrace_trainer.frames import gather
from imitrace_trainer.judged_rows import with_judged
from imitrace_trainer.progress import Progress, silent
from imitrace_trainer.queue_verdicts import read_reviews
from imitrace_trainer.source_copies import at_hand
from imitrace_trainer.sources import open_source
from imitrace_trainer.survey import Frames
from imitrace_trainer.tool_ledger import ToolRules, read_ledger


def curate_stage(home: Path, cohort: CohortConfig, source: str | None = None, progress: Progress = silent) -> Dataset:
    """Make a dataset version from what the source holds; an unchanged cohort gives the version that exists."""
    with at_hand(open_source(source, home), home, progress) as opened:
        return curate_frames(home, cohort, opened.frames(), opened.describe(), progress)


def curate_frames(
    home: Path, cohort: CohortConfig, frames: Frames, described: str, progress: Progress = silent
) -> Dataset:
    """Make a dataset version from the tables of a source that is open, named in a few words."""
    rules = read_ledger(home).rules(cohort.agent)
    curated = curate(frames, cohort, rules, progress)
    if cohort.reviewed:
        curated = with_judged(curated, read_reviews(home, cohort.agent), cohort, rules)
    if cohort.corrected:
        curated = with_corrections(curated, kept(home, cohort.name), cohort, rules)
    dataset = write_dataset(home, cohort, curated, described, progress)
    if dataset.created or not page_of(dataset).exists():
        write_page(dataset, frames, cohort, rules)
    # verdicts that change no row make no version, but whoever asks is told what became of them
    return replace(dataset, manifest={**dataset.manifest, "judged": curated.judged})


def page_of(dataset: Dataset) -> Path:
    """Return where a version's page stands: beside its folder, which never changes."""
    return dataset.path.with_name(f"{dataset.path.name}.html")


def write_page(dataset: Dataset, frames: Frames, cohort: CohortConfig, rules: ToolRules) -> None:
    """Write the page of a version.

    Args:
        dataset: the version.
        frames: the tables that it was made of, by name.
        cohort: what was asked for.
        rules: what was decided about the agent's tools.

    Raises:
        DatasetError: it can't be written.
    """
    own = frames["trajectories"].filter(pl.col("agent") == cohort.agent).select("trajectory_id")
    offered = frames["steps"].select("trajectory_id", "tools_hash").join(own, on="trajectory_id", how="semi")
    tools = frames["tools"].join(offered.select("tools_hash").unique(), on="tools_hash", how="semi")
    names = gather({"names": tools.select(pl.col("name").unique())})["names"]["name"]
    known = {rules.name_now(name) for name in names} - rules.deprecated
    scores = newest_scores(frames["scores"]).join(own, on="trajectory_id", how="semi")
    text, path = render(dataset, scores, known), page_of(dataset)
    aside = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        aside.write_text(text, encoding="utf-8")
        aside.rename(path)
    except OSError as error:
        raise DatasetError(f"page {path} can't be written: {error}") from error
    finally:
        aside.unlink(missing_ok=True)
