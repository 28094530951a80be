"""Keep corrected episodes, and make of them what a clone learns from: rows of a dataset's train split.

An episode is a trajectory as it went, with the clone's own steps as context. Where the expert only said what it would
have done, that is a row of its own, whose parent is the step. What failed teaches no action, but the critic.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import SEEK_END
from pathlib import Path
from typing import Any, BinaryIO, Final

import polars as pl

from imitrace.canonical import canonical_json, content_hash
from imitrace.exceptions import DatasetError
from imitrace.messages import Action
from imitrace_trainer.added_rows import (
    Rows,
    message_rows,
    no_rows,
    seen_columns,
    table_of,
    tool_rows,
    with_new,
    with_rows,
)
from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.correcting.corrected_episodes import LABELLED, PREFIX, CorrectedEpisode, CorrectedStep
from imitrace_trainer.correcting.mixing import weight_of
from imitrace_trainer.curate import Curated
from imitrace_trainer.drafts import locked
from imitrace_trainer.failures import FAILED as FOR_CRITIC
from imitrace_trainer.frames import gather
from imitrace_trainer.live_tools import dead_call
from imitrace_trainer.step_counts import CORRECTIONS
from imitrace_trainer.tool_ledger import ToolRules

SOURCE: Final = CORRECTIONS
"""The source of a trajectory that is a corrected episode, or a label of one."""
_LABEL: Final = f"{PREFIX}label-"
_BLOCK: Final = 65_536


@dataclass(frozen=True)
class _Context:
    cohort: CohortConfig
    rules: ToolRules


def keep(home: Path, cohort: str, episodes: Sequence[CorrectedEpisode]) -> Path:
    """Write episodes behind those of a cohort that are kept already, and return the file."""
    path = _file(home, cohort)
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent), path.open("ab+") as file:
        file.truncate(_whole(file))
        file.write("".join(f"{canonical_json(episode.to_json())}\n" for episode in episodes).encode())
    return path


def _whole(file: BinaryIO) -> int:
    """Return where the last whole line of a file ends: behind it stands what a process wrote that died."""
    end = file.seek(0, SEEK_END)
    while end:
        begin = max(0, end - _BLOCK)
        file.seek(begin)
        at = file.read(end - begin).rfind(b"\n")
        if at >= 0:
            return begin + at + 1
        end = begin
    return 0


def kept(home: Path, cohort: str) -> list[CorrectedEpisode]:
    """Return the episodes of a cohort, oldest first; of a line that was cut when a process died there is nothing.

    Raises:
        DatasetError: another line can't be read.
    """
    path = _file(home, cohort)
    lines = path.read_text(encoding="utf-8").split("\n") if path.is_file() else [""]
    found = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            found.append(CorrectedEpisode.from_json(json.loads(line)))
        except (ValueError, DatasetError) as error:
            raise DatasetError(
                f"line {number} of {path} is no corrected episode: {error}; mend or remove it"
            ) from error
    return found


def with_corrections(
    curated: Curated, episodes: Sequence[CorrectedEpisode], cohort: CohortConfig, rules: ToolRules
) -> Curated:
    """Return what was curated with the rows of corrected episodes, which stand in the train split alone.

    Args:
        curated: what ``curate`` made.
        episodes: those of the cohort.
        cohort: whose rules of tags, failures and shares hold for them too.
        rules: what was decided about the agent's tools: what calls a tool that is no more is context.
    """
    if not episodes:
        return curated
    taken = judging_tasks(curated)
    out: Counter[str] = Counter()
    rows, failed = no_rows(), no_rows()
    context = _Context(cohort, rules)
    for episode in {one.name: one for one in episodes}.values():
        why = _left_out(episode, cohort, taken)
        if why is not None:
            out[why] += 1
        elif episode.rejected is None:
            _add(rows, episode, context)
        elif len(failed["trajectories"]) < cohort.failures:
            _add(failed, episode, context)
        else:
            out["a failure beyond the cohort's"] += 1
    learnt = [row for row in rows["steps"] if row["loss_mask"]]
    weight = weight_of(len(learnt), _learnt(curated), cohort.mix) if cohort.mix else 1.0
    for row in learnt:
        row["weight"] = weight
    made = with_rows(_with_failures(curated, failed), rows)
    return replace(
        made,
        corrected={
            "episodes": sum(not row["trajectory_id"].startswith(_LABEL) for row in rows["trajectories"]),
            "learnt": len(learnt),
            "context": len(rows["steps"]) - len(learnt),
            "failures": len(failed["trajectories"]),
            "left_out": dict(sorted(out.items())),
            "weight": weight,
        },
    )


def without_corrections(curated: Curated) -> Curated:
    """Return what was curated without the rows that ``with_corrections`` puts there."""
    own = pl.col("trajectory_id").str.starts_with(PREFIX)
    failed = None if curated.failures is None else curated.failures.filter(~own)
    return replace(
        curated,
        trajectories=curated.trajectories.filter(pl.col("source") != SOURCE),
        steps=curated.steps.filter(~own),
        failures=failed,
        corrected={},
    )


def _file(home: Path, cohort: str) -> Path:
    return home / "corrections" / f"{cohort}.jsonl"


def judging_tasks(curated: Curated) -> set[str]:
    """Return the tasks that clones and critics are calibrated and judged on."""
    kept_tasks = curated.trajectories.filter(pl.col("split") != "train")["task_key"]
    tasks = set(kept_tasks)
    if curated.failures is not None:
        elsewhere = curated.failures.filter(pl.col("split") != "train").select(pl.col("task").unique())
        tasks |= set(gather({"tasks": elsewhere})["tasks"]["task"])
    return tasks


def _left_out(episode: CorrectedEpisode, cohort: CohortConfig, taken: set[str]) -> str | None:
    if episode.task in taken:
        return "its task judges clones"
    if cohort.split.near is not None:
        return "its task is new, and could be like one that is judged on"
    if any(episode.tags.get(tag) != value for tag, value in cohort.tags.items()):
        return "other tags than the cohort's"
    return None if episode.failed else episode.rejected


def _learnt(curated: Curated) -> float:
    """Return how much there is to learn from in the train split, by weight."""
    steps = curated.steps.filter((pl.col("split") == "train") & pl.col("loss_mask"))
    return float(gather({"sum": steps.select(pl.col("weight").sum())})["sum"]["weight"][0])


def _add(rows: Rows, episode: CorrectedEpisode, context: _Context) -> None:
    made = _EpisodeRows(episode, context)
    rows["trajectories"].append(made.trajectory(episode.name, len(episode.steps)))
    rows["messages"] += message_rows(episode.messages)
    rows["tools"] += tool_rows(episode.tools)
    for place, step in enumerate(episode.steps):
        rows["steps"].append(made.step(place))
        if episode.rejected is None and _has_row(episode, step):
            name = f"{_LABEL}{episode.name.removeprefix(PREFIX)}-{place}"
            own = {"parent": episode.name, "parent_step": place, "outcome": None}
            rows["trajectories"].append(made.trajectory(name, 1) | own)
            rows["steps"].append(made.label(place) | {"trajectory_id": name, "decision": name})


def _has_row(episode: CorrectedEpisode, step: CorrectedStep) -> bool:
    """Tell whether the expert said of a step what it would have done, while the clone acted."""
    return episode.method == "dagger" and step.actor == "clone" and step.label is not None and step.mask is None


class _EpisodeRows:
    """One episode as rows."""

    def __init__(self, episode: CorrectedEpisode, context: _Context) -> None:
        self._episode = episode
        self._context = context
        self._ids = [content_hash(message) for message in episode.messages]
        self._tools = content_hash(list(episode.tools))
        self._outcome = "success" if episode.success else "failure"

    def trajectory(self, name: str, steps: int) -> dict[str, Any]:  # a row
        """Return the episode, or a label of it."""
        episode = self._episode
        return {
            "trajectory_id": name,
            "agent": self._context.cohort.agent,
            "task": episode.task,
            "task_key": episode.task,
            "tags": canonical_json(dict(episode.tags)),
            "outcome": self._outcome,
            "source": SOURCE,
            "step_count": steps,
            "started_at": episode.at,
            "ended_at": episode.at,
            "complete": True,
            "split": "train",
            "scores": "{}",
        }

    def step(self, place: int) -> dict[str, Any]:  # a row
        """Return a step as it went; how the episode ended says nothing of what an expert did in ``dagger``."""
        episode, step = self._episode, self._episode.steps[place]
        mask = LABELLED if _has_row(episode, step) else step.mask
        mask = FOR_CRITIC if episode.rejected is not None else mask
        reason = f"{episode.method}: the expert took over" if place == episode.switch else episode.method
        own = {"policy_role": step.actor, "confidence": step.confidence, "route_reason": reason}
        own |= {"policy_name": episode.expert if step.actor == "expert" else episode.clone}
        told = {"outcome": None} if episode.method == "dagger" and not episode.success else {}
        return self._row(place, step.executed, mask) | own | told

    def label(self, place: int) -> dict[str, Any]:  # a row
        """Return what the expert would have done; nobody knows where that would have led."""
        step = self._episode.steps[place]
        reason = f"{self._episode.method}: asked beside the clone"
        own = {"policy_role": "expert", "policy_name": self._episode.expert, "route_reason": reason, "step_index": 0}
        return self._row(place, replace(step.label or step.executed, call_id=None), None) | own | {"outcome": None}

    def _row(self, place: int, action: Action, mask: str | None) -> dict[str, Any]:
        episode = self._episode
        mask = dead_call(action, episode.tools, self._context.rules) or mask
        return {
            "trajectory_id": episode.name,
            "step_index": place,
            "decision": f"{episode.name}-{place}",
            "agent": self._context.cohort.agent,
            **seen_columns(self._ids[: episode.steps[place].seen], self._tools, action),
            "started_at": episode.at,
            "ended_at": episode.at,
            "trace_id": "",
            "span_id": "",
            "complete": True,
            "task": episode.task,
            "tags": canonical_json(dict(episode.tags)),
            "outcome": self._outcome,
            "split": "train",
            "loss_mask": mask is None,
            "mask_reason": mask,
            "weight": 1.0,
        }


def _with_failures(curated: Curated, failed: Rows) -> Curated:
    """Return what was curated with failed episodes among what the critic learns from."""
    if not failed["steps"]:
        return curated
    messages = with_new(curated.messages, table_of("messages", failed["messages"]), ("message_id",))
    tools = with_new(curated.tools, table_of("tools", failed["tools"]), ("tools_hash", "position"))
    steps = table_of("steps", failed["steps"])
    if curated.failures is None:
        return replace(curated, failures=steps.lazy(), messages=messages, tools=tools)
    keys = ("trajectory_id", "step_index")
    return replace(curated, failures=with_new(curated.failures, steps, keys), messages=messages, tools=tools)
