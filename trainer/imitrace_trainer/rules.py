"""Hold the rules of curation: why a trajectory is not learnt from.

A rule is a pure function LazyFrame -> LazyFrame over the cohort's trajectories with what is known of them: it adds one
column of its name, holding why the trajectory is rejected, or null. The first rule that rejects is the one that counts.
"""

import functools
import json
import operator
from collections.abc import Callable, Mapping
from typing import Final

import polars as pl

from imitrace.schema import TRAJECTORIES
from imitrace_trainer.cohort import CohortConfig, Condition

Rule = Callable[[pl.LazyFrame, CohortConfig], pl.LazyFrame]

_COMPARE: Final[Mapping[str, Callable[[pl.Expr, float], pl.Expr]]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}
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


def roles(trajectories: pl.LazyFrame, cohort: CohortConfig) -> pl.LazyFrame:
    """Reject what has no step to train on."""
    why = pl.when(pl.col("steps_trainable") == 0).then(pl.lit(f"no step by {' or '.join(cohort.roles)}"))
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
