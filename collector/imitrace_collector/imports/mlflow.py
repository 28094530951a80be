"""Read MLflow's traces: ``Trace.to_json()``, lists of them, and rows of ``search_traces()`` as JSON or Parquet.

Spans of type LLM and CHAT_MODEL are model calls, TOOL and AGENT what they say; they become spans of the GenAI
conventions. Attributes that are not MLflow's own stay. Source: ``Span.to_dict`` and ``from_dict`` in
https://github.com/mlflow/mlflow/blob/master/mlflow/entities/span.py and ``SpanAttributeKey`` in
https://github.com/mlflow/mlflow/blob/master/mlflow/tracing/constant.py.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from imitrace.exceptions import WireError
from imitrace_collector.imports.conversations import (
    UNREADABLE,
    Broken,
    Found,
    Given,
    Json,
    Row,
    count,
    text,
    time_of,
    under,
    unreadable,
)
from imitrace_collector.imports.foreign_spans import (
    AGENT,
    CHAT,
    TOOL,
    ForeignSpan,
    Score,
    Work,
    traces_of,
    work_attributes,
)

SCOPE = "mlflow"

_KINDS = {"LLM": CHAT, "CHAT_MODEL": CHAT, "TOOL": TOOL, "AGENT": AGENT}
_SESSION, _NAME = "mlflow.trace.session", "mlflow.traceName"


def is_trace(row: Json) -> bool:
    """Return whether a row is a trace."""
    return bool(_spans_in(row))


def read(rows: Iterable[Row], given: Given) -> Iterator[Found]:
    """Read traces; a span that can't be read is left out and named."""
    for row in rows:
        try:
            if not isinstance(row.value, dict):
                raise WireError("it is not a JSON object")
            spans, info = _spans_in(row.value), _info(row.value)
            if not spans:
                raise WireError("it holds no spans: no 'data.spans', 'spans' or 'trace'")
        except WireError as error:
            yield Broken(row.place, str(error))
            continue
        except UNREADABLE as error:
            yield Broken(row.place, unreadable(error))
            continue
        found: list[ForeignSpan] = []
        for number, span in enumerate(spans, start=1):
            try:
                found.append(_span((f"{row.place}, span {number}", span), info, given, first=number == 1))
            except UNREADABLE as error:
                yield Broken(f"{row.place}, span {number}", unreadable(error))
        yield from traces_of(found, SCOPE)


def _trace(row: Json) -> Json:
    """Return a row's trace: itself, or what it holds as text."""
    found = _json(row.get("trace"))
    return found if isinstance(found, Mapping) else row


def _spans_in(row: Json) -> list[Any]:
    trace = _trace(row)
    listed = under(trace, "data").get("spans") or _json(trace.get("spans"))
    spans = listed if isinstance(listed, list) else []
    known = any(
        isinstance(name, str) and name.startswith("mlflow.")
        for span in spans[:20]
        if isinstance(span, Mapping)
        for name in _attributes(span)
    )
    return spans if known else []


def _info(row: Json) -> Json:
    trace = _trace(row)
    return under(trace, "info") or trace


def _attributes(span: Json) -> Json:
    found = _json(span.get("attributes"))
    return found if isinstance(found, Mapping) else {}


def _span(placed: tuple[str, Any], info: Json, given: Given, *, first: bool) -> ForeignSpan:
    place, span = placed
    context = under(span, "context")
    attributes = {name: _json(value) for name, value in _attributes(span).items() if value is not None}
    trace = span.get("otel_trace_id") or span.get("trace_id") or context.get("trace_id")
    parent = span.get("parent_span_id") or span.get("parent_id")
    status = span.get("status")
    code = str(status.get("code") if isinstance(status, Mapping) else span.get("status_code"))
    message = text(status.get("message") if isinstance(status, Mapping) else span.get("status_message"))
    tags = under(info, "tags")
    work = _work(str(span.get("name")), attributes, info)
    if given.agent and not parent and work.kind == AGENT:
        work = Work(**{**vars(work), "name": given.agent})
    plain = {name: value for name, value in attributes.items() if not str(name).startswith("mlflow.")}
    return ForeignSpan(
        place=place,
        trace=_id(trace),
        span=_id(span.get("span_id") or context["span_id"]),
        parent=_id(parent) if parent else None,
        name=str(span.get("name")),
        started_at=time_of(_number(span.get("start_time_unix_nano", span.get("start_time")))),
        ended_at=time_of(_number(span.get("end_time_unix_nano", span.get("end_time")))),
        error=(message or "error") if code.endswith("ERROR") or code == "2" else None,
        service=given.agent or text(tags.get(_NAME)) or "mlflow",
        attributes={**plain, **work_attributes(work)},
        scores=list(_scores(info)) if first else [],
    )


def _work(name: str, attributes: Json, info: Json) -> Work:
    usage = under(attributes, "mlflow.chat.tokenUsage")
    inputs = attributes.get("mlflow.spanInputs")
    session = under(info, "trace_metadata").get(_SESSION) or under(info, "request_metadata").get(_SESSION)
    asked = under(attributes, "invocation_params")
    model = attributes.get("mlflow.llm.model") or asked.get("model") or asked.get("model_name")
    if model is None and isinstance(inputs, Mapping):
        model = inputs.get("model")
    return Work(
        kind=_KINDS.get(str(attributes.get("mlflow.spanType"))),
        name=name,
        input=inputs,
        output=attributes.get("mlflow.spanOutputs"),
        tools=attributes.get("mlflow.chat.tools") or asked.get("tools"),
        model=text(model),
        input_tokens=count(usage.get("input_tokens")),
        output_tokens=count(usage.get("output_tokens")),
        conversation=text(session),
    )


def _scores(info: Json) -> Iterator[Score]:
    """Yield what was said of a trace: feedback, by people and judges."""
    listed = info.get("assessments")
    for found in listed if isinstance(listed, list) else []:
        if not isinstance(found, Mapping):
            continue
        name = found.get("assessment_name") or found.get("name")
        value = under(found, "feedback").get("value")
        if not isinstance(name, str) or value is None:
            continue
        yield Score(
            name=name,
            value=float(value) if isinstance(value, int | float) else None,
            label=None if isinstance(value, int | float) else text(value),
            explanation=text(found.get("rationale")),
            evaluator=text(under(found, "source").get("source_id")),
        )


def _id(value: Any) -> str:
    """Return an id in hexadecimal: it may be in base64, or carry a prefix."""
    name = str(value).removeprefix("tr-").removeprefix("0x")
    try:
        packed = base64.b64decode(name, validate=True)
    except (binascii.Error, ValueError):
        return name
    return packed.hex() if len(packed) in (8, 16) and len(name) in (12, 24) else name


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdigit() else value


def _json(value: Any) -> Any:
    """Return the value of JSON text; text that is none as it is."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
