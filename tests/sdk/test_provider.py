import pytest
from opentelemetry import trace

import imitrace
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
def test_the_applications_own_opentelemetry_is_left_alone() -> None:
    before = trace.get_tracer_provider()
    imitrace.configure(agent="desk")
    with imitrace.trajectory():
        assert not trace.get_current_span().get_span_context().is_valid
    assert trace.get_tracer_provider() is before


def test_capture_puts_back_what_was_there() -> None:
    with capture() as outer:
        with capture() as inner, imitrace.trajectory():
            pass
        with imitrace.trajectory():
            pass
    assert (len(inner.spans), len(outer.spans)) == (1, 1)
    assert active() is None
