import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer

AGENT = """
import signal, sys, threading, imitrace
{before}
imitrace.configure(agent="desk", endpoint=sys.argv[1])
with imitrace.trajectory(id="t1"):
    with imitrace.step("hi") as step:
        step.message("ok")
    print("ready", flush=True)
    {then}
"""
FOREVER = "threading.Event().wait()"
OWN_HANDLER = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))"


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[CollectorServer]:
    with CollectorServer(CollectorConfig(home=tmp_path, http_port=0, grpc_port=0)) as server:
        yield server


def run(endpoint: str, then: str, before: str = "", stop: int | None = None) -> int:
    program = AGENT.format(before=before, then=then)
    with subprocess.Popen([sys.executable, "-c", program, endpoint], stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == "ready\n"
        if stop is not None:
            agent.send_signal(stop)
        return agent.wait(60)


def told(collector: CollectorServer) -> dict[str, Any]:
    found: dict[str, Any] = CollectorClient(collector.http).get("/v1/trajectories/t1")["trajectory"]
    return found


def test_a_terminated_agent_sends_what_it_has_and_dies_of_the_signal(collector: CollectorServer) -> None:
    assert run(collector.http, FOREVER, stop=signal.SIGTERM) == -signal.SIGTERM
    assert [told(collector)[name] for name in ("step_count", "complete", "outcome")] == [1, True, "abandoned"]


def test_a_handler_of_the_agents_own_is_left_alone(collector: CollectorServer) -> None:
    assert run(collector.http, FOREVER, before=OWN_HANDLER, stop=signal.SIGTERM) == 7
    assert [told(collector)[name] for name in ("step_count", "outcome")] == [1, "abandoned"]


def test_an_interrupted_agent_sends_what_it_has(collector: CollectorServer) -> None:
    assert run(collector.http, FOREVER, stop=signal.SIGINT) == -signal.SIGINT
    assert [told(collector)[name] for name in ("step_count", "outcome")] == [1, "abandoned"]


def test_an_agent_that_fails_sends_what_it_has(collector: CollectorServer) -> None:
    assert run(collector.http, "raise SystemExit(3)") == 3
    assert [told(collector)[name] for name in ("step_count", "outcome")] == [1, "abandoned"]


def test_a_trajectory_left_open_in_a_thread_ends_with_the_process(collector: CollectorServer) -> None:
    then = """
    pass
held = []
def work():
    held.append(imitrace.trajectory(id="t2").__enter__())
    with imitrace.step("hi") as step:
        step.message("ok")
thread = threading.Thread(target=work); thread.start(); thread.join()
"""
    assert run(collector.http, then) == 0
    found = CollectorClient(collector.http).get("/v1/trajectories/t2")["trajectory"]
    assert (found["complete"], found["outcome"]) == (True, "abandoned")


def test_a_terminated_agent_whose_collector_is_gone_dies_in_time(tmp_path: Path) -> None:
    assert run("http://127.0.0.1:9", FOREVER, stop=signal.SIGTERM) == -signal.SIGTERM
