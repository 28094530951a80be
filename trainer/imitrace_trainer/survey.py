"""Go once over the steps of an agent, a portion at a time, and keep of each trajectory what the rules ask.

A step's state is mostly the one before it and what came since. Only what came since is looked at, so that the work
grows with the messages and not with the square of a trajectory's length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy
import polars as pl

from imitrace.canonical import content_hash
from imitrace_trainer.cohort import TEACHERS, CohortConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.frames import gather
from imitrace_trainer.portions import portions
from imitrace_trainer.progress import Progress, silent

Frames = Mapping[str, pl.LazyFrame]

_NO_TOOLS: Final = content_hash([])
_SEEN: Final = ("trajectory_id", "step_index", "state", "tools_hash", "complete", "incomplete_reason")
_MARKS: Final = ("agent", "policy_role", "error_type", "tool_reason")
_FIRST_GAP: Final = ["gap_step", "gap_why"]
_TOLD: Final = 3
"""Reasons for masking that are told of a trajectory."""


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What one pass over the steps found; trajectories and messages are named by their row."""

    trajectories: pl.DataFrame
    """The agent's: the columns of ``schema.TRAJECTORIES``, ``number``, ``steps_found``, ``steps_trainable``, ``masked``
    (why steps may not be trained on, the most frequent first), ``gap`` (the first step that is incomplete or names what
    the source lacks), ``request`` (the first user message's id)."""
    messages: pl.DataFrame
    """Of all: ``message_id`` and ``role``, in the order of the ids."""
    uses: pl.DataFrame
    """``trajectory`` and ``message``, both numbers, of each message that a trajectory's steps see; some stand twice."""


def mark_steps(steps: pl.LazyFrame, cohort: CohortConfig, scores: pl.LazyFrame) -> pl.LazyFrame:
    """Add ``loss_mask``, true where a step may be trained on, and ``mask_reason``, why not.

    It may where the cohort's agent acted in one of the cohort's roles, without an error, and as its tools of today let
    it. A clone's own action may only where a person or the expert scored it as the cohort's ``confirmed`` asks: a clone
    is no teacher of clones.

    Args:
        steps: columns of ``schema.STEPS``, and ``tool_reason``; their order is kept.
        cohort: what may be trained on.
        scores: the table.
    """
    if cohort.confirmed is not None:
        right = _confirmed(scores, cohort.confirmed).with_columns(pl.lit(value=True).alias("confirmed"))
        steps = steps.join(right, on=["trajectory_id", "step_index"], how="left", maintain_order="left")
    else:
        steps = steps.with_columns(pl.lit(value=False).alias("confirmed"))
    cloned = (pl.col("policy_role") == "clone") & ~pl.col("confirmed").fill_null(value=False)
    taught = pl.col("policy_role").is_in(list(cohort.roles)) | pl.col("confirmed").fill_null(value=False)
    why = (
        pl.when(pl.col("agent") != cohort.agent)
        .then(pl.format("by agent {}", "agent"))
        .when(pl.col("error_type").is_not_null())  # an answer that could not be read, say, is no example to follow
        .then(pl.format("error {}", "error_type"))
        .when(pl.col("tool_reason").is_not_null())
        .then("tool_reason")
        .when(cloned)
        .then(pl.lit("by a clone, not confirmed"))
        .when(~taught)
        .then(pl.format("by {}", "policy_role"))
    )
    return steps.with_columns(why.is_null().alias("loss_mask"), why.alias("mask_reason")).drop("confirmed")


def masked(steps: pl.LazyFrame, out: pl.Expr, why: pl.Expr) -> pl.LazyFrame:
    """Set ``loss_mask`` false, and ``mask_reason`` to ``why``, on steps that could be trained on and are ``out``."""
    out = pl.col("loss_mask") & out
    reason = pl.when(out).then(why).otherwise("mask_reason")
    return steps.with_columns((pl.col("loss_mask") & ~out).alias("loss_mask"), reason.alias("mask_reason"))


def _confirmed(scores: pl.LazyFrame, condition: Condition) -> pl.LazyFrame:
    keys = ["trajectory_id", "step_index"]
    by_teacher = pl.col("evaluator").is_in(list(TEACHERS)) & (pl.col("name") == condition.score)
    of_steps = scores.filter(pl.col("step_index").is_not_null() & by_teacher)
    return newest(of_steps, keys).filter(condition.met()).select(keys)


def newest(scores: pl.LazyFrame, keys: Sequence[str]) -> pl.LazyFrame:
    """Return of the scores with the same keys the one given last; of those of one time always the same one."""
    order = ["scored_at", "evaluator", "evaluator_version", "value", "label", "explanation"]
    return scores.sort(order).unique(keys, keep="last", maintain_order=True)


