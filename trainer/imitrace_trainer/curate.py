"""Choose what a clone learns from: judge every trajectory of a cohort by the rules, and split the kept ones by task.

What is long is never held: steps, messages and tools are plans that run when they are written.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from imitrace.canonical import canonical_json, text_hash
from imitrace.exceptions import DatasetError
from imitrace.schema import STEPS, TRAJECTORIES
from imitrace_trainer.clues import clues
from imitrace_trainer.cohort import MOST_WEIGHT, CohortConfig, SplitConfig
from imitrace_trainer.failures import failed_steps, failures
from imitrace_trainer.frames import gather
from imitrace_trainer.hindsight import COLUMNS as RELABELLED
from imitrace_trainer.hindsight import NOTHING, Relabelled, mask_unproven, relabelled
from imitrace_trainer.label_errors import label_errors
from imitrace_trainer.likeness import alike_tasks
from imitrace_trainer.personal import count_personal, mask_personal
from imitrace_trainer.portions import settled
from imitrace_trainer.progress import Progress, silent
from imitrace_trainer.rules import RULES, judge
from imitrace_trainer.step_masks import mask_wrong
from imitrace_trainer.survey import Frames, Survey, mark_steps, newest, survey
from imitrace_trainer.tool_ledger import ToolRules
from imitrace_trainer.tool_migration import migrate

_EVALUATOR: Final = ["name", "evaluator", "evaluator_version"]
_NAMED: Final = 5
_PLURAL: Final = {"task": "tasks", "trajectory": "trajectories"}
_SETTLED: Final[Mapping[str, tuple[str, ...]]] = {
    "steps": ("trajectory_id", "step_index"),
    "messages": ("message_id",),
    "tools": ("tools_hash", "position"),
}


@dataclass(frozen=True, kw_only=True)
class Curated:
    """A cohort's kept and rejected trajectories, and what the kept ones consist of; rows in a settled order."""

    trajectories: pl.DataFrame
    """Kept, by start: the columns of ``schema.TRAJECTORIES``, ``task_key``, ``split``, ``scores`` (JSON by name), and
    ``relabelled_from`` and ``relabelled_by`` of failures that are learnt from in part."""
    rejected: pl.DataFrame
    """By start: ``trajectory_id``, ``task``, and the ``rule`` and ``reason`` that rejected it."""
    steps: pl.LazyFrame
    """Kept, by trajectory: the columns of ``schema.STEPS``, ``task`` (its key), ``tags``, ``outcome``, ``split``,
    ``loss_mask``, ``mask_reason`` (why it is false), ``weight``, ``tool_change`` (one of ``CHANGES``)."""
    messages: pl.LazyFrame
    """The messages that kept steps and failures name, by id."""
    tools: pl.LazyFrame
    """The tools that kept steps and failures offer."""
    other_agents: int
    """How many trajectories of other agents the source holds."""
    evaluators: list[dict[str, str | None]]
    """Which evaluators gave the scores of the agent's trajectories: ``name``, ``evaluator``, ``evaluator_version``."""
    ledger: str
    """The hash of what was decided about the agent's tools."""
    failures: pl.LazyFrame | None = None
    """Steps of failures for the critic alone, with the columns of ``steps``, none of them trained on; None: no such."""
    personal: dict[str, dict[str, int]] = field(default_factory=dict)
    """By redaction rule that was asked: how often it ``found`` something, and in how many ``trajectories``."""
    judged: dict[str, Any] = field(default_factory=dict)  # JSON
    """What became of decisions that people judged; empty where nobody did."""
    corrected: dict[str, Any] = field(default_factory=dict)  # JSON
    """What became of corrected episodes; empty where there are none."""


