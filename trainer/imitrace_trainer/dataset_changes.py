"""Compare versions of a dataset, add rows by hand to make another, and attach evaluations to one."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from imitrace.canonical import canonical_json, content_hash
from imitrace.exceptions import DatasetError
from imitrace.messages import Action, Message
from imitrace.semconv import POLICY_ROLES
from imitrace_trainer.added_rows import Rows, message_rows, no_rows, seen_columns, tool_rows, with_rows
from imitrace_trainer.cohort import SPLITS
from imitrace_trainer.curate import Curated
from imitrace_trainer.datasets import FAILURES, Dataset, write_version
from imitrace_trainer.drafts import locked
from imitrace_trainer.frames import gather
from imitrace_trainer.live_tools import dead_call
from imitrace_trainer.tool_ledger import read_ledger

_ADDED: Final = "added by hand"
_SHOWN: Final = ["trajectory_id", "what", "why"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What one version of a dataset has and another has not."""

    before: str
    after: str
    came: dict[str, int]
    """Trajectories that only the later one has, by why the earlier one has not: a rule, or ``not in the source``."""
    went: dict[str, int]
    """Trajectories that only the earlier one has, by why the later one has not."""
    moved: dict[str, int]
    """Trajectories that are in another split: ``train -> gate``."""
    changed: int
    """Trajectories whose steps are others, or whose steps are learnt from otherwise."""
    same: int
    asked: dict[str, tuple[Any, Any]]  # JSON
    """What the cohort asked for before and after, where it differs."""
    rows: pl.DataFrame
    """``trajectory_id``, ``what`` (came, went, moved, changed) and ``why``."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A decision to add by hand."""

    state: Sequence[Message]
    """The messages before it, in GenAI parts form."""
    action: Action
    task: str
    """Rows of one task are one trajectory, in the order in which they are given."""
    tools: Sequence[Mapping[str, Any]] = ()  # JSON schemas
    """The tools offered; where the dataset has one of the same name, its contract is what a call must fit."""
    tags: Mapping[str, str] | None = None
    policy_role: str = "human"
    split: str = "train"


def difference(before: Dataset, after: Dataset) -> Difference:
    """Return what came and went from one version to another, and which rule did it.

    Raises:
        DatasetError: a file is broken.
    """
    old, new = _contents(before), _contents(after)
    both = old["kept"].join(new["kept"], on="trajectory_id", suffix=" after")
    moved = both.filter(pl.col("split") != pl.col("split after"))
    changed = both.filter(pl.col("steps") != pl.col("steps after"))
    to = pl.format("{} -> {}", "split", "split after")
    rows = pl.concat(
        [
            _only(new["kept"], old).select("trajectory_id", pl.lit("came").alias("what"), "why"),
            _only(old["kept"], new).select("trajectory_id", pl.lit("went").alias("what"), "why"),
            moved.select("trajectory_id", pl.lit("moved").alias("what"), to.alias("why")),
            changed.select("trajectory_id", pl.lit("changed").alias("what"), pl.lit("steps").alias("why")),
        ]
    ).sort(_SHOWN)
    counts = {what: _counted(rows.filter(pl.col("what") == what)) for what in ("came", "went", "moved")}
    asked = {side: _asked(version.manifest) for side, version in (("old", before), ("new", after))}
    keys = sorted(set(asked["old"]) | set(asked["new"]))
    return Difference(
        before=f"{before.name} v{before.version}",
        after=f"{after.name} v{after.version}",
        came=counts["came"],
        went=counts["went"],
        moved=counts["moved"],
        changed=len(changed),
        same=len(both) - len(pl.concat([moved, changed])["trajectory_id"].unique()),
        asked={
            key: (asked["old"].get(key), asked["new"].get(key))
            for key in keys
            if asked["old"].get(key) != asked["new"].get(key)
        },
        rows=rows,
    )


