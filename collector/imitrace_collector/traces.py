"""Show what came in of one trace: its spans and log records, decoded, as JSON and as a tree for a terminal."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from imitrace.exceptions import WireError
from imitrace_collector.normalize import storable
from imitrace_collector.reads import NotFoundError
from imitrace_collector.store import Store

Json = dict[str, Any]
"""A JSON object."""

_TRACE_ID = re.compile(r"[0-9a-f]{32}")
_WIDTH = 160
_VALUE = 40
_STATUS = {0: "", 1: "  ok", 2: "  ERROR"}


def trace_detail(store: Store, trace_id: str) -> Json:
    """Return all spans and log records of a trace, oldest first.

    Raises:
        WireError: it is no trace id.
        NotFoundError: nothing of it is stored.
    """
    trace_id = trace_id.lower()
    if not _TRACE_ID.fullmatch(trace_id):
        raise WireError(f"trace id is {trace_id[:64]!r}, expected 32 hexadecimal digits")
    with store.reader() as reader:
        spans, logs = reader.trace(trace_id)
    if not spans and not logs:
        raise NotFoundError(f'no trace {trace_id} in the store; `imitrace sql "FROM spans"` lists what is there')
    return {
        "trace_id": trace_id,
        "spans": [asdict(span) for span in sorted(spans, key=lambda span: (span.started_at, span.span_id))],
        "log_records": [asdict(log) for log in sorted(logs, key=lambda log: log.logged_at)],
    }


def render_trace(detail: Mapping[str, Any], width: int = _WIDTH) -> str:
    """Return a trace as a tree: each span under its parent, with service, duration and attributes, cut at a width."""
    spans: Sequence[Json] = detail["spans"]
    known = {span["span_id"] for span in spans}
    below: dict[str | None, list[Json]] = defaultdict(list)
    for span in spans:
        below[span["parent_span_id"] if span["parent_span_id"] in known else None].append(span)
    notes: dict[str | None, list[Json]] = defaultdict(list)
    for log in detail["log_records"]:
        notes[log["span_id"] if log["span_id"] in known else None].append(log)
    lines = [f"trace {detail['trace_id']}  {len(spans)} spans  {len(detail['log_records'])} log records"]
    lines += _tree(spans, below, notes)
    lines += [_log_line(log, 0) for log in notes[None]]
    return "\n".join(line if len(line) <= width else line[: width - 3] + "..." for line in lines)


def _tree(
    spans: Sequence[Json], below: Mapping[str | None, list[Json]], notes: Mapping[str | None, list[Json]]
) -> Iterator[str]:
    """Yield the spans depth first; those that are each other's parents come last, each once."""
    shown: set[str] = set()
    waiting = [(span, 0) for span in [*reversed(spans), *reversed(below.get(None, []))]]
    while waiting:
        span, depth = waiting.pop()
        if span["span_id"] not in shown:
            shown.add(span["span_id"])
            yield _span_line(span, depth)
            yield from (_log_line(log, depth + 1) for log in notes.get(span["span_id"], []))
            waiting += [(child, depth + 1) for child in reversed(below.get(span["span_id"], []))]


def _span_line(span: Json, depth: int) -> str:
    service = span["resource"].get("service.name", "-")
    milliseconds = (span["ended_at"] - span["started_at"]) / 1e6
    told = f"{_visible(span['name'])}  [{_visible(service)}]  {milliseconds:.1f} ms{_STATUS.get(span['status'], '')}"
    return f"{'  ' * depth}{told}{_values(span['attributes'])}"


def _log_line(log: Json, depth: int) -> str:
    return f"{'  ' * depth}* {_visible(log['event_name'] or log['body'] or 'log record')}{_values(log['attributes'])}"


def _values(attributes: Mapping[str, Any]) -> str:
    return "".join(f"  {_visible(name)}={_visible(value)}" for name, value in attributes.items())


def _visible(value: object) -> str:
    """Return a value in one line, short, and without what would steer a terminal."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = "".join(
        character if character.isprintable() else " " for character in storable(" ".join(text[:200].split()))
    )
    return text if len(text) <= _VALUE else text[: _VALUE - 3] + "..."
