"""Keep curated cohorts as immutable, content-addressed versions: ``datasets/NAME/vN`` in the workspace."""

import importlib.metadata
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import polars as pl

from imitrace.canonical import content_hash
from imitrace.exceptions import DatasetError
from imitrace.messages import Action, Message
from imitrace.schema import MESSAGES, SCHEMA_VERSION, STEPS, TOOLS, TRAJECTORIES
from imitrace_trainer.clues import forbidden_steps
from imitrace_trainer.cohort import SPLITS, CohortConfig
from imitrace_trainer.curate import Curated
from imitrace_trainer.drafts import draft, locked
from imitrace_trainer.failures import FAILED
from imitrace_trainer.frames import empty, gather, read_manifest, scan_tables
from imitrace_trainer.portions import write_table
from imitrace_trainer.progress import Progress, silent
from imitrace_trainer.rules import RULES
from imitrace_trainer.step_counts import StepCounts

DATASET_TABLES: Final[dict[str, dict[str, str]]] = {
    "trajectories": {
        **TRAJECTORIES,
        "task_key": "string",
        "split": "string",
        "scores": "string",
        "relabelled_from": "string?",
        "relabelled_by": "string?",
    },
    "steps": {
        **STEPS,
        "task": "string",
        "tags": "string",
        "outcome": "string?",
        "split": "string",
        "loss_mask": "bool",
        "mask_reason": "string?",
        "weight": "float64",
        "tool_change": "string?",
    },
    "rejected": {"trajectory_id": "string", "task": "string?", "rule": "string", "reason": "string"},
    "messages": MESSAGES,
    "tools": TOOLS,
}
"""The columns of a dataset's Parquet files, in the types of ``schema.py``."""
FAILURES: Final = "failures"
"""The file of failures that are kept for the critic, with the columns of steps; absent where there are none."""

_LONG_STEPS: Final = ("state", "action_arguments", "action_message", "observation")
_LONG: Final = {"steps": _LONG_STEPS, "failures": _LONG_STEPS, "messages": ("content",)}
_VERSION = re.compile(r"v([1-9][0-9]*)")


@dataclass(frozen=True)
class Example:
    """One decision to learn from: what was seen, what was done, and where it comes from."""

    trajectory_id: str
    step_index: int
    decision: str
    task: str
    tags: dict[str, str]
    split: str
    state: list[Message]
    """The messages before the decision; one object per message_id in the whole dataset."""
    message_ids: list[str]
    tools: list[dict[str, Any]]  # JSON schemas
    """The tools offered, as definitions; one object per tools_hash in the whole dataset."""
    action: Action
    policy_role: str
    loss_mask: bool
    """False: context only, not to be trained on."""
    outcome: str | None
    weight: float = 1.0
    """How often it counts in training, by the mean; beyond the train split always 1."""