def curate(
    frames: Frames, cohort: CohortConfig, rules: ToolRules | None = None, progress: Progress = silent
) -> Curated:
    """Keep or reject every trajectory of the cohort's agent, and split the kept ones.

    Args:
        frames: the tables of ``schema.TABLES`` by name.
        cohort: what to keep and how to split it.
        rules: what was decided about the agent's tools; None: nothing.
        progress: is told how far it is.

    Raises:
        DatasetError: no trajectory is kept, or too few tasks to split.
    """
    rules = rules or ToolRules()
    frames = migrate(frames, rules, cohort.agent)
    frames = {table: settled(frame, _SETTLED[table]) if table in _SETTLED else frame for table, frame in frames.items()}
    found = survey(frames, cohort, progress)
    small = gather(
        {
            "judged": judge(evidence(frames, cohort, found), cohort),
            "agents": frames["trajectories"].group_by("agent").len().sort("agent"),
            "scores": of_agent(newest_scores(frames["scores"]), found),
            "evaluators": of_agent(frames["scores"], found).select(_EVALUATOR).unique().sort(_EVALUATOR),
        }
    )
    agents = dict(small["agents"].iter_rows())
    judged = small["judged"].sort("started_at", "trajectory_id")
    rejected = judged.filter(pl.col("rule").is_not_null()).select("trajectory_id", "task", "rule", "reason")
    kept = judged.filter(pl.col("rule").is_null())
    if cohort.forbidden == "refuse":
        _refuse_forbidden(cohort, rejected)
    if kept.is_empty():
        raise DatasetError(_nothing_kept(cohort, agents, rejected))
    together = None if cohort.split.near is None else alike_tasks(frames, found, kept, cohort.split.near)
    kept = _with_split(kept, cohort, together)
    if cohort.hindsight:
        again = relabelled(frames, cohort, judged.filter("only_scores"), kept)
        rejected = rejected.join(again.trajectories, on="trajectory_id", how="anti", maintain_order="left")
    else:
        again = NOTHING
    trajectories = _with_scores(_with_relabelled(kept, again), small["scores"])
    failed = failures(judged, trajectories, cohort)
    held = pl.concat([trajectories.select("trajectory_id"), failed.select("trajectory_id")])
    return Curated(
        trajectories=trajectories,
        rejected=rejected,
        other_agents=sum(agents.values()) - agents[cohort.agent],
        evaluators=small["evaluators"].to_dicts(),
        ledger=rules.hash,
        steps=mask_personal(kept_steps(frames, cohort, trajectories, again), judged),
        failures=None if failed.is_empty() else _dataset_steps(failed_steps(frames, cohort, failed, judged)),
        messages=frames["messages"].join(_named(found, held), on="message_id", how="semi", maintain_order="left"),
        tools=_offered(frames, held),
        personal=count_personal(judged),
    )


def evidence(frames: Frames, cohort: CohortConfig, found: Survey) -> pl.LazyFrame:
    """Return the agent's trajectories with what the rules look at: facts of their steps, scores, the task key."""
    task = pl.when(pl.col("task") != "").then("task")  # so that equal requests are one task
    known = found.trajectories.with_columns(pl.coalesce(task, "request", "trajectory_id").alias("task_key"))
    trajectories = known.lazy()
    for table in clues(frames, cohort, found, known["task_key"]):
        trajectories = trajectories.join(table.lazy(), on=table.columns[0], how="left")
    scores = newest_scores(frames["scores"])
    for name in sorted({condition.score for condition in cohort.where}):
        named = scores.filter(pl.col("name") == name).select(
            "trajectory_id",
            pl.col("value").alias(f"score {name}"),
            pl.col("label").alias(f"label {name}"),
            pl.lit(value=True).alias(f"has {name}"),
        )
        trajectories = trajectories.join(named, on="trajectory_id", how="left")
    return trajectories


def of_agent(frame: pl.LazyFrame, found: Survey) -> pl.LazyFrame:
    """Return a frame's rows that belong to the agent's trajectories."""
    return frame.join(found.trajectories.lazy().select("trajectory_id"), on="trajectory_id", how="semi")


def newest_scores(scores: pl.LazyFrame) -> pl.LazyFrame:
    """Return ``trajectory_id``, ``name``, ``value``, ``label`` of whole trajectories' scores: the newest of a name."""
    keys = ["trajectory_id", "name"]
    return newest(scores.filter(pl.col("step_index").is_null()), keys).select(*keys, "value", "label")


