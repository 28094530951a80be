from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace_collector import blocks, otlp
from imitrace_collector.ingest import Writer
from imitrace_collector.records import Unpacker
from imitrace_collector.rows import Batch, Origin
from imitrace_collector.store import Session, Store

MakeExport = Callable[..., ExportTraceServiceRequest]
NOBODY = Origin("o", None, b"", b"")
NAMES = [f"t{number}" for number in range(12)]


def batch(export: MakeExport, names: Sequence[str]) -> Batch:
    """Return spans of several trajectories as one request."""
    each = [otlp.read(otlp.TRACES, export(name), 0).batch for name in names]
    return replace(each[0], spans=tuple(span for one in each for span in one.spans))


def written(session: Session, export: MakeExport) -> None:
    Writer(session).write([batch(export, NAMES)])


def names_in(session: Session) -> dict[int, str | None]:
    """Return by chunk whose spans are read out of it; all of them are of one trajectory."""
    found = {}
    for chunk in session.raw.chunks_after(0, 100):
        spans = session.raw.spans_in([chunk.chunk])
        assert len(spans) == chunk.items
        (found[chunk.chunk],) = {span.trajectory_id for span in spans}
    return found


@pytest.mark.parametrize(("size", "count"), [(1, 12), (10**6, 1)])
def test_a_write_makes_as_many_blocks_as_it_needs(
    store: Store, export: MakeExport, monkeypatch: pytest.MonkeyPatch, size: int, count: int
) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", size)
    with store.session() as session:
        written(session, export)
        assert names_in(session) == dict(enumerate(NAMES, 1))
        assert session.execute("SELECT count(DISTINCT block), count(DISTINCT chunk) FROM chunks") == [(count, 12)]
        ((told,),) = session.execute("SELECT sum(bytes) FROM chunks")
        ((kept,),) = session.execute("SELECT sum(octet_length(body)) FROM bodies")
        assert kept - 12 <= told <= kept


@pytest.mark.parametrize("gone", [[1], [12], [2, 3, 7], list(range(1, 12)), list(range(1, 13))])
@pytest.mark.parametrize("size", [1, 6_000, 10**6])
def test_what_is_forgotten_is_in_no_block_and_all_else_is(
    store: Store, export: MakeExport, monkeypatch: pytest.MonkeyPatch, gone: list[int], size: int
) -> None:
    monkeypatch.setattr(blocks, "_BLOCK", size)
    monkeypatch.setattr(blocks, "AT_ONCE", 2)
    left = {number: name for number, name in enumerate(NAMES, 1) if number not in gone}
    with store.session() as session:
        written(session, export)
        with session.transaction():
            session.raw.forget(gone)
        assert names_in(session) == left
        numbers = [row[0] for row in session.execute("SELECT DISTINCT block FROM bodies")]
        kept = b"".join(session.raw.blocks.read(numbers).values())
        assert {span.trajectory_id for span in Unpacker().spans(kept, NOBODY)} == set(left.values())
        assert session.execute("SELECT coalesce(sum(length), 0) FROM chunks") == [(len(kept),)]
