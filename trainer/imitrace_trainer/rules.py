"""Hold the rules of curation: why a trajectory is not learnt from.

A rule is a pure function LazyFrame -> LazyFrame over the cohort's trajectories with what is known of them: it adds one
column of its name, holding why the trajectory is rejected, or null. The first rule that rejects is the one that counts.
"""

import functools
import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

import polars as pl

from imitrace.canonical import text_hash
from imitrace.schema import TRAJECTORIES
from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.likeness import first_alike, unpacked

Rule = Callable[[pl.LazyFrame, CohortConfig], pl.LazyFrame]

_NEVER: Final = pl.lit(None, dtype=pl.String)


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


def retired_tools(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what calls a retired tool, where the cohort drops these."""
    why = pl.col("retired_tool") if cohort.retired_tools == "drop" else _NEVER
    return trajectories.with_columns(why.alias("retired_tools_rule"))


def roles(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what has no step to train on."""
    del cohort  # how it masks steps is in the reasons
    why = pl.when(pl.col("steps_trainable") == 0).then(pl.format("no step to learn from: {}", "masked"))
    return trajectories.with_columns(why.alias("roles_rule"))


def tags(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what lacks one of the cohort's tags."""
    reasons = [
        pl.col("tags").map_batches(functools.partial(_tag_reasons, key, value), return_dtype=pl.String)
        for key, value in cohort.tags.items()
    ]
    return trajectories.with_columns(pl.coalesce(*reasons, _NEVER).alias("tags_rule"))


def scores(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what misses one of the cohort's conditions."""
    return trajectories.with_columns(pl.coalesce(*map(_score_reason, cohort.where), _NEVER).alias("scores_rule"))


def step_scores(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what has too many steps that scores call wrong to learn from the rest."""
    if not cohort.mask_where:
        return trajectories.with_columns(_NEVER.alias("step_scores_rule"))
    wrong, trainable = pl.col("steps_wrong"), pl.col("steps_trainable")
    told = pl.format(
        f"{{}} of {{}} steps are called wrong by their scores, allowed is a share of {cohort.mask_cap:g}",
        wrong,
        trainable,
    )
    why = pl.when(wrong > cohort.mask_cap * trainable).then(told)
    return trajectories.with_columns(why.alias("step_scores_rule"))


def min_steps(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what is too short."""
    why = pl.format(f"{{}} steps, wanted at least {cohort.min_steps}", "steps_found")
    return trajectories.with_columns(
        pl.when(pl.col("steps_found") < cohort.min_steps).then(why).alias("min_steps_rule")
    )


def window(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what started before or after the cohort's time."""
    start = pl.col("started_at")
    early = pl.lit(cohort.since is not None) & (start < (cohort.since or 0))
    late = pl.lit(cohort.until is not None) & (start >= (cohort.until or 0))
    told = pl.from_epoch(start, "ns").dt.to_string("%Y-%m-%dT%H:%M:%SZ")
    why = (
        pl.when(early)
        .then(pl.format("started {}, too early", told))
        .when(late)
        .then(pl.format("started {}, too late", told))
    )
    return trajectories.with_columns(why.alias("window_rule"))


def licence(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what a policy did from which the cohort may not learn."""
    return trajectories.with_columns((pl.col("forbidden") if cohort.licences else _NEVER).alias("licence_rule"))


def personal_data(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what still holds personal data, unless that is only masked or counted."""
    if not cohort.personal_data or cohort.personal_data_action != "reject":
        return trajectories.with_columns(_NEVER.alias("personal_data_rule"))
    kind, count = (pl.element().struct.field(name) for name in ("kind", "count"))
    told = pl.col("personal").list.eval(pl.format("{} {}", kind, count)).list.join(", ")
    found = pl.when(pl.col("personal").is_not_null()).then(pl.format("holds {}", told))
    return trajectories.with_columns(found.alias("personal_data_rule"))


def quarantine(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what holds orders to the model, or a word that triggers a call."""
    if not cohort.quarantine:
        return trajectories.with_columns(_NEVER.alias("quarantine_rule"))
    planted = pl.format("word {} comes with rare call {}", "word", "call")
    return trajectories.with_columns(pl.coalesce("order", planted).alias("quarantine_rule"))


def repetition(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what goes round in circles."""
    if cohort.max_repeats is None:
        return trajectories.with_columns(_NEVER.alias("repetition_rule"))
    told = pl.format(
        "{} steps from step {} on {} times with the same results", "loop_period", "loop_step", "loop_times"
    )
    why = pl.when(pl.col("loop_times") > cohort.max_repeats).then(told)
    return trajectories.with_columns(why.alias("repetition_rule"))


def duplicates(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what is a copy of an earlier one that no rule before this rejects."""
    if cohort.duplicates is None:
        return trajectories.with_columns(_NEVER.alias("duplicates_rule"))
    alive = pl.all_horizontal(pl.selectors.ends_with("_rule").is_null()).alias("alive")
    told = pl.struct(alive, "started_at", "trajectory_id", "marks")
    copies = functools.partial(_copies, cohort.duplicates)
    return trajectories.with_columns(told.map_batches(copies, return_dtype=pl.String).alias("duplicates_rule"))


def caps(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what no rule before this rejects, but is one too many of its kind."""
    if not cohort.caps:
        return trajectories.with_columns(_NEVER.alias("caps_rule"))
    alive = pl.all_horizontal(pl.selectors.ends_with("_rule").is_null()).alias("alive")
    capped = functools.partial(_surplus, cohort.caps, cohort.split.seed)
    told = pl.struct(alive, "trajectory_id", "tags")
    return trajectories.with_columns(told.map_batches(capped, return_dtype=pl.String).alias("caps_rule"))


RULES: Final[Mapping[str, Rule]] = {
    "complete": complete,
    "steps": has_steps,
    "retired_tools": retired_tools,
    "roles": roles,
    "tags": tags,
    "scores": scores,
    "step_scores": step_scores,
    "min_steps": min_steps,
    "window": window,
    "licence": licence,
    "personal_data": personal_data,
    "quarantine": quarantine,
    "repetition": repetition,
    "duplicates": duplicates,
    "caps": caps,
}
"""The rules in the order in which they are asked; the agent's name comes before all of them."""


def judge(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Ask every rule; add ``rule`` and ``reason``, null where the trajectory is kept, and ``only_scores``.

    That is whether no rule but ``scores`` rejects it. What was found of personal data is passed on.
    """
    for ask in RULES.values():
        trajectories = ask(trajectories, cohort)
    columns = {rule: pl.col(f"{rule}_rule") for rule in RULES}
    rules = [pl.when(column.is_not_null()).then(pl.lit(rule)) for rule, column in columns.items()]
    others = [column.is_null() for rule, column in columns.items() if rule != "scores"]
    return trajectories.select(
        *TRAJECTORIES,
        "task_key",
        pl.coalesce(rules).alias("rule"),
        pl.coalesce(*columns.values()).alias("reason"),
        (columns["scores"].is_not_null() & pl.all_horizontal(others)).alias("only_scores"),
        pl.selectors.by_name("personal", "shown", require_all=False),
    )


def _tag_reasons(key: str, wanted: str, texts: pl.Series) -> pl.Series:
    """Read each distinct text once: trajectories share their tags."""
    distinct = texts.unique()
    reasons = [_tag_reason(key, wanted, text) for text in distinct]
    return texts.replace_strict(distinct, pl.Series(reasons, dtype=pl.String), return_dtype=pl.String)


def _tag_reason(key: str, wanted: str, text: str) -> str | None:
    found = json.loads(text).get(key)
    if found is None:
        return f"tag {key} missing, wanted {wanted!r}"
    return None if found == wanted else f"tag {key} {found!r}, wanted {wanted!r}"


def _score_reason(condition: Condition) -> pl.Expr:
    """Return why each misses a condition, by the columns that ``evidence`` adds of its score."""
    name = condition.score
    value, label = pl.col(f"score {name}"), pl.col(f"label {name}")
    asked, other = (label, value) if condition.of_label else (value, label)
    said = pl.format("{}", value) if condition.of_label else pl.format("'{}'", label)
    kinds = ("label", "value") if condition.of_label else ("value", "label")
    absent = pl.format(f"{{}} has no {kinds[0]}, only {kinds[1]} {{}}", pl.lit(name), said)
    told = pl.format("'{}'", label) if condition.of_label else value.cast(pl.String)
    missed = pl.concat_str(pl.lit(f"{name} "), told, pl.lit(f", wanted {condition.wanted}"))
    return (
        pl.when(pl.col(f"has {name}").is_null())
        .then(pl.lit(f"{name} missing"))
        .when(asked.is_null() & other.is_not_null())
        .then(absent)
        .when(asked.is_null())
        .then(pl.lit(f"{name} has no {kinds[0]}"))
        .when(pl.lit(value=not condition.of_label) & value.is_nan())
        .then(pl.lit(f"{name} is NaN"))
        .when(~condition.holds(asked))
        .then(missed)
    )


def _copies(least: float, told: pl.Series) -> pl.Series:
    """Return of what earlier one that is alive each is a copy."""
    rows = told.struct.unnest().with_row_index("row")
    living = rows.filter("alive").sort("started_at", "trajectory_id")
    firsts = first_alike(unpacked(living["marks"]), least)
    ids = living["trajectory_id"].to_list()
    reasons = [None if first is None else f"alike to {ids[first]}" for first in firsts]
    found = living.select("row", pl.Series("reason", reasons, dtype=pl.String))
    return rows.join(found, on="row", how="left", maintain_order="left")["reason"]


def _surplus(most: Mapping[str, int], seed: int, told: pl.Series) -> pl.Series:
    """Return of which tag's value each that is alive is one too many; which ones are drawn by the seed."""
    rows = told.struct.unnest()
    drawn = sorted(
        (text_hash(f"{seed}:{name}"), row, json.loads(tags))
        for row, (alive, name, tags) in enumerate(rows.select("alive", "trajectory_id", "tags").iter_rows())
        if alive
    )
    reasons: list[str | None] = [None] * len(rows)
    counts: Counter[tuple[str, str]] = Counter()
    for _, row, tags in drawn:
        kinds = [(tag, str(tags[tag])) for tag in most if tag in tags]
        full = next((kind for kind in kinds if counts[kind] >= most[kind[0]]), None)
        if full is None:
            counts.update(kinds)
        else:
            reasons[row] = f"more than {most[full[0]]} of {full[0]} {full[1]}"
    return pl.Series("caps_rule", reasons, dtype=pl.String)
