"""Bring a store that an older program wrote to this program's version, in a new file beside it.

Each version has one step to the next: it reads the older file and writes a new one. The older file stays, as
``traces.duckdb.vN``, until its owner deletes it; a crash at any point leaves it, or the new one, whole in its place.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import zstandard
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from imitrace.exceptions import StoreError
from imitrace.schema import SCHEMA_VERSION
from imitrace_collector import otlp
from imitrace_collector.derive import derive_all, rebuild
from imitrace_collector.durable import forget, keep_aside, need_room, put_in_place
from imitrace_collector.ingest import Writer
from imitrace_collector.rows import Batch
from imitrace_collector.store import Store
from imitrace_collector.store_files import STORE_VERSION, as_store_error, connect, versions

_ROWS = 2000
_BYTES = 16 * 2**20
"""Of items whose chunks one transaction writes, about, before they are compressed."""

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """What a migration did."""

    before: int
    """Version of the store."""
    after: int
    spans: int
    logs: int
    kept: Path | None
    """Where the older file is; None where nothing had to be done."""


def migrate(path: Path) -> Migrated:
    """Bring a store to this program's version, and derive everything anew by its rules.

    Args:
        path: the store file; no collector may run on it.

    Raises:
        StoreError: a process holds it, a newer program wrote it, or the disk has no room for a second file.
    """
    if not path.exists():
        raise StoreError(f"no store at {path}; name the --home of one")
    with as_store_error("migration"), closing(connect(path)) as connection:
        connection.execute("CHECKPOINT store")
        found = versions(connection, path)
    version = found.get("store_version", 0)
    if version == STORE_VERSION:
        if found.get("schema_version", 0) < SCHEMA_VERSION:
            _derive_anew(path)
        return Migrated(before=version, after=STORE_VERSION, spans=0, logs=0, kept=None)
    if version not in MIGRATIONS:
        known = ", ".join(map(str, (*MIGRATIONS, STORE_VERSION)))
        raise StoreError(f"store {path} has store_version {version}, this program knows {known}; upgrade imitrace")
    need_room(path.parent, path.stat().st_size)
    aside = path.with_name(f"{path.name}.migrating")
    forget(aside)
    try:
        spans, logs = MIGRATIONS[version](path, aside)
        kept = path.with_name(f"{path.name}.v{version}")
        if not (kept.exists() and kept.samefile(path)):  # a migration that was killed has kept it already
            keep_aside(path, kept)
        put_in_place(aside, path)
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(f"store {path} has a row that can't be read: {error}; it stays as it is") from error
    finally:
        forget(aside)
    return Migrated(before=version, after=STORE_VERSION, spans=spans, logs=logs, kept=kept)


def _derive_anew(path: Path) -> None:
    with Store.open(path, create=False, older=True) as store:
        with store.session() as session:
            rebuild(session)
        store.checkpoint()


def _from_1(path: Path, aside: Path) -> tuple[int, int]:
    """Write the JSON rows of version 1 as protobuf records; return how many of each there were.

    What version 1 had not kept stays lost: which attributes were bytes, and of events, links and log records all but
    their names, times and attributes.
    """
    with closing(connect(path, read_only=True)) as older, Store.open(aside) as store:
        with store.session() as session:
            writer = Writer(session)
            spans = sum(writer.write(batches).spans for batches in _grouped(_span_batches(older)))
            logs = sum(writer.write(batches).logs for batches in _grouped(_log_batches(older)))
            derive_all(session)
        store.checkpoint()
        for table, written in (("spans", spans), ("log_records", logs)):
            ((had,),) = older.execute(f"SELECT count(*) FROM {table}").fetchall()  # noqa: S608 - names are our own
            if written != had:
                raise StoreError(f"store {path} has {had} {table}, {written} could be read; it stays as it is")
    return spans, logs


def _from_2(path: Path, aside: Path) -> tuple[int, int]:
    """Write what came in as version 3 has it: tables without keys, and bodies in blocks instead of each by itself."""
    with closing(connect(path, read_only=True)) as older, Store.open(aside) as store:
        with store.session() as session:
            for table in ("origins", "spans", "log_records"):
                for rows in older.sql(f"SELECT * FROM {table}").to_arrow_reader(_ROWS):  # noqa: S608 - a literal
                    with session.transaction():
                        session.raw.insert(table, pa.Table.from_batches([rows]))
            for chunks, bodies in _chunks_of_2(older):
                with session.transaction():
                    session.raw.blocks.write_chunks(zip(chunks, bodies, strict=True))
            derive_all(session)
            ((spans,),) = session.execute("SELECT count(*) FROM spans")
            ((logs,),) = session.execute("SELECT count(*) FROM log_records")
        store.checkpoint()
    return spans, logs


def _chunks_of_2(older: duckdb.DuckDBPyConnection) -> Iterator[tuple[list[Row], list[bytes]]]:
    """Yield chunks' rows with their bodies, some megabytes at a time."""
    chunks = "SELECT *, sum(size) OVER (ORDER BY chunk) // $bytes AS portion FROM chunks ORDER BY chunk"
    cursor = older.execute(chunks, {"bytes": _BYTES})
    names = [column[0] for column in cursor.description or ()]
    unpack = zstandard.ZstdDecompressor().decompress
    with closing(older.cursor()) as beside:
        beside.execute("USE store")
        rows = iter(cursor.fetchone, None)
        for _, portion in groupby((dict(zip(names, row, strict=True)) for row in rows), key=itemgetter("portion")):
            found: list[Row] = [
                {name: value for name, value in row.items() if name not in ("bytes", "portion")} for row in portion
            ]
            pieces: dict[int, list[bytes]] = defaultdict(list)
            sql = "SELECT chunk, body FROM bodies WHERE chunk BETWEEN $first AND $last ORDER BY chunk, piece"
            numbers = {"first": found[0]["chunk"], "last": found[-1]["chunk"]}
            for chunk, piece in beside.execute(sql, numbers).fetchall():
                pieces[chunk].append(piece)
            yield found, [unpack(b"".join(pieces[row["chunk"]])) for row in found]


