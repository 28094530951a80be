"""Write a conversation as the spans that our SDK would have sent; ids follow from what it says, so it is kept once."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from imitrace import semconv
from imitrace.canonical import canonical_json, content_hash, step_digest
from imitrace.messages import Action, Message
from imitrace_collector.imports.conversations import Conversation, Decision, count, text
from imitrace_collector.normalize import IMPORT_SCOPE, storable

_SECOND = 1_000_000_000
_FIRST_DAY = 946_684_800 * _SECOND  # 2000-01-01 UTC: what carries no times gets one that is plainly made up
_BETWEEN_ROWS = 3600 * _SECOND

Attributes = dict[str, str | int | float]


@dataclass(frozen=True, kw_only=True)
class ImportedTrajectory:
    """A conversation as spans, and what was counted in it."""

    trajectory_id: str
    trace_id: str
    spans: ResourceSpans
    steps: int
    scores: int


class _Results:
    """What tool calls brought, out of the messages that came after them."""

    def __init__(self, conversation: Conversation) -> None:
        self._by_id: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self._nameless: dict[int, list[str]] = defaultdict(list)
        later = [*(decision.messages for decision in conversation.decisions), conversation.after]
        for place, messages in enumerate(later):
            for call_id, result in _responses(messages):
                if call_id is None:
                    self._nameless[place].append(result)
                else:
                    self._by_id[call_id].append((place, result))
        for found in self._by_id.values():
            found.reverse()

    def of(self, place: int, actions: Sequence[Action]) -> list[str | None]:
        """Return each action's result: by its id, or by order where calls have none; asked in order of place."""
        nameless = iter(self._nameless.get(place + 1, ()))
        return [self._one(place, action, nameless) if action.kind == "tool_call" else None for action in actions]

    def _one(self, place: int, action: Action, nameless: Iterator[str]) -> str | None:
        if action.call_id is None:
            return next(nameless, None)
        found = self._by_id.get(str(action.call_id), [])
        while found and found[-1][0] <= place:
            found.pop()
        return found[-1][1] if found else None


def conversation_spans(conversation: Conversation, source: str) -> ImportedTrajectory:
    """Return a conversation's spans.

    Args:
        conversation: what a reader found.
        source: name of the format; becomes the trajectory's source.
    """
    steps = list(_steps(conversation))
    told = steps if conversation.content is None else conversation.content
    trace_id = content_hash([conversation.agent, conversation.trajectory_id, told])
    started_at = conversation.started_at
    if started_at is None:
        started_at = _FIRST_DAY + conversation.position * _BETWEEN_ROWS
    times = list(_times(conversation, started_at))
    spans = [_root(conversation, trace_id, (started_at, times))]
    spans += [_step(trace_id, index, *told) for index, told in enumerate(zip(times, steps, strict=True))]
    scope = InstrumentationScope(name=IMPORT_SCOPE + source)
    return ImportedTrajectory(
        trajectory_id=conversation.trajectory_id,
        trace_id=trace_id,
        spans=ResourceSpans(scope_spans=[ScopeSpans(scope=scope, spans=spans)]),
        steps=len(steps),
        scores=len(conversation.scores),
    )


def key_values(attributes: Mapping[str, Any]) -> list[KeyValue]:
    """Return attributes as OTLP has them."""
    return [KeyValue(key=key, value=_any_value(value)) for key, value in attributes.items()]


def _steps(conversation: Conversation) -> Iterator[Attributes]:
    """Yield each action's attributes: messages that are new since the step before, tools where they change."""
    results = _Results(conversation)
    offered: str | None = None
    for place, decision in enumerate(conversation.decisions):
        found = results.of(place, decision.actions)
        for number, (action, result) in enumerate(zip(decision.actions, found, strict=True)):
            attributes = _named(conversation) | {
                semconv.STEP_DECISION: str(place),
                semconv.STEP_MESSAGES: storable(canonical_json(decision.messages if number == 0 else [])),
                semconv.STEP_MESSAGES_OFFSET: decision.offset + (len(decision.messages) if number else 0),
                semconv.POLICY_ROLE: "expert",
            }
            attributes |= _facts(decision, number)
            if decision.facts.tools:
                attributes[semconv.STEP_TOOLS_HASH] = tools_hash = content_hash(list(decision.facts.tools))
                if tools_hash != offered:
                    attributes[semconv.TOOL_DEFINITIONS] = storable(canonical_json(list(decision.facts.tools)))
                    offered = tools_hash
            attributes |= _action(action, result)
            yield attributes