def kept_steps(frames: Frames, cohort: CohortConfig, kept: pl.DataFrame, again: Relabelled = NOTHING) -> pl.LazyFrame:
    """Return the steps of kept trajectories as a dataset has them."""
    of_trajectory = [
        "trajectory_id",
        pl.col("task_key").alias("task"),
        "tags",
        "outcome",
        "split",
        weights(kept, cohort),
    ]
    marked = mark_steps(frames["steps"], cohort, frames["scores"])
    if cohort.label_errors is not None:
        marked = _without_errors(marked, label_errors(frames, cohort, kept.filter(pl.col("relabelled_by").is_null())))
    own = marked.join(kept.lazy().select(of_trajectory), on="trajectory_id", how="inner", maintain_order="left")
    return _dataset_steps(mask_unproven(mask_wrong(own, cohort, frames["scores"]), again))


def _dataset_steps(steps: pl.LazyFrame) -> pl.LazyFrame:
    return steps.select(*STEPS, "task", "tags", "outcome", "split", "loss_mask", "mask_reason", "weight", "tool_change")


def _without_errors(marked: pl.LazyFrame, doubts: pl.DataFrame) -> pl.LazyFrame:
    found = marked.join(doubts.lazy(), on=["trajectory_id", "step_index"], how="left", maintain_order="left")
    why = pl.coalesce("mask_reason", "label_error")
    return found.with_columns(why.is_null().alias("loss_mask"), why.alias("mask_reason")).drop("label_error")


def split_tasks(keys: Collection[str], split: SplitConfig) -> dict[str, str]:
    """Return the split of each task: a seeded shuffle, of which the gate takes the head and calibration what follows.

    Raises:
        DatasetError: too few tasks for a task in each split.
    """
    shares = {"gate": split.gate, "calibration": split.calibration}
    needed = 1 + sum(share > 0 for share in shares.values())
    if len(keys) < needed:
        raise DatasetError(
            f"{len(keys)} {_PLURAL[split.by]} can't be split into {needed} parts: record more, "
            "or set the shares split.calibration and split.gate to 0"
        )
    counts = {name: max(1, round(share * len(keys))) if share > 0 else 0 for name, share in shares.items()}
    while sum(counts.values()) >= len(keys):  # small cohorts round up: leave one to train on
        counts[max(counts, key=counts.__getitem__)] -= 1
    shuffled = sorted(keys, key=lambda key: (text_hash(f"{split.seed}:{key}"), key))
    names = ["gate"] * counts["gate"] + ["calibration"] * counts["calibration"]
    return dict(zip(shuffled, names + ["train"] * (len(keys) - len(names)), strict=True))


def weights(kept: pl.DataFrame, cohort: CohortConfig) -> pl.Series:
    """Return how much each trajectory weighs in training: 1, or more where its kind is rare or it has several steps.

    Values of the ``balance`` tag weigh the same together, up to ``MOST_WEIGHT`` times what a value would; the most
    frequent value weighs 1. Calibration and gate are never weighted: they say how things are.
    """
    factor = pl.when(pl.col("step_count") > 1).then(cohort.several_steps).otherwise(1.0)
    if cohort.balance is not None:
        values = [str(json.loads(text).get(cohort.balance)) for text in kept["tags"]]
        count = pl.len().over("value")
        frame = kept.with_columns(pl.Series("value", values)).with_columns(count.alias("count"))
        factor = factor * (pl.col("count").max() / pl.col("count")).clip(1.0, MOST_WEIGHT)
    else:
        frame = kept
    trained = pl.when(pl.col("split") == "train").then(factor).otherwise(1.0)
    return frame.select(trained.alias("weight")).to_series()


