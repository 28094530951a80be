"""Explain what became of other instrumentation: by service what was recognised, by trace how steps were made."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from imitrace.exceptions import WireError
from imitrace_collector.components import BYTES, Items, items_of
from imitrace_collector.foreign.assembly import assemble
from imitrace_collector.foreign.survey import Survey, survey, total
from imitrace_collector.reads import Json, NotFoundError
from imitrace_collector.store import Reader, Store

MOST_TRACES = 100_000
_OWN = "imitrace"
_SHOWN = ("trajectory_id", "agent", "source", "parent", "parent_step", "complete", "incomplete_reason")


def explain_services(store: Store, traces: int) -> Json:
    """Return by service and dialect what was recognised in the newest traces, what was not, and why.

    Raises:
        WireError: ``traces`` is none that is allowed.
    """
    if not 0 < traces <= MOST_TRACES:
        raise WireError(f"traces is {traces}, allowed: 1 to {MOST_TRACES}")
    with store.reader() as reader:
        newest = reader.raw.newest_traces(traces)
        found = total(survey(items.spans, items.logs) for items in _each(reader, newest))
        own = reader.rows(
            "SELECT coalesce(service, '') AS service, count(*) AS spans FROM spans WHERE trajectory_id IS NOT NULL "
            "GROUP BY ALL ORDER BY service"
        )
    return {"own": own, "traces": len(newest), **_as_json(found)}


def explain_trace(store: Store, trace_id: str) -> Json:
    """Return how each step of the trajectories that a trace belongs to was made, and from which spans.

    Raises:
        NotFoundError: nothing of it is stored.
    """
    with store.reader() as reader:
        if not reader.rows("SELECT trace_id FROM spans WHERE trace_id = $id LIMIT 1", id=trace_id):
            raise NotFoundError(f'no trace {trace_id!r} in the store; `imitrace sql "FROM spans"` lists what is there')
        own = reader.rows(
            "SELECT trajectory_id, step_index, span_id, complete, incomplete_reason FROM bare_steps "
            "WHERE trace_id = $id ORDER BY trajectory_id, step_index",
            id=trace_id,
        )
        traces = reader.links.together(trace_id)
        apart = reader.links.apart(traces)
        items = items_of(reader.raw, traces or [trace_id])
    spans = [span for one in items.values() for span in one.spans]
    logs = [log for one in items.values() for log in one.logs]
    derived = assemble(spans, logs, apart=apart)
    steps = {(row["trajectory_id"], row["step_index"]): row for rows in derived.trajectories for row in rows.steps}
    return {
        "trace_id": trace_id,
        "traces": traces,
        "own_steps": [] if steps else own,
        "trajectories": [
            {
                key: row[key]
                for key in (
                    "trajectory_id",
                    "agent",
                    "source",
                    "parent",
                    "parent_step",
                    "complete",
                    "incomplete_reason",
                )
            }
            for rows in derived.trajectories
            for row in rows.trajectories
        ],
        "steps": [
            {
                "trajectory_id": one.trajectory_id,
                "index": one.step_index,
                "action": _action(steps[one.trajectory_id, one.step_index]),
                "incomplete_reason": steps[one.trajectory_id, one.step_index]["incomplete_reason"],
                "copies": list(one.copies),
                "sides": [side._asdict() for side in one.sides],
            }
            for one in derived.origins
        ],
        **_as_json(survey(spans, logs)),
    }


def _each(reader: Reader, traces: Sequence[str]) -> Iterator[Items]:
    """Yield each trace's items, of so many at once as may be decoded together."""
    sizes = reader.raw.trace_sizes(traces) if traces else {}
    together: list[str] = []
    size = 0
    for trace in traces:
        own, _ = sizes[trace]
        if together and size + own > BYTES:
            yield from items_of(reader.raw, together).values()
            together, size = [], 0
        together.append(trace)
        size += own
    yield from items_of(reader.raw, together).values()


def _as_json(found: Survey) -> Json:
    return {"spoken": [one._asdict() for one in found.spoken], "unread": [one._asdict() for one in found.unread]}


def _action(step: Mapping[str, Any]) -> str:
    return str(step["action_name"] if step["action_kind"] == "tool_call" else step["action_kind"])


def render_services(found: Json) -> str:
    """Return what was recognised as text."""
    lines = [f"{one['service'] or '-'}: {_OWN}, {one['spans']} spans of our own" for one in found["own"]]
    for one in found["spoken"]:
        lines.append(f"{one['service'] or '-'}: {one['dialect']}, {one['spans']} spans ({', '.join(one['scopes'])})")
        lines.append(
            f"  {one['model_calls']} model calls: {one['with_content']} with content, {one['without_content']} without"
            f"; {one['tool_runs']} tool runs"
        )
        lines += [f"  {one['failed']} of those without ended with an error"] if one["failed"] else []
        lines += [f"  {one['without_answer']} say nothing of what was decided"] if one["without_answer"] else []
        lines += [f"  {one['silent_agents']} agents' runs tell of no model call"] if one["silent_agents"] else []
        lines += [f"  to send content: {one['switch']}"] if one["switch"] else []
    lines += [
        f"{one['service'] or '-'}: not read, {one['spans']} spans of {one['scope'] or 'an unnamed scope'}: {one['why']}"
        for one in found["unread"]
    ]
    return "\n".join(lines) or "nothing came in yet"


def render_trace(found: Json) -> str:
    """Return how steps were made as text."""
    together = f", with {len(found['traces']) - 1} more that belong to it" if len(found["traces"]) > 1 else ""
    lines = [f"trace {found['trace_id']}{together}"]
    for one in found["own_steps"]:
        why = one["incomplete_reason"] or "complete"
        lines.append(f"{one['trajectory_id']} step {one['step_index']}: {_OWN}'s own span {one['span_id']}, {why}")
    told = {one["trajectory_id"]: one for one in found["trajectories"]}
    for name, steps in groupby(found["steps"], key=lambda step: step["trajectory_id"]):
        lines += ["", _trajectory_line(told[name])]
        for step in steps:
            lines.append(f"  step {step['index']}  {step['action']}  {step['incomplete_reason'] or 'complete'}")
            lines += [f"    {_side(side)}" for side in step["sides"]]
            lines += [f"    copies, not counted: {', '.join(step['copies'])}"] if step["copies"] else []
    if not found["steps"] and not found["own_steps"]:
        lines += ["no steps are made of it", render_services({"own": [], **found})]
    return "\n".join(lines)


def _trajectory_line(one: Json) -> str:
    parent = f", called from step {one['parent_step']} of {one['parent']}" if one["parent"] else ""
    why = one["incomplete_reason"] or "complete"
    return f"trajectory {one['trajectory_id']}  agent {one['agent']}  {one['source']}{parent}  {why}"


def _side(side: Json) -> str:
    logs = f" and {side['logs']} log records" if side["logs"] else ""
    where = f", span {side['span_id']}{logs}" if side["span_id"] else ""
    return f"{side['side']}: {side['rule']}{where}"
