"""Read the scores that others give, in each published form, and what each is about."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imitrace import semconv
from imitrace.schema import SCORES
from imitrace_collector.foreign.dialects import EVALUATOR
from imitrace_collector.foreign.readings import is_own, read_span
from imitrace_collector.foreign.said import Said
from imitrace_collector.normalize import LONGEST_NAME, Columns, as_type, pick
from imitrace_collector.rows import LogRow, SpanRow

WHOLE, PART = "whole", "part"
"""Whether a score is about a whole trajectory, or about the span that it names."""

_FORMS: tuple[tuple[str, str, str], ...] = (
    ("evaluations", "evaluation", PART),
    ("annotations", "annotation", PART),
    ("span.evaluations", "evaluation", PART),
    ("trace.evaluations", "evaluation", WHOLE),
    ("trace.annotations", "annotation", WHOLE),
    ("session.evaluations", "evaluation", WHOLE),
    ("session.annotations", "annotation", WHOLE),
)
"""Flattened prefix, the name inside, and what it is about."""

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "name": ("name",),
    "value": ("score", "score.value", "value"),
    "label": ("label", "score.label"),
    "explanation": ("explanation",),
    "evaluator": ("annotator_kind", "annotator", "evaluator"),
}
_EVENT_COLUMNS: dict[str, str] = {
    "name": semconv.SCORE_NAME,
    "value": semconv.SCORE_VALUE,
    "label": semconv.SCORE_LABEL,
    "explanation": semconv.SCORE_EXPLANATION,
    "evaluator": semconv.SCORE_EVALUATOR,
    "evaluator_version": semconv.SCORE_EVALUATOR_VERSION,
}
_TARGET_SPAN = "gen_ai.evaluation.target_span_id"
_RESPONSE = "gen_ai.response.id"


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """A score, and by what it names what it is about."""

    columns: Columns
    about: str
    span: tuple[str, str] | None = None
    """Trace id, or nothing where it is not named, and span id."""
    response_id: str | None = None
    conversation: str | None = None


def judgements_of(spans: Iterable[SpanRow], logs: Iterable[LogRow]) -> list[Judgement]:
    """Return the scores in foreign spans and log records; those that name a trajectory of ours are not among them."""
    found = {repr(one): one for span in spans if _may_judge(span) and not is_own(span) for one in _of_span(span)}
    found |= {repr(one): one for log in logs for one in _of_log(log)}
    return [found[key] for key in sorted(found)]


def _may_judge(span: SpanRow) -> bool:
    names = " ".join(span.attributes)
    return "evaluation" in names or "annotation" in names or bool(span.events)


def targets_of(spans: Iterable[SpanRow], logs: Iterable[LogRow]) -> frozenset[str]:
    """Return the keys of what these scores are about, where that may be another trace."""
    keys: set[str] = set()
    traces = {span.trace_id for span in spans}
    for one in judgements_of(spans, logs):
        if one.span is not None and one.span[0] not in traces:
            keys.add(f"span:{one.span[1]}")
        elif one.span is None and one.response_id:
            keys.add(f"response:{one.response_id}")
        if one.span is None and one.conversation:
            keys.add(f"conversation:{one.conversation}")
    return frozenset(keys)


def _of_span(span: SpanRow) -> Iterator[Judgement]:
    here = (span.trace_id, span.span_id)
    said = Said(span.attributes)
    if any("evaluation" in name or "annotation" in name for name in span.attributes):
        for prefix, inner, about in _FORMS:
            for item in said.trees().get(prefix, ()):
                columns = _flat_columns(item, inner, span.ended_at)
                if columns is not None:
                    yield Judgement(columns=columns, about=about, span=here)
        if semconv.SCORE_NAME in span.attributes:
            yield from _event(span.attributes, span.ended_at, _judged(span))
    for event in span.events:
        if event["name"] == semconv.EVENT_SCORE:
            yield from _event(event["attributes"], event["time"], here)


def _judged(span: SpanRow) -> tuple[str, str]:
    """Return the span that an evaluator's span is about: the one it names, else the one it is in."""
    target = span.attributes.get(_TARGET_SPAN)
    if isinstance(target, str) and target:
        return "", target[:LONGEST_NAME]
    reading = read_span(span)
    evaluator = reading is not None and reading.role == EVALUATOR
    return span.trace_id, (span.parent_span_id or span.span_id) if evaluator else span.span_id


def _of_log(log: LogRow) -> Iterator[Judgement]:
    if log.event_name != semconv.EVENT_SCORE:
        return
    body = log.body if isinstance(log.body, dict) else {}
    place = (log.trace_id, log.span_id) if log.trace_id and log.span_id else None
    yield from _event({**body, **log.attributes}, log.logged_at, place)


def _event(attributes: Mapping[str, Any], at: int, place: tuple[str, str] | None) -> Iterator[Judgement]:
    if semconv.TRAJECTORY_ID in attributes:
        return
    columns = pick(_EVENT_COLUMNS, attributes, SCORES)
    if not columns["name"]:
        return
    said = Said(attributes)
    target = said.text((_TARGET_SPAN,))
    yield Judgement(
        columns=_scored(columns, attributes.get(semconv.SCORE_VALUE), at),
        about=PART,
        span=("", target) if target and place is None else place,
        response_id=said.text((_RESPONSE,)),
        conversation=said.text((semconv.CONVERSATION_ID, "session.id")),
    )


def _flat_columns(item: Any, inner: str, at: int) -> Columns | None:
    fields = item.get(inner) if isinstance(item, dict) else None
    if not isinstance(fields, dict):
        return None
    said = Said(fields)
    columns: Columns = {name: as_type(said.first(names)[1], SCORES[name]) for name, names in _COLUMNS.items()}
    if not columns["name"]:
        return None
    return _scored(columns | {"evaluator_version": None}, said.first(_COLUMNS["value"])[1], at)


def _scored(columns: Columns, sent: Any, at: int) -> Columns:
    if sent is not None and columns["value"] is None:
        said = columns["explanation"]
        columns["explanation"] = f"value was {as_type(sent, 'string')}, no number" + (f"; {said}" if said else "")
    return columns | {"scored_at": min(at, 2**63 - 1)}
