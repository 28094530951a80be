import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import SpanContext, TraceFlags

import imitrace
from imitrace import semconv
from imitrace.pipeline import TracingConfig
from imitrace.propagation import Origin, read_origin, write_origin
from imitrace.sampling import Sampler
from imitrace.testing import Captured, capture
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer

OTHER_SERVICE = """
import os, sys, imitrace
imitrace.configure(agent="stock", endpoint=sys.argv[1])
with imitrace.trajectory(joins=os.environ):
    for text in ("first", "second"):
        with imitrace.step([{"role": "user", "content": "hi"}]) as step:
            step.message(text)
"""


def say(text: str) -> None:
    with imitrace.step("hi") as step:
        step.message(text)


@given(st.text(min_size=1, max_size=30), st.integers(0, 1000), st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1))
def test_headers_carry_a_trajectory_unchanged(name: str, position: int, trace_id: int, span_id: int) -> None:
    origin = Origin(name, SpanContext(trace_id, span_id, True, TraceFlags(1)), position)
    headers = {"Other": "kept"}
    try:
        write_origin(origin, headers)
    except UnicodeEncodeError:
        return  # a lone surrogate: the trajectory's name has none left when it opens
    upper = {key.upper(): value for key, value in headers.items()}
    assert read_origin(headers) == read_origin(upper) == origin
    assert headers["Other"] == "kept"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"},
        {"baggage": "agent.trajectory.id=t1"},
        {"traceparent": "garbage", "baggage": "agent.trajectory.id=t1"},
        {"traceparent": "00-" + "0" * 32 + "-" + "2" * 16 + "-01", "baggage": "agent.trajectory.id=t1"},
        {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "baggage": "=;,=="},
    ],
)
def test_headers_that_name_no_trajectory_are_ignored(seen: Captured, headers: dict[str, str]) -> None:
    with imitrace.trajectory(joins=headers) as trajectory:
        pass
    assert trajectory.id == "trajectory-1"
    assert semconv.PART_POSITION not in (seen.spans[0].attributes or {})


def test_nothing_is_injected_outside_of_a_trajectory(seen: Captured) -> None:
    assert imitrace.inject({"a": "b"}) == {"a": "b"}


def test_a_part_says_where_it_belongs(seen: Captured) -> None:
    with imitrace.trajectory(id="t1") as first:
        say("one")
        headers = imitrace.inject()
        assert first.id == "t1"
    with imitrace.trajectory(joins=headers):
        say("two")
    _, root, step, part = seen.spans
    assert part.parent is not None
    assert (part.parent.span_id, part.context.trace_id) == (root.context.span_id, root.context.trace_id)
    assert (part.attributes or {})[semconv.PART_POSITION] == 1
    assert [(step.attributes or {})[name] for name in (semconv.TRAJECTORY_ID, semconv.STEP_INDEX)] == ["t1", 0]


def test_a_trajectory_that_is_not_recorded_here_is_not_recorded_there() -> None:
    with capture(TracingConfig(sampler=Sampler(0.0))), imitrace.trajectory(id="t1"):
        headers = imitrace.inject()
    with capture() as seen, imitrace.trajectory(joins=headers):
        say("two")
    assert seen.spans == []


FORKED = """
import os, sys, imitrace
imitrace.configure(agent="desk", endpoint=sys.argv[1])
def say(text):
    with imitrace.step(text) as step:
        step.message(text)
with imitrace.trajectory(id="t1"):
    say("before")
    child = os.fork()
    if child == 0:
        for text in ("first", "second"):
            say(text)
            assert imitrace.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    say("after")
"""


def test_a_forked_child_that_flushes_and_vanishes_leaves_a_whole_trajectory(tmp_path: Path) -> None:
    with CollectorServer(CollectorConfig(home=tmp_path, http_port=0, grpc_port=0)) as collector:
        subprocess.run([sys.executable, "-c", FORKED, collector.http], check=True, timeout=60)
        found = CollectorClient(collector.http).get("/v1/trajectories/t1")
    assert found["trajectory"]["complete"], found["trajectory"]["incomplete_reason"]
    assert [step["action_message"] for step in found["steps"]] == ["before", "first", "second", "after"]


@pytest.mark.usefixtures("untraced")
def test_a_trajectory_spans_two_services_in_the_order_in_which_they_acted(tmp_path: Path) -> None:
    with CollectorServer(CollectorConfig(home=tmp_path, http_port=0, grpc_port=0)) as collector:
        imitrace.configure(agent="desk", endpoint=collector.http)
        with imitrace.trajectory("task-1", id="t1"):
            say("before")
            environment = imitrace.inject()
            subprocess.run(
                [sys.executable, "-c", OTHER_SERVICE, collector.http], env=dict(environment), check=True, timeout=60
            )
            say("after")
            imitrace.outcome("success")
        assert imitrace.flush()
        found = CollectorClient(collector.http).get("/v1/trajectories/t1")
    trajectory = found["trajectory"]
    assert trajectory["complete"], trajectory["incomplete_reason"]
    assert [trajectory[name] for name in ("agent", "task", "outcome")] == ["desk", "task-1", "success"]
    assert [step["action_message"] for step in found["steps"]] == ["before", "first", "second", "after"]
    assert [step["step_index"] for step in found["steps"]] == [0, 1, 2, 3]


@pytest.mark.parametrize("form", [list, lambda pairs: [(name.encode(), value.encode()) for name, value in pairs]])
def test_headers_come_as_web_frameworks_give_them(seen: Captured, form: Callable[..., Any]) -> None:
    with imitrace.trajectory(id="t1"):
        headers = form(imitrace.inject().items())
    with imitrace.trajectory(joins=headers) as part:
        pass
    assert part.id == "t1"


def test_the_headers_of_another_language_are_enough(seen: Captured) -> None:
    headers = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "baggage": "agent.trajectory.id=t1"}
    with imitrace.trajectory(joins=headers) as part:
        pass
    assert part.id == "t1"


def test_a_traceparent_that_an_instrumented_client_overwrote_does_no_harm(seen: Captured) -> None:
    with imitrace.trajectory(id="t1"):
        headers = imitrace.inject()
    headers.update({"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "baggage": "their=own"})
    with imitrace.trajectory(joins=headers):
        pass
    root, part = seen.spans
    assert part.parent is not None
    assert part.parent.span_id == root.context.span_id


def test_a_trajectory_opened_again_inside_itself_is_a_part_of_it(seen: Captured) -> None:
    with imitrace.trajectory(id="t1"):
        say("one")
        with imitrace.trajectory(id="t1"):
            say("two")
    part = seen.spans[2]
    assert (part.attributes or {})[semconv.PART_POSITION] == 1


@pytest.mark.usefixtures("untraced")
def test_a_conversation_opened_again_goes_on(tmp_path: Path) -> None:
    with CollectorServer(CollectorConfig(home=tmp_path, http_port=0, grpc_port=0)) as collector:
        imitrace.configure(agent="desk", endpoint=collector.http)
        for turn in ("first", "second", "third"):
            with imitrace.trajectory(id="conversation-1"):
                say(turn)
        assert imitrace.flush()
        found = CollectorClient(collector.http).get("/v1/trajectories/conversation-1")
    assert found["trajectory"]["complete"], found["trajectory"]["incomplete_reason"]
    assert [step["action_message"] for step in found["steps"]] == ["first", "second", "third"]
