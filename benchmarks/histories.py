"""Measure what a step takes as trajectories get longer, where it repeats all messages before it and where it does not.

python benchmarks/histories.py            # 8,000 steps of each length, some minutes
python benchmarks/histories.py --quick    # 200 steps, two lengths
python benchmarks/histories.py --json     # the same as JSON
"""

import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import zstandard
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from imitrace import semconv
from imitrace.canonical import canonical_json, step_digest
from imitrace_collector import otlp
from imitrace_collector.compaction import compact
from imitrace_collector.derive import derive_all
from imitrace_collector.ingest import Writer
from imitrace_collector.store import Store
from intake.conversations import Desk
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, versions

OWN, GENAI = "own", "genai"
_WIRE = ("sent", "sent_zstd", "raw", "raw_zstd")
LENGTHS = (5, 20, 50, 100, 200)
PACKAGES = ("imitrace", "duckdb", "pyarrow", "zstandard")
_TOGETHER = 10
"""Steps of a request: what an agent sends at once."""
_RECORD, _TALK = 700, 120
"""Characters of a tool's answer, and of what is said."""
_SECOND = 10**9
_START = 1_790_000_000 * _SECOND

Message = Mapping[str, object]
Attributes = dict[str, str | int]
Step = tuple[list[Message], list[Message], Mapping[str, str]]
"""All messages before a decision, those of them that are new, and the action."""


def conversation(desk: Desk, steps: int) -> Iterator[Step]:
    """Yield the steps of one trajectory: each calls a tool, and the next sees the call and its answer."""
    said: list[Message] = []
    new = [_message("system", _text(desk.text(1500))), _message("user", _text(desk.text(_TALK)))]
    for number in range(steps):
        said = [*said, *new]
        tool, arguments = desk.call()
        result, call_id = desk.record(_RECORD), f"call_{number}"
        text = canonical_json(arguments)
        yield said, new, {"name": tool, "id": call_id, "arguments": text, "result": result}
        call = {"type": "tool_call", "id": call_id, "name": tool, "arguments": arguments}
        answer = {"type": "tool_call_response", "id": call_id, "response": result}
        new = [_message("assistant", _text(desk.text(_TALK)), call), _message("tool", answer)]


def _message(role: str, *parts: Message) -> Message:
    return {"role": role, "parts": list(parts)}


def _text(text: str) -> Message:
    return {"type": "text", "content": text}


def own(index: int, step: Step) -> Attributes:
    """Return a step in our dialect: only what is new, and how many messages come before it."""
    said, new, action = step
    sent: Attributes = {
        semconv.STEP_INDEX: index,
        semconv.STEP_MESSAGES: canonical_json(new),
        semconv.STEP_MESSAGES_OFFSET: len(said) - len(new),
        semconv.STEP_ACTION_KIND: "tool_call",
        semconv.TOOL_NAME: action["name"],
        semconv.TOOL_CALL_ID: action["id"],
        semconv.TOOL_CALL_ARGUMENTS: action["arguments"],
        semconv.TOOL_CALL_RESULT: action["result"],
    }
    return sent | {semconv.STEP_DIGEST: step_digest(sent)}


def genai(step: Step) -> Attributes:
    """Return a step as a call of a model by the GenAI conventions: all messages, each time."""
    said, _, action = step
    call = {"type": "tool_call", "id": action["id"], "name": action["name"], "arguments": action["arguments"]}
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "gpt-4o-2024-11-20",
        "gen_ai.input.messages": canonical_json(said),
        "gen_ai.output.messages": canonical_json([_message("assistant", call)]),
    }


def requests(kind: str, length: int, count: int) -> Iterator[bytes]:
    """Yield the export requests of trajectories, one after the other."""
    for number in range(count):
        desk = Desk(f"histories-{length}-{number}")
        name, trace = f"t{length}-{number}", desk.draw.randbytes(16)
        spans = list(_spans(kind, desk, length, name, trace))
        for start in range(0, len(spans), _TOGETHER):
            message = ExportTraceServiceRequest()
            scope = message.resource_spans.add().scope_spans.add()
            scope.scope.name = "imitrace" if kind == OWN else "opentelemetry.instrumentation.genai.openai"
            scope.spans.extend(spans[start : start + _TOGETHER])
            yield message.SerializeToString()


