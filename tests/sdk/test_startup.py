import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

import imitrace
from imitrace.exceptions import ConfigError
from imitrace.pipeline import Pipeline
from imitrace.provider import active, configured_by
from imitrace.sampling import Sampler
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer

SECRET = "0123456789abcdef0123456789abcdef"

pytestmark = pytest.mark.usefixtures("untraced")


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[CollectorServer]:
    with CollectorServer(CollectorConfig(home=tmp_path / "store", http_port=0, grpc_port=0)) as server:
        yield server


def pipeline() -> Pipeline:
    found = active()
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("variable", "value"), [("IMITRACE_DISABLED", "1"), ("IMITRACE_DISABLED", "true"), ("OTEL_SDK_DISABLED", "True")]
)
def test_tracing_can_be_turned_off_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    imitrace.configure(agent="desk")
    assert active() is None


def test_the_environment_fills_what_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"AGENT": "desk", "SAMPLE": "0.5", "REDACT": "email, card", "REDACT_SECRET": SECRET}
    for name, value in settings.items():
        monkeypatch.setenv(f"IMITRACE_{name}", value)
    imitrace.configure()
    config = pipeline().config
    assert (config.agent, config.sampler) == ("desk", Sampler(0.5))
    assert config.redactor is not None
    assert "ann@shop.example" not in config.redactor.text("ann@shop.example")
    assert config.redactor.text("+49 170 1234567") == "+49 170 1234567"


def test_opentelemetrys_variables_bound_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "10")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "250")
    imitrace.configure(agent="desk")
    outbox = pipeline().config.outbox
    assert (outbox.max_records, outbox.batch_records, outbox.delay) == (10, 5, 0.25)


def test_an_argument_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMITRACE_SAMPLE", "0.5")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    imitrace.configure(agent="desk", sample=1)
    assert pipeline().config.sampler == Sampler(1.0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"protocol": "udp"}, "protocol is 'udp', allowed: http, grpc"),
        ({"policy_role": "robot"}, "policy_role is 'robot', allowed: expert, clone, human, synthetic"),
        ({"endpoint": "collector:4318"}, "endpoint is 'collector:4318', allowed: an address that starts with http://"),
        ({"home": "x", "lossless": True, "protocol": "udp"}, "protocol is 'udp', allowed: http, grpc"),
        ({"sample": 2}, "sample is 2.0, allowed: a number from 0"),
        ({"redact": ["email"]}, "IMITRACE_REDACT_SECRET"),
        ({"redact": ["names"], "redact_secret": SECRET}, "'names'"),
        ({"tracer_provider": object()}, "tracer_provider is a object, allowed: a TracerProvider"),
    ],
)
def test_a_wrong_option_is_refused_when_configured(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        imitrace.configure(agent="desk", **wrong)
    assert active() is None


def test_a_wrong_sample_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMITRACE_SAMPLE", "half")
    with pytest.raises(ConfigError, match="sample is 'half', allowed: a number"):
        imitrace.configure(agent="desk")


def test_a_child_process_is_given_what_it_can_be_given() -> None:
    imitrace.configure(agent="desk", sample=0.5, redact=["email"], redact_secret=SECRET)
    assert configured_by() == {
        "agent": "desk",
        "sample": 0.5,
        "redact": ["email"],
        "redact_secret": SECRET,
        "policy_role": "expert",
    }
    imitrace.configure(agent="desk", tracer_provider=TracerProvider())
    assert configured_by() == {}


def test_a_second_call_replaces_the_first_and_loses_nothing(collector: CollectorServer) -> None:
    for agent in ("first", "second"):
        imitrace.configure(agent=agent, endpoint=collector.http)
        with imitrace.trajectory(id=agent), imitrace.step("hi") as step:
            step.message("ok")
    assert imitrace.flush()
    found = CollectorClient(collector.http).get("/v1/trajectories")["trajectories"]
    assert sorted(row["agent"] for row in found) == ["first", "second"]


def test_a_trajectory_that_is_open_when_tracing_is_configured_anew_arrives_whole(collector: CollectorServer) -> None:
    imitrace.configure(agent="first", endpoint=collector.http)
    with imitrace.trajectory(id="t1"):
        imitrace.configure(agent="second", endpoint=collector.http)
        with imitrace.step("hi") as step:
            step.message("ok")
    assert imitrace.flush()
    found = CollectorClient(collector.http).get("/v1/trajectories/t1")["trajectory"]
    assert (found["complete"], found["step_count"]) == (True, 1)


@pytest.mark.parametrize("value", ["inf", "1e30", "nan"])
def test_an_endless_delay_in_the_environment_is_no_delay(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", value)
    imitrace.configure(agent="desk")
    assert pipeline().config.outbox.delay <= 60


def test_a_variable_that_opentelemetry_refuses_is_named() -> None:
    program = (
        "import imitrace\ntry:\n    imitrace.configure()\nexcept imitrace.ImitraceError as error:\n    print(error)"
    )
    environment = {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "-3"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be a non-negative integer" in run.stdout


def test_what_is_redacted_never_reaches_the_collector_and_stays_the_same_person(collector: CollectorServer) -> None:
    imitrace.configure(agent="desk", endpoint=collector.http, redact=["email"], redact_secret=SECRET)
    with imitrace.trajectory(task="ann@shop.org asks", id="t1", tags={"from": "ann@shop.org"}):
        with imitrace.step("I am ann@shop.org, help me", [{"name": "find"}]) as step:
            step.tool_call("find", {"email": "ann@shop.org"}, "c1")
        with imitrace.tool("find", arguments={"email": "ann@shop.org"}) as run:
            run.result({"name": "Ann", "email": "ann@shop.org"})
        with imitrace.step([{"role": "user", "content": "I am ann@shop.org, help me"}]) as step:
            step.message("Hello ann@shop.org")
        imitrace.score("kindness", 1, explanation="greeted ann@shop.org", label="ann@shop.org")
    assert imitrace.flush()
    found = CollectorClient(collector.http).get("/v1/trajectories/t1")
    assert "ann@shop.org" not in str(found)
    asked = next(iter(found["messages"].values()))["parts"][0]["content"]
    (pseudonym,) = re.findall(r"\S+@[\w.]+\w", asked)
    first, second = found["steps"]
    assert first["action_arguments"] == f'{{"email":"{pseudonym}"}}'
    assert f'"email":"{pseudonym}"' in first["observation"]
    assert second["action_message"] == f"Hello {pseudonym}"
    assert found["trajectory"]["task"] == f"{pseudonym} asks"
    assert found["trajectory"]["complete"], found["trajectory"]["incomplete_reason"]
    assert imitrace.stats().redacted["email"] >= 8
