"""Ask a clone about decisions of recorded trajectories: what it sees, how sure it is, and whether it agrees."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import polars as pl

from imitrace.messages import Action
from imitrace_trainer.drift.permutations import Floats
from imitrace_trainer.drift.present_features import present
from imitrace_trainer.drift.traffic import Traffic
from imitrace_trainer.encoding import state_features, view_state
from imitrace_trainer.family import Clone, act_on_all
from imitrace_trainer.frames import gather
from imitrace_trainer.policy import Decision, State, same_action
from imitrace_trainer.progress import Progress

_AT_ONCE = 64
_READINGS = 2_000
_ACTION = ("action_kind", "action_name", "action_arguments", "action_message")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a clone said of decisions; one row each."""

    trajectories: list[str]
    cohorts: list[str]
    features: list[frozenset[int]]
    """The hashed features of its state, those that training never had among them."""
    confidence: Floats
    distance: Floats
    """From the training states, in units of the accepted limit."""
    agrees: Floats
    """1 where the expert did the same, 0 where another thing, not a number where no expert acted."""
    tools: list[str | None]
    """What the clone would call; None: a message."""


@dataclass(frozen=True)
class _Question:
    trajectory: str
    cohort: str
    state: State
    made: list[Action]
    expert: bool


def ask(clone: Clone, traffic: Traffic, decisions: int, seed: int, progress: Progress) -> Asked:
    """Return what a clone says of a few decisions of each trajectory, drawn by a seed.

    Args:
        clone: the champion.
        traffic: the trajectories.
        decisions: most of each trajectory.
        seed: draws them.
        progress: is told how far it is.
    """
    clone.reader.limit = _READINGS
    questions = list(_questions(traffic, decisions, seed))
    found: list[frozenset[int]] = []
    said: list[Decision] = []
    for start in range(0, len(questions), _AT_ONCE):
        some = questions[start : start + _AT_ONCE]
        views = [view_state(one.state.messages, one.state.tools, clone.reader) for one in some]
        found += [frozenset(chain.from_iterable(state_features(view).values())) for view in views]
        said += act_on_all(clone, [one.state for one in some])
        progress("ask", (start + len(some)) / len(questions))
    agrees = [
        float(any(same_action(decision.action, made) for made in one.made)) if one.expert else np.nan
        for one, decision in zip(questions, said, strict=True)
    ]
    return Asked(
        trajectories=[one.trajectory for one in questions],
        cohorts=[one.cohort for one in questions],
        features=found,
        confidence=np.array([decision.confidence for decision in said], dtype=np.float64),
        distance=np.array([decision.ood for decision in said], dtype=np.float64),
        agrees=np.array(agrees, dtype=np.float64),
        tools=[decision.action.name if decision.action.kind == "tool_call" else None for decision in said],
    )


def features(before: Asked, now: Asked) -> tuple[list[str], Floats]:
    """Return which features the states of each trajectory hold, see ``present_features``.

    Returns:
        The trajectories, training's first, and 1 where one has a feature, shape (trajectories, features).
    """
    held: dict[str, set[int]] = {}
    for asked in (before, now):
        for trajectory, some in zip(asked.trajectories, asked.features, strict=True):
            held.setdefault(trajectory, set()).update(some)
    return list(held), present(list(held.values()))


def _questions(traffic: Traffic, decisions: int, seed: int) -> Iterator[_Question]:
    wanted = _drawn(traffic, decisions, seed)
    keys = ["trajectory_id", "step_index"]
    steps = traffic.frames["steps"].select("trajectory_id", "step_index", "decision", "state", "tools_hash", *_ACTION)
    mine = ["trajectory_id", "decision"]
    rows = gather({"rows": steps.join(wanted.lazy().select(mine).unique(), on=mine, how="semi")})["rows"]
    messages = _texts(traffic, rows)
    tools = _tools(traffic, rows)
    made: dict[tuple[str, str], list[Action]] = {}
    for row in rows.iter_rows(named=True):
        made.setdefault((row["trajectory_id"], row["decision"]), []).append(_action(row))
    told = traffic.trajectories.select("trajectory_id", "cohort", "tags").iter_rows()
    known = {trajectory: (cohort, json.loads(tags)) for trajectory, cohort, tags in told}
    states = rows.select(*keys, "state", "tools_hash")
    for row in wanted.join(states, on=keys, how="inner", maintain_order="left", suffix="_then").iter_rows(named=True):
        trajectory = row["trajectory_id"]
        cohort, tags = known[trajectory]
        seen = [messages[name] for name in row["state"] if name in messages]
        state = State(seen, tools.get(row["tools_hash"], []), tags)
        expert = row["policy_role"] in ("expert", "human")
        yield _Question(trajectory, cohort, state, made[trajectory, row["decision"]], expert)


def _drawn(traffic: Traffic, decisions: int, seed: int) -> pl.DataFrame:
    """Return the first steps of a few decisions of each trajectory, in order."""
    first = traffic.steps.unique(["trajectory_id", "decision"], keep="first", maintain_order=True)
    draw = pl.Series("draw", np.random.default_rng(seed).random(len(first)))
    ranked = first.with_columns(draw).with_columns(pl.col("draw").rank("ordinal").over("trajectory_id").alias("rank"))
    return ranked.filter(pl.col("rank") <= decisions).select(*traffic.steps.columns)


def _texts(traffic: Traffic, rows: pl.DataFrame) -> dict[str, Any]:  # JSON
    names = rows.select(pl.col("state").explode().alias("message_id")).unique().drop_nulls().lazy()
    found = gather({"messages": traffic.frames["messages"].join(names, on="message_id", how="semi")})["messages"]
    return {name: json.loads(content) for name, content in found.select("message_id", "content").iter_rows()}


def _tools(traffic: Traffic, rows: pl.DataFrame) -> dict[str | None, list[dict[str, Any]]]:  # JSON schemas
    wanted = rows.select("tools_hash").unique().lazy()
    found = gather({"tools": traffic.frames["tools"].join(wanted, on="tools_hash", how="semi")})["tools"]
    tools: dict[str | None, list[dict[str, Any]]] = {}
    for name, definition in found.sort("tools_hash", "position").select("tools_hash", "definition").iter_rows():
        tools.setdefault(name, []).append(json.loads(definition))
    return tools


def _action(row: Mapping[str, Any]) -> Action:
    arguments = json.loads(row["action_arguments"] or "{}")
    return Action(row["action_kind"], row["action_name"], arguments, row["action_message"])
