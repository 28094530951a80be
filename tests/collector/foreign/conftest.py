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
from imitrace_collector.records import Unpacker
from imitrace_collector.rows import LogRow, SpanRow

Json = dict[str, Any]
Rows = tuple[list[SpanRow], list[LogRow]]
Told = tuple[str, Any]
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
    unpacker = Unpacker()
    for path in sorted(folder.glob("*.otlp.pb")):
        traces = ".traces." in path.name
        message = (ExportTraceServiceRequest if traces else ExportLogsServiceRequest).FromString(path.read_bytes())
        batch = otlp.read(otlp.TRACES if traces else otlp.LOGS, message, 1).batch
        origins = {origin.origin: origin for origin in batch.origins}
        for span in batch.spans:
            spans += unpacker.spans(bytes(span.record), origins[span.origin])
        for log in batch.logs:
            logs += unpacker.logs(log.record, origins[log.origin], log.received_at)
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
        told = [_told(messages[name]) for name in step["state"]]
        told = told[1:] if told and told[0][0] == "system" else told
        decision = groups.setdefault(truth["llm_call"], step["decision"])
        state = states[truth["llm_call"]]
        for aspect, fits, said in (
            ("action", _action(step) == _scripted_action(truth), _action(step)),
            ("agent", step["agent"] == truth["agent"], step["agent"]),
            ("decision", step["decision"] == decision, step["decision"]),
            ("observation", _observed(step["observation"], truth), step["observation"]),
            ("state", _same(told, state), (told, state)),
            ("tools", tools.get(step["tools_hash"]) == expected["offered_tools"][truth["agent"]], step["tools_hash"]),
            ("complete", step["complete"], step["incomplete_reason"]),
        ):
            if not fits:
                found[aspect].append(f"step {truth['index']}: {said}, expected {truth}")
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


def _scripted_states(expected: Json) -> dict[int, list[Told]]:
    """Return what each model call must have seen, but its system prompt."""
    states: dict[int, list[Told]] = {}
    main: list[Told] = []
    inner: list[Told] = []
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


def _told(message: Json) -> Told:
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


def _same(told: Iterable[Told], wanted: list[Told]) -> bool:
    told = list(told)
    return len(told) == len(wanted) and all(map(_fits, told, wanted))


def _fits(told: Told, wanted: Told) -> bool:
    if told[0] != wanted[0]:
        return False
    if told[0] == "tool":
        return _result_fits(told[1], wanted[1])
    if told[0] == "user":
        return bool(told[1].endswith(wanted[1]))
    return bool(told[1] == wanted[1])


def _squeezed(text: str | None) -> str:
    return " ".join((text or "").split())


@pytest.fixture
def captures(data: Path) -> Path:
    """Return the folder of recorded export requests, or skip."""
    folder = data / "captures"
    if not folder.is_dir():
        pytest.skip(f"no captures in {data}")
    return folder


@pytest.fixture
def span() -> Callable[..., SpanRow]:
    """Return a span of one trace and service, unless other ones are named."""
    return make_span


@pytest.fixture
def log() -> Callable[..., LogRow]:
    """Return a log record about a span of the same trace."""
    return make_log


def make_span(span_id: str, attributes: Json, /, *, at: int = 0, parent: str | None = None, **more: Any) -> SpanRow:
    return SpanRow(
        **{
            "trace_id": "t1",
            "span_id": span_id,
            "parent_span_id": parent,
            "name": span_id,
            "kind": 1,
            "started_at": at,
            "ended_at": at + 1,
            "status": 0,
            "status_message": "",
            "attributes": attributes,
            "dropped_attributes": 0,
            "events": [],
            "links": [],
            "trace_state": "",
            "resource": {"service.name": "shop"},
            "scope": {"name": "test", "version": "", "attributes": {}},
            "trajectory_id": None,
        }
        | more
    )


def make_log(span_id: str | None, event_name: str, attributes: Json, *, at: int = 0, **more: Any) -> LogRow:
    return LogRow(
        **{
            "trace_id": None if span_id is None else "t1",
            "span_id": span_id,
            "event_name": event_name,
            "logged_at": at,
            "severity": 9,
            "body": None,
            "attributes": attributes,
            "resource": {"service.name": "shop"},
            "scope": {"name": "test", "version": "", "attributes": {}},
            "trajectory_id": None,
        }
        | more
    )
