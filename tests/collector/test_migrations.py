import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from imitrace import semconv
from imitrace.canonical import canonical_json
from imitrace.exceptions import StoreError
from imitrace_collector import migrations, otlp
from imitrace_collector.derived_tables import STORED
from imitrace_collector.ingest import ingest
from imitrace_collector.migrations import migrate
from imitrace_collector.records import Unpacker, values
from imitrace_collector.rows import Batch, LogRow, SpanRow
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]
Contents = Callable[[Store], dict[str, list[str]]]
LONG = 60.0
CHARACTERS = st.characters(exclude_categories=["Cs"])
DERIVED = (*STORED, "losses")

VERSION_1 = """
CREATE TABLE spans (
    trace_id VARCHAR NOT NULL, span_id VARCHAR NOT NULL, parent_span_id VARCHAR, name VARCHAR NOT NULL,
    kind BIGINT NOT NULL, started_at BIGINT NOT NULL, ended_at BIGINT NOT NULL, status BIGINT NOT NULL,
    status_message VARCHAR NOT NULL, attributes VARCHAR NOT NULL, dropped_attributes BIGINT NOT NULL,
    events VARCHAR NOT NULL, links VARCHAR NOT NULL, trace_state VARCHAR NOT NULL, resource VARCHAR NOT NULL,
    scope VARCHAR NOT NULL, trajectory_id VARCHAR, received_at BIGINT NOT NULL, PRIMARY KEY (trace_id, span_id)
);
CREATE TABLE log_records (
    log_id VARCHAR NOT NULL PRIMARY KEY, trace_id VARCHAR, span_id VARCHAR, event_name VARCHAR NOT NULL,
    logged_at BIGINT NOT NULL, severity BIGINT NOT NULL, body VARCHAR NOT NULL, attributes VARCHAR NOT NULL,
    resource VARCHAR NOT NULL, scope VARCHAR NOT NULL, trajectory_id VARCHAR, received_at BIGINT NOT NULL
);
CREATE TABLE trajectories (trajectory_id VARCHAR NOT NULL);
CREATE TABLE meta (key VARCHAR NOT NULL PRIMARY KEY, value VARCHAR NOT NULL);
INSERT INTO meta VALUES ('store_version', '1'), ('schema_version', '2');
"""
"""The tables that came in, as version 1 had them; its derived ones are not read."""


def value(of: Any) -> AnyValue:
    if isinstance(of, bool):
        return AnyValue(bool_value=of)
    if isinstance(of, int):
        return AnyValue(int_value=of)
    if isinstance(of, float):
        return AnyValue(double_value=of)
    if isinstance(of, bytes):
        return AnyValue(bytes_value=of)
    if isinstance(of, list):
        return AnyValue(array_value=ArrayValue(values=map(value, of)))
    if isinstance(of, dict):
        return AnyValue(kvlist_value=KeyValueList(values=pairs(of)))
    return AnyValue() if of is None else AnyValue(string_value=of)


def pairs(told: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(of)) for key, of in told.items()]


ODD = {
    "text": "ä\x00\n\U0001f600",
    "nan": float("nan"),
    "infinite": float("-inf"),
    "whole": 1.0,
    "large": 2**62,
    "bytes": b"\xff",
    "nothing": None,
    "deep": [1, [True, {"a": 0.5}]],
}


VERSION_2 = """
CREATE TABLE spans (
    trace_id VARCHAR NOT NULL, span_id VARCHAR NOT NULL, parent_span_id VARCHAR, name VARCHAR NOT NULL,
    kind INTEGER NOT NULL, started_at BIGINT NOT NULL, ended_at BIGINT NOT NULL, status INTEGER NOT NULL,
    trajectory_id VARCHAR, service VARCHAR, received_at BIGINT NOT NULL, chunk BIGINT NOT NULL,
    PRIMARY KEY (trace_id, span_id)
);
CREATE TABLE log_records (
    log_id VARCHAR NOT NULL PRIMARY KEY, trace_id VARCHAR, span_id VARCHAR, event_name VARCHAR NOT NULL,
    logged_at BIGINT NOT NULL, severity INTEGER NOT NULL, trajectory_id VARCHAR, service VARCHAR,
    received_at BIGINT NOT NULL, chunk BIGINT NOT NULL
);
CREATE TABLE chunks (
    chunk BIGINT NOT NULL, kind VARCHAR NOT NULL, trajectory_id VARCHAR, trace_id VARCHAR, origin VARCHAR NOT NULL,
    noted BOOLEAN NOT NULL, items BIGINT NOT NULL, received_at BIGINT NOT NULL, size BIGINT NOT NULL,
    bytes BIGINT NOT NULL
);
CREATE TABLE bodies (chunk BIGINT NOT NULL, piece BIGINT NOT NULL, body BLOB NOT NULL);
CREATE TABLE origins (
    origin VARCHAR NOT NULL PRIMARY KEY, service VARCHAR, resource BLOB NOT NULL, scope BLOB NOT NULL
);
CREATE TABLE meta (key VARCHAR NOT NULL PRIMARY KEY, value VARCHAR NOT NULL);
INSERT INTO meta VALUES ('store_version', '2'), ('schema_version', '3');
"""
"""The tables that came in, as version 2 had them: each chunk's body compressed by itself, and keys."""