def _spans(kind: str, desk: Desk, length: int, name: str, trace: bytes) -> Iterator[Any]:  # untyped
    root = desk.draw.randbytes(8)
    for index, step in enumerate(conversation(desk, length)):
        said = own(index, step) | {semconv.TRAJECTORY_ID: name} if kind == OWN else genai(step)
        yield _span(semconv.SPAN_STEP if kind == OWN else "chat gpt-4o", (trace, desk.draw.randbytes(8), root), said)
    last: Attributes = {semconv.OPERATION: semconv.SPAN_TRAJECTORY, semconv.AGENT_NAME: "shop"}
    if kind == OWN:
        last |= {semconv.TRAJECTORY_ID: name, semconv.TRAJECTORY_STEP_COUNT: length}
    yield _span(f"{semconv.SPAN_TRAJECTORY} shop", (trace, root, b""), last)


def _span(name: str, ids: tuple[bytes, bytes, bytes], attributes: Attributes) -> Any:  # untyped
    trace, own_id, parent = ids
    span = Span(name=name, trace_id=trace, span_id=own_id, parent_span_id=parent)
    span.start_time_unix_nano, span.end_time_unix_nano = _START, _START + _SECOND
    for key, value in attributes.items():
        held = AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
        span.attributes.append(KeyValue(key=key, value=held))
    return span


def on_disk(bodies: Iterable[bytes], steps: int) -> int:
    """Return the bytes of a compacted store of requests, beyond those of an empty one; so many steps must be in it."""
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "s.duckdb") as store:
        empty = compact(store).after
        with store.session() as session:
            writer = Writer(session)
            for body in bodies:
                writer.write([otlp.read(otlp.TRACES, ExportTraceServiceRequest.FromString(body), 0).batch])
            derive_all(session)
        with store.reader() as reader:
            assert reader.rows("SELECT count(*) AS n FROM bare_steps WHERE complete")[0]["n"] == steps
        return compact(store).after - empty


def measure(quick: bool) -> Json:
    """Return bytes a step by the number of steps of a trajectory."""
    started = time.monotonic()
    totals = {OWN: 200, GENAI: 200} if quick else {OWN: 8000, GENAI: 1000}
    lengths = LENGTHS[:2] if quick else LENGTHS
    found: dict[str, dict[str, int]] = {name: {} for name in (*_WIRE, "stored", "raw_stored")}
    pack = zstandard.ZstdCompressor(level=3).compress
    for length in lengths:
        for kind, wire in ((OWN, _WIRE[:2]), (GENAI, _WIRE[2:])):
            sizes = [(len(body), len(pack(body))) for body in requests(kind, length, totals[kind] // length)]
            for name, bytes_ in zip(wire, map(sum, zip(*sizes, strict=True)), strict=True):
                found[name][str(length)] = round(bytes_ / totals[kind])
        for kind, name in ((OWN, "stored"), (GENAI, "raw_stored")):
            total = totals[kind]
            found[name][str(length)] = round(on_disk(requests(kind, length, total // length), total) / total)
    return {
        "benchmark": "histories",
        "bytes_per_step": found,
        "growth": {name: round(row[str(lengths[-1])] / row[str(lengths[0])], 2) for name, row in found.items()},
        "steps": totals,
        "lengths": list(lengths),
        "versions": versions(PACKAGES),
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/histories.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - started),
        "quick": quick,
    }


def table(report: Json) -> str:
    """Return the figures as lines for a terminal."""
    lines = ["bytes a step       " + "".join(f"{length:>10}" for length in report["lengths"]) + "    growth"]
    for name, row in report["bytes_per_step"].items():
        cells = "".join(f"{row[str(length)]:>10}" for length in report["lengths"])
        lines.append(f"{name:19}{cells}{report['growth'][name]:>10}")
    return "\n".join([*lines, f"{report['machine']}, {report['date']}, {report['seconds']} s"])


def main() -> None:
    """Measure as the options say, and print it."""
    options = asking(__doc__, "200 steps of two lengths: checks that it runs").parse_args()
    report = measure(options.quick)
    deliver(report, options, table)


if __name__ == "__main__":
    main()