def add_rows(home: Path, dataset: Dataset, rows: Sequence[Row], who: str) -> Dataset:
    """Return the next version of a dataset: this one with decisions added by hand.

    Args:
        home: the workspace folder.
        dataset: which version to go on from.
        rows: what to add; what is there already is not added again.
        who: adds them; stands in the manifest.

    Raises:
        DatasetError: there is no row, one can't be learnt from, or calls what the tools of today don't take, or a task
            is in another split already.
    """
    if not rows:
        raise DatasetError(f"no row to add to dataset {dataset.name}, expected one or more")
    _check(dataset, rows)
    _check_calls(home, dataset, rows)
    curated = with_rows(curated_of(dataset), _made(rows))
    kept = {key: dataset.manifest[key] for key in ("cohort", "spec")}
    source = f"{len(rows)} rows by {who} to v{dataset.version} of {dataset.manifest['source']}"
    return write_version(home, dataset.name, curated, {**kept, "source": source})


def curated_of(dataset: Dataset) -> Curated:
    """Return what a version holds, to make another of."""
    small = gather({"trajectories": dataset.frame("trajectories"), "rejected": dataset.frame("rejected")})
    manifest = dataset.manifest
    return Curated(
        trajectories=small["trajectories"],
        rejected=small["rejected"],
        steps=dataset.frame("steps"),
        messages=dataset.frame("messages"),
        tools=dataset.frame("tools"),
        other_agents=manifest["other_agents"],
        evaluators=manifest["evaluators"],
        ledger=manifest["tools"]["ledger"],
        failures=dataset.frame(FAILURES) if FAILURES in manifest["counts"] else None,
        personal=manifest.get("personal_data", {}),
        judged=manifest.get("judged", {}),
        corrected=manifest.get("corrected", {}),
    )


def add_row(home: Path, dataset: Dataset, row: Row, who: str) -> Dataset:
    """Return the next version of a dataset: this one with one decision added by hand; see ``add_rows``."""
    return add_rows(home, dataset, [row], who)


def add_evaluation(home: Path, dataset: Dataset, name: str, values: Mapping[str, float], evaluator: str) -> Path:
    """Attach scores of a version's trajectories to it; the version itself stays as it is.

    Args:
        home: the workspace folder.
        dataset: the version.
        name: of the score.
        values: by trajectory_id.
        evaluator: who or what gave them, with its version.

    Returns:
        The file, one JSON object a line, that they were appended to.

    Raises:
        DatasetError: a value is no number, or a trajectory is not of this version.
    """
    known = set(gather({"ids": dataset.frame("trajectories").select("trajectory_id")})["ids"]["trajectory_id"])
    for trajectory, value in values.items():
        if trajectory not in known:
            raise DatasetError(f"dataset {dataset.name} v{dataset.version} has no trajectory {trajectory!r} to score")
        if not math.isfinite(value):
            raise DatasetError(f"score {name} of {trajectory} is {value}, expected a finite number")
    at = datetime.now(UTC).isoformat(timespec="seconds")
    lines = [
        canonical_json({"at": at, "evaluator": evaluator, "name": name, "trajectory_id": trajectory, "value": value})
        for trajectory, value in sorted(values.items())
    ]
    path = home / "datasets" / dataset.name / "evaluations" / f"v{dataset.version}.jsonl"
    with locked(home / "datasets"):
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{line}\n" for line in lines))
    return path


def evaluations(home: Path, dataset: Dataset) -> list[dict[str, Any]]:  # JSON
    """Return what ``add_evaluation`` attached to a version, oldest first."""
    path = home / "datasets" / dataset.name / "evaluations" / f"v{dataset.version}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _contents(dataset: Dataset) -> dict[str, pl.DataFrame]:
    compared = ("step_index", "state", "tools_hash", "action_kind", "action_name", "action_arguments", "action_message")
    steps = dataset.frame("steps").select("trajectory_id", pl.struct(*compared, "loss_mask").hash().alias("step"))
    of_trajectory = steps.group_by("trajectory_id").agg(pl.col("step").sort().implode().hash().first().alias("steps"))
    kept = dataset.frame("trajectories").select("trajectory_id", "split")
    return gather(
        {
            "kept": kept.join(of_trajectory, on="trajectory_id", how="left"),
            "rejected": dataset.frame("rejected").select("trajectory_id", "rule", "reason"),
        }
    )