def batches(export: MakeExport) -> list[Batch]:
    """Two trajectories, foreign spans with events and links, and log records, in several requests."""
    event = Span.Event(name="said", time_unix_nano=7, attributes=pairs(ODD))
    told = {semconv.SCORE_NAME: "Helpful", semconv.SCORE_VALUE: float("nan")}
    graded = Span.Event(
        name=semconv.EVENT_SCORE, time_unix_nano=9, attributes=pairs(told | {semconv.TRAJECTORY_ID: "t1"})
    )
    link = Span.Link(trace_id=b"l" * 16, span_id=b"l" * 8, attributes=pairs({"why": "joined"}))
    foreign = [
        Span(
            trace_id=b"f" * 16,
            span_id=bytes([number + 1] * 8),
            parent_span_id=b"p" * 8 if number else b"",
            name=f"GET {number}",
            kind=Span.SpanKind.ValueType(number),
            start_time_unix_nano=5,
            end_time_unix_nano=2**62,
            attributes=pairs(ODD),
            dropped_attributes_count=3,
            events=[event, graded][: number + 1],
            links=[link],
            trace_state="a=b",
            status=Status(code=Status.STATUS_CODE_ERROR, message="broken"),
        )
        for number in range(2)
    ]
    scope = InstrumentationScope(name="httpx", version="1", attributes=pairs({"a": 1}))
    resource = Resource(attributes=pairs({"service.name": "web", "odd": ODD}))
    sent = ResourceSpans(resource=resource, scope_spans=[ScopeSpans(scope=scope, spans=foreign)])
    score = pairs({semconv.SCORE_NAME: "Late", semconv.SCORE_VALUE: 0.5, semconv.TRAJECTORY_ID: "t2"})
    logs = [
        LogRecord(event_name=semconv.EVENT_SCORE, time_unix_nano=3, attributes=score, flags=flags, body=value(ODD))
        for flags in (0, 1)  # the flags were not kept, and yet they are two scores
    ]
    logs.append(
        LogRecord(attributes=pairs({"event.name": semconv.EVENT_LOSS, semconv.LOSS_FAILED: 4}), trace_id=b"f" * 16)
    )
    notes = ResourceLogs(resource=resource, scope_logs=[ScopeLogs(scope=scope, log_records=logs)])
    return [
        otlp.read(otlp.TRACES, export("t1"), 1).batch,
        otlp.read(otlp.TRACES, ExportTraceServiceRequest(resource_spans=[sent]), 2).batch,
        otlp.read(otlp.TRACES, export("t2"), 3).batch,
        otlp.read(otlp.LOGS, ExportLogsServiceRequest(resource_logs=[notes]), 3).batch,
    ]


def write_version_1(path: Path, came: Sequence[Batch]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unpacker = Unpacker()
    with duckdb.connect(str(path)) as connection:
        connection.execute(VERSION_1)
        for batch in came:
            for raw in batch.spans:
                (span,) = unpacker.spans(bytes(raw.record), batch.origins[0])
                insert(connection, "spans", span, received_at=raw.received_at)
            for note in batch.logs:
                (log,) = unpacker.logs(note.record, batch.origins[0], note.received_at)
                insert(connection, "log_records", log, received_at=note.received_at, log_id=note.log_id)


def write_version_2(path: Path, filled: Store) -> None:
    """Write what came into a store as version 2 had it, each body in pieces of 100 bytes."""
    with duckdb.connect(str(path)) as connection, filled.session() as session, session.transaction():
        connection.execute(VERSION_2)
        for table in ("origins", "spans", "log_records"):
            rows = session.execute(f"SELECT * FROM {table}")  # noqa: S608 - a literal
            connection.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})", rows)  # noqa: S608
        for *chunk, block, start, length in session.execute("SELECT * FROM chunks ORDER BY chunk"):
            connection.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", chunk)
            body = zstandard.compress(session.raw.blocks.read([block])[block][start : start + length])
            for piece, at in enumerate(range(0, len(body), 100)):
                connection.execute("INSERT INTO bodies VALUES (?, ?, ?)", [chunk[0], piece, body[at : at + 100]])