def _facts(decision: Decision, number: int) -> Attributes:
    """Return what is known of an answer; its tokens stand on its first step alone."""
    facts = decision.facts
    known: dict[str, str | int | None] = {
        semconv.POLICY_NAME: facts.model or None,
        semconv.ERROR_TYPE: facts.error_type,
        semconv.INPUT_TOKENS: count(facts.input_tokens) if number == 0 else None,
        semconv.OUTPUT_TOKENS: count(facts.output_tokens) if number == 0 else None,
    }
    return {
        name: storable(value) if isinstance(value, str) else value for name, value in known.items() if value is not None
    }


def _action(action: Action, result: str | None) -> Attributes:
    attributes: Attributes = {semconv.STEP_ACTION_KIND: action.kind}
    if action.kind == "message":
        return attributes | {semconv.STEP_MESSAGE: storable(action.message or "")}
    attributes[semconv.TOOL_NAME] = storable(action.name or "")
    attributes[semconv.TOOL_CALL_ARGUMENTS] = storable(canonical_json(action.arguments))
    if action.call_id is not None:
        attributes[semconv.TOOL_CALL_ID] = storable(str(action.call_id))
    return attributes if result is None else attributes | {semconv.TOOL_CALL_RESULT: result}


def _responses(messages: Iterable[Message]) -> Iterator[tuple[str | None, str]]:
    for message in messages:
        for part in message["parts"]:
            if isinstance(part, Mapping) and part.get("type") == "tool_call_response":
                result = text(part.get("response"))
                if result is not None:
                    yield None if part.get("id") is None else str(part["id"]), result


def _named(conversation: Conversation) -> Attributes:
    return {semconv.TRAJECTORY_ID: conversation.trajectory_id, semconv.AGENT_NAME: conversation.agent}


def _times(conversation: Conversation, started_at: int) -> Iterator[int]:
    """Yield when each step was taken; without a time of its own, a second after the step before it."""
    at = started_at - _SECOND
    for decision in conversation.decisions:
        for number in range(len(decision.actions)):
            own = decision.facts.at if number == 0 else None
            at = own if own is not None else at + (_SECOND if decision.facts.at is None else 0)
            yield at


def _root(conversation: Conversation, trace_id: str, times: tuple[int, Sequence[int]]) -> Span:
    started_at, steps = times
    attributes = _named(conversation) | {
        semconv.OPERATION: semconv.SPAN_TRAJECTORY,
        semconv.TRAJECTORY_STEP_COUNT: len(steps),
        semconv.TRAJECTORY_TAGS: storable(canonical_json(conversation.tags)),
    }
    said = {
        semconv.AGENT_VERSION: conversation.agent_version,
        semconv.TRAJECTORY_TASK: conversation.task,
        semconv.TRAJECTORY_OUTCOME: conversation.outcome,
    }
    attributes |= {name: storable(value) for name, value in said.items() if value is not None}
    ended_at = max(steps, default=started_at) + _SECOND
    return Span(
        trace_id=bytes.fromhex(trace_id),
        span_id=_span_id(trace_id, "trajectory"),
        name=f"{semconv.SPAN_TRAJECTORY} {conversation.agent}",
        start_time_unix_nano=started_at,
        end_time_unix_nano=ended_at,
        attributes=key_values(attributes),
        events=[_score_event(name, *score, ended_at) for name, score in conversation.scores.items()],
    )


def _score_event(name: str, value: float, evaluator: str, time: int) -> Span.Event:
    attributes: Attributes = {
        semconv.SCORE_NAME: name,
        semconv.SCORE_VALUE: value,
        semconv.SCORE_EVALUATOR: evaluator,
    }
    return Span.Event(name=semconv.EVENT_SCORE, time_unix_nano=time, attributes=key_values(attributes))


def _step(trace_id: str, index: int, at: int, attributes: Attributes) -> Span:
    attributes = attributes | {semconv.STEP_INDEX: index, semconv.STEP_DIGEST: step_digest(attributes)}
    return Span(
        trace_id=bytes.fromhex(trace_id),
        span_id=_span_id(trace_id, f"step {index}"),
        parent_span_id=_span_id(trace_id, "trajectory"),
        name=semconv.SPAN_STEP,
        start_time_unix_nano=at,
        end_time_unix_nano=at + _SECOND,
        attributes=key_values(attributes),
    )


def _span_id(trace_id: str, part: str) -> bytes:
    return bytes.fromhex(content_hash([trace_id, part]))[:8]


def _any_value(value: Any) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)
