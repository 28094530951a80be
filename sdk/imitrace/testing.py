"""Collect what an agent emits in memory, with counted ids and a counted clock: for our tests and users'."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.id_generator import IdGenerator

from imitrace.outbox import Stats
from imitrace.pipeline import Pipeline, Sources, TracingConfig
from imitrace.provider import install
from imitrace.semconv import SPAN_STEP

T = TypeVar("T")

_START = 1_700_000_000 * 10**9
_TICK = 10**6
_FLUSH_SECONDS = 10.0


class CountingIds(IdGenerator):
    """Trace and span ids 1, 2, 3 and so on."""

    def __init__(self) -> None:
        self._spans = itertools.count(1)
        self._traces = itertools.count(1)

    def generate_span_id(self) -> int:
        """Return the next span id."""
        return next(self._spans)

    def generate_trace_id(self) -> int:
        """Return the next trace id."""
        return next(self._traces)


def counting_sources() -> Sources:
    """Return ids ``trajectory-1``, ``decision-1`` and so on, and a clock that ticks a millisecond at each look."""
    clock = itertools.count(_START, _TICK)
    kinds = {"trajectory": itertools.count(1), "decision": itertools.count(1)}
    return Sources(
        clock=lambda: next(clock),
        new_id=lambda kind: f"{kind}-{next(kinds[kind])}",
        span_ids=CountingIds,
    )


class InMemoryDelivery(Generic[T]):
    """Keep every record that is delivered."""

    def __init__(self) -> None:
        self.records: list[T] = []

    def send(self, batch: Sequence[T]) -> bool:
        """Keep a batch."""
        self.records.extend(batch)
        return True

    def close(self) -> None:
        """Keep what there is."""

    def reset(self) -> None:
        """Forget what the parent process kept."""
        self.records = []


class Captured:
    """What was emitted inside ``capture()``, in the order in which it ended."""

    def __init__(self, config: TracingConfig | None = None) -> None:
        self._spans: InMemoryDelivery[ReadableSpan] = InMemoryDelivery()
        self._scores: InMemoryDelivery[ReadableLogRecord] = InMemoryDelivery()
        config = config or TracingConfig(agent="agent")
        self.pipeline = Pipeline(config, self._spans, self._scores, counting_sources())

    @property
    def spans(self) -> list[ReadableSpan]:
        """Return all spans: steps, tool runs and trajectories."""
        self.pipeline.flush(_FLUSH_SECONDS)
        return list(self._spans.records)

    @property
    def steps(self) -> list[ReadableSpan]:
        """Return the steps alone."""
        return [span for span in self.spans if span.name == SPAN_STEP]

    @property
    def scores(self) -> list[ReadableLogRecord]:
        """Return the scores."""
        self.pipeline.flush(_FLUSH_SECONDS)
        return list(self._scores.records)

    @property
    def stats(self) -> Stats:
        """Return the counts."""
        return self.pipeline.stats()


@contextmanager
def capture(config: TracingConfig | None = None) -> Iterator[Captured]:
    """Record into memory instead of to a collector, and put back what was configured before.

    Args:
        config: who acts; an expert agent called ``agent`` when not given.
    """
    captured = Captured(config)
    before = install(captured.pipeline)
    try:
        yield captured
    finally:
        install(before)
        captured.pipeline.close(_FLUSH_SECONDS)