def insert(connection: duckdb.DuckDBPyConnection, table: str, row: SpanRow | LogRow, **more: Any) -> None:
    columns = asdict(row) | more
    as_json = {"attributes", "events", "links", "resource", "scope", "body"}
    told = [canonical_json(of) if name in as_json else of for name, of in columns.items()]
    marks = ", ".join("?" * len(columns))
    connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", told)  # noqa: S608


def items(store: Store) -> tuple[list[str], list[str]]:
    """Return every span and log record as it is decoded."""
    with store.session() as session, session.transaction():
        chunks = [chunk.chunk for chunk in session.raw.chunks_after(0, 1000)]
        return (
            sorted(canonical_json(asdict(span)) for span in session.raw.spans_in(chunks)),
            sorted(canonical_json(asdict(log)) for log in session.raw.logs_in(chunks)),
        )


def test_a_store_of_version_1_becomes_what_this_program_would_have_made(
    tmp_path: Path, export: MakeExport, contents: Contents, store: Store
) -> None:
    path = tmp_path / "home" / "s.duckdb"
    came = batches(export)
    write_version_1(path, came)
    done = migrate(path)
    ingest(store, came)
    assert (done.before, done.after, done.spans, done.logs) == (1, 3, 8, 3)
    with Store.open(path) as migrated:
        found, expected = contents(migrated), contents(store)
        assert {table: found[table] for table in DERIVED} == {table: expected[table] for table in DERIVED}
        assert len(found["scores"]) == 5
        assert items(migrated) == items(store)
        columns = "trace_id, span_id, parent_span_id, name, kind, started_at, ended_at, status, trajectory_id, service"
        with migrated.reader() as ours, store.reader() as theirs:
            sql = f"SELECT {columns}, received_at FROM spans ORDER BY trace_id, span_id"  # noqa: S608
            assert ours.rows(sql) == theirs.rows(sql)
        assert ingest(migrated, came[:3]).spans == 0  # a retry after the upgrade writes nothing twice
    assert sorted(left.name for left in path.parent.iterdir()) == ["s.duckdb", "s.duckdb.v1"]


@pytest.mark.parametrize("portion", [1, 10**6])
def test_a_store_of_version_2_becomes_what_this_program_would_have_made(
    tmp_path: Path,
    export: MakeExport,
    contents: Contents,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    portion: int,
) -> None:
    monkeypatch.setattr(migrations, "_BYTES", portion)
    path = tmp_path / "s.duckdb"
    came = batches(export)
    for one in came:
        ingest(store, [one])
    write_version_2(path, store)
    done = migrate(path)
    assert (done.before, done.after, done.spans, done.logs) == (2, 3, 8, 3)
    with Store.open(path) as migrated:
        found, expected = contents(migrated), contents(store)
        same = (*DERIVED, "spans", "log_records", "origins")
        assert {table: found[table] for table in same} == {table: expected[table] for table in same}
        assert items(migrated) == items(store)
        assert ingest(migrated, came).spans == 0  # a retry after the upgrade writes nothing twice
    assert done.kept == tmp_path / "s.duckdb.v2"


