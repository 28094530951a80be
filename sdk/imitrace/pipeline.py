"""Join spans, scores and their outboxes: the way of every record from an agent's call to a delivery.

It is imported when tracing is configured, so that ``import imitrace`` stays light.
"""

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import (
    LoggerProvider,
    LogRecordLimits,
    LogRecordProcessor,
    ReadableLogRecord,
    ReadWriteLogRecord,
)
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

from imitrace.canonical import step_digest
from imitrace.chunks import cut
from imitrace.delivery.outbox import Delivery, Outbox, OutboxConfig, Stats, payload_bytes, text_bytes
from imitrace.exceptions import ConfigError
from imitrace.faults import Faults
from imitrace.sampling import Sampler
from imitrace.semconv import (
    CHUNK_TEXT,
    DIGEST_PAYLOADS,
    EVENT_LOSS,
    LOSS_DROPPED,
    LOSS_FAILED,
    LOSS_RECORDS,
    OPERATION,
    POLICY_ROLES,
    SPAN_CHUNK,
    SPAN_STEP,
    SPAN_TOOL,
    SPAN_TRAJECTORY,
    STEP_DIGEST,
    TRAJECTORY_ID,
)
from imitrace.shapes.plain import wire_text
from imitrace.spans import SCOPE, AttributeValue, Ids, OpenSpan, OwnRecorder, ProviderRecorder, RecordedSpan

if TYPE_CHECKING:  # its finders are loaded when something is to be redacted
    from imitrace.redaction.redactor import Redactor

_MAX_ATTRIBUTES = 1000
_MAX_WORDS = 1000
_SHORT = 256
_SMALL = 512
_LARGE = (*DIGEST_PAYLOADS, CHUNK_TEXT)


