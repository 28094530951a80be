"""Make export requests of agents' traffic: the same bytes for the same number, 512 spans each, 2 kB a span.

``genai`` is what any instrumentor sends, by the names of the GenAI conventions: an ``invoke_agent`` span, calls of a
model and runs of tools. ``steps`` is what ``docs/wire.md`` says, complete with digests.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import zstandard
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from imitrace import semconv
from imitrace.canonical import canonical_json, content_hash, step_digest
from intake.conversations import Desk, tool_definitions

SPANS = 512
"""In a request."""
TRAJECTORY_SPANS = 16
TRAJECTORIES = SPANS // TRAJECTORY_SPANS
"""In a request, if none is spread over several."""

_AGENT = "shop-support"
_MODEL = "gpt-4o-2024-11-20"
_START = 1_790_000_000 * 10**9
_SECOND = 10**9
_SAMPLED = 0x100 | 1
_TOOLS = canonical_json(tool_definitions())
_TOOLS_HASH = content_hash(tool_definitions())

Attributes = Mapping[str, str | int]


class Part(NamedTuple):
    """A span of a trajectory, before it has ids and times."""

    name: str
    kind: Span.SpanKind.ValueType
    attributes: Attributes


def requests(kind: str, apart: int, group: int) -> list[bytes]:
    """Return ``apart`` serialised export requests.

    Args:
        kind: ``genai`` or ``steps``.
        apart: over how many requests the spans of a trajectory are spread, as they are when agents run for minutes.
        group: which ones; each has trajectories of its own.
    """
    count = TRAJECTORIES * apart
    spans = [_trajectory(kind, number) for number in range(group * count, (group + 1) * count)]
    share = TRAJECTORY_SPANS // apart
    return [
        _request(kind, [those[place : place + share] for those in spans]) for place in range(0, TRAJECTORY_SPANS, share)
    ]


def write(folder: Path, kind: str, count: int, apart: int = 1) -> list[Path]:
    """Write requests into files of a new folder, on all cores, and return these in order."""
    folder.mkdir()
    with ProcessPoolExecutor() as pool:
        groups = pool.map(partial(_write, folder, kind, apart), range(-(-count // apart)))
        return list(chain.from_iterable(groups))[:count]


def packed(kind: str) -> dict[str, float]:
    """Return bytes a span, and how many times smaller zstd makes a request, and a trajectory by itself."""
    spans = _trajectory(kind, 0)
    alone, (whole,) = b"".join(span.SerializeToString() for span in spans), requests(kind, 1, 0)
    pack = zstandard.ZstdCompressor(level=3).compress
    return {
        "bytes_per_span": round(len(whole) / SPANS),
        "zstd_ratio_of_a_request": round(len(whole) / len(pack(whole)), 2),
        "zstd_ratio_of_a_trajectory": round(len(alone) / len(pack(alone)), 2),
    }


def _write(folder: Path, kind: str, apart: int, group: int) -> list[Path]:
    paths = []
    for place, body in enumerate(requests(kind, apart, group)):
        paths.append(folder / f"{group * apart + place:05d}.pb")
        paths[-1].write_bytes(body)
    return paths


def _request(kind: str, trajectories: list[list[Any]]) -> bytes:
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    _fill(resource.resource.attributes, {"service.name": _AGENT, "telemetry.sdk.language": "python"})
    scope = resource.scope_spans.add()
    scope.scope.name = "imitrace" if kind == "steps" else "opentelemetry.instrumentation.genai.openai"
    scope.spans.extend(chain.from_iterable(zip(*trajectories, strict=True)))  # many agents at once
    body: bytes = message.SerializeToString()
    return body


def _trajectory(kind: str, number: int) -> list[Any]:
    """Return the spans of a trajectory in the order in which they end; the one that encloses the others comes last."""
    desk = Desk(f"{kind}-{number}")
    name = f"{desk.draw.getrandbits(128):032x}"
    trace, root = desk.draw.randbytes(16), desk.draw.randbytes(8)
    started = _START + number * _SECOND
    spans = []
    for place, part in enumerate((_steps if kind == "steps" else _calls)(desk, name)):
        inner = place < TRAJECTORY_SPANS - 1
        span = Span(
            trace_id=trace,
            span_id=desk.draw.randbytes(8) if inner else root,
            parent_span_id=root if inner else b"",
            name=part.name,
            kind=part.kind,
            start_time_unix_nano=started + (place * _SECOND if inner else 0),
            end_time_unix_nano=started + place * _SECOND + desk.draw.randrange(_SECOND),
            flags=_SAMPLED,
        )
        _fill(span.attributes, part.attributes)
        spans.append(span)
    return spans


def _fill(attributes: Any, values: Attributes) -> None:  # a repeated KeyValue
    for name, value in values.items():
        pair = attributes.add(key=name)
        if isinstance(value, str):
            pair.value.string_value = value
        else:
            pair.value.int_value = value


def _message(role: str, *parts: Mapping[str, object]) -> dict[str, object]:
    return {"role": role, "parts": list(parts)}


def _said(text: str) -> dict[str, object]:
    return {"type": "text", "content": text}


def _calls(desk: Desk, conversation: str) -> Iterator[Part]:
    """Yield eight calls of a model and the seven runs of tools between them, then the agent's own span."""
    about: Attributes = {"gen_ai.conversation.id": conversation, semconv.AGENT_NAME: _AGENT}
    asked = seen = _message("user", _said(desk.text(700)))
    for turn in reversed(range(TRAJECTORY_SPANS // 2)):
        tool, arguments = desk.call()
        call = {"type": "tool_call", "id": desk["call"], "name": tool, "arguments": arguments}
        answer = _message("assistant", _said(desk.text(450)), *([call] if turn else []))
        yield Part("chat gpt-4o", Span.SPAN_KIND_CLIENT, {**_model(desk), **about, **_chat(seen, answer)})
        if turn:
            result = desk.record(1400)
            seen = _message("tool", {"type": "tool_call_response", "id": call["id"], "response": desk.text(700)})
            run: Attributes = {
                semconv.OPERATION: semconv.SPAN_TOOL,
                semconv.TOOL_NAME: tool,
                semconv.TOOL_CALL_ID: str(call["id"]),
                semconv.TOOL_CALL_ARGUMENTS: canonical_json(arguments),
                semconv.TOOL_CALL_RESULT: result,
            }
            yield Part(f"execute_tool {tool}", Span.SPAN_KIND_INTERNAL, {**about, **run})
    root: Attributes = {**about, semconv.OPERATION: semconv.SPAN_TRAJECTORY, **_chat(asked, answer)}
    yield Part(f"invoke_agent {_AGENT}", Span.SPAN_KIND_INTERNAL, root)


def _chat(asked: Mapping[str, object], answer: Mapping[str, object]) -> Attributes:
    return {"gen_ai.input.messages": canonical_json([asked]), "gen_ai.output.messages": canonical_json([answer])}


def _model(desk: Desk) -> Attributes:
    return {
        semconv.OPERATION: "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": _MODEL,
        "gen_ai.response.id": f"chatcmpl-{desk.draw.getrandbits(96):024x}",
        "server.address": "api.openai.com",
        "server.port": 443,
        semconv.INPUT_TOKENS: desk.draw.randrange(200, 4000),
        semconv.OUTPUT_TOKENS: desk.draw.randrange(10, 300),
    }


def _steps(desk: Desk, trajectory: str) -> Iterator[Part]:
    """Yield fifteen decisions, each of which sees what the one before it led to, then the trajectory's own span."""
    about: Attributes = {
        semconv.TRAJECTORY_ID: trajectory,
        semconv.AGENT_NAME: _AGENT,
        semconv.POLICY_ROLE: "expert",
        semconv.POLICY_NAME: _MODEL,
        semconv.TRAJECTORY_TASK: "support",
    }
    new = [_message("system", _said(desk.text(300))), _message("user", _said(desk.text(400)))]
    seen = 0
    for index in range(TRAJECTORY_SPANS - 1):
        tool, arguments = desk.call()
        call_id, result = desk["call"], desk.record(160)
        step = {
            **about,
            semconv.STEP_DECISION: f"{desk.draw.getrandbits(64):016x}",
            semconv.STEP_INDEX: index,
            semconv.STEP_MESSAGES_OFFSET: seen,
            semconv.STEP_MESSAGES: canonical_json(new),
            semconv.STEP_TOOLS_HASH: _TOOLS_HASH,
            **({} if index else {semconv.TOOL_DEFINITIONS: _TOOLS}),
            semconv.STEP_ACTION_KIND: "tool_call",
            semconv.TOOL_NAME: tool,
            semconv.TOOL_CALL_ID: call_id,
            semconv.TOOL_CALL_ARGUMENTS: canonical_json(arguments),
            semconv.TOOL_CALL_RESULT: result,
            semconv.INPUT_TOKENS: desk.draw.randrange(200, 4000),
        }
        yield Part(semconv.SPAN_STEP, Span.SPAN_KIND_INTERNAL, {**step, semconv.STEP_DIGEST: step_digest(step)})
        seen += len(new)
        call = {"type": "tool_call", "id": call_id, "name": tool, "arguments": arguments}
        answered = {"type": "tool_call_response", "id": call_id, "response": result}
        new = [_message("assistant", _said(desk.text(220)), call), _message("tool", answered)]
    ended: Attributes = {
        semconv.OPERATION: semconv.SPAN_TRAJECTORY,
        semconv.TRAJECTORY_STEP_COUNT: TRAJECTORY_SPANS - 1,
    }
    yield Part(
        f"invoke_agent {_AGENT}", Span.SPAN_KIND_INTERNAL, {**about, **ended, semconv.TRAJECTORY_OUTCOME: "success"}
    )
