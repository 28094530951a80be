"""Write another system's spans as OTLP: those with attributes as they are, the others in the GenAI conventions' words.

What steps they make is derived in the store, as of spans that came over the wire.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from imitrace import semconv
from imitrace.canonical import canonical_json, text_hash
from imitrace.exceptions import WireError
from imitrace.faults import Faults
from imitrace.messages import Message
from imitrace.shapes.chat_shapes import message_list, parts_messages
from imitrace.shapes.plain import json_text
from imitrace.shapes.tool_shapes import tool_definitions
from imitrace_collector.imports.conversations import UNREADABLE, ForeignTrace, Json, text
from imitrace_collector.imports.request_logs import answer_message, request_state
from imitrace_collector.normalize import storable

CHAT, TOOL, AGENT = "chat", semconv.SPAN_TOOL, semconv.SPAN_TRAJECTORY
INPUT_MESSAGES, OUTPUT_MESSAGES = "gen_ai.input.messages", "gen_ai.output.messages"
REQUEST_MODEL = "gen_ai.request.model"

_FAULTS = Faults()
_ID = {16: re.compile(r"[0-9a-f]{32}"), 8: re.compile(r"[0-9a-f]{16}")}
_LONGEST_KEY = 1000


@dataclass(frozen=True, kw_only=True)
class Score:
    """What somebody said of a span."""

    name: str
    value: float | None = None
    label: str | None = None
    explanation: str | None = None
    evaluator: str | None = None


@dataclass(frozen=True, kw_only=True)
class ForeignSpan:
    """One span of another system."""

    place: str
    trace: str
    """In whatever form that system has it."""
    span: str
    parent: str | None
    name: str
    started_at: int | None
    ended_at: int | None
    error: str | None = None
    """Why it failed; None where it did not."""
    service: str
    attributes: Mapping[str, Any]
    """Any JSON values."""
    events: Sequence[tuple[str, int | None, Mapping[str, Any]]] = ()
    """Name, time and attributes of each."""
    scores: Sequence[Score] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a span did, in words that are the same for every system."""

    kind: str | None
    """``CHAT``, ``TOOL``, ``AGENT``, or None for anything else."""
    name: str
    input: Any
    output: Any
    tools: Any = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    conversation: str | None = None


def traces_of(spans: Iterable[ForeignSpan], scope: str) -> Iterator[ForeignTrace]:
    """Yield spans by their traces, in the order in which these begin in the file.

    Args:
        spans: in any order.
        scope: name of their instrumentation scope.
    """
    traces: dict[str, list[ForeignSpan]] = defaultdict(list)
    for span in spans:
        traces[span.trace].append(span)
    for name, found in traces.items():
        by_service: dict[str, list[Span]] = defaultdict(list)
        for span in found:
            by_service[span.service].append(_otlp(span))
        for service, sent in by_service.items():
            resource = Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value=service))])
            scoped = ScopeSpans(scope=InstrumentationScope(name=scope), spans=sent)
            yield ForeignTrace(
                place=found[0].place,
                trace_id=span_key(name, 16).hex(),
                spans=ResourceSpans(resource=resource, scope_spans=[scoped]),
                count=len(sent),
            )


def span_key(name: str, size: int) -> bytes:
    """Return an id of so many bytes: the one that a name already is, or else one that follows from it."""
    plain = name.lower().removeprefix("0x")
    if _ID[size].fullmatch(plain) and int(plain, 16):
        return bytes.fromhex(plain)
    return bytes.fromhex(text_hash(name))[:size]


