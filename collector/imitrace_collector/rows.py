"""Hold the rows that travel from the wire to the store: raw spans, raw log records, and batches of them."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanRow:
    """A span as it came: a row of the store's ``spans``; JSON columns are canonical JSON text."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    kind: int
    started_at: int
    ended_at: int
    status: int
    status_message: str
    attributes: str
    dropped_attributes: int
    events: str
    links: str
    trace_state: str
    resource: str
    scope: str
    trajectory_id: str | None
    received_at: int


@dataclass(frozen=True, kw_only=True, slots=True)
class LogRow:
    """A log record as it came: a row of the store's ``log_records``."""

    log_id: str
    trace_id: str | None
    span_id: str | None
    event_name: str
    logged_at: int
    severity: int
    body: str
    attributes: str
    resource: str
    scope: str
    trajectory_id: str | None
    received_at: int


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one request brought: it is stored whole or not at all."""

    spans: tuple[SpanRow, ...] = ()
    logs: tuple[LogRow, ...] = ()
