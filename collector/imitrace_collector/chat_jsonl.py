"""Turn a line of chat JSONL into the spans that our SDK would have sent; ids and times follow from what it says."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from imitrace import semconv
from imitrace.canonical import canonical_json, content_hash, step_digest
from imitrace.exceptions import WireError
from imitrace.messages import Action, Message, decisions, from_openai
from imitrace_collector.normalize import IMPORT_SCOPE, storable

SOURCE = "chat-jsonl"
REWARD_SCORE = "TaskCompletion"
REWARD_EVALUATOR = "import:reward"
SCORE_EVALUATOR = "import:scores"

_SECOND = 1_000_000_000
_FIRST_DAY = 946_684_800 * _SECOND  # 2000-01-01 UTC: lines carry no times, so theirs are plainly made up
_BETWEEN_LINES = 3600 * _SECOND

Attributes = dict[str, str | int | float]
Json = Mapping[str, Any]
"""A JSON object."""


@dataclass(frozen=True, kw_only=True)
class ImportedTrajectory:
    """One line as spans, and what was counted in it."""

    trajectory_id: str
    trace_id: str
    spans: ResourceSpans
    steps: int
    scores: int


@dataclass(frozen=True, kw_only=True)
class _Line:
    trajectory_id: str
    trace_id: str
    started_at: int
    agent: str
    model: str | None
    task: str | None
    tags: dict[str, str]
    outcome: str | None
    scores: dict[str, tuple[float, str]]
    messages: list[Message]


def read_line(line: Json, position: int, agent: str | None, tools: Sequence[Json]) -> ImportedTrajectory:
    """Return a line's spans.

    Args:
        line: ``id``, ``messages``, and optionally ``agent``, ``task_id``, ``model``, ``reward``, ``scores``, ``tags``.
        position: of the line in its file, from 0; gives the trajectory its time.
        agent: name that overrules the line's.
        tools: the definitions offered at every step, as ``messages.tool_definition`` returns them.

    Raises:
        WireError: the line is not of that form.
    """
    read = _read(line, position, agent, tools)
    steps = list(_steps(read, tools))
    spans = [_trajectory_span(read, len(steps))]
    spans += [_step_span(read, index, attributes) for index, attributes in enumerate(steps)]
    scope = InstrumentationScope(name=IMPORT_SCOPE + SOURCE)
    return ImportedTrajectory(
        trajectory_id=read.trajectory_id,
        trace_id=read.trace_id,
        spans=ResourceSpans(scope_spans=[ScopeSpans(scope=scope, spans=spans)]),
        steps=len(steps),
        scores=len(read.scores),
    )


def _read(line: Json, position: int, agent: str | None, tools: Sequence[Json]) -> _Line:
    if not isinstance(line, Mapping):
        raise WireError("it is not a JSON object")
    if not isinstance(line.get("id"), str | int) or line["id"] == "":
        raise WireError(f"'id' is {line.get('id')!r}, expected text")
    if not isinstance(line.get("messages"), list) or not line["messages"]:
        raise WireError("'messages' is missing or empty, expected a list of chat messages")
    name = agent or line.get("agent")
    if not isinstance(name, str) or not name:
        raise WireError("no agent is named; give --agent, or 'agent' in the line")
    tags = line.get("tags") or {}
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise WireError("'tags' is no object of texts")
    reward = _number("reward", line.get("reward"))
    told = ("messages", "task_id", "model", "reward", "scores", "tags")
    content = [{key: line.get(key) for key in told}, list(tools)]
    return _Line(
        trajectory_id=storable(str(line["id"])),
        trace_id=content_hash([name, str(line["id"]), content]),
        started_at=_FIRST_DAY + position * _BETWEEN_LINES,
        agent=storable(name),
        model=_text(line.get("model")),
        task=_text(line.get("task_id")),
        tags=tags,
        outcome=None if reward is None else "success" if reward >= 1 else "failure",
        scores=_scores(line, reward),
        messages=[from_openai(message) for message in line["messages"]],
    )


def _scores(line: Json, reward: float | None) -> dict[str, tuple[float, str]]:
    """Return value and evaluator by name; a reward is a score like any other."""
    given = line.get("scores") or {}
    if not isinstance(given, dict):
        raise WireError("'scores' is no object of numbers")
    scores: dict[str, tuple[float, str]] = {}
    if reward is not None:
        scores[REWARD_SCORE] = (reward, REWARD_EVALUATOR)
    for name, value in given.items():
        number = _number(f"scores.{name}", value)
        if number is not None:
            scores[storable(name)] = (number, SCORE_EVALUATOR)
    return scores


def _number(name: str, value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise WireError(f"'{name}' is {value!r}, expected a number")
    return float(value)


def _text(value: object) -> str | None:
    return None if value is None else storable(value if isinstance(value, str) else canonical_json(value))


def _steps(line: _Line, tools: Sequence[Json]) -> Iterator[Attributes]:
    """Yield each action's attributes: messages that are new since the step before, tools with the first."""
    definitions = storable(canonical_json(list(tools)))
    known = 0
    first = True
    for number, decision in enumerate(decisions(line.messages)):
        for action in decision.actions:
            attributes = _common(line) | {
                semconv.STEP_DECISION: str(number),
                semconv.STEP_MESSAGES: storable(canonical_json(line.messages[known : decision.position])),
                semconv.STEP_MESSAGES_OFFSET: known,
                semconv.POLICY_ROLE: "expert",
                semconv.STEP_ACTION_KIND: action.kind,
            }
            if line.model:
                attributes[semconv.POLICY_NAME] = line.model
            if tools:
                attributes[semconv.STEP_TOOLS_HASH] = content_hash(list(tools))
            if tools and first:
                attributes[semconv.TOOL_DEFINITIONS] = definitions
            attributes |= _action(action, line.messages[decision.position :])
            known, first = decision.position, False
            yield attributes


