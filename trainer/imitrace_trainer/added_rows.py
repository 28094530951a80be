"""Put rows of our own making beside those that traces gave, in a dataset's tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from imitrace.canonical import canonical_json, content_hash
from imitrace.messages import Action, Message
from imitrace_trainer.curate import Curated
from imitrace_trainer.datasets import DATASET_TABLES
from imitrace_trainer.frames import empty

Rows = dict[str, list[dict[str, Any]]]
"""Rows by table; columns that a row lacks are null."""
_KEYS = {"steps": ("trajectory_id", "step_index"), "messages": ("message_id",), "tools": ("tools_hash", "position")}


def no_rows() -> Rows:
    """Return the tables that rows can be added to, empty."""
    return {"trajectories": [], **{name: [] for name in _KEYS}}


def with_rows(curated: Curated, rows: Rows) -> Curated:
    """Return what was curated with rows beside it, of which none is there already."""
    small = {table: table_of(table, found) for table, found in rows.items()}
    known = curated.trajectories.select("trajectory_id")
    new = small["trajectories"].join(known, on="trajectory_id", how="anti", maintain_order="left")
    trajectories = pl.concat([curated.trajectories, new.select(curated.trajectories.columns)])
    return replace(
        curated,
        trajectories=trajectories.sort("started_at", "trajectory_id"),
        steps=with_new(curated.steps, small["steps"], _KEYS["steps"]),
        messages=with_new(curated.messages, small["messages"], _KEYS["messages"]),
        tools=with_new(curated.tools, small["tools"], _KEYS["tools"]),
    )


def with_new(plan: pl.LazyFrame, rows: pl.DataFrame, keys: Sequence[str]) -> pl.LazyFrame:
    """Return a plan with rows behind it, of which none has keys that it has already."""
    if rows.is_empty():
        return plan
    names = plan.collect_schema().names()
    ordered = rows.select(names).unique(list(keys), keep="first").sort(list(keys))
    new = ordered.lazy().join(plan.select(keys), on=list(keys), how="anti", maintain_order="left")
    return pl.concat([plan, new])


def table_of(table: str, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Return rows as a table of a dataset."""
    columns = DATASET_TABLES[table]
    return pl.DataFrame([{name: row.get(name) for name in columns} for row in rows], schema=empty(columns).schema)


def message_rows(messages: Iterable[Message]) -> Iterator[dict[str, Any]]:
    """Yield messages as rows."""
    for said in messages:
        yield {"message_id": content_hash(said), "role": said["role"], "content": canonical_json(said)}


def tool_rows(tools: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the tools that were offered together as rows."""
    for place, tool in enumerate(tools):
        yield {
            "tools_hash": content_hash(list(tools)),
            "position": place,
            "name": tool["name"],
            "schema_hash": content_hash(tool),
            "definition": canonical_json(tool),
        }


def seen_columns(state: Sequence[str], tools_hash: str, action: Action) -> dict[str, Any]:  # columns of a row of steps
    """Return what a decision saw and what was decided, as a row of steps has them.

    Args:
        state: ids of the messages before it.
        tools_hash: of the tools offered.
        action: what was decided.
    """
    return {
        "state": list(state),
        "tools_hash": tools_hash,
        "action_kind": action.kind,
        "action_name": action.name,
        "action_arguments": canonical_json(action.arguments) if action.kind == "tool_call" else None,
        "action_message": action.message,
        "call_id": action.call_id,
    }