def test_the_older_file_stays_as_it_was(tmp_path: Path, export: MakeExport) -> None:
    path = tmp_path / "s.duckdb"
    write_version_1(path, batches(export))
    kept = migrate(path).kept
    assert kept == tmp_path / "s.duckdb.v1"
    with duckdb.connect(str(kept), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM spans").fetchall() == [(8,)]
        assert connection.execute("SELECT value FROM meta WHERE key = 'store_version'").fetchall() == [("1",)]


@pytest.mark.parametrize("rows", [1, 3])
def test_many_rows_are_read_a_few_at_a_time(
    tmp_path: Path, export: MakeExport, contents: Contents, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    write_version_1(tmp_path / "a", batches(export))
    write_version_1(tmp_path / "b", batches(export))
    migrate(tmp_path / "a")
    monkeypatch.setattr(migrations, "_ROWS", rows)
    migrate(tmp_path / "b")
    with Store.open(tmp_path / "a") as one, Store.open(tmp_path / "b") as other:
        first, second = contents(one), contents(other)
    assert {table: first[table] for table in DERIVED} == {table: second[table] for table in DERIVED}


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize("older", [True, False])
def test_an_older_store_says_what_to_run(tmp_path: Path, read_only: bool, older: bool) -> None:
    write_version_1(tmp_path / "s", [])
    with pytest.raises(StoreError, match=r"has store_version 1, this program needs 3; .* run `imitrace migrate`"):
        Store.open(tmp_path / "s", read_only=read_only, older=older)


def test_a_store_of_this_version_stays(store: Store, export: MakeExport, contents: Contents) -> None:
    ingest(store, batches(export))
    expected = contents(store)
    store.close()
    done = migrate(store.path)
    assert (done.before, done.kept) == (3, None)
    with Store.open(store.path) as again:
        assert contents(again) == expected


def test_a_store_with_older_derived_tables_is_derived_anew(
    store: Store, export: MakeExport, contents: Contents
) -> None:
    ingest(store, batches(export))
    expected = contents(store)
    store.close()
    with duckdb.connect(str(store.path)) as connection:
        connection.execute("DROP VIEW steps; ALTER TABLE bare_steps DROP COLUMN shadow")
        connection.execute("UPDATE meta SET value = '1' WHERE key = 'schema_version'")
    migrate(store.path)
    with Store.open(store.path) as again:
        assert contents(again) == expected


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("UPDATE meta SET value = '9' WHERE key = 'store_version'", "store_version 9, this program knows up to 3"),
        ("UPDATE meta SET value = '0' WHERE key = 'store_version'", "store_version 0, this program knows 1, 2, 3"),
        ("DROP TABLE meta", "not a store of imitrace"),
    ],
)
def test_what_can_not_be_migrated_is_refused(tmp_path: Path, sql: str, told: str) -> None:
    write_version_1(tmp_path / "s", [])
    with duckdb.connect(str(tmp_path / "s")) as connection:
        connection.execute(sql)
    with pytest.raises(StoreError, match=told):
        migrate(tmp_path / "s")


def test_without_a_store_there_is_nothing_to_migrate(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store at"):
        migrate(tmp_path / "s")


def test_a_row_that_can_not_be_read_stops_it(tmp_path: Path, export: MakeExport) -> None:
    write_version_1(tmp_path / "s", batches(export))
    with duckdb.connect(str(tmp_path / "s")) as connection:
        connection.execute("UPDATE spans SET started_at = -1 WHERE name = 'GET 1'")
    with pytest.raises(StoreError, match=r"has a row that can't be read: .*; it stays as it is"):
        migrate(tmp_path / "s")
    assert [left.name for left in tmp_path.iterdir()] == ["s"]


KILLED = """
import os, signal, sys
from pathlib import Path
from imitrace_collector import migrations

real = getattr(migrations, sys.argv[2])

def killed(*arguments, **named):
    if sys.argv[3] == "after":
        real(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(migrations, sys.argv[2], killed)
migrations.migrate(Path(sys.argv[1]))
"""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("name", ["derive_all", "keep_aside", "put_in_place"])
def test_a_killed_migration_leaves_a_whole_store_and_may_be_run_again(
    tmp_path: Path, export: MakeExport, name: str, when: str
) -> None:
    path = tmp_path / "s.duckdb"
    write_version_1(path, batches(export))
    run = subprocess.run([sys.executable, "-c", KILLED, path, name, when], timeout=LONG, check=False)
    assert run.returncode == -9
    migrate(path)
    with Store.open(path) as store, store.reader() as reader:
        assert reader.rows("SELECT count(*) AS n FROM spans") == [{"n": 8}]
    assert sorted(left.name for left in tmp_path.iterdir()) == ["s.duckdb", "s.duckdb.v1"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(CHARACTERS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(CHARACTERS), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(CHARACTERS), JSON, max_size=4))
def test_any_attributes_are_read_back_as_they_were(attributes: dict[str, Any]) -> None:
    as_json = canonical_json(attributes)
    assert canonical_json(values(migrations._pairs(json.loads(as_json)))) == as_json
