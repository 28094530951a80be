"""Real agents under real instrumentors export to a real collector; what is read back is what the script says."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import scenario
from model_server import OUTPUT_TOKENS, Model, serving
from scenario import Call, Json, Mode, Step

HERE = Path(__file__).parent
AGENTS = HERE.parents[1] / ".venv-live" / "bin" / "python"
IMITRACE = [sys.executable, "-m", "imitrace"]
LATEST = {"OTEL_SEMCONV_STABILITY_OPT_IN": "gen_ai_latest_experimental,gen_ai_tool_definitions"}
CONTENT = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "span_only"}

Record = Callable[..., None]

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(not AGENTS.exists(), reason="no agent packages: `make live` installs them and runs these"),
]


@dataclass(frozen=True, kw_only=True)
class Desk:
    """A program, how its address changes, and what only its package says."""

    program: str
    mode: Mode
    failure: str = scenario.FAILURE
    """What the model is told when a tool fails."""
    environment: dict[str, str] = field(default_factory=dict)
    agent: str = scenario.SUPPORT
    conversation: str | None = scenario.CONVERSATION


DESKS = [
    Desk(program="openai_agents_desk", mode="handoff", failure="An error occurred while running the tool"),
    Desk(program="langgraph_desk", mode="subagent"),
    Desk(program="mcp_desk", mode="direct", failure="Error executing tool"),
    Desk(program="strands_desk", mode="direct", environment=LATEST),
    Desk(program="pydantic_ai_desk", mode="subagent"),
    Desk(program="openai_desk", mode="direct", environment=LATEST | CONTENT, agent="support-desk", conversation=None),
]


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[str]:
    """Run the real command; yields the URL that it says it listens on."""
    command = [*IMITRACE, "collect", "--http-port", "0", "--grpc-port", "0", "--home", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline().split()
            assert ready[:2] == ["collector", "ready"]
            yield dict(word.split("=", 1) for word in ready[2:])["http"]
        finally:
            process.kill()


@pytest.fixture
def model() -> Iterator[Model]:
    with serving() as server:
        yield server


def converse(desk: Desk, collector: str, model: Model) -> None:
    """Let the agent talk to the scripted model to the end."""
    command = [str(AGENTS), str(HERE / f"{desk.program}.py"), collector, model.url]
    done = subprocess.run(command, env=desk.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [line for line in done.stdout.splitlines() if line] == [scenario.REFUNDED, scenario.DONE]


def lines_of(home: Path) -> list[Json]:
    command = [*IMITRACE, "steps", "--jsonl", "--home", str(home)]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    return [json.loads(line) for line in printed.splitlines()]


def step_of(line: Json, desk: Desk) -> Step:
    """Return a line of ``imitrace steps`` as the script would say it."""
    message, observed = line["message"], line["observation"]
    failed = desk.failure in (observed or "")
    action = message if line["action_kind"] == "message" else Call(line["tool_name"], line["arguments"])
    return Step(line["agent"], action, None if failed else _decoded(observed), line["n_state_messages"], failed)


def _decoded(text: str | None) -> Any:  # any JSON value
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text


def tools_of(lines: Sequence[Json]) -> dict[str, set[str]]:
    """Return the tools that each agent was offered; they must be the same at every step."""
    offered: dict[str, set[str]] = {}
    for line in lines:
        assert offered.setdefault(line["agent"], set(line["offered_tools"])) == set(line["offered_tools"])
    return offered


@pytest.mark.parametrize("desk", DESKS, ids=lambda desk: desk.program)
def test_the_steps_of_a_real_agent_are_those_of_the_script(
    desk: Desk, collector: str, model: Model, tmp_path: Path, record: Record
) -> None:
    converse(desk, collector, model)
    lines = lines_of(tmp_path)

    assert [step_of(line, desk) for line in lines] == scenario.steps(desk.mode, desk.agent)
    assert tools_of(lines) == {agent: scenario.offered(desk.mode, agent) for agent in {line["agent"] for line in lines}}
    assert {line["incomplete_reason"] for line in lines} == {None}
    main = desk.conversation or lines[0]["trajectory_id"]
    assert {line["agent"]: line["trajectory_id"] for line in lines} == {
        agent: main if agent == desk.agent else f"{main}/{agent}" for agent in tools_of(lines)
    }
    assert sum(line["input_tokens"] or 0 for line in lines) == sum(model.input_tokens)
    assert sum(line["output_tokens"] or 0 for line in lines) == OUTPUT_TOKENS * len(model.input_tokens)
    record(desk.program, steps=len(lines), model_calls=len(model.input_tokens))
