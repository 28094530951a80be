"""Tell steps one by one, each whole in itself, for whoever reads lines."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from imitrace_collector.sql_rendering import render_table

COLUMNS = {
    "trajectory_id": "trajectory_id",
    "step_index": "index",
    "decision": "decision",
    "agent": "agent",
    "policy_role": "role",
    "action_kind": "action_kind",
    "action_name": "tool_name",
    "action_arguments": "arguments",
    "action_message": "message",
    "observation": "observation",
    "state": "n_state_messages",
    "tools_hash": "offered_tools",
    "complete": "complete",
    "incomplete_reason": "incomplete_reason",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "error_type": "error",
}
"""Column of ``schema.STEPS`` -> key of a line."""

_SHOWN = ("trajectory_id", "index", "agent", "action", "observation", "state")

Json = dict[str, Any]
"""A JSON object."""


def offered_tools(tools: Iterable[pa.RecordBatch]) -> dict[str, list[str]]:
    """Return the names of each list of tools by its hash, from the rows of ``schema.TOOLS`` in order."""
    offered: dict[str, list[str]] = {}
    for batch in tools:
        for row in batch.to_pylist():
            offered.setdefault(row["tools_hash"], []).append(row["name"])
    return offered


def step_lines(steps: Iterable[pa.RecordBatch], offered: Mapping[str, Sequence[str]]) -> Iterator[Json]:
    """Yield an object for each step.

    Args:
        steps: rows with at least the columns of ``COLUMNS``.
        offered: the tools' names by hash; a list that nobody defined is null.
    """
    for batch in steps:
        lengths = pc.list_value_length(batch["state"])
        for row in batch.set_column(batch.schema.get_field_index("state"), "state", lengths).to_pylist():
            line = {key: row[column] for column, key in COLUMNS.items()}
            line["offered_tools"] = offered.get(row["tools_hash"]) if row["tools_hash"] else []
            line["arguments"] = _decoded(row["action_arguments"])
            yield line


def render_steps(lines: Iterable[Json]) -> str:
    """Return a line for each step under a line of headings."""
    rows = [
        (
            line["trajectory_id"],
            line["index"],
            line["agent"],
            _action(line),
            line["observation"],
            line["incomplete_reason"] or "complete",
        )
        for line in lines
    ]
    return render_table([name.upper() for name in _SHOWN], rows)


def _decoded(text: str | None) -> Any:  # any JSON value
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _action(line: Json) -> str:
    if line["action_kind"] == "message":
        return str(line["message"])
    return f"{line['tool_name']}({json.dumps(line['arguments'], ensure_ascii=False)})"
