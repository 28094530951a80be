"""Choose what a clone learns from: named rules over trajectories, each with its reasons, and a split by task.

A rule is a pure function LazyFrame -> LazyFrame over the cohort's trajectories with what is known of them: it adds one
column of its name, holding why the trajectory is rejected, or null. The first rule that rejects is the one that counts.
"""

import functools
import json
import operator
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import polars as pl

from imitrace.canonical import canonical_json, content_hash, text_hash
from imitrace.exceptions import DatasetError
from imitrace.schema import STEPS, TRAJECTORIES
from imitrace_trainer.cohort import CohortConfig, Condition, SplitConfig
from imitrace_trainer.frames import gather

Frames = Mapping[str, pl.LazyFrame]
Rule = Callable[[pl.LazyFrame, CohortConfig], pl.LazyFrame]

_COMPARE: Final[Mapping[str, Callable[[pl.Expr, float], pl.Expr]]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}
_NO_TOOLS: Final = content_hash([])
_NEVER: Final = pl.lit(None, dtype=pl.String)
_PLURAL: Final = {"task": "tasks", "trajectory": "trajectories"}


@dataclass(frozen=True, kw_only=True)
class Curated:
    """A cohort's kept and rejected trajectories, and what the kept ones consist of; rows in a settled order."""

    trajectories: pl.DataFrame
    """Kept: the columns of ``schema.TRAJECTORIES``, ``task_key``, ``split`` and ``scores`` (JSON by name)."""
    steps: pl.DataFrame
    """Kept: the columns of ``schema.STEPS``, ``task`` (its key), ``tags``, ``outcome``, ``split``, ``loss_mask``."""
    rejected: pl.DataFrame
    """``trajectory_id``, ``task``, and the ``rule`` and ``reason`` that rejected it."""
    messages: pl.DataFrame
    """The messages that kept steps name."""
    tools: pl.DataFrame
    """The tools that kept steps offer."""
    other_agents: int
    """How many trajectories of other agents the source holds."""


def curate(frames: Frames, cohort: CohortConfig) -> Curated:
    """Keep or reject every trajectory of the cohort's agent, and split the kept ones.

    Args:
        frames: the tables of ``schema.TABLES`` by name.
        cohort: what to keep and how to split it.

    Raises:
        DatasetError: no trajectory is kept, or too few tasks to split.
    """
    found = gather(
        {
            "judged": judge(evidence(frames, cohort), cohort),
            "agents": frames["trajectories"].group_by("agent").len().sort("agent"),
            "scores": of_agent(newest_scores(frames["scores"]), frames, cohort),
        }
    )
    agents = dict(found["agents"].iter_rows())
    judged = found["judged"].sort("started_at", "trajectory_id")
    rejected = judged.filter(pl.col("rule").is_not_null()).select("trajectory_id", "task", "rule", "reason")
    kept = judged.filter(pl.col("rule").is_null())
    if kept.is_empty():
        raise DatasetError(_nothing_kept(cohort, agents, rejected))
    trajectories = _with_scores(_with_split(kept, cohort), found["scores"])
    return Curated(
        trajectories=trajectories,
        rejected=rejected,
        other_agents=sum(agents.values()) - agents[cohort.agent],
        **gather(_contents(frames, cohort, trajectories)),
    )


def of_agent(frame: pl.LazyFrame, frames: Frames, cohort: CohortConfig) -> pl.LazyFrame:
    """Return a frame's rows that belong to trajectories of the cohort's agent."""
    ids = frames["trajectories"].filter(pl.col("agent") == cohort.agent).select("trajectory_id")
    return frame.join(ids, on="trajectory_id", how="semi")


def evidence(frames: Frames, cohort: CohortConfig) -> pl.LazyFrame:
    """Return the agent's trajectories with what the rules look at: facts of their steps, scores, the task key."""
    steps = mark_steps(of_agent(frames["steps"], frames, cohort), cohort)
    facts = steps.group_by("trajectory_id").agg(
        pl.len().cast(pl.Int64).alias("steps_found"),
        pl.col("loss_mask").sum().cast(pl.Int64).alias("steps_trainable"),
    )
    trajectories = (
        frames["trajectories"]
        .filter(pl.col("agent") == cohort.agent)
        .join(facts, on="trajectory_id", how="left")
        .with_columns(pl.col("steps_found", "steps_trainable").fill_null(0))
        .join(gaps(steps, frames), on="trajectory_id", how="left")
    )
    scores = newest_scores(frames["scores"])
    for name in {condition.score for condition in cohort.where}:
        named = scores.filter(pl.col("name") == name)
        value = named.select("trajectory_id", pl.col("value").alias(f"score {name}"), pl.lit(True).alias(f"has {name}"))
        trajectories = trajectories.join(value, on="trajectory_id", how="left")
    return with_task_key(trajectories, steps, frames["messages"])


