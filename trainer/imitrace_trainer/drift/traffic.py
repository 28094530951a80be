"""Gather both sides of a comparison as small tables: what a clone was trained on, and what came in since.

Recent trajectories are kept or left out by the rules that training's were chosen by, for a choice is no drift.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import polars as pl

from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.correction_rows import SOURCE as CORRECTED
from imitrace_trainer.curate import evidence, newest_scores
from imitrace_trainer.datasets import Dataset
from imitrace_trainer.drift.tool_sets import Offered
from imitrace_trainer.frames import gather
from imitrace_trainer.judged_rows import SOURCE as JUDGED
from imitrace_trainer.portions import settled
from imitrace_trainer.progress import Progress, silent
from imitrace_trainer.route_rules import cohort_of
from imitrace_trainer.rules import judge
from imitrace_trainer.survey import Frames, survey
from imitrace_trainer.tool_ledger import ToolRules
from imitrace_trainer.tool_migration import migrate

ROLES: Final = ("expert", "human", "clone")
"""Whose steps are compared."""

_UNSCORED: Final = (pl.col("rule") == "scores") & pl.col("reason").str.ends_with(" missing")
_REFUSED: Final = pl.col("rule").is_in(["scores", "step_scores"]) & ~_UNSCORED
_ORDER: Final = {
    "steps": ("trajectory_id", "step_index"),
    "messages": ("message_id",),
    "tools": ("tools_hash", "position"),
}
_SCORES: Final = {"trajectory_id": pl.String, "name": pl.String, "value": pl.Float64}
_STEPS: Final = ("trajectory_id", "step_index", "decision", "policy_role", "tools_hash")


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """One side."""

    trajectories: pl.DataFrame
    """By id: ``trajectory_id``, ``cohort``, ``tags``, ``outcome``, ``ended_at``, and ``unseen``: the clone was not
    fitted to it."""
    steps: pl.DataFrame
    """In order: ``trajectory_id``, ``step_index``, ``decision``, ``policy_role``, ``tools_hash``, and ``kind``: the
    tool or ``message``."""
    scores: pl.DataFrame
    """``trajectory_id``, ``name``, ``value`` of whole trajectories."""
    frames: Frames
    """Where states, messages and tools are read from."""
    refused: int
    """Trajectories that their scores keep out."""
    unscored: int = 0
    """Trajectories that the lack of a score keeps out."""

    def only(self, trajectories: Collection[str]) -> "Traffic":
        """Return the same of some trajectories."""
        ids = pl.DataFrame({"trajectory_id": sorted(trajectories)}, schema={"trajectory_id": pl.String})
        kept = {
            name: getattr(self, name).join(ids, on="trajectory_id", how="semi", maintain_order="left")
            for name in ("trajectories", "steps", "scores")
        }
        return replace(self, **kept)

    def drawn(self, most: int, seed: int) -> "Traffic":
        """Return the same of at most so many trajectories, drawn by a seed."""
        ids = self.trajectories["trajectory_id"].to_list()
        if len(ids) <= most:
            return self
        chosen = np.random.default_rng(seed).choice(len(ids), most, replace=False)
        return replace(self.only([ids[place] for place in chosen]), refused=round(self.refused * most / len(ids)))

    def offered(self) -> tuple[Offered, dict[str, str]]:
        """Return which tools trajectories offer, and definitions by hash."""
        lists = self.steps.select("trajectory_id", "tools_hash").drop_nulls().unique()
        wanted = lists.select("tools_hash").unique().lazy()
        tools = self.frames["tools"].join(wanted, on="tools_hash", how="semi")
        told = gather({"tools": tools.select("tools_hash", "name", "schema_hash", "definition")})["tools"]
        known = lists.select("trajectory_id").unique()
        ended = self.trajectories.join(known, on="trajectory_id", how="semi").sort("ended_at", "trajectory_id")
        places = ended.with_row_index("place").select("trajectory_id", pl.col("place").cast(pl.Int64))
        met = lists.join(told, on="tools_hash").join(places, on="trajectory_id")
        met = met.unique(["trajectory_id", "name", "schema_hash"])
        contracts = met.group_by("name", "schema_hash").len()
        by_tool = met.group_by("name").agg(pl.col("trajectory_id").n_unique(), len(known) - 1 - pl.col("place").max())
        found = Offered(
            trajectories=len(known),
            contracts={(name, schema): count for name, schema, count in contracts.iter_rows()},
            tools={name: count for name, count, _ in by_tool.iter_rows()},
            since={name: since for name, _, since in by_tool.iter_rows()},
        )
        return found, dict(told.select("schema_hash", "definition").iter_rows())


def training_traffic(dataset: Dataset, fitted: Collection[str]) -> Traffic:
    """Return what a clone was trained on, without what is no recorded traffic: labels, corrections, failures.

    Args:
        dataset: where it stands.
        fitted: the splits that its weights were fitted to.
    """
    trajectories = dataset.frame("trajectories").filter(
        ~pl.col("source").is_in([CORRECTED, JUDGED]) & pl.col("relabelled_from").is_null()
    )
    steps = _steps(dataset.frame("steps").join(trajectories.select("trajectory_id"), on="trajectory_id", how="semi"))
    found = gather(
        {
            "trajectories": trajectories.sort("trajectory_id"),
            "steps": steps,
            "refused": dataset.frame("rejected").filter(_REFUSED).select(pl.len()),
        }
    )
    kept = found["trajectories"]
    told = kept.select("trajectory_id", "scores").iter_rows()
    scores = [(one, name, value) for one, text in told for name, value in json.loads(text).items()]
    return Traffic(
        trajectories=_known(kept, ~pl.col("split").is_in(list(fitted))),
        steps=found["steps"],
        scores=pl.DataFrame(scores, schema=_SCORES, orient="row").drop_nulls("value"),
        refused=found["refused"].item(),
        frames={table: dataset.frame(table) for table in ("steps", "messages", "tools")},
    )


def recent_traffic(  # noqa: PLR0913 - what to read, by which rules, and from when to when
    frames: Frames,
    cohort: CohortConfig,
    rules: ToolRules,
    span: tuple[int, int],
    known: Collection[str],
    progress: Progress = silent,
) -> Traffic:
    """Return the trajectories that ended in a span of time, as the cohort's rules would choose them.

    Args:
        frames: the tables of a source by name.
        cohort: whose; its times, its caps and whom it may learn from do not count.
        rules: what was decided about the agent's tools.
        span: nanoseconds since 1970; a trajectory counts that ended after the first and not after the second.
        known: ids of trajectories that training saw; they are left out.
        progress: is told how far it is.
    """
    ended = (pl.col("ended_at") > span[0]) & (pl.col("ended_at") <= span[1]) & (pl.col("agent") == cohort.agent)
    ids = pl.DataFrame({"trajectory_id": sorted(known)}, schema={"trajectory_id": pl.String}).lazy()
    own = frames["trajectories"].filter(ended).join(ids, on="trajectory_id", how="anti")
    chosen = gather({"own": own.sort("trajectory_id")})["own"]
    of_own = {
        table: frames[table].join(chosen.lazy().select("trajectory_id"), on="trajectory_id", how="semi")
        for table in ("steps", "scores")
    }
    windowed = {**frames, **of_own, "trajectories": chosen.lazy()}
    brought = migrate(windowed, rules, cohort.agent)
    brought |= {table: settled(brought[table], keys) for table, keys in _ORDER.items()}
    judged = chosen.with_columns(pl.lit(None, pl.String).alias(name) for name in ("rule", "reason"))
    if len(chosen):
        judged = _judged(brought, cohort, progress)
    kept = judged.filter(pl.col("rule").is_null()).sort("trajectory_id")
    some = kept.lazy().select("trajectory_id")
    own_steps = brought["steps"].filter(pl.col("agent") == cohort.agent)
    found = gather(
        {
            "steps": _steps(own_steps.join(some, on="trajectory_id", how="semi")),
            "scores": newest_scores(frames["scores"]).join(some, on="trajectory_id", how="semi"),
        }
    )
    return Traffic(
        trajectories=_known(kept, pl.lit(value=True)),
        steps=found["steps"],
        scores=found["scores"].select("trajectory_id", "name", "value").drop_nulls("value"),
        refused=len(judged.filter(_REFUSED)),
        unscored=len(judged.filter(_UNSCORED)),
        frames=brought,
    )


def _judged(frames: Frames, cohort: CohortConfig, progress: Progress) -> pl.DataFrame:
    """Return the trajectories judged as if everything in them had been done by the expert."""
    asked = replace(cohort, since=None, until=None, caps={}, licences={}, personal_data=(), label_errors=None)
    cloned = pl.when(pl.col("policy_role") == "clone").then(pl.lit(asked.roles[0])).otherwise("policy_role")
    blind = {**frames, "steps": frames["steps"].with_columns(cloned.alias("policy_role"))}
    return gather({"judged": judge(evidence(blind, asked, survey(blind, asked, progress)), asked)})["judged"]


def _steps(steps: pl.LazyFrame) -> pl.LazyFrame:
    kind = pl.when(pl.col("action_kind") == "tool_call").then("action_name").otherwise(pl.lit("message"))
    own = steps.filter(pl.col("policy_role").is_in(ROLES) & pl.col("complete"))
    return own.select(*_STEPS, kind.fill_null("message").alias("kind")).sort("trajectory_id", "step_index")


def _known(trajectories: pl.DataFrame, unseen: pl.Expr) -> pl.DataFrame:
    cohorts = pl.Series("cohort", [cohort_of(json.loads(tags)) for tags in trajectories["tags"]], dtype=pl.String)
    named = trajectories.with_columns(cohorts, unseen.alias("unseen"))
    return named.select("trajectory_id", "cohort", "tags", "outcome", "ended_at", "unseen")
