import pytest
from opentelemetry.sdk.trace import TracerProvider

import imitrace
from imitrace import semconv
from imitrace.delivery.outbox import OutboxConfig
from imitrace.pipeline import TracingConfig
from imitrace.testing import Captured, capture


def test_policy_and_agent_come_from_the_configuration() -> None:
    config = TracingConfig(
        agent="desk", agent_version="7", policy_role="human", policy_name="ann", policy_version="2026"
    )
    with capture(config) as seen, imitrace.step("hi") as step:
        step.message("ok")
    sent = seen.steps[0].attributes or {}
    assert [sent[semconv.AGENT_NAME], sent[semconv.AGENT_VERSION]] == ["desk", "7"]
    names = (semconv.POLICY_ROLE, semconv.POLICY_NAME, semconv.POLICY_VERSION)
    assert [sent[name] for name in names] == ["human", "ann", "2026"]


def test_the_agent_is_the_service_when_it_has_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    with capture(TracingConfig()) as seen, imitrace.trajectory():
        pass
    assert (seen.spans[0].attributes or {})[semconv.AGENT_NAME] == "shop"


def test_the_resource_names_service_and_sdk(seen: Captured) -> None:
    with imitrace.trajectory():
        pass
    resource = seen.spans[0].resource.attributes
    assert (resource["service.name"], resource["telemetry.sdk.name"]) == ("agent", "opentelemetry")


def test_spans_join_the_applications_trace_even_when_it_samples_nothing(
    seen: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    with TracerProvider().get_tracer("app").start_as_current_span("request") as request, imitrace.step("hi") as step:
        step.message("ok")
    assert {span.context.trace_id for span in seen.spans} == {request.get_span_context().trace_id}
    assert len(seen.spans) == 2


@pytest.mark.parametrize("variable", ["OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT"])
def test_no_payload_is_cut_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "8")
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "2")
    with capture() as seen, imitrace.step("x" * 100_000) as step:
        step.message("y" * 100_000)
        imitrace.score("reward", label="z" * 1000)
    assert len(str((seen.steps[0].attributes or {})[semconv.STEP_MESSAGES])) > 100_000
    assert len(str((seen.scores[0].log_record.attributes or {})[semconv.SCORE_LABEL])) == 1000


def test_what_a_full_queue_drops_is_in_the_counts() -> None:
    with capture(TracingConfig(outbox=OutboxConfig(max_bytes=100))) as seen, imitrace.step("x" * 1000) as step:
        step.message("ok")
    stats = seen.stats
    assert (stats.steps, stats.dropped > 0) == (1, True)
    assert stats.records == stats.exported + stats.dropped