@dataclass(frozen=True)
class Dataset:
    """One version of a dataset."""

    name: str
    version: int
    path: Path
    manifest: dict[str, Any]  # JSON
    created: bool = False
    """True when ``write_dataset`` made it just now."""

    @property
    def hash(self) -> str:
        """Name the content: cohort and rows."""
        return str(self.manifest["hash"])

    def examples(self, split: str | None = None) -> list[Example]:
        """Return the steps as examples, by trajectory's start and step; failures for the critic are not among them.

        Args:
            split: ``train``, ``calibration`` or ``gate``; None for all.

        Raises:
            DatasetError: there is no such split, or a file is broken.
        """
        return [self._example(step) for step in self._of("steps", split).iter_rows(named=True)]

    def examples_of(self, splits: Iterable[str]) -> list[Example]:
        """Return the steps of several splits, one after the other.

        Raises:
            DatasetError: as ``examples``.
        """
        return [example for split in splits for example in self.examples(split)]

    def failures(self, split: str) -> list[Example]:
        """Return the steps that are kept for the critic alone, none of them to be trained on.

        Raises:
            DatasetError: a file is broken.
        """
        own = (pl.col("split") == split) & (pl.col("mask_reason") == FAILED)
        steps = gather({FAILURES: self.frame(FAILURES).filter(own)})[FAILURES]
        return [self._example(step) for step in steps.iter_rows(named=True)]

    def tasks(self, split: str | None = None) -> set[str]:
        """Return the tasks of a split.

        Raises:
            DatasetError: there is no such split, or a file is broken.
        """
        return set(self._of("trajectories", split)["task_key"])

    def tables(self, split: str | None = None) -> dict[str, pl.DataFrame]:
        """Return the tables by name, of trajectories and steps those of a split.

        Raises:
            DatasetError: there is no such split, or a file is broken.
        """
        return self._tables | {table: self._of(table, split) for table in ("trajectories", "steps")}

    def frame(self, table: str) -> pl.LazyFrame:
        """Return a table of ``DATASET_TABLES``, or ``FAILURES``, as a plan by trajectory; nothing is read yet.

        Raises:
            DatasetError: the file is broken.
        """
        columns, counts = DATASET_TABLES["steps" if table == FAILURES else table], self.manifest["counts"]
        if table == FAILURES and table not in counts:
            return empty(columns).lazy()
        return scan_tables(self.path, {table: columns}, counts)[table]

    def rejected_counts(self) -> dict[str, int]:
        """Return how many trajectories each rule rejected, in the order of the rules."""
        return dict(self.manifest["rejected"])

    def _of(self, table: str, split: str | None) -> pl.DataFrame:
        if split is None:
            return self._tables[table]
        if split not in SPLITS:
            raise DatasetError(f"dataset {self.name} has no split {split!r}, expected one of {', '.join(SPLITS)}")
        return self._tables[table].filter(pl.col("split") == split)

    def _example(self, step: Mapping[str, Any]) -> Example:  # a row of steps.parquet
        arguments = step["action_arguments"]
        return Example(
            trajectory_id=step["trajectory_id"],
            step_index=step["step_index"],
            decision=step["decision"],
            task=step["task"],
            tags=json.loads(step["tags"]),
            split=step["split"],
            state=[self._messages[message_id] for message_id in step["state"]],
            message_ids=[self._ids[message_id] for message_id in step["state"]],
            tools=self._tools.setdefault(step["tools_hash"], []),
            action=Action(
                kind=step["action_kind"],
                name=step["action_name"],
                arguments=json.loads(arguments) if arguments else {},
                message=step["action_message"],
                call_id=step["call_id"],
            ),
            policy_role=step["policy_role"],
            loss_mask=step["loss_mask"],
            outcome=step["outcome"],
            weight=step["weight"],
        )

    @cached_property
    def _tables(self) -> dict[str, pl.DataFrame]:
        tables = gather(scan_tables(self.path, DATASET_TABLES, self.manifest["counts"]))
        order = tables["trajectories"].select("trajectory_id")  # by start; the file of the steps is by trajectory
        tables["steps"] = order.join(tables["steps"], on="trajectory_id", how="inner", maintain_order="left_right")
        return tables

    @cached_property
    def _messages(self) -> dict[str, Message]:
        rows = self._tables["messages"].select("message_id", "content").iter_rows()
        return {message_id: json.loads(content) for message_id, content in rows}

    @cached_property
    def _ids(self) -> dict[str, str]:
        """Each message's id, so that examples share it: of long trajectories they would be most of the memory."""
        return {message_id: message_id for message_id in self._messages}

    @cached_property
    def _tools(self) -> dict[str | None, list[dict[str, Any]]]:  # JSON schemas
        tools: dict[str | None, list[dict[str, Any]]] = {}
        for tools_hash, definition in self._tables["tools"].select("tools_hash", "definition").iter_rows():
            tools.setdefault(tools_hash, []).append(json.loads(definition))
        return tools


def write_dataset(
    home: Path, cohort: CohortConfig, curated: Curated, source_description: str, progress: Progress = silent
) -> Dataset:
    """Write the next version of the cohort's dataset, unless the newest one is the same.

    Args:
        home: the workspace folder.
        cohort: what was asked for; its name is the dataset's.
        curated: what ``curate`` made of it; its plans are run, a portion at a time.
        source_description: where the traces came from, for the manifest.
        progress: is told how far it is.

    Returns:
        The new version, ``created``; or the newest one when its content is the same.

    Raises:
        DatasetError: the folder can't be written.
    """
    said = {"cohort": _asked(cohort), "spec": _spec(cohort), "source": source_description}
    return write_version(home, cohort.name, curated, said, progress)


def write_version(
    home: Path, name: str, curated: Curated, said: Mapping[str, Any], progress: Progress = silent
) -> Dataset:  # JSON
    """Write the next version of a dataset, unless the newest one is the same.

    Args:
        home: the workspace folder.
        name: the dataset's.
        curated: its rows.
        said: more for the manifest, of which ``spec``, what was asked for, is part of the version's hash.
        progress: is told how far it is.

    Raises:
        DatasetError: the folder can't be written.
    """
    folder = home / "datasets" / name
    try:
        with draft(home / "datasets") as aside:
            manifest = {"name": name} | _manifest(curated, said, _write_tables(aside, curated, progress))
            text = json.dumps(manifest, indent=2, ensure_ascii=False)
            (aside / "manifest.json").write_text(text + "\n", encoding="utf-8")
            folder.mkdir(exist_ok=True)
            return _publish(aside, folder, manifest)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DatasetError(f"dataset {folder} can't be written: {error}") from error