def _with_split(kept: pl.DataFrame, cohort: CohortConfig, together: Mapping[str, str] | None) -> pl.DataFrame:
    unit = pl.col("task_key" if cohort.split.by == "task" else "trajectory_id")
    if together is not None:
        unit = unit.replace_strict(together)
    units = kept.select(unit.alias("unit"))["unit"]
    try:
        splits = split_tasks(units.unique().to_list(), cohort.split)
    except DatasetError as error:
        raise DatasetError(f"cohort {cohort.name!r}: {len(kept)} trajectories kept, but {error}") from error
    return kept.select(*TRAJECTORIES, "task_key", units.replace_strict(splits).alias("split"))


def _with_relabelled(kept: pl.DataFrame, again: Relabelled) -> pl.DataFrame:
    plain = kept.with_columns(pl.lit(None, pl.String).alias(name) for name in RELABELLED)
    both = pl.concat([plain, again.trajectories]) if len(again.trajectories) else plain
    return both.sort("started_at", "trajectory_id")


def _with_scores(kept: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """Add ``scores``, canonical JSON by name; each distinct score is made a text once."""
    plain = scores.with_columns(pl.when(pl.col("value").is_finite()).then("value").alias("value"))
    distinct = plain.select("name", "value").unique()
    texts = [canonical_json({name: value})[1:-1] for name, value in distinct.iter_rows()]
    told = distinct.with_columns(pl.Series("text", texts, dtype=pl.String))
    pieces = plain.join(told, on=["name", "value"], nulls_equal=True).sort("trajectory_id", "name")
    joined = pieces.group_by("trajectory_id", maintain_order=True).agg(pl.col("text").str.join(","))
    found = kept.join(joined, on="trajectory_id", how="left", maintain_order="left")
    return found.with_columns(pl.format("{{{}}}", pl.col("text").fill_null("")).alias("scores")).drop("text")


def _named(found: Survey, kept: pl.DataFrame) -> pl.LazyFrame:
    """Return the ids of the messages that steps of kept trajectories name."""
    numbers = found.trajectories.join(kept.select("trajectory_id"), on="trajectory_id", how="semi")["number"]
    of_kept = found.uses.filter(pl.col("trajectory").is_in(numbers.implode()))
    return found.messages.lazy().select(pl.col("message_id").gather(of_kept["message"].unique().sort()))


def _offered(frames: Frames, kept: pl.DataFrame) -> pl.LazyFrame:
    steps = frames["steps"].select("trajectory_id", "tools_hash")
    offered = (
        steps.join(kept.lazy().select("trajectory_id"), on="trajectory_id", how="semi").select("tools_hash").unique()
    )
    return frames["tools"].join(offered, on="tools_hash", how="semi", maintain_order="left")


def _refuse_forbidden(cohort: CohortConfig, rejected: pl.DataFrame) -> None:
    forbidden = rejected.filter(pl.col("rule") == "licence").select("trajectory_id", "reason").rows()
    if forbidden:
        rows = "; ".join(f"{name} {reason}" for name, reason in forbidden[:_NAMED])
        more = "; ..." if len(forbidden) > _NAMED else ""
        raise DatasetError(
            f"cohort {cohort.name!r}: {len(forbidden)} trajectories have steps by policies from which "
            f"cohort.{cohort.name}.licences forbids to learn: {rows}{more}; "
            'leave these trajectories out with forbidden = "reject"'
        )


def _nothing_kept(cohort: CohortConfig, agents: Mapping[str, int], rejected: pl.DataFrame) -> str:
    if cohort.agent not in agents:
        known = _listed(agents.items()) or "no trajectory at all"
        return (
            f"cohort {cohort.name!r}: no trajectory of agent {cohort.agent!r}, the source holds: {known}; "
            f"set cohort.{cohort.name}.agent to one of these, or name another --source"
        )
    counts = Counter(rejected["rule"])
    return (
        f"cohort {cohort.name!r}: none of {len(rejected)} trajectories is kept, "
        f"rejected by rule: {_listed((rule, counts[rule]) for rule in RULES if rule in counts)}; "
        f"loosen [cohort.{cohort.name}], or record more"
    )


def _listed(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts)