def additions(steps: pl.LazyFrame) -> pl.LazyFrame:
    """Return the messages that each state has beyond the one before it: all, where it does not go on from that.

    Args:
        steps: ``trajectory_id``, ``step_index``, ``state``, in the order of the first two.

    Returns:
        ``trajectory_id``, ``step_index``, ``message_id``, in their order.
    """
    before = pl.col("state").shift(1)
    same = (pl.col("trajectory_id") == pl.col("trajectory_id").shift(1)).fill_null(value=False)
    known = pl.when(same).then(before.list.len()).otherwise(0)
    goes_on = (same & (pl.col("state").list.head(known) == before)).fill_null(value=False)
    new = pl.col("state").list.slice(pl.when(goes_on).then(known).otherwise(0))
    found = steps.select("trajectory_id", "step_index", new.alias("message_id"))
    return found.filter(pl.col("message_id").list.len() > 0).explode("message_id").drop_nulls("message_id")


def survey(frames: Frames, cohort: CohortConfig, progress: Progress = silent) -> Survey:
    """Look once at all steps of the cohort's agent.

    Args:
        frames: the tables of ``schema.TABLES`` by name, in the collector's order, as ``migrate`` gives them.
        cohort: whose trajectories, and which steps may be trained on.
        progress: is told how far it is.
    """
    own = frames["trajectories"].filter(pl.col("agent") == cohort.agent).sort("trajectory_id")
    role = pl.col("role").cast(pl.Categorical)
    found = gather(
        {
            "trajectories": own.with_row_index("number"),
            "messages": frames["messages"].select("message_id", role),
            "tools": frames["tools"].select(pl.col("tools_hash").unique()),
            "steps": frames["steps"].select(pl.len()),
        }
    )
    numbers = found["trajectories"].select("trajectory_id", "number")
    steps = frames["steps"].select(*_SEEN, *_MARKS)
    wanted = steps.join(numbers.lazy(), on="trajectory_id", how="inner", maintain_order="left")
    counted, masked, gaps, uses, requests = [], [], [], [], []
    known = Known(found["messages"])
    last, done, total = None, 0, max(1, found["steps"].item())
    for portion in portions(wanted, ["state"]):
        look = _Portion(portion, last, known, found["tools"]["tools_hash"])
        counts, why = look.counts(cohort, frames["scores"])
        counted.append(counts)
        masked.append(why)
        gaps.append(look.gaps())
        requests.append(look.requests())
        uses.append(look.uses())
        last = portion.select("trajectory_id", "step_index", "state").tail(1)
        done += len(portion)
        progress("look", done / total)
    facts = _together(pl.concat(counted), pl.concat(gaps), pl.concat(requests)) if counted else _no_facts()
    facts = facts.join(_reasons(pl.concat(masked)) if masked else _no_reasons(), on="number", how="left")
    trajectories = found["trajectories"].join(facts, on="number", how="left", maintain_order="left")
    return Survey(
        trajectories=trajectories.with_columns(pl.col("steps_found", "steps_trainable").fill_null(0)),
        messages=found["messages"],
        uses=pl.concat(uses) if uses else pl.DataFrame(schema={"trajectory": pl.UInt32, "message": pl.UInt32}),
    )


