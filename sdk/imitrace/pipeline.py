"""Join OpenTelemetry's providers with our outboxes: the way of every record from an agent's call to a delivery.

It is imported when tracing is configured, so that ``import imitrace`` stays light.
"""

import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import (
    LoggerProvider,
    LogRecordLimits,
    LogRecordProcessor,
    ReadableLogRecord,
    ReadWriteLogRecord,
)
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Span as ApiSpan
from opentelemetry.trace import set_span_in_context

from imitrace.exceptions import ConfigError
from imitrace.faults import Faults
from imitrace.outbox import Delivery, Outbox, OutboxConfig, Stats
from imitrace.semconv import POLICY_ROLES

AttributeValue = str | int | float | bool
PROTOCOLS = ("http", "grpc")
_DEFAULT_ENDPOINTS = {"http": "http://127.0.0.1:4318", "grpc": "http://127.0.0.1:4317"}
_MAX_ATTRIBUTES = 1000


@dataclass(frozen=True, kw_only=True)
class TracingConfig:
    """Who acts, and where its traces go."""

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
    protocol: str = "http"
    """OTLP over ``http`` or ``grpc``."""
    endpoint: str | None = None
    """Collector's base address; with ``http`` the paths /v1/traces and /v1/logs are added."""
    token: str | None = None
    """Bearer token that the collector asks for."""
    outbox: OutboxConfig = field(default_factory=OutboxConfig)
    """Bounds of the queue between the agent and the collector."""

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ConfigError(
                f"protocol is {self.protocol!r}, allowed: {', '.join(PROTOCOLS)}; set it or IMITRACE_PROTOCOL"
            )
        if self.policy_role not in POLICY_ROLES:
            raise ConfigError(f"policy_role is {self.policy_role!r}, allowed: {', '.join(POLICY_ROLES)}")
        if not self.address.startswith(("http://", "https://")):
            raise ConfigError(
                f"endpoint is {self.address!r}, allowed: an address that starts with http:// or https://; "
                "set it or IMITRACE_ENDPOINT"
            )

    @property
    def address(self) -> str:
        """Return the collector's base address without a slash at its end."""
        return (self.endpoint or _DEFAULT_ENDPOINTS[self.protocol]).rstrip("/")


class _SpanQueue(SpanProcessor):
    def __init__(self, outbox: Outbox[ReadableSpan]) -> None:
        self._outbox = outbox

    def on_end(self, span: ReadableSpan) -> None:
        self._outbox.put(span)


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


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where time and identity come from; tests pass counting ones."""

    clock: Callable[[], int] = time.time_ns
    """Nanoseconds since 1970."""
    new_id: Callable[[str], str] = lambda _kind: uuid.uuid4().hex
    """A new name for a ``trajectory`` or a ``decision``."""
    span_ids: Callable[[], IdGenerator] = RandomIdGenerator
    """Makes the generator of trace and span ids."""


class Pipeline:
    """Everything between an agent's calls and the collector, apart from the application's own OpenTelemetry."""

    def __init__(
        self,
        config: TracingConfig,
        spans: Delivery[ReadableSpan],
        scores: Delivery[ReadableLogRecord],
        sources: Sources | None = None,
    ) -> None:
        resource = Resource.create({SERVICE_NAME: config.agent} if config.agent else None)
        self.config = replace(config, agent=config.agent or str(resource.attributes[SERVICE_NAME]))
        self.sources = sources or Sources()
        self.faults = Faults()
        self.closed = False
        self._steps = 0
        self._steps_lock = threading.Lock()
        self._spans = Outbox(spans, _span_size, config.outbox)
        self._scores = Outbox(scores, _score_size, config.outbox)
        tracing = TracerProvider(
            sampler=ALWAYS_ON,
            resource=resource,
            shutdown_on_exit=False,
            id_generator=self.sources.span_ids(),
            span_limits=_unbounded_span_limits(),
        )
        tracing.add_span_processor(_SpanQueue(self._spans))
        logging = LoggerProvider(resource, shutdown_on_exit=False, log_record_limits=_unbounded_log_limits())
        logging.add_log_record_processor(_LogQueue(self._scores))
        self._tracer = tracing.get_tracer("imitrace")
        self._logger = logging.get_logger("imitrace")
        _reset_in_forked_child(self)

    def start(
        self, name: str, attributes: Mapping[str, AttributeValue], parent: ApiSpan | None, started_at: int
    ) -> ApiSpan:
        """Open a span under ``parent``, or under the application's own current span; it never becomes current."""
        context = None if parent is None else set_span_in_context(parent, Context())
        return self._tracer.start_span(name, context=context, attributes=attributes, start_time=started_at)

    def count_step(self) -> None:
        """Count one emitted step."""
        with self._steps_lock:
            self._steps += 1

    def emit_event(self, name: str, attributes: Mapping[str, AttributeValue], parent: ApiSpan | None) -> None:
        """Emit a log record that is an event, within ``parent``'s trace."""
        now = self.sources.clock()
        self._logger.emit(
            LogRecord(
                timestamp=now,
                observed_timestamp=now,
                context=Context() if parent is None else set_span_in_context(parent, Context()),
                severity_number=SeverityNumber.INFO,
                attributes=attributes,
                event_name=name,
            )
        )

    def flush(self, timeout: float) -> bool:
        """Deliver everything emitted so far within ``timeout`` seconds; return whether none was lost."""
        until = time.monotonic() + timeout
        spans = self._spans.flush(timeout)
        return self._scores.flush(max(0.0, until - time.monotonic())) and spans

    def close(self, timeout: float) -> bool:
        """Flush within ``timeout`` seconds, then refuse and count whatever comes later."""
        self.closed = True
        until = time.monotonic() + timeout
        spans = self._spans.close(timeout)
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
            faults=self.faults.counts(),
        )

    def reset(self) -> None:
        """Start from nothing in a forked child: the parent sends what was queued before."""
        self._steps = 0
        self._steps_lock = threading.Lock()
        self.faults.reset()
        self._spans.reset()
        self._scores.reset()


def _unbounded_span_limits() -> SpanLimits:
    """Return limits that cut no payload, whatever the environment says: a cut payload is a wrong demonstration."""
    return SpanLimits(
        max_attributes=_MAX_ATTRIBUTES,
        max_span_attributes=_MAX_ATTRIBUTES,
        max_attribute_length=SpanLimits.UNSET,
        max_span_attribute_length=SpanLimits.UNSET,
    )


def _unbounded_log_limits() -> LogRecordLimits:
    return LogRecordLimits(
        max_attributes=_MAX_ATTRIBUTES,
        max_log_record_attributes=_MAX_ATTRIBUTES,
        max_attribute_length=LogRecordLimits.UNSET,
        max_log_record_attribute_length=LogRecordLimits.UNSET,
    )


def _payload_size(attributes: Mapping[str, object] | None) -> int:
    return sum(len(value) for value in (attributes or {}).values() if isinstance(value, str))


def _span_size(span: ReadableSpan) -> int:
    return _payload_size(span.attributes)


def _score_size(score: ReadableLogRecord) -> int:
    return _payload_size(score.log_record.attributes)


def _reset_in_forked_child(pipeline: Pipeline) -> None:
    reset = weakref.WeakMethod(pipeline.reset)

    def after_in_child() -> None:
        if method := reset():
            method()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=after_in_child)
