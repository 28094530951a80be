"""What the fuzzers call with any bytes: it returns, or raises what is a finding."""

import hashlib
import json

from imitrace.exceptions import WireError
from imitrace_collector import otlp
from imitrace_collector.compression import ENCODINGS, decompress
from imitrace_collector.derived_tables import as_arrow
from imitrace_collector.losses import losses_of
from imitrace_collector.records import Unpacker
from imitrace_collector.rows import Batch, LogRow, SpanRow
from imitrace_collector.scores import scores_of
from imitrace_collector.trajectories import assemble

_LIMIT = 100_000
_SIGNALS = (otlp.TRACES, otlp.LOGS)


def decompress_any(data: bytes) -> None:
    """Decompress; the first byte says which encoding."""
    if not data:
        return
    try:
        assert len(decompress(data[1:], ENCODINGS[data[0] % len(ENCODINGS)], _LIMIT)) <= _LIMIT
    except WireError:
        return


def otlp_bytes(data: bytes) -> None:
    """Read an export; the first byte says of which signal and in which media type."""
    if not data:
        return
    try:
        _read(data[0], data[1:])
    except WireError:
        return


def derive(data: bytes) -> None:
    """Read an export of spans and derive its trajectories, twice: the order of arrival must not matter."""
    try:
        _, spans, _ = _read(0, data)
    except WireError:
        return
    groups: dict[str, list[SpanRow]] = {}
    seen: set[tuple[str, str]] = set()
    for span in spans:
        if span.trajectory_id is not None and (span.trace_id, span.span_id) not in seen:
            seen.add((span.trace_id, span.span_id))
            groups.setdefault(span.trajectory_id, []).append(span)
    for trajectory_id, group in groups.items():
        found = assemble(trajectory_id, group)
        assert found == assemble(trajectory_id, sorted(group, key=lambda s: hashlib.sha1(s.span_id.encode()).digest()))  # noqa: S324
        for table, rows in vars(found).items():
            as_arrow(table, rows)
        messages = {row["message_id"] for row in found.messages}
        assert all(messages.issuperset(step["state"]) for step in found.steps)
        assert all(json.loads(row["content"]) for row in found.messages)
        assert all(isinstance(json.loads(row["tags"]), dict) for row in found.trajectories)


TARGETS = {"decompress": decompress_any, "otlp_bytes": otlp_bytes, "derive": derive}
"""By the name of their corpus."""


def _read(choice: int, body: bytes) -> tuple[Batch, list[SpanRow], list[LogRow]]:
    signal = _SIGNALS[choice & 1]
    media_type = otlp.MEDIA_TYPES[choice >> 1 & 1]
    came = body if media_type == otlp.PROTOBUF else None
    batch = otlp.read(signal, otlp.parse(signal, body, media_type), 1, came).batch
    origins = {origin.origin: origin for origin in batch.origins}
    unpacker = Unpacker()
    spans = [row for it in batch.spans for row in unpacker.spans(bytes(it.record), origins[it.origin])]
    logs = [row for it in batch.logs for row in unpacker.logs(it.record, origins[it.origin], 1)]
    assert [row.trajectory_id for row in spans] == [it.trajectory_id for it in batch.spans]
    assert [row.trajectory_id for row in logs] == [it.trajectory_id for it in batch.logs]
    noted = [row for row, it in zip(spans, batch.spans, strict=True) if it.noted]
    assert len(scores_of(noted, [])) == len(scores_of(spans, []))
    as_arrow("scores", scores_of(spans, logs))
    as_arrow("losses", losses_of(logs))
    return batch, spans, logs