@dataclass(frozen=True, kw_only=True)
class TracingConfig:
    """Who acts, and what of it is recorded."""

    agent: str | None = None
    """Name of the agent; also the resource's ``service.name``, from which it comes when it is not given."""
    agent_version: str | None = None
    """Version of the agent's code or prompt."""
    policy_role: str = "expert"
    """Who decides unless a step says otherwise: expert, clone, human or synthetic."""
    policy_name: str | None = None
    """Model or clone that decides; the model named in an answer when it is not given."""
    policy_version: str | None = None
    """Version of that model or clone."""
    sampler: Sampler = field(default_factory=Sampler)
    """Which trajectories are recorded."""
    redactor: "Redactor | None" = None
    """What is replaced in every payload before it is queued; None leaves payloads as they are."""
    tracer_provider: TracerProvider | None = None
    """The application's provider, when its own exporters are to see our spans too."""
    outbox: OutboxConfig = field(default_factory=OutboxConfig)
    """Bounds of the queue between the agent and the collector."""

    def __post_init__(self) -> None:
        if self.policy_role not in POLICY_ROLES:
            raise ConfigError(f"policy_role is {self.policy_role!r}, allowed: {', '.join(POLICY_ROLES)}")
        if self.tracer_provider is not None and not isinstance(self.tracer_provider, TracerProvider):
            raise ConfigError(
                f"tracer_provider is a {type(self.tracer_provider).__name__}, allowed: a TracerProvider of the "
                "OpenTelemetry SDK; set one up first, or leave it out"
            )

    def resource(self, instance: str = "") -> Resource:
        """Return what the spans say of this process, which is called ``instance``."""
        if self.tracer_provider is not None:
            return self.tracer_provider.resource
        known = Resource.create({SERVICE_NAME: self.agent} if self.agent else None)
        named = SERVICE_INSTANCE_ID in known.attributes or not instance
        return known if named else known.merge(Resource({SERVICE_INSTANCE_ID: instance}))

    def service(self) -> str:
        """Return the agent's name, or the service's where it has none."""
        return self.agent or str(self.resource().attributes.get(SERVICE_NAME, "agent"))


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where time and identity come from; tests pass counting ones."""

    clock: Callable[[], int] = time.time_ns
    """Nanoseconds since 1970."""
    ids: Callable[[], Ids] = Ids
    """Makes what names trajectories and decisions, and numbers traces and spans."""


class Pipeline:
    """Everything between an agent's calls and the collector."""

    def __init__(
        self,
        config: TracingConfig,
        spans: Delivery[ReadableSpan],
        scores: Delivery[ReadableLogRecord],
        sources: Sources | None = None,
        faults: Faults | None = None,
    ) -> None:
        sources = sources or Sources()
        self.clock = sources.clock
        self.ids = sources.ids()
        self.faults = faults or Faults()
        self.redactor = config.redactor
        self.closed = False
        self.successor: Pipeline | None = None
        """What took this one's place while trajectories were open: it records what they still have to say."""
        self._steps = 0
        self._lost_told = 0
        self._lock = threading.RLock()
        self._spans = Outbox(spans, _span_size, config.outbox, _seal)
        self._scores = Outbox(scores, _score_size, config.outbox)
        self._recorder = self._make_recorder(config)
        self.config = replace(config, agent=config.service())
        if self._recorder.limit < _SHORT:
            self.faults.count("short_attributes", f"the provider cuts values at {self._recorder.limit} characters")
        logging = LoggerProvider(
            self._recorder.resource, shutdown_on_exit=False, log_record_limits=_unbounded_log_limits()
        )
        logging.add_log_record_processor(_LogQueue(self._scores))
        self._logger = logging.get_logger(SCOPE)
        _reset_in_forked_child(self)

    def start(self, name: str, parent: SpanContext | None, started_at: int) -> OpenSpan:
        """Begin a span under ``parent``, or under the application's own current span; it never becomes current."""
        return self._recorder.start(name, parent, started_at)

    def record(
        self,
        span: OpenSpan,
        attributes: dict[str, AttributeValue],
        ended_at: int,
        error: BaseException | None = None,
    ) -> None:
        """End a span whose payloads may be large: what is too large for an attribute follows in chunks."""
        kept, chunks = cut(attributes, self._recorder.limit)
        eager = kept is not attributes or self.config.tracer_provider is not None
        if eager and attributes.get(OPERATION) != SPAN_TRAJECTORY:
            kept[STEP_DIGEST] = step_digest(attributes)  # of the whole; else it is done where the agent does not wait
        span.end(kept, ended_at, "" if error is None else self.words(error))
        for chunk in chunks:
            piece = self._recorder.start(SPAN_CHUNK, span.context, ended_at)
            piece.end({TRAJECTORY_ID: attributes[TRAJECTORY_ID], **chunk}, ended_at)

    def clean(self, value: object) -> str:
        """Return a text as it may be sent: what protobuf can carry, and redacted."""
        text = wire_text(value)
        return text if self.redactor is None else self.redactor.text(text)

    def words(self, error: BaseException) -> str:
        """Return an error's type and text, redacted."""
        text = ""
        with contextlib.suppress(Exception):  # an exception whose text can't be had has a type all the same
            text = str(error)
        return f"{type(error).__qualname__}: {self.clean(text)}"[:_MAX_WORDS]

    def count_steps(self, count: int) -> None:
        """Count emitted steps."""
        records = self._heir()
        with records._lock:
            records._steps += count

    def emit_event(self, name: str, attributes: Mapping[str, AttributeValue], parent: SpanContext | None) -> None:
        """Emit a log record that is an event, within ``parent``'s trace."""
        now = self.clock()
        around = Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())
        self._heir()._logger.emit(
            LogRecord(
                timestamp=now,
                observed_timestamp=now,
                context=around,
                severity_number=SeverityNumber.INFO,
                attributes=attributes,
                event_name=name,
            )
        )

    def flush(self, timeout: float) -> bool:
        """Deliver everything emitted so far within ``timeout`` seconds; return whether none was lost."""
        until = time.monotonic() + timeout
        spans = self._spans.flush(timeout)
        self._tell_losses()
        return self._scores.flush(max(0.0, until - time.monotonic())) and spans

    def close(self, timeout: float) -> bool:
        """Flush within ``timeout`` seconds, then refuse and count whatever comes later."""
        self.closed = True
        until = time.monotonic() + timeout
        spans = self._spans.close(timeout)
        self._tell_losses()
        return self._scores.close(max(0.0, until - time.monotonic())) and spans

    def stats(self) -> Stats:
        """Return what became of everything emitted."""
        spans, scores = self._spans.stats(), self._scores.stats()
        return Stats(
            steps=self._steps,
            records=spans.records + scores.records,
            exported=spans.exported + scores.exported,
            failed=spans.failed + scores.failed,
            dropped=spans.dropped + scores.dropped,
            pending=spans.pending + scores.pending,
            spooled=spans.spooled + scores.spooled,
            recovered=spans.recovered + scores.recovered,
            redacted={} if self.redactor is None else self.redactor.counts(),
            faults=self.faults.counts(),
        )

    def reset(self) -> None:
        """Start from nothing in a forked child: the parent sends what was queued before."""
        self._steps = 0
        self._lost_told = 0
        self._lock = threading.RLock()
        self.faults.reset()
        if self.redactor is not None:
            self.redactor.reset()
        self._spans.reset()
        self._scores.reset()

    def _make_recorder(self, config: TracingConfig) -> OwnRecorder | ProviderRecorder:
        if config.tracer_provider is not None:
            return ProviderRecorder(config.tracer_provider, self._put_unless_closed, self._count_unrecorded)
        return OwnRecorder(config.resource(self.ids.name("instance")), self._put, self.ids)

    def _put(self, span: ReadableSpan) -> None:
        records = self._heir()
        if not records._spans.put(span):
            records.faults.count("queue_full", "records come faster than they can be sent, or tracing was shut down")

    def _heir(self) -> "Pipeline":
        """Return what records now: this, or what took its place."""
        return self if self.successor is None or not self.closed else self.successor._heir()

    def _put_unless_closed(self, span: ReadableSpan) -> None:
        if not self.closed:  # a provider keeps its processors for ever, ours outlives its pipeline
            self._put(span)

    def _count_unrecorded(self) -> None:
        self.faults.count("not_sampled", "the application's tracer provider samples this trace out")

    def _tell_losses(self) -> None:
        """Tell a collector that can be reached again how many records did not reach it."""
        stats = self._spans.stats()
        if stats.lost <= self._lost_told or not stats.exported:
            return
        self._lost_told = stats.lost
        counts = {LOSS_RECORDS: stats.records, LOSS_FAILED: stats.failed, LOSS_DROPPED: stats.dropped}
        self.emit_event(EVENT_LOSS, counts, None)


