"""Collect what an agent emits in memory, with counted ids and a counted clock: for our tests and users'."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import ReadableSpan

from imitrace.delivery.outbox import Stats
from imitrace.messages import Action
from imitrace.pipeline import Pipeline, Sources, TracingConfig
from imitrace.provider import install
from imitrace.semconv import SPAN_STEP, STEP_ACTION_KIND, STEP_MESSAGE, TOOL_CALL_ARGUMENTS, TOOL_NAME
from imitrace.spans import Ids

T = TypeVar("T")

_START = 1_700_000_000 * 10**9
_TICK = 10**6
_FLUSH_SECONDS = 10.0


class CountingIds(Ids):
    """Trace and span ids 1, 2, 3 and so on, names ``trajectory-1``, ``decision-1`` and so on."""

    def __init__(self) -> None:
        self._counts = {kind: itertools.count(1) for kind in ("trace", "span", "trajectory", "decision", "instance")}

    def name(self, kind: str) -> str:
        """Return the next name of a kind."""
        return f"{kind}-{next(self._counts[kind])}"

    def trace(self) -> int:
        """Return the next trace id."""
        return next(self._counts["trace"])

    def span(self) -> int:
        """Return the next span id."""
        return next(self._counts["span"])


def counting_sources() -> Sources:
    """Return counted ids, and a clock that ticks a millisecond at each look."""
    clock = itertools.count(_START, _TICK)
    return Sources(clock=lambda: next(clock), ids=CountingIds)


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
    def actions(self) -> list[Action]:
        """Return what the agent did, step by step, without the ids of its calls."""
        return [_action(step.attributes or {}) for step in self.steps]

    @property
    def scores(self) -> list[ReadableLogRecord]:
        """Return the scores."""
        self.pipeline.flush(_FLUSH_SECONDS)
        return list(self._scores.records)

    @property
    def stats(self) -> Stats:
        """Return the counts."""
        return self.pipeline.stats()


def _action(step: Mapping[str, Any]) -> Action:
    if step[STEP_ACTION_KIND] == "message":
        return Action("message", message=step[STEP_MESSAGE])
    return Action("tool_call", step[TOOL_NAME], json.loads(step[TOOL_CALL_ARGUMENTS]))


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
