"""Assemble the raw spans of one trajectory into its rows: the same rows for any order and repetition of arrival."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from imitrace import semconv
from imitrace.canonical import canonical_json, content_hash
from imitrace.messages import Message
from imitrace_collector.normalize import (
    Attributes,
    Columns,
    SentStep,
    as_type,
    operation,
    read_attributes,
    read_step,
    source_of,
    trajectory_columns,
)
from imitrace_collector.rows import SpanRow

STILL_RUNNING = "still running"
UNKNOWN_AGENT = "unknown"

_Results = Mapping[str, Sequence[tuple[int, str]]]
"""Call id -> what came back, each with the time or the step at which it was known."""


@dataclass(frozen=True)
class Assembled:
    """Rows of the derived tables, by table; scores are derived apart."""

    trajectories: list[Columns] = field(default_factory=list)
    steps: list[Columns] = field(default_factory=list)
    messages: list[Columns] = field(default_factory=list)
    tools: list[Columns] = field(default_factory=list)


@dataclass(frozen=True)
class _Spans:
    """The spans of one trajectory, parsed and sorted by kind; the order of arrival is gone."""

    root: tuple[SpanRow, Attributes] | None
    steps: Mapping[int, Sequence[SentStep]]
    unnumbered: Sequence[SentStep]
    runs: _Results

    def ordered_steps(self) -> list[SentStep]:
        """Return every step span, by index, those without a usable one last."""
        return [step for index in sorted(self.steps) for step in self.steps[index]] + list(self.unnumbered)


def assemble(trajectory_id: str, spans: Iterable[SpanRow]) -> Assembled:
    """Return a trajectory's rows from all its raw spans; none when they hold neither a step nor the trajectory."""
    sent = _sort(spans)
    steps = sent.ordered_steps()
    if not steps and sent.root is None:
        return Assembled()
    trajectory = _trajectory_row(trajectory_id, sent)
    rows = _step_rows(trajectory_id, sent, trajectory["agent"])
    reasons = [*_trajectory_problems(sent, trajectory), *_step_problems(rows)]
    trajectory |= {
        "step_count": len(rows),
        "complete": not reasons,
        "incomplete_reason": "; ".join(reasons) or None,
    }
    messages = {row["message_id"]: row for step in steps for row in step.message_rows}
    tools = {row["tools_hash"] + str(row["position"]): row for step in steps for row in step.tool_rows}
    return Assembled([trajectory], rows, list(messages.values()), list(tools.values()))


def _sort(spans: Iterable[SpanRow]) -> _Spans:
    unique = {(span.trace_id, span.span_id): span for span in spans}
    roots: list[tuple[SpanRow, Attributes]] = []
    numbered: dict[int, list[SentStep]] = defaultdict(list)
    unnumbered: list[SentStep] = []
    runs: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for span in sorted(unique.values(), key=lambda span: (span.started_at, span.trace_id, span.span_id)):
        attributes = read_attributes(span)
        kind = operation(span, attributes)
        if kind == semconv.SPAN_TRAJECTORY:
            roots.append((span, attributes))
        elif kind == semconv.SPAN_TOOL:
            result = as_type(attributes.get(semconv.TOOL_CALL_RESULT), "string")
            if result is not None:
                runs[str(attributes.get(semconv.TOOL_CALL_ID))].append((span.started_at, result))
        elif kind == semconv.SPAN_STEP:
            step = read_step(span, attributes)
            index = step.columns["step_index"]
            (unnumbered if index is None or index < 0 else numbered[index]).append(step)
    # An agent called inside the trajectory is an invoke_agent span too; only the trajectory's own counts its steps.
    root = min(roots, key=lambda found: _announced(found[1]) is None, default=None)
    return _Spans(root, numbered, unnumbered, runs)


def _announced(attributes: Attributes) -> int | None:
    count: int | None = as_type(attributes.get(semconv.TRAJECTORY_STEP_COUNT), "int64")
    return count


def _trajectory_row(trajectory_id: str, sent: _Spans) -> Columns:
    steps = sent.ordered_steps()
    says = [trajectory_columns(step.attributes) for step in steps]
    first = steps[0].row if steps else None
    if sent.root is not None:
        first = sent.root[0]
        says.insert(0, trajectory_columns(sent.root[1]))
    assert first is not None  # noqa: S101 - the caller has seen a span
    columns = {name: next((said[name] for said in says if said[name]), None) for name in says[0]}
    return columns | {
        "trajectory_id": trajectory_id,
        "agent": columns["agent"] or as_type(json.loads(first.resource).get("service.name"), "string") or UNKNOWN_AGENT,
        "tags": columns["tags"] or "{}",
        "source": source_of(first),
        "started_at": first.started_at if sent.root else min(step.row.started_at for step in steps),
        "ended_at": first.ended_at if sent.root else None,
    }


