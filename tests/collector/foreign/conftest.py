"""Read recorded requests, and compare what they were assembled to with what the scripted scenario really did."""

import ast
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace_collector import otlp
from imitrace_collector.foreign.assembly import Derived
from imitrace_collector.records import Packer, Unpacker
from imitrace_collector.rows import LogRow, SpanRow

Json = dict[str, Any]
Rows = tuple[list[SpanRow], list[LogRow]]
Told = tuple[str, str]
"""A message's role and what it says, in a form that does not depend on who recorded it."""


@pytest.fixture
def recorded() -> Callable[[Path], Rows]:
    """Return the spans and log records in a folder of export requests, in the order of their arrival."""
    return read_folder


@pytest.fixture
def differences() -> Callable[[Derived, Json], dict[str, list[str]]]:
    """Return in what an assembly differs from the script, by aspect."""
    return compare


def read_folder(folder: Path) -> Rows:
    spans: list[SpanRow] = []
    logs: list[LogRow] = []
    packer, unpacker = Packer(), Unpacker()
    for path in sorted(folder.glob("*.otlp.pb")):
        traces = ".traces." in path.name
        message = (ExportTraceServiceRequest if traces else ExportLogsServiceRequest).FromString(path.read_bytes())
        batch = otlp.read(otlp.TRACES if traces else otlp.LOGS, message, 1).batch
        origins = {origin.origin: origin for origin in batch.origins}
        for span in batch.spans:
            spans += unpacker.spans(packer.pack([span.record]), origins[span.origin])
        for log in batch.logs:
            logs += unpacker.logs(packer.pack([log.record]), origins[log.origin], log.received_at)
    return spans, logs


def compare(derived: Derived, expected: Json) -> dict[str, list[str]]:
    steps = sorted(
        (step for one in derived.trajectories for step in one.steps),
        key=lambda step: (step["started_at"], step["trajectory_id"], step["step_index"]),
    )
    messages = {row["message_id"]: json.loads(row["content"]) for one in derived.trajectories for row in one.messages}
    tools: dict[str, list[str]] = defaultdict(list)
    for row in [row for one in derived.trajectories for row in one.tools]:
        if row["name"] not in tools[row["tools_hash"]]:
            tools[row["tools_hash"]].append(row["name"])
    found: dict[str, list[str]] = defaultdict(list)
    script = expected["steps"]
    if len(steps) != len(script):
        found["steps"].append(f"{len(steps)} steps, expected {len(script)}")
    states = _scripted_states(expected)
    groups: dict[int, str] = {}
    for step, truth in zip(steps, script, strict=False):
        place = f"step {truth['index']}"
        if _action(step) != _scripted_action(truth):
            found["action"].append(f"{place}: {_action(step)}, expected {_scripted_action(truth)}")
        if step["agent"] != truth["agent"]:
            found["agent"].append(f"{place}: {step['agent']}, expected {truth['agent']}")
        if groups.setdefault(truth["llm_call"], step["decision"]) != step["decision"]:
            found["decision"].append(f"{place} does not share its decision")
        if not _observed(step["observation"], truth):
            found["observation"].append(f"{place}: {step['observation']!r}, expected {truth['observation']}")
        told = [_told(messages[name]) for name in step["state"]]
        told = told[1:] if told and told[0][0] == "system" else told
        if not _same(told, states[truth["llm_call"]]):
            found["state"].append(f"{place}: {told}, expected {states[truth['llm_call']]}")
        if tools.get(step["tools_hash"]) != expected["offered_tools"][truth["agent"]]:
            found["tools"].append(f"{place}: {tools.get(step['tools_hash'])}")
        if not step["complete"]:
            found["complete"].append(f"{place}: {step['incomplete_reason']}")
    if len(set(groups.values())) != len(groups):
        found["decision"].append("different answers share a decision")
    return dict(found)


def _action(step: Mapping[str, Any]) -> tuple[str, str | None, Any]:
    if step["action_kind"] == "message":
        return "message", None, _squeezed(step["action_message"])
    return "tool_call", step["action_name"].rpartition("__")[2], json.loads(step["action_arguments"])


def _scripted_action(truth: Json) -> tuple[str, str | None, Any]:
    action = truth["action"]
    if action["kind"] == "message":
        return "message", None, _squeezed(action["arguments"]["content"])
    return "tool_call", action["name"], action["arguments"]


def _observed(text: str | None, truth: Json) -> bool:
    wanted = truth["observation"]
    if truth["action"]["kind"] == "message" or wanted is None:
        return text is None
    return text is not None and _result_fits(text, wanted)


def _result_fits(text: str, wanted: Any) -> bool:
    if isinstance(wanted, dict) and wanted.get("is_error"):
        return any(one in text for one in wanted["text_contains_any_of"])
    if isinstance(wanted, dict) and "handoff_to" in wanted:
        return wanted["handoff_to"] in text
    if isinstance(wanted, str):
        return _squeezed(text) == _squeezed(wanted)
    return bool(_value(text) == wanted)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text


def _scripted_states(expected: Json) -> dict[int, list[tuple[str, Any]]]:
    """Return what each model call must have seen, but its system prompt."""
    states: dict[int, list[tuple[str, Any]]] = {}
    main: list[tuple[str, Any]] = []
    inner: list[tuple[str, Any]] = []
    turn = 0
    by_call: dict[int, list[Json]] = defaultdict(list)
    for step in expected["steps"]:
        by_call[step["llm_call"]].append(step)
    asked: list[Json] = []
    for number, steps in by_call.items():
        history = inner if steps[0]["depth"] else main
        if not steps[0]["depth"] and asked:
            main += [("tool", step["observation"]) for step in asked]
            asked = []
        if steps[0]["user_turn"] != turn:
            turn = steps[0]["user_turn"]
            main.append(("user", expected["user_messages"][turn - 1]))
        states[number] = list(history)
        history.append(("assistant", [_scripted_action(step) for step in steps]))
        calls = [step for step in steps if step["action"]["kind"] != "message"]
        if calls and calls[0]["action"]["name"].startswith("ask_"):
            asked = calls
            inner = [("user", next(iter(calls[0]["action"]["arguments"].values())))]
        else:
            history += [("tool", step["observation"]) for step in calls]
    return states


def _told(message: Json) -> tuple[str, Any]:
    role = message["role"]
    parts = message["parts"]
    if role == "assistant":
        calls = [part for part in parts if part["type"] == "tool_call"]
        if calls:
            return role, [("tool_call", part["name"].rpartition("__")[2], part["arguments"]) for part in calls]
        return role, [("message", None, _squeezed("\n".join(part.get("content", "") for part in parts)))]
    if role == "tool":
        response = parts[0]["response"]
        return role, response if isinstance(response, str) else json.dumps(response)
    return role, "\n".join(str(part.get("content")) for part in parts)


def _same(told: Iterable[tuple[str, Any]], wanted: list[tuple[str, Any]]) -> bool:
    told = list(told)
    return len(told) == len(wanted) and all(map(_fits, told, wanted))


def _fits(told: tuple[str, Any], wanted: tuple[str, Any]) -> bool:
    if told[0] != wanted[0]:
        return False
    if told[0] == "tool":
        return _result_fits(told[1], wanted[1])
    if told[0] == "user":
        return bool(told[1].endswith(wanted[1]))
    return bool(told[1] == wanted[1])


def _squeezed(text: str | None) -> str:
    return " ".join((text or "").split())
