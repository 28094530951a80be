"""Open and end spans: our own records, cheap and never cut, or those of a provider that the application has."""

import os
import random
import weakref
from collections.abc import Callable
from typing import Protocol

from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)

from imitrace.chunks import CHUNK_BYTES

AttributeValue = str | int | float | bool
SCOPE = "imitrace"
"""Name of the instrumentation scope of everything that we record."""

_UNSET = Status(StatusCode.UNSET)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_PROBE = 4 * CHUNK_BYTES


class Ids:
    """Random ids from a generator of our own: a seed that the application sets, or a fork, must not repeat them."""

    def __init__(self) -> None:
        self._reseed()
        reseed = weakref.WeakMethod(self._reseed)
        os.register_at_fork(after_in_child=lambda: (method := reseed()) and method())

    def _reseed(self) -> None:
        self._bits: Callable[[int], int] = random.Random(os.urandom(32)).getrandbits

    def name(self, kind: str) -> str:
        """Return a new name for a ``trajectory`` (32 hex digits), a ``decision`` or an ``instance`` (16)."""
        return f"{self._bits(128):032x}" if kind == "trajectory" else f"{self._bits(64):016x}"

    def trace(self) -> int:
        """Return a new trace id, 128 bits."""
        return self._bits(128) or 1

    def span(self) -> int:
        """Return a new span id, 64 bits."""
        return self._bits(64) or 1


def unsampled(ids: Ids) -> SpanContext:
    """Return the identity of a span that is not recorded, for other processes to leave their part out too."""
    return SpanContext(ids.trace(), ids.span(), False, TraceFlags(TraceFlags.DEFAULT))


class OpenSpan(Protocol):
    """A span that has begun."""

    @property
    def context(self) -> SpanContext:
        """Return its identity."""

    def end(self, attributes: dict[str, AttributeValue], ended_at: int, failure: str = "") -> None:
        """Record it with all its attributes, and with the error that it ended by.

        Args:
            attributes: texts and numbers; the dictionary is the span's from now on.
            ended_at: nanoseconds since 1970.
            failure: the error in words; empty for none.
        """


class RecordedSpan(ReadableSpan):
    """A span in the queue, to whose attributes something can still be added."""

    open_attributes: dict[str, AttributeValue]


class OwnSpan:
    """A span of our own: no limits, no sampling, no processors but ours."""

    __slots__ = ("_name", "_parent", "_recorder", "_started_at", "context")

    def __init__(
        self, recorder: "OwnRecorder", name: str, context: SpanContext, parent: SpanContext | None, started_at: int
    ) -> None:
        self._recorder = recorder
        self._name = name
        self.context = context
        self._parent = parent
        self._started_at = started_at

    def end(self, attributes: dict[str, AttributeValue], ended_at: int, failure: str = "") -> None:
        """Put it into the queue."""
        recorder = self._recorder
        span = RecordedSpan(
            self._name,
            self.context,
            self._parent,
            recorder.resource,
            attributes,
            status=Status(StatusCode.ERROR, failure) if failure else _UNSET,
            start_time=self._started_at,
            end_time=ended_at,
            instrumentation_scope=recorder.scope,
        )
        span.open_attributes = attributes
        recorder.put(span)


class OwnRecorder:
    """Begins spans apart from whatever OpenTelemetry the application has, in its traces all the same."""

    limit = CHUNK_BYTES

    def __init__(self, resource: Resource, put: Callable[[ReadableSpan], None], ids: Ids) -> None:
        self.resource = resource
        self.put = put
        self.scope = InstrumentationScope(SCOPE)
        self._ids = ids

    def start(self, name: str, parent: SpanContext | None, started_at: int) -> OwnSpan:
        """Begin a span."""
        if parent is None:
            around = get_current_span().get_span_context()
            parent = around if around.is_valid else None
        trace_id = self._ids.trace() if parent is None else parent.trace_id
        return OwnSpan(self, name, SpanContext(trace_id, self._ids.span(), False, _SAMPLED), parent, started_at)


class ProviderSpan:
    """A span of the application's provider: its processors, its sampler and its limits apply."""

    def __init__(self, span: Span, unrecorded: Callable[[], None]) -> None:
        self._span = span
        self._unrecorded = unrecorded

    @property
    def context(self) -> SpanContext:
        """Return its identity."""
        return self._span.get_span_context()

    def end(self, attributes: dict[str, AttributeValue], ended_at: int, failure: str = "") -> None:
        """End it; one that the provider's sampler refused is counted."""
        if not self._span.is_recording():
            self._unrecorded()
        self._span.set_attributes(attributes)
        if failure:
            self._span.set_status(StatusCode.ERROR, failure)
        self._span.end(ended_at)


class ProviderRecorder:
    """Begins spans by a provider of the application, and hands those of ours to our queue as well."""

    def __init__(
        self, provider: TracerProvider, put: Callable[[ReadableSpan], None], unrecorded: Callable[[], None]
    ) -> None:
        self.resource = provider.resource
        self._unrecorded = unrecorded
        self._tracer = provider.get_tracer(SCOPE)
        self.limit = min(CHUNK_BYTES, self._value_limit())
        provider.add_span_processor(_OwnSpans(put))

    def start(self, name: str, parent: SpanContext | None, started_at: int) -> ProviderSpan:
        """Begin a span."""
        context = None if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())
        return ProviderSpan(self._tracer.start_span(name, context=context, start_time=started_at), self._unrecorded)

    def _value_limit(self) -> int:
        """Return how long an attribute this provider keeps, from a span that is begun and never ended."""
        probe = self._tracer.start_span("probe", context=Context(), attributes={"probe": "x" * _PROBE})
        kept = (getattr(probe, "attributes", None) or {}).get("probe", "x" * _PROBE)
        return max(1, len(kept))


class _OwnSpans(SpanProcessor):
    def __init__(self, put: Callable[[ReadableSpan], None]) -> None:
        self._put = put

    def on_end(self, span: ReadableSpan) -> None:
        if span.instrumentation_scope is not None and span.instrumentation_scope.name == SCOPE:
            self._put(span)
