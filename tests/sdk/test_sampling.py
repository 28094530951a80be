import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

import imitrace
from imitrace.exceptions import ConfigError
from imitrace.pipeline import TracingConfig
from imitrace.sampling import Sampler, sampler_of
from imitrace.testing import capture


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_trajectory_recorded_at_a_rate_is_recorded_at_every_higher_one(name: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert Sampler(low).records(name) <= Sampler(high).records(name)


def test_the_share_recorded_is_the_rate() -> None:
    recorded = sum(Sampler(0.3).records(str(number)) for number in range(10_000))
    assert abs(recorded - 3000) < 5 * (10_000 * 0.3 * 0.7) ** 0.5


@pytest.mark.parametrize(("rate", "expected"), [(0.0, False), (1.0, True)])
def test_the_ends_are_exact(rate: float, expected: bool) -> None:
    assert {Sampler(rate).records(str(number)) for number in range(100)} == {expected}


@pytest.mark.parametrize("rate", [-0.1, 1.1, "half", None, True, float("nan")])
def test_a_wrong_rate_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="allowed: a number from 0"):
        Sampler(rate)


@pytest.mark.parametrize(
    ("sampler", "argument", "expected"),
    [
        ("", "", Sampler()),
        ("always_on", "", Sampler()),
        ("always_off", "", Sampler(0.0)),
        ("traceidratio", "0.25", Sampler(0.25)),
        ("parentbased_traceidratio", "0.25", Sampler(0.25, True)),
        ("parentbased_always_on", "0.25", Sampler(1.0, True)),
        ("traceidratio", "a lot", Sampler()),
        ("traceidratio", "7", Sampler()),
        ("jaeger_remote", "x", Sampler()),
    ],
)
def test_opentelemetrys_variables_are_read(sampler: str, argument: str, expected: Sampler) -> None:
    assert sampler_of({"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument}) == expected


def test_a_trajectory_is_recorded_whole_or_not_at_all() -> None:
    with capture(TracingConfig(sampler=Sampler(0.5))) as seen:
        for number in range(40):
            with imitrace.trajectory(id=str(number)), imitrace.step("hi") as step:
                step.message("ok")
                imitrace.score("reward", 1)
                imitrace.tool("look")(lambda: None)()
    expected = sum(Sampler(0.5).records(str(number)) for number in range(40))
    assert 0 < expected < 40
    assert (len(seen.steps), len(seen.spans), len(seen.scores)) == (expected, 3 * expected, expected)
    assert seen.stats.faults == {}


def test_a_late_score_of_a_trajectory_that_was_not_recorded_is_not_sent() -> None:
    with capture(TracingConfig(sampler=Sampler(0.0))) as seen:
        imitrace.score("reward", 1, trajectory_id="t1")
    assert seen.scores == []


@pytest.mark.parametrize(("parent_based", "steps"), [(True, 0), (False, 1)])
def test_a_parent_that_is_not_sampled_decides_where_that_is_asked_for(parent_based: bool, steps: int) -> None:
    application = TracerProvider(sampler=ALWAYS_OFF).get_tracer("app")
    config = TracingConfig(sampler=Sampler(1.0, parent_based))
    with capture(config) as seen, application.start_as_current_span("request"), imitrace.step("hi") as step:
        step.message("ok")
    assert len(seen.steps) == steps