def work_attributes(work: Work) -> dict[str, Any]:
    """Return what a span did as attributes of the GenAI conventions.

    What can't be read stays as it is, so that its step is marked incomplete and not left out.
    """
    if work.kind is None:
        return {} if work.conversation is None else {semconv.CONVERSATION_ID: work.conversation}
    found: dict[str, Any] = {semconv.OPERATION: work.kind, semconv.CONVERSATION_ID: work.conversation}
    if work.kind == CHAT:
        found |= {
            INPUT_MESSAGES: _messages_text(_seen, work.input),
            OUTPUT_MESSAGES: _messages_text(_said, work.output),
            REQUEST_MODEL: work.model,
            semconv.INPUT_TOKENS: work.input_tokens,
            semconv.OUTPUT_TOKENS: work.output_tokens,
        }
        tools = work.tools or (work.input.get("tools") if isinstance(work.input, Mapping) else None)
        if isinstance(tools, list) and tools:
            found[semconv.TOOL_DEFINITIONS] = json_text(tool_definitions(tools, _FAULTS))
    elif work.kind == TOOL:
        call_id, result = _result(work.output)
        found |= {
            semconv.TOOL_NAME: work.name,
            semconv.TOOL_CALL_ARGUMENTS: text(work.input),
            semconv.TOOL_CALL_ID: call_id,
            semconv.TOOL_CALL_RESULT: text(result),
        }
    else:
        found[semconv.AGENT_NAME] = work.name
    return {key: value for key, value in found.items() if value is not None}


def _seen(value: Any) -> list[Message]:
    if isinstance(value, Mapping) and ("messages" in value or "input" in value):
        return request_state(value)
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]  # a batch of one
    return parts_messages(message_list(value))


def _said(value: Any) -> list[Message]:
    return [answer_message(value)]


def _messages_text(read: Any, value: Any) -> str | None:
    if value is None or value == "":
        return None
    try:
        return json_text(read(value))
    except (WireError, *UNREADABLE):
        return text(value)


def _result(output: Any) -> tuple[str | None, Any]:
    """Return a tool's call id and its result; some clients wrap them into a message."""
    if isinstance(output, Mapping) and "content" in output and output.get("tool_call_id"):
        return text(output["tool_call_id"]), output["content"]
    return None, output


def _otlp(span: ForeignSpan) -> Span:
    started_at = span.started_at or 0
    ended_at = max(started_at, span.ended_at or started_at)
    status = Status() if span.error is None else Status(code=Status.STATUS_CODE_ERROR, message=storable(span.error))
    return Span(
        trace_id=span_key(span.trace, 16),
        span_id=span_key(span.span, 8),
        parent_span_id=span_key(span.parent, 8) if span.parent else b"",
        name=storable(span.name),
        start_time_unix_nano=started_at,
        end_time_unix_nano=ended_at,
        status=status,
        attributes=list(_pairs(span.attributes)),
        events=[
            *(_event(*event, started_at) for event in span.events),
            *(_score_event(s, ended_at) for s in span.scores),
        ],
    )


def _event(name: str, at: int | None, attributes: Json, otherwise: int) -> Span.Event:
    time = otherwise if at is None else at
    return Span.Event(name=storable(name), time_unix_nano=time, attributes=list(_pairs(attributes)))


def _score_event(score: Score, time: int) -> Span.Event:
    said = {
        semconv.SCORE_NAME: score.name,
        semconv.SCORE_VALUE: score.value,
        semconv.SCORE_LABEL: score.label,
        semconv.SCORE_EXPLANATION: score.explanation,
        semconv.SCORE_EVALUATOR: score.evaluator,
    }
    return Span.Event(name=semconv.EVENT_SCORE, time_unix_nano=time, attributes=list(_pairs(said)))


def _pairs(attributes: Json) -> Iterator[KeyValue]:
    for key, value in attributes.items():
        found = _any_value(value)
        if found is not None:
            yield KeyValue(key=storable(str(key))[:_LONGEST_KEY], value=found)


def _any_value(value: Any) -> AnyValue | None:
    """Return a JSON value as OTLP's; an object as its JSON text; None for nothing, also a table's empty number."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list | tuple) and not any(isinstance(item, Mapping | list | tuple) for item in value):
        return AnyValue(array_value=ArrayValue(values=[found for item in value if (found := _any_value(item))]))
    return AnyValue(string_value=storable(value if isinstance(value, str) else canonical_json(value)))