def open_dataset(home: Path, name: str, version: int | None = None) -> Dataset:
    """Open a version of a dataset.

    Args:
        home: the workspace folder.
        name: the cohort's name.
        version: N of ``vN``; None for the newest.

    Raises:
        DatasetError: there is no such dataset or version, or its manifest is broken.
    """
    folder = home / "datasets" / name
    versions = _versions(folder) if name in _names(home) else []
    if not versions:
        known = ", ".join(other for other in _names(home) if _versions(home / "datasets" / other)) or "none"
        raise DatasetError(
            f"dataset {name!r} does not exist, there are: {known}; make it with 'imitrace curate {name}'"
        )
    if version is None:
        version = versions[-1]
    if version not in versions:
        known = ", ".join(map(str, versions))
        raise DatasetError(f"dataset {name!r} has no version {version}, there are: {known}")
    path = folder / f"v{version}"
    return Dataset(name, version, path, read_manifest(path))


def check_licences(dataset: Dataset, cohort: CohortConfig) -> None:
    """Refuse a dataset that was made before its cohort forbade to learn from a policy.

    Raises:
        DatasetError: it has steps to learn from by a forbidden policy; a few are named.
    """
    if not cohort.licences:
        return
    found = gather({"forbidden": forbidden_steps(dataset.frame("steps"), cohort)})["forbidden"]
    if not found.is_empty():
        rows = "; ".join(" ".join(row) for row in found.head(5).iter_rows())
        raise DatasetError(
            f"dataset {dataset.name} v{dataset.version} has {len(found)} trajectories by policies from which "
            f"cohort.{cohort.name}.licences forbids to learn: {rows}; curate it again"
        )


def list_datasets(home: Path) -> list[Dataset]:
    """Return every version of every dataset, by name and version."""
    return [
        open_dataset(home, name, version) for name in _names(home) for version in _versions(home / "datasets" / name)
    ]


def _publish(aside: Path, folder: Path, manifest: dict[str, Any]) -> Dataset:  # JSON
    """Rename a finished folder to the next free version, unless the newest one is the same."""
    with locked(folder.parent):
        same = _newest_with(folder, manifest["hash"])
        if same is not None:
            return same
        version = (_versions(folder) or [0])[-1] + 1
        path = folder / f"v{version}"
        aside.rename(path)
    return Dataset(folder.name, version, path, manifest, created=True)


def _newest_with(folder: Path, content: str) -> Dataset | None:
    versions = _versions(folder)
    if not versions:
        return None
    path = folder / f"v{versions[-1]}"
    manifest = read_manifest(path)
    return Dataset(folder.name, versions[-1], path, manifest) if manifest.get("hash") == content else None


def _names(home: Path) -> list[str]:
    folder = home / "datasets"
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _versions(folder: Path) -> list[int]:
    found = [_VERSION.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(match[1]) for match in found if match)


def _write_tables(aside: Path, curated: Curated, progress: Progress) -> dict[str, Any]:  # JSON
    """Write the files; return ``counts`` and ``content`` by table, and ``splits``."""
    splits = StepCounts(curated.trajectories, progress)
    frames = {table: getattr(curated, table).lazy() for table in DATASET_TABLES}
    if curated.failures is not None:
        frames[FAILURES] = curated.failures
    found = {
        table: write_table(frame, aside / f"{table}.parquet", _LONG.get(table, ()), splits.watch(table))
        for table, frame in frames.items()
    }
    return {
        "counts": {table: rows for table, (rows, _) in found.items()},
        "content": {table: content for table, (_, content) in found.items()},
        "splits": splits.counts(),
        "changes": splits.changes(),
        "handovers": splits.handovers(),
    }


def _manifest(curated: Curated, said: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:  # JSON
    by_rule = dict(curated.rejected["rule"].value_counts().iter_rows())
    named = {"spec": said["spec"], "evaluators": curated.evaluators, "ledger": curated.ledger}
    return {
        "hash": content_hash({**named, "tables": written["content"]}),
        "schema_version": SCHEMA_VERSION,
        "imitrace_version": importlib.metadata.version("imitrace"),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **said,
        "evaluators": curated.evaluators,
        **{key: written[key] for key in ("counts", "content", "splits", "handovers")},
        "rejected": {rule: by_rule[rule] for rule in RULES if rule in by_rule},
        "other_agents": curated.other_agents,
        "tools": {"ledger": curated.ledger, "steps": written["changes"]},
        "personal_data": curated.personal,
        "judged": curated.judged,
        "corrected": curated.corrected,
    }


def _spec(cohort: CohortConfig) -> dict[str, Any]:  # JSON
    """Return what a cohort asks for beyond the defaults, so that a new key changes no old dataset's name."""
    asked, plain = _asked(cohort), _asked(CohortConfig(name=cohort.name, agent=cohort.agent))
    return {key: value for key, value in asked.items() if key in ("name", "agent") or value != plain[key]}


def _asked(cohort: CohortConfig) -> dict[str, Any]:  # JSON
    asked = {**asdict(cohort), "roles": [*cohort.roles]}
    asked |= {key: [*map(str, getattr(cohort, key))] for key in ("where", "mask_where", "hindsight_where")}
    confirmed = None if cohort.confirmed is None else str(cohort.confirmed)
    return asked | {"confirmed": confirmed, "personal_data": [*cohort.personal_data]}