def _action(action: Action, after: Sequence[Message]) -> Attributes:
    if action.kind == "message":
        return {semconv.STEP_MESSAGE: storable(action.message or "")}
    attributes: Attributes = {
        semconv.TOOL_NAME: storable(action.name or ""),
        semconv.TOOL_CALL_ARGUMENTS: storable(canonical_json(action.arguments)),
    }
    if action.call_id is None:
        return attributes
    attributes[semconv.TOOL_CALL_ID] = storable(str(action.call_id))
    parts = (part for message in after for part in message["parts"] if isinstance(part, Mapping))
    results = (part for part in parts if part.get("type") == "tool_call_response" and part.get("id") == action.call_id)
    result = _text(next(results, {}).get("response"))
    return attributes if result is None else attributes | {semconv.TOOL_CALL_RESULT: result}


def _common(line: _Line) -> Attributes:
    return {semconv.TRAJECTORY_ID: line.trajectory_id, semconv.AGENT_NAME: line.agent}


def _trajectory_span(line: _Line, steps: int) -> Span:
    attributes = _common(line) | {
        semconv.OPERATION: semconv.SPAN_TRAJECTORY,
        semconv.TRAJECTORY_STEP_COUNT: steps,
        semconv.TRAJECTORY_TAGS: storable(canonical_json(line.tags)),
    }
    if line.task is not None:
        attributes[semconv.TRAJECTORY_TASK] = line.task
    if line.outcome is not None:
        attributes[semconv.TRAJECTORY_OUTCOME] = line.outcome
    ended_at = line.started_at + max(steps, 1) * _SECOND
    return Span(
        trace_id=bytes.fromhex(line.trace_id),
        span_id=_span_id(line, "trajectory"),
        name=f"{semconv.SPAN_TRAJECTORY} {line.agent}",
        start_time_unix_nano=line.started_at,
        end_time_unix_nano=ended_at,
        attributes=_pairs(attributes),
        events=[_score_event(name, *score, ended_at) for name, score in line.scores.items()],
    )


def _score_event(name: str, value: float, evaluator: str, time: int) -> Span.Event:
    attributes: Attributes = {
        semconv.SCORE_NAME: name,
        semconv.SCORE_VALUE: value,
        semconv.SCORE_EVALUATOR: evaluator,
    }
    return Span.Event(name=semconv.EVENT_SCORE, time_unix_nano=time, attributes=_pairs(attributes))


def _step_span(line: _Line, index: int, attributes: Attributes) -> Span:
    attributes = attributes | {semconv.STEP_INDEX: index, semconv.STEP_DIGEST: step_digest(attributes)}
    return Span(
        trace_id=bytes.fromhex(line.trace_id),
        span_id=_span_id(line, f"step {index}"),
        parent_span_id=_span_id(line, "trajectory"),
        name=semconv.SPAN_STEP,
        start_time_unix_nano=line.started_at + index * _SECOND,
        end_time_unix_nano=line.started_at + (index + 1) * _SECOND,
        attributes=_pairs(attributes),
    )


def _span_id(line: _Line, part: str) -> bytes:
    return bytes.fromhex(content_hash([line.trace_id, part]))[:8]


def _pairs(attributes: Attributes) -> list[KeyValue]:
    return [KeyValue(key=key, value=_any_value(value)) for key, value in attributes.items()]


def _any_value(value: str | int | float) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)