def _trajectory_problems(sent: _Spans, trajectory: Columns) -> list[str]:
    """Say what is wrong with the whole; replaces what can't be used in ``trajectory`` by what can."""
    problems = [] if sent.root else [STILL_RUNNING]
    if sent.root:
        problems += _count_problems(_announced(sent.root[1]), sent.steps)
    if sent.unnumbered:
        problems.append(f"{len(sent.unnumbered)} step spans without a step index from 0")
    outcome = trajectory["outcome"]
    if outcome is not None and outcome not in semconv.OUTCOMES:
        problems.append(f"outcome is {outcome!r}, allowed: {', '.join(semconv.OUTCOMES)}")
        trajectory["outcome"] = None
    tags = _tags(trajectory["tags"])
    if tags is None:
        problems.append("tags are not a JSON object of strings")
    trajectory["tags"] = tags or "{}"
    return problems


def _count_problems(announced: int | None, steps: Mapping[int, object]) -> list[str]:
    if announced is None:
        return [f"its {semconv.SPAN_TRAJECTORY} span announces no step count, so a lost step would go unnoticed"]
    if announced != len(steps):
        return [f"{len(steps)} of {announced} steps arrived"]
    if steps and max(steps) >= announced:
        return [f"{announced} steps arrived, but the last has index {max(steps)}"]
    return []


def _tags(text: str) -> str | None:
    try:
        tags = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        return None
    return canonical_json(tags)


def _step_problems(rows: Sequence[Columns]) -> list[str]:
    broken = [row for row in rows if not row["complete"]]
    if not broken:
        return []
    more = f" ({len(broken) - 1} more steps incomplete)" if len(broken) > 1 else ""
    return [f"step {broken[0]['step_index']}: {broken[0]['incomplete_reason']}{more}"]


def _step_rows(trajectory_id: str, sent: _Spans, agent: str) -> list[Columns]:
    defined = {row["tools_hash"] for step in sent.ordered_steps() for row in step.tool_rows}
    responses = _responses(sent)
    rows: list[Columns] = []
    known: list[str] | None = []  # the state of the step before; None where it can't be told
    expected = 0
    for index in sorted(sent.steps):
        step, *others = sent.steps[index]
        known = known if index == expected else None
        expected = index + 1
        state, state_problem = _state(step, index, known)
        problems = [*step.problems, state_problem, _tools_problem(step, defined)]
        if others:
            problems.append(f"{len(others) + 1} different spans claim this step")
        reasons = "; ".join(filter(None, problems))
        known = None if step.payload_problem or state_problem or others else state
        row = step.row
        rows.append(
            step.columns
            | {
                "trajectory_id": trajectory_id,
                "agent": step.columns["agent"] or agent,
                "state": state,
                "observation": _observation(step, index, responses, sent.runs),
                "started_at": row.started_at,
                "ended_at": row.ended_at,
                "trace_id": row.trace_id,
                "span_id": row.span_id,
                "complete": not reasons,
                "incomplete_reason": reasons or None,
            }
        )
    return rows


def _state(step: SentStep, index: int, known: Sequence[str] | None) -> tuple[list[str], str | None]:
    """Return the ids of the messages before a decision, and why they are not all of them."""
    new = [row["message_id"] for row in step.message_rows]
    offset = 0 if step.offset is None and index == 0 else step.offset
    if offset is None:
        return new, "no message offset"
    if offset == 0:
        return new, None
    if known is None:
        return new, f"the {offset} messages before it are unknown, because an earlier step is missing or incomplete"
    if offset > len(known):
        return new, f"{offset} messages should come before it, {len(known)} are known"
    return [*known[:offset], *new], None


def _tools_problem(step: SentStep, defined: set[str]) -> str | None:
    tools_hash = step.columns["tools_hash"]
    if tools_hash is None or tools_hash in defined or tools_hash == content_hash([]):
        return None
    return f"tools {tools_hash} were offered, and no step defines them"


def _responses(sent: _Spans) -> _Results:
    """Return the tool results that stand in later steps' messages, by call id, each with that step's index."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for index in sorted(sent.steps):
        for step in sent.steps[index]:
            if step.payload_problem is None:
                for call_id, response in _responses_in(step.messages):
                    found[call_id].append((index, response))
    return found


def _responses_in(messages: Iterable[Message]) -> Iterable[tuple[str, str]]:
    for message in messages:
        for part in message["parts"]:
            if isinstance(part, dict) and part.get("type") == "tool_call_response":
                response = as_type(part.get("response"), "string")
                if response is not None:
                    yield str(part.get("id")), response


def _observation(step: SentStep, index: int, responses: _Results, runs: _Results) -> str | None:
    """Return what the action brought, by how well it is proven.

    The step's own result and a later step's messages are covered by a digest; an ``execute_tool`` span is not.
    """
    own: str | None = step.columns["observation"]
    call_id = step.columns["call_id"]
    if own is not None or call_id is None:
        return own
    later = [response for at, response in responses.get(call_id, ()) if at > index]
    ran = [result for _, result in sorted(runs.get(call_id, ()), key=lambda run: run[0] < step.row.started_at)]
    return next(iter([*later, *ran]), None)
