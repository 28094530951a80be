"""Read Langfuse's exports: traces, observations and scores, from its API (camelCase) or its blob storage (snake_case).

Generations are model calls, tools and agents are what their types say, and everything becomes spans of the GenAI
conventions. Rows of the three kinds may stand in several files. Source: the types of
https://langfuse.com/docs/api-and-data-platform/features/blob-storage-export-fields and of its API's ``Observation``.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
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

SCOPE = "langfuse"

_KINDS = {"GENERATION": CHAT, "TOOL": TOOL, "AGENT": AGENT}
_TYPES = {
    *_KINDS,
    *("SPAN", "EVENT", "CHAIN", "RETRIEVER", "EVALUATOR", "EMBEDDING", "GUARDRAIL"),
}


@dataclass
class _Export:
    """All rows, by what they are."""

    traces: dict[str, Json] = field(default_factory=dict)
    observations: dict[tuple[str, str], tuple[Row, Json]] = field(default_factory=dict)
    scores: dict[tuple[str, str | None], list[Score]] = field(default_factory=lambda: defaultdict(list))


def is_row(row: Json) -> bool:
    """Return whether a row is a trace, an observation or a score."""
    if _get(row, "trace_id") is not None and row.get("type") in _TYPES:
        return True
    if _is_score(row):
        return True
    return "timestamp" in row and "id" in row and ("bookmarked" in row or "htmlPath" in row or "public" in row)


def read(rows: Iterable[Row], given: Given) -> Iterator[Found]:
    """Read everything into traces."""
    export = _Export()
    for row in rows:
        try:
            if not isinstance(row.value, dict):
                raise WireError("it is not a JSON object")
            _take(row, row.value, export)
        except WireError as error:
            yield Broken(row.place, str(error))
        except UNREADABLE as error:
            yield Broken(row.place, unreadable(error))
    spans: list[ForeignSpan] = []
    for key, (row, observation) in export.observations.items():
        try:
            spans.append(_span(key, (row, observation), export, given))
        except UNREADABLE as error:
            yield Broken(row.place, unreadable(error))
    yield from traces_of(spans, SCOPE)


def _take(row: Row, line: Json, export: _Export) -> None:
    name, trace = line.get("id"), _get(line, "trace_id")
    if _is_score(line):
        export.scores[str(trace), text(_get(line, "observation_id"))].append(_score(line))
    elif line.get("type") in _TYPES and isinstance(trace, str) and isinstance(name, str):
        export.observations[trace, name] = (row, line)
    elif isinstance(name, str) and ("timestamp" in line or "observations" in line):
        export.traces[name] = line
        for inner in [*(line.get("observations") or []), *(line.get("scores") or [])]:
            if isinstance(inner, Mapping):
                _take(row, {"trace_id": name, **inner}, export)
    else:
        raise WireError("it is neither a trace nor an observation nor a score: no 'id', or no 'type' that is known")


def _is_score(row: Json) -> bool:
    return _get(row, "data_type") is not None and "name" in row and ("value" in row or "string_value" in row)


def _score(line: Json) -> Score:
    value = line.get("value")
    number = float(value) if isinstance(value, int | float) else None
    label = _get(line, "string_value")
    return Score(
        name=str(line["name"]),
        value=number,
        label=text(label if label is not None or number is not None else value),
        explanation=text(line.get("comment")),
        evaluator=text(line.get("source")),
    )


def _span(key: tuple[str, str], found: tuple[Row, Json], export: _Export, given: Given) -> ForeignSpan:
    trace, name = key
    row, line = found
    above = _get(line, "parent_observation_id")
    parent = text(above) if (trace, str(above)) in export.observations else None
    about = export.traces.get(trace, {})
    scores = list(export.scores.get((trace, name), ()))
    if parent is None:
        scores += export.scores.pop((trace, None), [])
    work = _work(line, about)
    if given.agent and work.kind == AGENT and not _agents_above(key, export):
        work = Work(**{**vars(work), "name": given.agent})
    failed = line.get("level") == "ERROR"
    return ForeignSpan(
        place=row.place,
        trace=trace,
        span=name,
        parent=parent,
        name=text(line.get("name")) or str(line["type"]).lower(),
        started_at=time_of(_get(line, "start_time")),
        ended_at=time_of(_get(line, "end_time")),
        error=(text(_get(line, "status_message")) or "error") if failed else None,
        service=given.agent or text(_get(line, "trace_name") or about.get("name")) or "langfuse",
        attributes=work_attributes(work),
        scores=scores,
    )


def _agents_above(key: tuple[str, str], export: _Export) -> bool:
    trace, name = key
    seen = {name}
    while key in export.observations:
        above = str(_get(export.observations[key][1], "parent_observation_id"))
        key = (trace, above)
        if above in seen or key not in export.observations:
            return False
        if export.observations[key][1].get("type") == "AGENT":
            return True
        seen.add(above)
    return False


def _work(line: Json, about: Json) -> Work:
    usage = under(line, "usage_details") or under(line, "usageDetails") or under(line, "usage")
    return Work(
        kind=_KINDS.get(line["type"]),
        name=text(line.get("name")) or "",
        input=_json(line.get("input")),
        output=_json(line.get("output")),
        tools=_tools(_get(line, "tool_definitions")),
        model=text(_get(line, "provided_model_name") or line.get("model")),
        input_tokens=count(usage.get("input")),
        output_tokens=count(usage.get("output")),
        conversation=text(_get(line, "session_id") or _get(about, "session_id") or None),
    )


def _tools(found: Any) -> Any:
    """Return definitions as a list; the export has them as an object of JSON texts by name."""
    found = _json(found)
    if not isinstance(found, Mapping):
        return found
    return [{"name": name, **inner} for name, value in found.items() if isinstance(inner := _json(value), Mapping)]


def _get(row: Json, name: str) -> Any:
    """Return a value under its name in either spelling."""
    head, *rest = name.split("_")
    found = row.get(name)
    return row.get(head + "".join(map(str.capitalize, rest))) if found is None else found


def _json(value: Any) -> Any:
    """Return the value of JSON text; text that is none as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[", '"')):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