class _LogQueue(LogRecordProcessor):
    def __init__(self, outbox: Outbox[ReadableLogRecord]) -> None:
        self._outbox = outbox

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        self._outbox.put(
            ReadableLogRecord(
                log_record=log_record.log_record,
                resource=log_record.resource or Resource.get_empty(),
                instrumentation_scope=log_record.instrumentation_scope,
                limits=log_record.limits,
            )
        )

    def shutdown(self) -> None:
        """Do nothing: the pipeline closes its outboxes itself."""

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Flush the outbox."""
        return self._outbox.flush(timeout_millis / 1000)


def _unbounded_log_limits() -> LogRecordLimits:
    """Return limits that cut no score, whatever the environment says."""
    return LogRecordLimits(
        max_attributes=_MAX_ATTRIBUTES,
        max_log_record_attributes=_MAX_ATTRIBUTES,
        max_attribute_length=LogRecordLimits.UNSET,
        max_log_record_attribute_length=LogRecordLimits.UNSET,
    )


def _seal(span: ReadableSpan) -> None:
    """Put the proof of completeness on a step's or a tool run's span."""
    if isinstance(span, RecordedSpan) and span.name in (SPAN_STEP, SPAN_TOOL):
        attributes = span.open_attributes
        if STEP_DIGEST not in attributes:
            attributes[STEP_DIGEST] = step_digest(attributes)


def _span_size(span: ReadableSpan) -> int:
    """Return about how many bytes a span takes; what is not payload is small and much the same in all."""
    size = _SMALL
    attributes = span.attributes or {}
    for name in _LARGE:
        text = attributes.get(name)
        if type(text) is str:
            size += text_bytes(text)
    return size


def _score_size(score: ReadableLogRecord) -> int:
    return payload_bytes(score.log_record.attributes)


def _reset_in_forked_child(pipeline: Pipeline) -> None:
    reset = weakref.WeakMethod(pipeline.reset)

    def after_in_child() -> None:
        if method := reset():
            method()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=after_in_child)
