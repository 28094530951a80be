"""Write trajectories as text for a terminal."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imitrace_collector.histories import new_in
from imitrace_collector.normalize import storable

_WIDTH = 100

Json = Mapping[str, Any]
"""A JSON object."""


def render_list(trajectories: Sequence[Json]) -> str:
    """Return one line for each trajectory, under a line of headings."""
    rows = [("TRAJECTORY", "AGENT", "TASK", "STEPS", "OUTCOME", "STATE")]
    rows += [
        (
            row["trajectory_id"],
            row["agent"],
            row["task"] or "-",
            str(row["step_count"]),
            row["outcome"] or "-",
            row["incomplete_reason"] or "complete",
        )
        for row in trajectories
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]]) for row in rows
    )


def render_losses(lost: Mapping[str, int]) -> str:
    """Return one line for each service that lost records; empty when none did."""
    told = "records on the way here; its trajectories may lack steps, and those that do are marked incomplete"
    return "\n".join(f"{storable(service)} lost {count} {told}" for service, count in lost.items())


def render_detail(detail: Json) -> str:
    """Return a trajectory step by step: what was new to the agent, what it did, what came back."""
    trajectory = detail["trajectory"]
    lines = [
        f"trajectory {trajectory['trajectory_id']}  agent {trajectory['agent']}  task {trajectory['task'] or '-'}",
        f"outcome {trajectory['outcome'] or '-'}  steps {trajectory['step_count']}  source {trajectory['source']}  "
        f"{trajectory['incomplete_reason'] or 'complete'}",
    ]
    lines += [_score_line(score) for score in detail["scores"]]
    seen: Sequence[str] = []
    for step in detail["steps"]:
        lines += ["", *_step_lines(step, seen, detail["messages"])]
        seen = step["state"]
    return "\n".join(lines)


def _score_line(score: Json) -> str:
    where = "" if score["step_index"] is None else f" of step {score['step_index']}"
    value = score["label"] if score["value"] is None else f"{score['value']:g}"
    return f"score {score['name']}{where}: {value}  ({score['evaluator'] or 'evaluator unknown'})"


def _step_lines(step: Json, seen: Sequence[str], messages: Json) -> Iterator[str]:
    policy = " ".join(filter(None, (step["policy_role"], step["policy_name"], step["policy_version"])))
    broken = "" if step["complete"] else f"  INCOMPLETE: {step['incomplete_reason']}"
    doubtful = f"  doubtful: {step['error_type']}" if step["error_type"] else ""
    yield f"step {step['step_index']}  {policy}{doubtful}{broken}"
    for message_id in new_in(step["state"], seen):
        message = messages[message_id]
        yield f"  {storable(message['role'])}: {_short(' '.join(map(_part_text, message['parts'])))}"
    if step["action_kind"] == "tool_call":
        yield f"  -> {step['action_name']} {_short(step['action_arguments'] or '')}"
    else:
        yield f"  -> says: {_short(step['action_message'] or '')}"
    if step["observation"] is not None:
        yield f"  <- {_short(step['observation'])}"


def _part_text(part: object) -> str:
    if not isinstance(part, Mapping):
        return str(part)
    if part.get("type") == "tool_call":
        return f"{part.get('name')} {json.dumps(part.get('arguments'), ensure_ascii=False)}"
    return str(part.get("content", part.get("response", "")))


def _short(text: str) -> str:
    line = storable(" ".join(text.split()))
    return line if len(line) <= _WIDTH else line[: _WIDTH - 3] + "..."