def _grouped(batches: Iterable[Batch]) -> Iterator[list[Batch]]:
    """Yield batches in groups of about as many items as one transaction should have."""
    group: list[Batch] = []
    items = 0
    for batch in batches:
        group.append(batch)
        items += len(batch.spans) + len(batch.logs)
        if items >= _ROWS:
            yield group
            group, items = [], 0
    if group:
        yield group


MIGRATIONS: Mapping[int, Callable[[Path, Path], tuple[int, int]]] = {1: _from_1, 2: _from_2}
"""Store version -> what writes a file of that version as one of this program's, and counts spans and log records."""


def _rows(older: duckdb.DuckDBPyConnection, table: str) -> Iterator[list[Row]]:
    """Yield the rows of a table in the order in which they came, many at a time, split where the time differs."""
    with as_store_error("migration"), closing(older.cursor()) as cursor:
        cursor.execute(f"USE store; SELECT * FROM {table} ORDER BY received_at, rowid")  # noqa: S608 - names are our own
        names = [column[0] for column in cursor.description or ()]
        while found := cursor.fetchmany(_ROWS):
            rows = [dict(zip(names, row, strict=True)) for row in found]
            for _, group in groupby(rows, key=lambda row: row["received_at"]):
                yield list(group)


def _span_batches(older: duckdb.DuckDBPyConnection) -> Iterator[Batch]:
    for rows in _rows(older, "spans"):
        request = ExportTraceServiceRequest()
        for (resource, scope), group in groupby(rows, key=lambda row: (row["resource"], row["scope"])):
            sent = request.resource_spans.add(resource=_resource(resource)).scope_spans.add(scope=_scope(scope))
            for row in group:
                _add_span(sent, row)
        yield otlp.read(otlp.TRACES, request, rows[0]["received_at"]).batch


def _add_span(sent: Any, row: Row) -> None:  # protobuf's generated classes are untyped here
    span = sent.spans.add(
        trace_id=bytes.fromhex(row["trace_id"]),
        span_id=bytes.fromhex(row["span_id"]),
        parent_span_id=bytes.fromhex(row["parent_span_id"] or ""),
        name=row["name"],
        kind=row["kind"],
        start_time_unix_nano=row["started_at"],
        end_time_unix_nano=row["ended_at"],
        attributes=_pairs(json.loads(row["attributes"])),
        dropped_attributes_count=row["dropped_attributes"],
        trace_state=row["trace_state"],
    )
    span.status.code, span.status.message = row["status"], row["status_message"]
    for event in json.loads(row["events"]):
        span.events.add(name=event["name"], time_unix_nano=event["time"], attributes=_pairs(event["attributes"]))
    for link in json.loads(row["links"]):
        span.links.add(
            trace_id=bytes.fromhex(link["trace_id"]),
            span_id=bytes.fromhex(link["span_id"]),
            attributes=_pairs(link["attributes"]),
        )


def _log_batches(older: duckdb.DuckDBPyConnection) -> Iterator[Batch]:
    for rows in _rows(older, "log_records"):
        request = ExportLogsServiceRequest()
        for (resource, scope), group in groupby(rows, key=lambda row: (row["resource"], row["scope"])):
            sent = request.resource_logs.add(resource=_resource(resource)).scope_logs.add(scope=_scope(scope))
            for row in group:
                sent.log_records.add(
                    trace_id=bytes.fromhex(row["trace_id"] or ""),
                    span_id=bytes.fromhex(row["span_id"] or ""),
                    event_name=row["event_name"],
                    time_unix_nano=row["logged_at"],
                    severity_number=row["severity"],
                    body=_value(json.loads(row["body"])),
                    attributes=_pairs(json.loads(row["attributes"])),
                )
        batch = otlp.read(otlp.LOGS, request, rows[0]["received_at"]).batch
        # Of what told two records apart something may be lost: their old ids still do.
        logs = (log._replace(log_id=row["log_id"]) for log, row in zip(batch.logs, rows, strict=True))
        yield replace(batch, logs=tuple(logs))


def _resource(text: str) -> Any:
    return Resource(attributes=_pairs(json.loads(text)))


def _scope(text: str) -> Any:
    said = json.loads(text)
    return InstrumentationScope(name=said["name"], version=said["version"], attributes=_pairs(said["attributes"]))


def _pairs(values: Mapping[str, object]) -> list[Any]:
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items()]


def _value(value: object) -> Any:
    """Return a JSON value as the AnyValue that is read as the same."""
    if value is None:
        return AnyValue()
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, list):
        return AnyValue(array_value=ArrayValue(values=[_value(item) for item in value]))
    if isinstance(value, dict):
        return AnyValue(kvlist_value=KeyValueList(values=_pairs(value)))
    return AnyValue(string_value=str(value))
