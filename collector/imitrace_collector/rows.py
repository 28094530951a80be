"""Hold what travels from the wire to the store and back: items as they came, batches of them, and items decoded."""

from dataclasses import dataclass
from typing import Any, NamedTuple

Values = dict[str, Any]
"""Attributes by name: any JSON value."""


class Origin(NamedTuple):
    """Who sent an item: its resource and its instrumentation scope, as they came."""

    origin: str
    """Content hash of the two."""
    service: str | None
    resource: bytes
    """A serialised ``opentelemetry.proto.resource.v1.Resource``."""
    scope: bytes
    """A serialised ``opentelemetry.proto.common.v1.InstrumentationScope``."""


class RawSpan(NamedTuple):
    """A span as it came: the columns by which it is found, and its own bytes."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    kind: int
    started_at: int
    ended_at: int
    status: int
    trajectory_id: str | None
    service: str | None
    received_at: int
    origin: str
    noted: bool
    """Whether it may carry a score."""
    record: bytes | memoryview
    """A serialised ``opentelemetry.proto.trace.v1.Span``, with its tag and its length as in a ``ScopeSpans``."""


class RawLog(NamedTuple):
    """A log record as it came: the columns by which it is found, and its own bytes."""

    log_id: str
    """Content hash of the record and its origin."""
    trace_id: str | None
    span_id: str | None
    event_name: str
    logged_at: int
    severity: int
    trajectory_id: str | None
    service: str | None
    received_at: int
    origin: str
    noted: bool
    """Whether it carries a score, or what its sender lost."""
    record: bytes
    """A serialised ``opentelemetry.proto.logs.v1.LogRecord``, with its tag and its length as in a ``ScopeLogs``."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one request brought: it is stored whole or not at all."""

    spans: tuple[RawSpan, ...] = ()
    logs: tuple[RawLog, ...] = ()
    origins: tuple[Origin, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanRow:
    """A span, decoded."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    kind: int
    started_at: int
    ended_at: int
    status: int
    status_message: str
    attributes: Values
    dropped_attributes: int
    events: list[Values]
    """Each with name, time and attributes."""
    links: list[Values]
    """Each with trace_id, span_id and attributes."""
    trace_state: str
    resource: Values
    scope: Values
    """Its name, version and attributes."""
    trajectory_id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LogRow:
    """A log record, decoded."""

    trace_id: str | None
    span_id: str | None
    event_name: str
    logged_at: int
    severity: int
    body: Any  # any JSON value
    attributes: Values
    resource: Values
    scope: Values
    trajectory_id: str | None
