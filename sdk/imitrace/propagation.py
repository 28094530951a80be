"""Carry a trajectory to another process: W3C ``traceparent`` and ``baggage`` in headers or environment variables."""

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from imitrace.semconv import PART_POSITION, TRAJECTORY_ID

OWN_HEADER = "imitrace-trajectory"
"""``ID;POSITION;TRACEPARENT`` of the calling part."""

_TRACE = TraceContextTextMapPropagator()
_BAGGAGE = W3CBaggagePropagator()


Headers = Mapping[str, str] | Mapping[bytes, bytes] | Iterable[tuple[str | bytes, str | bytes]]
"""As web frameworks give them: by name, or as pairs, of text or of bytes."""


@dataclass(frozen=True)
class Origin:
    """Where a trajectory that goes on here was begun."""

    trajectory_id: str
    span: SpanContext
    position: int
    """How many steps of the calling part came before."""


def write_origin(origin: Origin, headers: MutableMapping[str, str]) -> None:
    """Put a trajectory into headers, beside the application's own baggage.

    An instrumented client may put its own ``traceparent`` and ``baggage`` in their place; a header of ours says the
    same once more, and is read first.

    Source: https://www.w3.org/TR/trace-context/ and https://www.w3.org/TR/baggage/
    """
    _TRACE.inject(headers, trace.set_span_in_context(NonRecordingSpan(origin.span), Context()))
    name = quote(origin.trajectory_id, safe="")
    headers[OWN_HEADER] = f"{name};{origin.position};{headers['traceparent']}"
    context = baggage.set_baggage(TRAJECTORY_ID, name)  # quoted twice, or blanks at its ends would be lost
    _BAGGAGE.inject(headers, baggage.set_baggage(PART_POSITION, str(origin.position), context))


def read_origin(headers: Headers) -> Origin | None:
    """Return the trajectory that headers name, in whatever case; None when they name none that can be joined."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    lowered = {_text(name).lower(): _text(value) for name, value in pairs}
    own = lowered.get(OWN_HEADER, "").split(";")
    if len(own) == 3:
        trajectory_id, position, caller = own
    else:
        context = _BAGGAGE.extract(lowered, Context())
        trajectory_id = str(baggage.get_baggage(TRAJECTORY_ID, context) or "")
        position = str(baggage.get_baggage(PART_POSITION, context) or "")
        caller = lowered.get("traceparent", "")
    span = trace.get_current_span(_TRACE.extract({"traceparent": caller}, Context())).get_span_context()
    if not trajectory_id or not span.is_valid:
        return None
    return Origin(unquote(trajectory_id), span, int(position) if position.isascii() and position.isdigit() else 0)


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