def mark_steps(steps: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Add ``loss_mask``: true where the cohort's agent acted in one of the cohort's roles, and without an error."""
    trained = pl.col("policy_role").is_in(list(cohort.roles)) & (pl.col("agent") == cohort.agent)
    trained &= pl.col("error_type").is_null()  # an answer that could not be read, say, is no example to follow
    return steps.with_columns(trained.alias("loss_mask"))


def gaps(steps: pl.LazyFrame, frames: Frames) -> pl.LazyFrame:
    """Return ``trajectory_id`` and ``gap``: the first step that is incomplete or names what the source lacks."""
    incomplete = steps.filter(~pl.col("complete")).select(
        "trajectory_id", "step_index", pl.col("incomplete_reason").fill_null("marked incomplete").alias("why")
    )
    messages = (
        _message_uses(steps)
        .join(frames["messages"], on="message_id", how="anti")
        .select("trajectory_id", "step_index", pl.format("message {} is not in the source", "message_id").alias("why"))
    )
    tools = (
        steps.filter(pl.col("tools_hash").is_not_null() & (pl.col("tools_hash") != _NO_TOOLS))
        .join(frames["tools"], on="tools_hash", how="anti")
        .select("trajectory_id", "step_index", pl.format("tools {} are not in the source", "tools_hash").alias("why"))
    )
    first = pl.format("step {}: {}", "step_index", "why").sort_by("step_index", "why").first()
    return pl.concat([incomplete, messages, tools]).group_by("trajectory_id").agg(first.alias("gap"))


def newest_scores(scores: pl.LazyFrame) -> pl.LazyFrame:
    """Return ``trajectory_id``, ``name``, ``value`` of whole trajectories' scores: the newest of each name."""
    order = ["scored_at", "evaluator", "evaluator_version", "value", "label", "explanation"]
    whole = scores.filter(pl.col("step_index").is_null())
    return whole.group_by("trajectory_id", "name").agg(pl.col("value").sort_by(order).last())


def with_task_key(trajectories: pl.LazyFrame, steps: pl.LazyFrame, messages: pl.LazyFrame) -> pl.LazyFrame:
    """Add ``task_key``: the task; else the first user message's id, so that equal requests are one; else the id."""
    named = pl.when(pl.col("task") != "").then("task")
    unnamed = trajectories.filter(named.is_null()).select("trajectory_id")
    users = messages.filter(pl.col("role") == "user").select("message_id")
    requests = (
        _message_uses(steps.join(unnamed, on="trajectory_id", how="semi"))
        .join(users, on="message_id", how="semi")
        .group_by("trajectory_id")
        .agg(pl.col("message_id").sort_by("step_index", "position").first().alias("request"))
    )
    joined = trajectories.join(requests, on="trajectory_id", how="left")
    return joined.with_columns(pl.coalesce(named, "request", "trajectory_id").alias("task_key"))


def complete(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what still runs, is marked incomplete, or has a step that is."""
    del cohort
    running = pl.when(pl.col("ended_at").is_null()).then(pl.lit("still running"))
    marked = pl.when(~pl.col("complete")).then(pl.coalesce("incomplete_reason", running, pl.lit("marked incomplete")))
    return trajectories.with_columns(pl.coalesce(marked, running, "gap").alias("complete_rule"))


def has_steps(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what has no steps, or not as many as it says."""
    del cohort
    fewer = pl.format("{} of {} steps are in the source", "steps_found", "step_count")
    why = (
        pl.when(pl.col("steps_found") == 0)
        .then(pl.lit("no steps"))
        .when(pl.col("steps_found") != pl.col("step_count"))
        .then(fewer)
    )
    return trajectories.with_columns(why.alias("steps_rule"))


def roles(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what has no step to train on."""
    why = pl.when(pl.col("steps_trainable") == 0).then(pl.lit(f"no step by {' or '.join(cohort.roles)}"))
    return trajectories.with_columns(why.alias("roles_rule"))


def tags(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what lacks one of the cohort's tags."""
    reasons = [
        pl.col("tags").map_elements(functools.partial(_tag_reason, key, value), return_dtype=pl.String)
        for key, value in cohort.tags.items()
    ]
    return trajectories.with_columns(pl.coalesce(*reasons, _NEVER).alias("tags_rule"))


def scores(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what misses one of the cohort's conditions."""
    return trajectories.with_columns(pl.coalesce(*map(_score_reason, cohort.where), _NEVER).alias("scores_rule"))


def min_steps(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what is too short."""
    why = pl.format(f"{{}} steps, wanted at least {cohort.min_steps}", "steps_found")
    return trajectories.with_columns(
        pl.when(pl.col("steps_found") < cohort.min_steps).then(why).alias("min_steps_rule")
    )


RULES: Final[Mapping[str, Rule]] = {
    "complete": complete,
    "steps": has_steps,
    "roles": roles,
    "tags": tags,
    "scores": scores,
    "min_steps": min_steps,
}
"""The rules in the order in which they are asked; the agent's name comes before all of them."""


def judge(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Ask every rule; add ``rule`` and ``reason``, null where the trajectory is kept."""
    for ask in RULES.values():
        trajectories = ask(trajectories, cohort)
    columns = {rule: pl.col(f"{rule}_rule") for rule in RULES}
    rules = [pl.when(column.is_not_null()).then(pl.lit(rule)) for rule, column in columns.items()]
    return trajectories.select(
        *TRAJECTORIES, "task_key", pl.coalesce(rules).alias("rule"), pl.coalesce(*columns.values()).alias("reason")
    )


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


def _message_uses(steps: pl.LazyFrame) -> pl.LazyFrame:
    """One row per trajectory and message: the step and the position at which it first stands."""
    position = pl.int_ranges(pl.col("state").list.len()).alias("position")
    uses = steps.select("trajectory_id", "step_index", pl.col("state").alias("message_id"), position)
    return (
        uses.explode("message_id", "position")
        .drop_nulls("message_id")
        .group_by("trajectory_id", "message_id")
        .agg(pl.col("step_index", "position").sort_by("step_index", "position").first())
    )


def _tag_reason(key: str, wanted: str, text: str) -> str | None:
    found = json.loads(text).get(key)
    if found is None:
        return f"tag {key} missing, wanted {wanted!r}"
    return None if found == wanted else f"tag {key} {found!r}, wanted {wanted!r}"


def _score_reason(condition: Condition) -> pl.Expr:
    name, value = condition.score, pl.col(f"score {condition.score}")
    missed = pl.concat_str(pl.lit(f"{name} "), value.cast(pl.String), pl.lit(f", wanted {condition.wanted}"))
    return (
        pl.when(pl.col(f"has {name}").is_null())
        .then(pl.lit(f"{name} missing"))
        .when(value.is_null())
        .then(pl.lit(f"{name} has no value"))
        .when(value.is_nan())
        .then(pl.lit(f"{name} is NaN"))
        .when(~_COMPARE[condition.operator](value, condition.value))
        .then(missed)
    )


def _with_split(kept: pl.DataFrame, cohort: CohortConfig) -> pl.DataFrame:
    unit = "task_key" if cohort.split.by == "task" else "trajectory_id"
    try:
        splits = split_tasks(kept[unit].unique().to_list(), cohort.split)
    except DatasetError as error:
        raise DatasetError(f"cohort {cohort.name!r}: {len(kept)} trajectories kept, but {error}") from error
    return kept.select(*TRAJECTORIES, "task_key", pl.col(unit).replace_strict(splits).alias("split"))


def _with_scores(kept: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    found: dict[str, dict[str, float | None]] = {}
    for trajectory, name, value in scores.select("trajectory_id", "name", pl.col("value").fill_nan(None)).iter_rows():
        found.setdefault(trajectory, {})[name] = value
    texts = [canonical_json(found.get(trajectory, {})) for trajectory in kept["trajectory_id"]]
    return kept.with_columns(pl.Series("scores", texts, dtype=pl.String))


def _contents(frames: Frames, cohort: CohortConfig, kept: pl.DataFrame) -> dict[str, pl.LazyFrame]:
    place = kept.lazy().select(
        "trajectory_id",
        pl.col("task_key").alias("task"),
        "tags",
        "outcome",
        "split",
        pl.int_range(pl.len()).alias("place"),
    )
    steps = (
        mark_steps(frames["steps"], cohort)
        .join(place, on="trajectory_id", how="inner")
        .sort("place", "step_index")
        .select(*STEPS, "task", "tags", "outcome", "split", "loss_mask")
    )
    return {
        "steps": steps,
        "messages": frames["messages"].join(_message_uses(steps), on="message_id", how="semi").sort("message_id"),
        "tools": frames["tools"].join(steps, on="tools_hash", how="semi").sort("tools_hash", "position"),
    }


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
