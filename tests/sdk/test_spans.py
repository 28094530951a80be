import random
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import imitrace
from imitrace import semconv
from imitrace.canonical import step_digest
from imitrace.exceptions import ConfigError
from imitrace.pipeline import TracingConfig
from imitrace.spans import Ids
from imitrace.testing import capture

FORKED = """
import os, random
from imitrace.spans import Ids
ids, (reader, writer) = Ids(), os.pipe()
if os.fork() == 0:
    os.write(writer, str(ids.span()).encode())
    os._exit(0)
os.wait()
assert os.read(reader, 100).decode() != str(ids.span())
"""


def say(text: str) -> None:
    with imitrace.step(text) as step:
        step.message(text)


def test_a_seed_that_the_agent_sets_does_not_repeat_ids() -> None:
    found = []
    for _ in range(2):
        random.seed(0)
        ids = Ids()
        found += [ids.trace(), ids.span(), ids.name("trajectory"), ids.name("decision")]
    assert len(set(found)) == 8


def test_a_forked_child_makes_other_ids() -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", FORKED], check=True, timeout=60)


def exported(provider: TracerProvider) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return exporter


def names(spans: Any) -> list[str]:
    return [span.name for span in spans]


def test_the_applications_provider_sees_our_spans_when_it_is_given() -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    theirs = exported(provider)
    application = provider.get_tracer("app")
    config = TracingConfig(tracer_provider=provider)
    with capture(config) as seen, imitrace.trajectory(), application.start_as_current_span("query"):
        say("hi")
    ours = [semconv.SPAN_STEP, semconv.SPAN_TRAJECTORY]
    assert names(seen.spans) == ours
    assert sorted(names(theirs.get_finished_spans())) == sorted([*ours, "query"])
    assert (seen.steps[0].attributes or {})[semconv.AGENT_NAME] == "shop"


def test_our_spans_nest_under_the_applications_current_one() -> None:
    provider = TracerProvider()
    application = provider.get_tracer("app")
    config = TracingConfig(tracer_provider=provider)
    with capture(config) as seen, application.start_as_current_span("request") as request, imitrace.trajectory():
        say("hi")
    step, trajectory = seen.spans
    assert trajectory.parent is not None
    assert trajectory.parent.span_id == request.get_span_context().span_id
    assert step.parent is not None
    assert step.parent.span_id == trajectory.context.span_id


@pytest.mark.parametrize("limit", [64, 256])
def test_a_provider_that_cuts_long_values_gets_chunks_instead(limit: int) -> None:
    provider = TracerProvider(span_limits=SpanLimits(max_span_attribute_length=limit))
    with capture(TracingConfig(agent="desk", tracer_provider=provider)) as seen, imitrace.trajectory():
        say("long " * 200)
    step = dict(seen.steps[0].attributes or {})
    texts: dict[str, str] = {}
    for chunk in seen.spans:
        if chunk.name == semconv.SPAN_CHUNK:
            read: dict[str, Any] = dict(chunk.attributes or {})
            texts[read[semconv.CHUNK_ATTRIBUTE]] = (
                texts.get(read[semconv.CHUNK_ATTRIBUTE], "") + read[semconv.CHUNK_TEXT]
            )
    assert set(texts) == {semconv.STEP_MESSAGES, semconv.STEP_MESSAGE}
    assert step_digest({**step, **texts}) == step[semconv.STEP_DIGEST]


def test_a_provider_that_samples_the_trace_out_is_counted() -> None:
    config = TracingConfig(agent="desk", tracer_provider=TracerProvider(sampler=ALWAYS_OFF))
    with capture(config) as seen, imitrace.trajectory():
        say("hi")
    assert seen.spans == []
    assert seen.stats.faults == {"not_sampled": 2}


def test_a_provider_outlives_our_pipeline_without_harm() -> None:
    provider = TracerProvider()
    for _ in range(2):
        with capture(TracingConfig(tracer_provider=provider)) as seen:
            say("hi")
        assert len(seen.steps) == 1
    provider.get_tracer("imitrace").start_span("late").end()
    assert seen.stats.dropped == 0


def test_something_that_is_no_provider_is_refused() -> None:
    with pytest.raises(ConfigError, match="tracer_provider is a NoOpTracerProvider, allowed: a TracerProvider of"):
        TracingConfig(tracer_provider=trace.NoOpTracerProvider())  # type: ignore[arg-type]  # the mistake under test


def test_our_own_spans_are_whole_spans_of_the_sdk() -> None:
    with capture() as seen:
        say("hi")
    (step,) = seen.steps
    assert isinstance(step, ReadableSpan)
    assert step.context.trace_flags.sampled
    assert step.start_time is not None
    assert step.end_time is not None
    assert step.start_time < step.end_time
    assert step.instrumentation_scope is not None
    assert step.instrumentation_scope.name == "imitrace"
    assert step.status.is_unset
