"""Be an agent under OpenTelemetry: a real batch processor and OTLP exporter, and a note of what it says is exported.

Run as ``python -m fault_trials.otel_sender http|grpc ADDRESS``; sends until standard input ends.
"""

import json
import sys
import threading
from collections import Counter
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

_TEXT = "The parcel was last seen in Leipzig at 14:05. " * 20
_PAUSE = 0.01
_SPANS_AT_ONCE = 8


class NotingExporter(SpanExporter):
    """Export through the real one, and note the ids of what it says went through."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.spans: list[tuple[str, str]] = []
        self.answers: Counter[str] = Counter()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        self.answers[f"exporter {result.name.lower()}"] += 1
        if result is SpanExportResult.SUCCESS:
            contexts = [span.context for span in spans if span.context]
            self.spans += [(f"{found.trace_id:032x}", f"{found.span_id:016x}") for found in contexts]
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _wait(ending: threading.Event) -> None:
    sys.stdin.read()
    ending.set()


def main() -> None:
    protocol, address = sys.argv[1:]
    real: SpanExporter = (
        GrpcExporter(endpoint=address, insecure=True, timeout=30)
        if protocol == "grpc"
        else HttpExporter(endpoint=f"{address}/v1/traces", timeout=30)
    )
    exporter = NotingExporter(real)
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=200, max_export_batch_size=128))
    tracer = provider.get_tracer("faults")
    ending = threading.Event()
    threading.Thread(target=_wait, args=(ending,), daemon=True).start()
    print("sending", flush=True)
    while not ending.wait(_PAUSE):
        with tracer.start_as_current_span("chat", attributes={"input": _TEXT}):
            for _ in range(_SPANS_AT_ONCE - 1):
                with tracer.start_as_current_span("execute_tool", attributes={"output": _TEXT}):
                    pass
    provider.force_flush(60_000)
    provider.shutdown()
    print(json.dumps({"spans": exporter.spans, "answers": exporter.answers}))


if __name__ == "__main__":
    main()
