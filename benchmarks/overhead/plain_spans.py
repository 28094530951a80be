"""The measure of everything else: a span of OpenTelemetry with two JSON attributes, and one of the no-op tracer."""

import json
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import NoOpTracerProvider, Tracer

from overhead.states import Message, model

Step = Callable[[list[Message]], object]


class NoExporter(SpanExporter):
    """Take every batch, keep the last span."""

    last: ReadableSpan | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.last = spans[-1]
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        pass

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return True


def batching_provider(exporter: SpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def spanned(tracer: Tracer) -> Step:
    """Return the function inside a span with its argument and its answer as JSON."""

    def run(messages: list[Message]) -> object:
        with tracer.start_as_current_span("model") as span:
            span.set_attribute("input", json.dumps(messages))
            answer = model(messages)
            span.set_attribute("output", json.dumps(answer))
        return answer

    return run


def empty_spanned(tracer: Tracer) -> Step:
    """Return the function inside a span without attributes."""

    def run(messages: list[Message]) -> object:
        with tracer.start_as_current_span("model"):
            return model(messages)

    return run


def noop_tracer() -> Tracer:
    return NoOpTracerProvider().get_tracer("benchmark")


def each(step: Step, states: Sequence[list[Message]]) -> Callable[[], None]:
    """Return what takes every state once."""

    def run() -> None:
        for state in states:
            step(state)

    return run
