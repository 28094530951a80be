import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace import semconv
from imitrace.exceptions import StoreError
from imitrace.schema import TABLES
from imitrace_collector import derive, otlp
from imitrace_collector.derive import Deriver, derive_all, derive_next, rebuild
from imitrace_collector.ingest import Writer
from imitrace_collector.pace import Rest
from imitrace_collector.rows import Batch, LogRow, SpanRow
from imitrace_collector.scores import scores_of
from imitrace_collector.store import Session, Store
from imitrace_collector.trajectories import assemble, unreadable

MakeExport = Callable[..., ExportTraceServiceRequest]
MakePart = Callable[..., list[SpanRow]]
Encode = Callable[[Sequence[SpanRow]], Batch]
LONG = 60.0


def everything(store: Store) -> dict[str, list[dict[str, Any]]]:
    with store.reader() as reader:
        return {table: reader.table(table).read_all().to_pylist() for table in TABLES}


def batch(export: MakeExport, name: str) -> Batch:
    return otlp.read(otlp.TRACES, export(name), 0).batch


@pytest.fixture
def session(store: Store) -> Iterator[Session]:
    with store.session() as opened:
        yield opened


def watch_reading(session: Session, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return a list that gets the trajectories of each reading of spans from now on."""
    read: list[list[str]] = []
    spans_of = session.raw.spans_of

    def watched(trajectory_ids: Sequence[str]) -> list[SpanRow]:
        read.append(list(trajectory_ids))
        return spans_of(trajectory_ids)

    monkeypatch.setattr(session.raw, "spans_of", watched)
    return read


@pytest.fixture
def deriver(store: Store) -> Iterator[Deriver]:
    """Derive only when asked: its rests are long."""
    running = Deriver(store, rest=Rest(LONG))
    yield running
    running.stop()


def test_a_backlog_is_derived_a_few_chunks_at_a_time(
    session: Session, store: Store, export: MakeExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derive, "CHUNKS", 2)
    Writer(session).write([batch(export, f"t{number}") for number in range(5)])
    assert [derive_next(session) for _ in range(4)] == [2, 2, 1, 0]
    assert len(everything(store)["trajectories"]) == 5
    assert not store.underived()


def test_of_a_backlog_each_trajectory_is_read_once_however_far_apart_its_parts_came(
    session: Session, store: Store, part: MakePart, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = watch_reading(session, monkeypatch)
    monkeypatch.setattr(derive, "CHUNKS", 1)
    writer = Writer(session)
    for at, name in enumerate(("a", "b", "c")):
        writer.write([encode(part(name, at=at))])
    assert [derive_next(session) for _ in range(4)] == [1, 1, 1, 0]
    assert read == [["t1"]]
    writer.write([encode(part("d", at=3))])
    assert derive_next(session) == 1
    assert read == [["t1"], ["t1"]]
    found = everything(store)
    assert len(found["steps"]) == 8
    rebuild(session)
    assert everything(store) == found


def test_what_is_derived_ahead_counts_only_once_it_is_committed(
    session: Session, store: Store, part: MakePart, encode: Encode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(derive, "CHUNKS", 1)
    writer = Writer(session)
    for at, name in enumerate(("a", "b")):
        writer.write([encode(part(name, at=at))])

    def refuse(_: int) -> None:
        raise StoreError("no room")

    with monkeypatch.context() as broken:
        broken.setattr(session.derived, "advance", refuse)
        with pytest.raises(StoreError, match="no room"):
            derive_next(session)
    assert [derive_next(session) for _ in range(3)] == [1, 1, 0]
    assert len(everything(store)["steps"]) == 4


def test_what_was_stored_before_a_question_is_derived_before_its_answer(
    deriver: Deriver, session: Session, store: Store, export: MakeExport
) -> None:
    writer = Writer(session)
    for number in range(3):
        deriver.committed(writer.write([batch(export, f"t{number}")]).chunk)
        deriver.catch_up(LONG)
        assert len(everything(store)["trajectories"]) == number + 1
        assert deriver.pending == 0


def test_unasked_it_derives_after_a_rest(session: Session, store: Store, export: MakeExport) -> None:
    Writer(session).write([batch(export, "t1")])
    deriver = Deriver(store, rest=Rest(0.01, calm=0))
    with deriver._changed:
        assert deriver._changed.wait_for(lambda: deriver.pending == 0, LONG)
    assert [row["trajectory_id"] for row in everything(store)["trajectories"]] == ["t1"]
    deriver.stop()


def test_unasked_it_waits_for_a_pause_but_not_for_ever(session: Session, store: Store, export: MakeExport) -> None:
    deriver = Deriver(store, rest=Rest(0, calm=LONG, latest=0.05), busy=lambda: True)
    deriver.committed(Writer(session).write([batch(export, "t1")]).chunk)
    with deriver._changed:
        assert deriver._changed.wait_for(lambda: deriver.pending == 0, LONG / 2)
    deriver.stop()


@pytest.mark.parametrize("told", ["committed", "busy"])
def test_what_is_stored_or_in_hand_puts_an_unasked_pass_off(store: Store, told: str) -> None:
    rest, busy = Rest(0, calm=LONG, latest=LONG), threading.Event()
    deriver = Deriver(store, rest=rest, busy=busy.is_set)
    assert rest.left() <= 0
    if told == "busy":
        busy.set()
        assert deriver._rest_left() > 0
    else:
        deriver.committed(0)
        assert rest.left() > 0
    deriver.stop()


def test_it_derives_even_if_requests_are_in_hand_all_the_time(
    session: Session, store: Store, export: MakeExport
) -> None:
    deriver = Deriver(store, rest=Rest(LONG), busy=lambda: True)
    deriver.committed(Writer(session).write([batch(export, f"t{number}") for number in range(5)]).chunk)
    deriver.catch_up(LONG)
    assert len(everything(store)["trajectories"]) == 5
    deriver.stop()


def test_what_is_left_at_the_end_is_derived(session: Session, store: Store, export: MakeExport) -> None:
    deriver = Deriver(store, rest=Rest(LONG))
    deriver.committed(Writer(session).write([batch(export, "t1")]).chunk)
    deriver.stop()
    assert len(everything(store)["steps"]) == 2


def test_a_store_that_can_not_be_written_is_told_to_who_asks_and_derived_later(
    deriver: Deriver, session: Session, store: Store, export: MakeExport
) -> None:
    written = Writer(session).write([batch(export, "t1")])
    session._connection.execute("ALTER TABLE bare_steps RENAME TO gone")
    deriver.committed(written.chunk)
    with pytest.raises(StoreError, match=r"write failed: .*steps"):
        deriver.catch_up(LONG)
    session._connection.execute("ALTER TABLE gone RENAME TO bare_steps")
    deriver.catch_up(LONG)
    assert len(everything(store)["steps"]) == 2


def test_a_trajectory_that_can_not_be_read_is_named_and_stops_no_other(
    session: Session, store: Store, export: MakeExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picky(trajectory_id: str, spans: list[SpanRow]) -> Any:
        if trajectory_id == "bad":
            raise ZeroDivisionError("by us")
        return assemble(trajectory_id, spans)

    monkeypatch.setattr(derive, "assemble", picky)
    Writer(session).write([batch(export, "bad"), batch(export, "good")])
    derive_all(session)
    reasons = {row["trajectory_id"]: row["incomplete_reason"] for row in everything(store)["trajectories"]}
    assert reasons == {"bad": "its spans can't be read: ZeroDivisionError: by us", "good": None}


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("step_index", 2**63, "OverflowError: "),
        ("observation", 3, "ArrowTypeError: "),
        ("confidence", "much", "ArrowInvalid: "),
        ("action_name", "\ud83d", "UnicodeEncodeError: "),
        ("decision", None, "StoreError: decision is null, bare_steps must have it"),
    ],
)
@pytest.mark.parametrize("again", [derive_all, rebuild])
def test_a_trajectory_whose_rows_no_table_can_have_is_named_and_stops_no_other(
    session: Session,
    store: Store,
    export: MakeExport,
    monkeypatch: pytest.MonkeyPatch,
    again: Callable[[Session], object],
    column: str,
    value: object,
    told: str,
) -> None:
    def careless(trajectory_id: str, spans: list[SpanRow]) -> Any:
        rows = assemble(trajectory_id, spans)
        if trajectory_id == "bad":
            rows.steps[0][column] = value
        return rows

    monkeypatch.setattr(derive, "assemble", careless)
    Writer(session).write([batch(export, name) for name in ("a", "bad", "c")])
    again(session)
    found = everything(store)
    reasons = {row["trajectory_id"]: row["incomplete_reason"] for row in found["trajectories"]}
    assert (reasons.pop("bad") or "").startswith(f"its spans can't be read: {told}")
    assert reasons == {"a": None, "c": None}
    assert {row["trajectory_id"] for row in found["steps"]} == {"a", "c"}
    assert len(found["scores"]) == 3


def test_an_item_that_says_what_no_table_can_have_stops_no_other(
    session: Session, store: Store, export: MakeExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(spans: Sequence[SpanRow], logs: Sequence[LogRow]) -> list[dict[str, Any]]:
        found = scores_of(spans, logs)
        return [row | {"step_index": 2**63} if row["trajectory_id"] == "bad" else row for row in found]

    monkeypatch.setattr(derive, "scores_of", careless)
    Writer(session).write([batch(export, name) for name in ("a", "bad", "c")])
    derive_all(session)
    assert {row["trajectory_id"] for row in everything(store)["scores"]} == {"a", "c"}


def test_an_unreadable_trajectory_has_every_column(
    export: MakeExport, decode: Callable[[Batch], list[SpanRow]]
) -> None:
    spans = decode(batch(export, "t1"))
    (row,) = unreadable("t1", spans, ValueError("\ud83d")).trajectories
    assert set(row) == set(TABLES["trajectories"])
    assert json.loads(row["tags"]) == {}
    assert (row["complete"], row["step_count"]) == (False, 0)


def test_one_span_of_many_more_tells_of_no_other_trajectory(session: Session, store: Store, export: MakeExport) -> None:
    first, second = batch(export, "t1"), batch(export, "t2")
    Writer(session).write([first, replace(second, spans=second.spans[:1])])
    derive_all(session)
    before = everything(store)
    Writer(session).write([replace(second, spans=second.spans[1:])])
    derive_all(session)
    after = everything(store)
    assert [row for row in after["steps"] if row["trajectory_id"] == "t1"] == before["steps"]
    assert [row["complete"] for row in after["trajectories"]] == [True, True]
    assert semconv.OUTCOMES


def test_what_is_decoded_at_once_has_a_bound(
    session: Session, store: Store, export: MakeExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    Writer(session).write([batch(export, f"t{number}") for number in range(5)])
    size = session.raw.chunks_after(0, 1)[0].size
    read = watch_reading(session, monkeypatch)
    monkeypatch.setattr(derive, "_CHUNKS_BYTES", 3 * size)
    monkeypatch.setattr(derive, "BYTES", 2 * size)
    assert [derive_next(session) for _ in range(3)] == [3, 2, 0]
    assert [len(group) for group in read] == [2, 1, 2]
    assert rebuild(session) == 5
    assert [len(group) for group in read[3:]] == [2, 2, 1]
    assert [row["complete"] for row in everything(store)["trajectories"]] == [True] * 5


def test_a_trajectory_that_is_too_large_to_read_is_named_and_stops_no_other(
    session: Session, store: Store, export: MakeExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = export("large")
    large.resource_spans[0].scope_spans[0].spans[0].name = "x" * 10_000
    Writer(session).write([otlp.read(otlp.TRACES, large, 0).batch, batch(export, "good")])
    monkeypatch.setattr(derive, "LARGEST", 10_000)
    derive_all(session)
    found = {row["trajectory_id"]: row["incomplete_reason"] for row in everything(store)["trajectories"]}
    assert found["good"] is None
    assert re.fullmatch(r"its spans can't be read: StoreError: they have \d+ bytes, allowed: 10000", found["large"])
