"""What real agents under real instrumentors sent comes to the steps that their script took."""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from imitrace_collector.foreign.assembly import Derived, assemble
from imitrace_collector.foreign.links import links_of
from imitrace_collector.foreign.survey import survey
from imitrace_collector.rows import LogRow, SpanRow

Rows = tuple[list[SpanRow], list[LogRow]]
Recorded = Callable[[Path], Rows]
Differences = Callable[[Derived, dict[str, Any]], dict[str, list[str]]]

NO_AGENT = {"agent"}  # plain clients: the service stands for the agent
CAPTURES: dict[str, set[str]] = {
    "langgraph__openinference": set(),
    "langgraph__otel-genai": set(),
    "mcp-openai-agents__openinference": set(),
    "openai-agents__openinference": set(),
    "openai-agents__traceai": set(),
    "openai__otel-genai-openai": NO_AGENT,
    "openai__otel-genai-openai-event-only": NO_AGENT,
    "openai__traceloop": set(),
    "pydantic-ai__native": set(),
    "strands__native-latest": set(),
}
"""Capture -> of what it holds nothing."""
TOKENS = {
    "langgraph__openinference": (3534, 173),
    "langgraph__otel-genai": (3534, 173),
    "openai-agents__openinference": (4106, 145),
    "openai-agents__traceai": (4106, 145),
    "pydantic-ai__native": (3392, 133),
    "strands__native-latest": (3567, 133),
}
HANDED_OVER, CALLED = ("conv-support-0001/shipping_agent", "conv-support-0001", 5), ("conv-support-0001", None, None)


@pytest.mark.parametrize("name", CAPTURES)
def test_a_capture_comes_to_what_its_script_did(
    captures: Path, recorded: Recorded, differences: Differences, name: str
) -> None:
    expected = json.loads((captures / name / "expected.json").read_text())
    found = differences(assemble(*recorded(captures / name)), expected)
    assert set(found) == CAPTURES[name], found


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_are_counted_once_though_spans_repeat_them(captures: Path, recorded: Recorded, name: str) -> None:
    steps = [step for one in assemble(*recorded(captures / name)).trajectories for step in one.steps]
    sums = tuple(sum(step[column] or 0 for step in steps) for column in ("input_tokens", "output_tokens"))
    assert sums == TOKENS[name]


@pytest.mark.parametrize("name", ["openai-agents__openinference", "openai-agents__traceai", "langgraph__otel-genai"])
def test_who_was_called_or_handed_over_to_knows_by_which_step(captures: Path, recorded: Recorded, name: str) -> None:
    rows = [one.trajectories[0] for one in assemble(*recorded(captures / name)).trajectories]
    assert [(row["trajectory_id"], row["parent"], row["parent_step"]) for row in rows] == [CALLED, HANDED_OVER]


def test_without_content_there_are_no_steps_and_the_switch_is_told(captures: Path, recorded: Recorded) -> None:
    spans, logs = recorded(captures / "openai__otel-v2-default-nocontent")
    assert assemble(spans, logs).trajectories == []
    (spoken,) = survey(spans, logs).spoken
    assert (spoken.model_calls, spoken.with_content, spoken.without_content) == (6, 0, 6)
    assert "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT" in str(spoken.switch)


def test_every_published_form_of_a_score_is_read(captures: Path, recorded: Recorded) -> None:
    expected = json.loads((captures / "scores__hand-emitted" / "expected.json").read_text())["scores"]
    scores = assemble(*recorded(captures / "scores__hand-emitted")).scores
    found = {
        (score["name"], score["value"], score["label"], score["evaluator"], score["trajectory_id"], score["step_index"])
        for score in scores
    }
    wanted = {
        (
            *(one["name"], one["score"], one.get("label"), one.get("annotator_kind"), "conv-support-0001"),
            None if one["target"] == "trace" else 0,
        )
        for one in expected
    }
    assert found == wanted


@pytest.mark.parametrize("name", [*CAPTURES, "scores__hand-emitted"])
def test_the_traces_of_one_conversation_are_linked(captures: Path, recorded: Recorded, name: str) -> None:
    assert len(components(*recorded(captures / name))) == 1


@pytest.mark.parametrize("name", ["langgraph__openinference", "openai__otel-genai-openai-event-only"])
def test_any_order_and_repetition_of_arrival_comes_to_the_same(captures: Path, recorded: Recorded, name: str) -> None:
    spans, logs = recorded(captures / name)
    expected = assemble(spans, logs)
    chance = random.Random(5)
    for _ in range(5):
        mixed = [*spans, *chance.sample(spans, len(spans) // 2)]
        chance.shuffle(mixed)
        assert assemble(mixed, chance.sample(logs, len(logs))) == expected


def test_each_step_says_from_which_spans_it_is(captures: Path, recorded: Recorded) -> None:
    spans, logs = recorded(captures / "langgraph__openinference")
    derived = assemble(spans, logs)
    known = {span.span_id for span in spans}
    rules = {side.rule for one in derived.origins for side in one.sides if side.side == "observation"}
    assert [(one.trajectory_id, one.step_index) for one in derived.origins] == [
        (step["trajectory_id"], step["step_index"]) for one in derived.trajectories for step in one.steps
    ]
    assert {side.span_id for one in derived.origins for side in one.sides} <= {*known, None}
    assert rules == {"by id"}


def components(spans: Iterable[SpanRow], logs: Iterable[LogRow]) -> list[set[str]]:
    """Return the traces that belong together, and log records without a trace by their number, as the store joins."""
    units: dict[str, Rows] = {}
    for span in spans:
        units.setdefault(span.trace_id, ([], []))[0].append(span)
    for number, log in enumerate(logs):
        units.setdefault(log.trace_id or f"log {number}", ([], []))[1].append(log)
    keys = {name: {_matching(key) for key in links_of(*rows)} for name, rows in units.items()}
    for name, (own, _) in units.items():  # the store finds spans by their ids
        keys[name] |= {f"span:{span.span_id}" for span in own} if keys[name] else set()
    found: list[set[str]] = []
    for name in (name for name in units if keys[name]):
        near = [one for one in found if any(keys[name] & keys[other] for other in one)]
        found = [one for one in found if one not in near] + [{name}.union(*near)]
    return found


def _matching(key: str) -> str:
    return key.removeprefix("provides:").removeprefix("continues:")