class _Portion:
    """Some steps, one after the other, and the step before them."""

    def __init__(self, steps: pl.DataFrame, last: pl.DataFrame | None, messages: "Known", tools: pl.Series) -> None:
        self._steps, self._tools, self._roles = steps, tools, messages.roles
        seen = steps.select("trajectory_id", "step_index", "state")
        new = additions((seen if last is None else pl.concat([last, seen])).lazy())
        if last is not None:  # what the step before added is known
            known = (pl.col("trajectory_id") == last["trajectory_id"]) & (pl.col("step_index") == last["step_index"])
            new = new.filter(~known)
        numbers = steps.select("trajectory_id", pl.col("number").alias("trajectory")).unique("trajectory_id")
        found = gather({"new": new.join(numbers.lazy(), on="trajectory_id", how="left", maintain_order="left")})["new"]
        self._new = found.with_columns(messages.places(found["message_id"]).alias("message"))

    def counts(self, cohort: CohortConfig, scores: pl.LazyFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Return how many steps each trajectory has and how many may be trained on; and how many not, by reason."""
        marked = mark_steps(self._steps.lazy(), cohort, scores)
        facts = [pl.len().cast(pl.Int64).alias("steps_found")]
        facts += [pl.col("loss_mask").sum().cast(pl.Int64).alias("steps_trainable")]
        why = marked.filter(~pl.col("loss_mask")).group_by("number", "mask_reason").len()
        found = gather({"facts": marked.group_by("number", maintain_order=True).agg(facts), "why": why})
        return found["facts"], found["why"]

    def gaps(self) -> pl.DataFrame:
        """Return ``number``, ``gap_step`` and ``gap_why`` of what is incomplete or missing."""
        steps, index = self._steps, pl.col("step_index").alias("gap_step")
        cut = pl.col("incomplete_reason").fill_null("marked incomplete").alias("gap_why")
        offered = pl.col("tools_hash").is_not_null() & (pl.col("tools_hash") != _NO_TOOLS)
        unknown = offered & ~pl.col("tools_hash").is_in(self._tools.implode())
        lost = pl.format("tools {} are not in the source", "tools_hash").alias("gap_why")
        unsaid = pl.format("message {} is not in the source", "message_id").alias("gap_why")
        missing = self._new.filter(pl.col("message").is_null())
        return pl.concat(
            [
                steps.filter(~pl.col("complete")).select("number", index, cut),
                steps.filter(unknown).select("number", index, lost),
                missing.select(pl.col("trajectory").alias("number"), index, unsaid),
            ]
        )

    def requests(self) -> pl.DataFrame:
        """Return ``number`` and ``request``, the first user message that is new here."""
        known = self._new.drop_nulls("message")
        asked = known.filter(self._roles.gather(known["message"]) == "user")
        first = asked.unique("trajectory", keep="first", maintain_order=True)
        return first.select(pl.col("trajectory").alias("number"), pl.col("message_id").alias("request"))

    def uses(self) -> pl.DataFrame:
        """Return the numbers of trajectories and of messages that their steps see."""
        return self._new.drop_nulls("message").select("trajectory", "message")


class Known:
    """The messages of a source, found again by id: a hash is looked up in the hashes' order, then ids are compared."""

    def __init__(self, messages: pl.DataFrame) -> None:
        """Take ``message_id``, in order, and ``role``."""
        self.roles = messages["role"]
        self._ids = messages["message_id"]
        hashes = self._ids.hash().to_numpy()
        self._order = numpy.argsort(hashes, kind="stable").astype(numpy.uint32)
        self._hashes = hashes[self._order]

    def places(self, wanted: pl.Series) -> pl.Series:
        """Return at which row each id stands, null where it does not."""
        if self._ids.is_empty() or wanted.is_empty():
            return pl.Series([None] * len(wanted), dtype=pl.UInt32)
        hashes = wanted.hash().to_numpy()
        ascending = numpy.argsort(hashes)  # neighbours are looked up one after the other, which spares the cache
        found = numpy.empty(len(hashes), dtype=numpy.uint32)
        found[ascending] = numpy.searchsorted(self._hashes, hashes[ascending])
        place = pl.Series(self._order[found.clip(max=len(self._order) - 1)])
        other = self._ids.gather(place) != wanted
        return self._searched(place, wanted, other) if other.any() else place

    def _searched(self, place: pl.Series, wanted: pl.Series, other: pl.Series) -> pl.Series:
        """Look for the ids themselves where a hash led to another: they are absent, or two have one hash."""
        rows = other.arg_true()
        ids = wanted.gather(rows)
        exact = self._ids.search_sorted(ids).clip(0, len(self._ids) - 1).cast(pl.UInt32)
        return place.scatter(rows, exact.set(self._ids.gather(exact) != ids, None))


def _together(counted: pl.DataFrame, gaps: pl.DataFrame, requests: pl.DataFrame) -> pl.DataFrame:
    first = gaps.sort("number", *_FIRST_GAP).unique("number", keep="first", maintain_order=True)
    gap = first.select("number", pl.format("step {}: {}", *_FIRST_GAP).alias("gap"))
    asked = requests.unique("number", keep="first", maintain_order=True)
    facts = counted.group_by("number").agg(pl.col("steps_found", "steps_trainable").sum())
    return facts.join(gap, on="number", how="left").join(asked, on="number", how="left")


def _reasons(masked: pl.DataFrame) -> pl.DataFrame:
    """Return ``number`` and ``masked``, of each trajectory the reasons in words."""
    counts = masked.group_by("number", "mask_reason").agg(pl.col("len").sum())
    ordered = counts.sort("number", "len", "mask_reason", descending=[False, True, False])
    each = pl.format("{} ({})", "mask_reason", "len").head(_TOLD).str.join("; ")
    more = pl.when(pl.len() > _TOLD).then(pl.format("; {} more reasons", pl.len() - _TOLD)).otherwise(pl.lit(""))
    return ordered.group_by("number", maintain_order=True).agg((each + more).alias("masked"))


def _no_reasons() -> pl.DataFrame:
    return pl.DataFrame(schema={"number": pl.UInt32, "masked": pl.String})


def _no_facts() -> pl.DataFrame:
    kinds = {"steps_found": pl.Int64, "steps_trainable": pl.Int64, "gap": pl.String, "request": pl.String}
    return pl.DataFrame(schema={"number": pl.UInt32, **kinds})