def _asked(manifest: Mapping[str, Any]) -> dict[str, Any]:  # JSON
    """Return what a version was made by: the cohort's keys, and the hash of what was decided about tools."""
    ledger = manifest.get("tools", {}).get("ledger")
    return {**manifest.get("spec", {}), **({"tools": ledger} if ledger else {})}


def _only(kept: pl.DataFrame, other: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    alone = kept.join(other["kept"], on="trajectory_id", how="anti")
    why = pl.col("rule").fill_null("not in the source")
    return alone.join(other["rejected"], on="trajectory_id", how="left").with_columns(why.alias("why"))


def _counted(rows: pl.DataFrame) -> dict[str, int]:
    return dict(rows.group_by("why").len().sort("len", "why", descending=[True, False]).iter_rows())


def _check(dataset: Dataset, rows: Sequence[Row]) -> None:
    splits = gather({"tasks": dataset.frame("trajectories").select("task_key", "split").unique()})["tasks"]
    failed = gather({"tasks": dataset.frame(FAILURES).select("task", "split").unique()})["tasks"]
    known: dict[str, str] = dict(splits.iter_rows()) | dict(failed.iter_rows())
    for row in rows:
        if row.split not in SPLITS:
            raise DatasetError(f"split of a row is {row.split!r}, expected one of {', '.join(SPLITS)}")
        if row.policy_role not in POLICY_ROLES or row.policy_role == "clone":
            raise DatasetError(f"policy_role of a row is {row.policy_role!r}, expected expert, human or synthetic")
        if known.setdefault(row.task, row.split) != row.split:
            raise DatasetError(
                f"task {row.task!r} is in split {known[row.task]} already and can't be in {row.split} too: "
                "what is judged on must not be trained on"
            )


def _check_calls(home: Path, dataset: Dataset, rows: Sequence[Row]) -> None:
    """Refuse calls that no clone may make: what curation would mask is not worth to be written by hand."""
    rules = read_ledger(home).rules(dataset.manifest["cohort"]["agent"])
    found = gather({"tools": dataset.frame("tools").select("name", "definition").unique().sort("name", "definition")})
    in_force: dict[str, list[Mapping[str, Any]]] = {}
    for name, definition in found["tools"].iter_rows():
        in_force.setdefault(name, []).append(json.loads(definition))
    everything = [tool for tools in in_force.values() for tool in tools]
    for row in rows:
        offered = [known for tool in row.tools for known in in_force.get(tool["name"], [tool])]
        problem = dead_call(row.action, offered if row.tools else everything, rules)
        if problem is not None:
            raise DatasetError(
                f"row of task {row.task!r} can't be learnt from: {problem}; "
                "write it as a call of the tools of today, see 'imitrace tools'"
            )


def _made(rows: Sequence[Row]) -> Rows:
    by_task: dict[str, list[Row]] = {}
    for row in rows:
        by_task.setdefault(row.task, []).append(row)
    tables = no_rows()
    for task, decisions in by_task.items():
        name = f"added-{content_hash([asdict(row) for row in decisions])}"
        tags = canonical_json(dict(decisions[0].tags or {}))
        shared = {"trajectory_id": name, "tags": tags, "split": decisions[0].split, "started_at": 0, "complete": True}
        tables["trajectories"].append(
            shared
            | {"agent": _ADDED, "task": task, "task_key": task, "source": _ADDED, "scores": "{}", "ended_at": 0}
            | {"step_count": len(decisions)}
        )
        for index, row in enumerate(decisions):
            tables["steps"].append(shared | _step(row, name, index))
            tables["messages"] += message_rows(row.state)
            tables["tools"] += tool_rows(row.tools)
    return tables


def _step(row: Row, trajectory: str, index: int) -> dict[str, Any]:  # a row of a table
    return {
        "step_index": index,
        "decision": f"{trajectory}-{index}",
        "agent": _ADDED,
        "policy_role": row.policy_role,
        **seen_columns(list(map(content_hash, row.state)), content_hash(list(row.tools)), row.action),
        "ended_at": 0,
        "trace_id": "",
        "span_id": "",
        "task": row.task,
        "weight": 1.0,
        "loss_mask": row.policy_role != "synthetic",
        "mask_reason": "by synthetic" if row.policy_role == "synthetic" else None,
    }
