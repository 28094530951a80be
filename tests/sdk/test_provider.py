import re
from typing import Any

import pytest
from opentelemetry import trace

import imitrace
from imitrace.exceptions import ConfigError
from imitrace.provider import active
from imitrace.testing import Captured, capture


@imitrace.agent
def use_everything() -> str:
    with imitrace.trajectory("task") as trajectory, imitrace.step([{"role": "user", "content": "hi"}]) as step:
        step.act(object())
        step.tool_call("look", {})
        step.observe("found")
        step.policy(role="robot")
        with imitrace.tool("look") as run:
            run.result({1: 2, "a": 3})
        imitrace.outcome("won")
        imitrace.score("reward")
        trajectory.outcome("success")
    return "ok"


def test_everything_is_a_no_op_until_configured() -> None:
    assert use_everything() == "ok"
    assert imitrace.current_trajectory_id() is None
    assert imitrace.flush()
    assert imitrace.shutdown()
    assert imitrace.stats() == imitrace.Stats()


def test_nothing_raises_when_everything_is_wrong(seen: Captured) -> None:
    assert use_everything() == "ok"
    assert seen.stats.faults.keys() == {"unknown_answer", "step.policy", "tool.result", "outcome", "score"}


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("value", ["1", "true"])
def test_tracing_can_be_turned_off_by_the_environment(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("IMITRACE_DISABLED", value)
    imitrace.configure(agent="desk")
    assert active() is None


@pytest.mark.usefixtures("untraced")
def test_the_environment_fills_what_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"AGENT": "desk", "PROTOCOL": "grpc", "ENDPOINT": "http://collector:9/", "TOKEN": "secret"}
    for name, value in settings.items():
        monkeypatch.setenv(f"IMITRACE_{name}", value)
    imitrace.configure()
    pipeline = active()
    assert pipeline is not None
    config = pipeline.config
    assert (config.agent, config.protocol, config.token) == ("desk", "grpc", "secret")
    assert config.address == "http://collector:9"


@pytest.mark.usefixtures("untraced")
def test_the_applications_own_opentelemetry_is_left_alone() -> None:
    before = trace.get_tracer_provider()
    imitrace.configure(agent="desk")
    with imitrace.trajectory():
        assert not trace.get_current_span().get_span_context().is_valid
    assert trace.get_tracer_provider() is before


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"protocol": "udp"}, "protocol is 'udp', allowed: http, grpc"),
        ({"policy_role": "robot"}, "policy_role is 'robot', allowed: expert, clone, human, synthetic"),
        ({"endpoint": "collector:4318"}, "endpoint is 'collector:4318', allowed: an address that starts with http://"),
    ],
)
def test_a_wrong_option_is_refused_when_configured(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        imitrace.configure(agent="desk", **wrong)
    assert active() is None


def test_capture_puts_back_what_was_there() -> None:
    with capture() as outer:
        with capture() as inner, imitrace.trajectory():
            pass
        with imitrace.trajectory():
            pass
    assert (len(inner.spans), len(outer.spans)) == (1, 1)
    assert active() is None
