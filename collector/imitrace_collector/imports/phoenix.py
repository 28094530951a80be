"""Read Arize Phoenix's spans: rows of ``get_spans_dataframe`` as Parquet or JSON, and ``get_spans`` as JSON.

They are OpenInference spans, so their attributes are written flat again, as their instrumentors sent them, and read
like those that come over the wire. Source: https://arize.com/docs/phoenix/how-to/extract-data-from-spans and ``Span``
of the client (https://pypi.org/project/arize-phoenix-client).
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from imitrace.canonical import canonical_json
from imitrace.exceptions import WireError
from imitrace_collector.imports.conversations import (
    UNREADABLE,
    Broken,
    Found,
    Given,
    Json,
    Row,
    text,
    time_of,
    under,
    unreadable,
)
from imitrace_collector.imports.foreign_spans import ForeignSpan, traces_of

SCOPE = "openinference.instrumentation"

_PREFIX = "attributes."
_KIND = "openinference.span.kind"
_AS_TEXT = ("metadata", "llm.prompt_template.variables", "tool.parameters", "llm.invocation_parameters")
"""Attributes that are JSON text on the wire; Phoenix may give them as objects."""
_DEEP = 20


def is_span(row: Json) -> bool:
    """Return whether a row is a span of such an export."""
    flat = "context.trace_id" in row and "context.span_id" in row
    return flat or ("span_id" in under(row, "context") and "span_kind" in row)


def read(rows: Iterable[Row], given: Given) -> Iterator[Found]:
    """Read spans into traces."""
    spans: list[ForeignSpan] = []
    for row in rows:
        try:
            spans.append(_span(row, given))
        except WireError as error:
            yield Broken(row.place, str(error))
        except UNREADABLE as error:
            yield Broken(row.place, unreadable(error))
    yield from traces_of(spans, SCOPE)


def _span(row: Row, given: Given) -> ForeignSpan:
    line = row.value
    if not isinstance(line, Mapping):
        raise WireError("it is not a JSON object")
    context = under(line, "context")
    trace = line.get("context.trace_id") or context.get("trace_id")
    span = line.get("context.span_id") or context.get("span_id") or line.get("span_id")
    if not isinstance(trace, str) or not isinstance(span, str) or not trace or not span:
        raise WireError("it has no 'context.trace_id' and 'context.span_id'")
    attributes = dict(_attributes(line))
    if isinstance(line.get("span_kind"), str):
        attributes.setdefault(_KIND, line["span_kind"])
    failed = str(line.get("status_code")).upper() == "ERROR"
    return ForeignSpan(
        place=row.place,
        trace=trace,
        span=span,
        parent=line.get("parent_id") if isinstance(line.get("parent_id"), str) else None,
        name=text(line.get("name")) or "span",
        started_at=time_of(line.get("start_time")),
        ended_at=time_of(line.get("end_time")),
        error=(text(line.get("status_message")) or "error") if failed else None,
        service=given.agent or "phoenix",
        attributes=attributes,
        events=list(_events(line.get("events"))),
    )


def _events(found: Any) -> Iterator[tuple[str, int | None, Json]]:
    """Yield what happened in a span, exceptions above all."""
    for event in found if isinstance(found, list) else []:
        if isinstance(event, Mapping):
            at = time_of(event.get("timestamp", event.get("time")))
            yield (
                str(event.get("name")),
                at,
                {name: v for name, v in under(event, "attributes").items() if v is not None},
            )


def _attributes(line: Json) -> Iterator[tuple[str, Any]]:
    """Yield attributes under the names that they had on the wire."""
    found = line.get("attributes")
    if isinstance(found, str):
        found = json.loads(found)
    if isinstance(found, Mapping):
        yield from _flat(found, "", 0)
    for name, value in line.items():
        if isinstance(name, str) and name.startswith(_PREFIX):
            yield from _value(name.removeprefix(_PREFIX), value, 0)


def _flat(found: Json, prefix: str, deep: int) -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        yield from _value(f"{prefix}{name}", value, deep)


def _value(name: str, value: Any, deep: int) -> Iterator[tuple[str, Any]]:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return  # a table has every column in every row
    if isinstance(value, Mapping):
        if name.endswith(_AS_TEXT) or deep > _DEEP:
            yield name, canonical_json({key: item for key, item in value.items() if item is not None})
        else:
            yield from _flat(value, f"{name}.", deep + 1)
    elif isinstance(value, list) and (deep or any(isinstance(item, Mapping) for item in value)):
        for number, item in enumerate(value):
            yield from _value(f"{name}.{number}", item, deep + 1)
    else:
        yield name, value
