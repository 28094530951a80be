"""Say how far a dataset's kinds of task are from a gate that can decide, and warn where a cohort lets too much in."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from imitrace.exceptions import DatasetError
from imitrace_trainer.cohort import SPLITS
from imitrace_trainer.datasets import Dataset
from imitrace_trainer.frames import gather
from imitrace_trainer.intervals import cases_needed

NO_KIND: Final = "(none)"
_FEW: Final = 30
"""Tasks in a split below which what is measured on it says little."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How many tasks of one kind there are, and how many more a decidable gate needs."""

    kind: str
    """A value of the tag; NO_KIND for tasks without it."""
    tasks: Mapping[str, int]
    """By split."""
    needed: int
    """Gate tasks with which an equal clone passes by the asked power."""
    missing: int
    """Tasks to record, of which the gate gets its share; 0: it can be decided."""

    def __str__(self) -> str:
        told = "enough" if not self.missing else f"{self.missing} more tasks for a decidable gate"
        return f"{self.kind}: {self.tasks['gate']} gate tasks, needed {self.needed}: {told}"


@dataclass(frozen=True, kw_only=True)
class CoverageConfig:
    """What the gate will ask."""

    tag: str = "cohort"
    """Whose values are judged apart."""
    margin: float = 0.02
    """How much worse than the expert a clone may be."""
    disagreement: float = 0.05
    """Share of tasks that exactly one of clone and expert is expected to do right."""
    confidence: float = 0.95
    """Of the gate's one-sided bound."""
    power: float = 0.8
    """Chance that an equal clone passes."""


def coverage(dataset: Dataset, config: CoverageConfig) -> list[Coverage]:
    """Return the coverage of each kind of task, the most lacking first.

    Raises:
        DatasetError: a file is broken, or the cohort leaves the gate no share.
    """
    share = float(dataset.manifest["cohort"]["split"]["gate"])
    if share <= 0:
        raise DatasetError(f"dataset {dataset.name} has no gate split, set cohort.{dataset.name}.split.gate over 0")
    tables = gather({"tasks": dataset.frame("trajectories").select("task_key", "split", "tags").unique()})
    seen: dict[str, dict[str, set[str]]] = {}
    for task, split, tags in tables["tasks"].iter_rows():
        kind = str(json.loads(tags).get(config.tag, NO_KIND))
        seen.setdefault(kind, {name: set() for name in SPLITS})[split].add(task)
    needed = tasks_needed(config)
    found = []
    for kind, splits in seen.items():
        tasks = {split: len(splits[split]) for split in SPLITS}
        missing = math.ceil(max(0, needed - tasks["gate"]) / share)
        found.append(Coverage(kind=kind, tasks=tasks, needed=needed, missing=missing))
    return sorted(found, key=lambda each: (-each.missing, each.kind))


def tasks_needed(config: CoverageConfig) -> int:
    """Return with how many tasks an equal clone passes the gate with the asked power."""
    return cases_needed(config.margin, config.disagreement, config.confidence, config.power)


def warnings(dataset: Dataset) -> list[str]:
    """Return what speaks for a cohort that is filtered too loosely, or too small to say much, in plain words.

    Raises:
        DatasetError: a file is broken.
    """
    cohort, name = dataset.manifest["cohort"], dataset.name
    kept = gather({"kept": dataset.frame("trajectories").select("outcome", "relabelled_by")})["kept"]
    told = []
    if not cohort["where"]:
        told.append(f"no score is asked for, so good and bad are learnt alike: set cohort.{name}.where")
    elif not dataset.manifest["rejected"].get("scores"):
        told.append(f"cohort.{name}.where ({', '.join(cohort['where'])}) rejects nothing: is it too loose?")
    whole = pl.col("relabelled_by").is_null()  # of the others only what a success proves right is learnt
    failed = len(kept.filter(pl.col("outcome").is_in(["failure", "abandoned"]) & whole))
    if failed:
        told.append(
            f"{failed} of {len(kept)} kept trajectories ended in failure or were abandoned: "
            f"`imitrace datasets harm {name}` measures what they do"
        )
    if "synthetic" in cohort["roles"]:
        told.append("synthetic steps are learnt from; nobody decided like this")
    for split in ("calibration", "gate"):
        tasks = dataset.manifest["splits"][split]["tasks"]
        if tasks < _FEW:
            told.append(f"split {split} has {tasks} tasks, with fewer than {_FEW} what is measured on it says little")
    return told
