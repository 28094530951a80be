"""Carry a trajectory to another process: W3C ``traceparent`` and ``baggage`` in headers or environment variables."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from imitrace.semconv import PART_POSITION, TRAJECTORY_ID

CALLER = "agent.trajectory.part.caller"
"""Baggage: the calling part's own traceparent, since instrumented clients put their span's into that header."""

_TRACE = TraceContextTextMapPropagator()
_BAGGAGE = W3CBaggagePropagator()


@dataclass(frozen=True)
class Origin:
    """Where a trajectory that goes on here was begun."""

    trajectory_id: str
    span: SpanContext
    position: int
    """How many steps of the calling part came before."""


def write_origin(origin: Origin, headers: MutableMapping[str, str]) -> None:
    """Put a trajectory into headers, beside the application's own baggage.

    Source: https://www.w3.org/TR/trace-context/ and https://www.w3.org/TR/baggage/
    """
    context = baggage.set_baggage(TRAJECTORY_ID, quote(origin.trajectory_id, safe=""))  # blanks at its ends
    context = baggage.set_baggage(PART_POSITION, str(origin.position), context)
    context = trace.set_span_in_context(NonRecordingSpan(origin.span), context)
    _TRACE.inject(headers, context)
    context = baggage.set_baggage(CALLER, headers["traceparent"], context)
    _BAGGAGE.inject(headers, context)


def read_origin(headers: Mapping[str, str]) -> Origin | None:
    """Return the trajectory that headers name, in whatever case; None when they name none that can be joined."""
    lowered = {str(name).lower(): str(value) for name, value in headers.items()}
    context = _BAGGAGE.extract(lowered, Context())
    trajectory_id = baggage.get_baggage(TRAJECTORY_ID, context)
    position = str(baggage.get_baggage(PART_POSITION, context) or "")
    caller = {"traceparent": str(baggage.get_baggage(CALLER, context) or lowered.get("traceparent", ""))}
    span = trace.get_current_span(_TRACE.extract(caller, Context())).get_span_context()
    if not isinstance(trajectory_id, str) or not trajectory_id or not span.is_valid:
        return None
    return Origin(unquote(trajectory_id), span, int(position) if position.isascii() and position.isdigit() else 0)
