"""Keep what came in as it came: a small row for each item, and the items' own bytes in chunks.

A chunk holds what one write brought of one trajectory, or of one trace where no trajectory is named, from one origin.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby, repeat
from operator import attrgetter, itemgetter
from typing import NamedTuple

import duckdb
import pyarrow as pa

from imitrace.semconv import SPAN_STEP
from imitrace_collector.blocks import AT_ONCE, Blocks, Row, insert_rows
from imitrace_collector.fingerprints import Fingerprints
from imitrace_collector.pace import GiveWay, never
from imitrace_collector.records import Unpacker
from imitrace_collector.rows import Batch, LogRow, Origin, RawLog, RawSpan, SpanRow

SPANS, LOGS = "spans", "log_records"

_TEXT, _NUMBER = pa.string(), pa.int64()
_KEY = {SPANS: ("trace_id", "span_id"), LOGS: ("log_id",)}
"""The columns that tell items of a kind apart: the first of its row."""
_COLUMNS: dict[str, tuple[tuple[str, pa.DataType], ...]] = {
    SPANS: (
        *((name, _TEXT) for name in ("trace_id", "span_id", "parent_span_id", "name")),
        *((name, _NUMBER) for name in ("kind", "started_at", "ended_at", "status")),
        *((name, _TEXT) for name in ("trajectory_id", "service")),
        ("received_at", _NUMBER),
    ),
    LOGS: (
        *((name, _TEXT) for name in ("log_id", "trace_id", "span_id", "event_name")),
        *((name, _NUMBER) for name in ("logged_at", "severity")),
        *((name, _TEXT) for name in ("trajectory_id", "service")),
        ("received_at", _NUMBER),
    ),
}
"""The columns of an item's row, in the order of ``RawSpan`` and ``RawLog``; the chunk comes after them."""

_ROWS = 50_000
_ORIGINS = pa.schema([("origin", _TEXT), ("service", _TEXT), ("resource", pa.binary()), ("scope", pa.binary())])
_KNOWN = 10_000
_FOREIGN = "trajectory_id IS NULL AND trace_id IN (SELECT unnest($named::VARCHAR[]))"

Item = RawSpan | RawLog
_NOTED, _RECORD = attrgetter("noted"), attrgetter("record")


class Chunk(NamedTuple):
    """A chunk's row."""

    chunk: int
    kind: str
    trajectory_id: str | None
    trace_id: str | None
    """Of its first item; of all where no trajectory is named."""
    noted: bool
    items: int
    size: int
    """Bytes of its items, before they were compressed."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """How many items of a write were new, how many were there already, and the last chunk's number after it."""

    spans: int
    logs: int
    duplicates: int
    chunk: int


class RawTables:
    """Write and read what came in over one connection, for one thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, give_way: GiveWay = never) -> None:
        self._connection = connection
        self._give_way = give_way
        self.blocks = Blocks(connection)
        self._unpacker = Unpacker()
        self._stored: dict[str, Fingerprints] = {}
        self._known: set[str] = set()

    def last_chunk(self) -> int:
        """Return the highest number that a chunk had; 0 in a new store.

        The newest may have expired: what is derived was there, and its numbers are never given again.
        """
        derived = "(SELECT value::BIGINT FROM meta WHERE key = 'derived_chunk')"
        sql = f"SELECT greatest(coalesce(max(chunk), 0), coalesce({derived}, 0)) FROM chunks"  # noqa: S608 - a literal
        return int(self._connection.execute(sql).fetchall()[0][0])

    def write(self, batches: Sequence[Batch], last_chunk: int) -> Written:
        """Write items that are not there yet; of equal keys the first counts.

        Args:
            batches: what came, in that order.
            last_chunk: chunks are numbered after this one.
        """
        spans = [span for batch in batches for span in batch.spans]
        logs = [log for batch in batches for log in batch.logs]
        new_spans, after_spans = self._write_items(SPANS, spans, last_chunk)
        new_logs, after = self._write_items(LOGS, logs, after_spans)
        if new_spans or new_logs:
            self._write_origins({origin.origin: origin for batch in batches for origin in batch.origins})
        duplicates = len(spans) + len(logs) - new_spans - new_logs
        return Written(spans=new_spans, logs=new_logs, duplicates=duplicates, chunk=after)

    def _write_items(self, table: str, items: Sequence[Item], last_chunk: int) -> tuple[int, int]:
        """Return how many were new, and the number of the last chunk."""
        if not items:
            return 0, last_chunk
        groups: dict[Hashable, list[Item]] = defaultdict(list)
        for item in self._only_new(table, items):
            groups[item.trajectory_id, item.trajectory_id or item.trace_id, item.origin].append(item)
        chunks = dict(enumerate(groups.values(), last_chunk + 1))
        new = list(chain.from_iterable(chunks.values()))
        if new:
            columns = zip(_COLUMNS[table], zip(*new, strict=True), strict=False)  # origin, noted, record go elsewhere
            arrays = {name: pa.array(column, kind) for (name, kind), column in columns}
            numbers = chain.from_iterable(repeat(chunk, len(group)) for chunk, group in chunks.items())
            self.insert(table, pa.table(arrays | {"chunk": pa.array(numbers, _NUMBER)}))
            self.blocks.write_chunks(_chunk_rows(table, chunks))
        return len(new), last_chunk + len(chunks)

    def _only_new(self, table: str, items: Sequence[Item]) -> list[Item]:
        """Return the items that are not stored, the first of each key.

        A table with a key would have an index, of five times the bytes of these fingerprints, in memory and on disk.
        """
        stored, width = self._fingerprints(table), len(_KEY[table])
        found = dict[tuple[object, ...], Item]()
        for item in items:
            found.setdefault(item[:width], item)
        for key in self._stored_of(table, [key for key in found if stored.add(hash(key))]):
            found.pop(key, None)
        return list(found.values())

    def _fingerprints(self, table: str) -> Fingerprints:
        """Return those of all keys that are stored, and maybe of some more."""
        found = self._stored.get(table)
        if found is None:
            found = Fingerprints()
            cursor = self._connection.execute(f"SELECT {', '.join(_KEY[table])} FROM {table}")  # noqa: S608 - literals
            while rows := cursor.fetchmany(_ROWS):
                for row in rows:
                    found.add(hash(row))
            self._stored[table] = found
        return found

    def _stored_of(self, table: str, keys: Sequence[tuple[object, ...]]) -> Iterable[tuple[object, ...]]:
        if not keys:
            return ()
        first = _KEY[table][0]
        sql = f"SELECT {', '.join(_KEY[table])} FROM {table} WHERE {first} IN (SELECT unnest($named::VARCHAR[]))"  # noqa: S608
        return self._connection.execute(sql, {"named": list({key[0] for key in keys})}).fetchall()

    def _write_origins(self, origins: dict[str, Origin]) -> None:
        new = [origin._asdict() for name, origin in origins.items() if name not in self._known]
        if new:
            self.insert("origins", pa.Table.from_pylist(new, schema=_ORIGINS), "ON CONFLICT DO NOTHING")

    def committed(self, batches: Iterable[Batch]) -> None:
        """Remember the origins of a write whose transaction has been committed."""
        if len(self._known) > _KNOWN:
            self._known.clear()
        self._known.update(origin.origin for batch in batches for origin in batch.origins)

    def insert(self, table: str, rows: pa.Table, conflict: str = "") -> None:
        """Insert rows as they are."""
        insert_rows(self._connection, table, rows, conflict)

    def forget(self, chunks: Sequence[int]) -> None:
        """Delete chunks with their items; of blocks that have others, too, these are packed anew."""
        named = {"named": list(chunks)}
        gone = "chunk IN (SELECT unnest($named::BIGINT[]))"
        sql = f"SELECT DISTINCT block FROM chunks WHERE {gone}"  # noqa: S608 - a literal
        blocks = [row[0] for row in self._connection.execute(sql, named).fetchall()]
        for table in (SPANS, LOGS, "chunks"):
            self._connection.execute(f"DELETE FROM {table} WHERE {gone}", named)  # noqa: S608 - literals
        self.blocks.pack_anew(blocks)

    def chunks_after(self, chunk: int, limit: int) -> list[Chunk]:
        """Return the next ``limit`` chunks after one, in order."""
        sql = f"SELECT {', '.join(Chunk._fields)} FROM chunks WHERE chunk > $chunk ORDER BY chunk LIMIT $limit"  # noqa: S608
        rows = self._connection.execute(sql, {"chunk": chunk, "limit": limit}).fetchall()
        return [Chunk(*row) for row in rows]

    def trajectory_ids(self) -> list[str]:
        """Return the id of every trajectory that a raw span names."""
        sql = "SELECT DISTINCT trajectory_id FROM chunks WHERE kind = 'spans' AND trajectory_id IS NOT NULL ORDER BY 1"
        return [row[0] for row in self._connection.execute(sql).fetchall()]

    def sizes(self, trajectory_ids: Sequence[str]) -> list[tuple[str, int, int, int]]:
        """Return of each trajectory its id, the bytes of its spans, plain, and its first and its last chunk."""
        sql = (
            "SELECT trajectory_id, sum(size)::BIGINT, min(chunk), max(chunk) FROM chunks WHERE kind = 'spans' "
            "AND trajectory_id IN (SELECT unnest($named::VARCHAR[])) GROUP BY trajectory_id ORDER BY trajectory_id"
        )
        return self._connection.execute(sql, {"named": list(trajectory_ids)}).fetchall()

    def spans_of(self, trajectory_ids: Sequence[str]) -> list[SpanRow]:
        """Return the spans of trajectories."""
        return self._spans("trajectory_id IN (SELECT unnest($named::VARCHAR[]))", list(trajectory_ids))

    def spans_in(self, chunks: Sequence[int]) -> list[SpanRow]:
        """Return the spans of chunks."""
        return self._spans("chunk IN (SELECT unnest($named::BIGINT[]))", list(chunks))

    def spans_of_trace(self, trace_id: str) -> list[SpanRow]:
        """Return the spans of a trace."""
        found = self._spans("chunk IN (SELECT chunk FROM spans WHERE trace_id = $named)", trace_id)
        return [span for span in found if span.trace_id == trace_id]

    def newest_traces(self, limit: int) -> list[str]:
        """Return the traces that something of no trajectory of ours came in for last."""
        sql = (
            "SELECT trace_id FROM chunks WHERE trajectory_id IS NULL AND trace_id IS NOT NULL "
            "GROUP BY trace_id ORDER BY max(chunk) DESC LIMIT $limit"
        )
        return [row[0] for row in self._connection.execute(sql, {"limit": limit}).fetchall()]

    def named(self, trajectory_ids: Sequence[str]) -> list[str]:
        """Return those of the ids that a raw span of ours names."""
        sql = (
            "SELECT DISTINCT trajectory_id FROM chunks WHERE kind = 'spans' AND trajectory_id IN (SELECT unnest($ids))"
        )
        return [row[0] for row in self._connection.execute(sql, {"ids": list(trajectory_ids)}).fetchall()]

    def traces_with_steps(self, trace_ids: Sequence[str]) -> list[str]:
        """Return those of the traces that have steps of ours."""
        sql = (
            "SELECT DISTINCT trace_id FROM spans WHERE trajectory_id IS NOT NULL AND name = $step "
            "AND trace_id IN (SELECT unnest($ids::VARCHAR[]))"
        )
        named = {"step": SPAN_STEP, "ids": list(trace_ids)}
        return [row[0] for row in self._connection.execute(sql, named).fetchall()]

    def traces_of_spans(self, span_ids: Sequence[str]) -> dict[str, str]:
        """Return the trace of each span that is here; of equal ids the first by name."""
        sql = "SELECT span_id, min(trace_id) FROM spans WHERE span_id IN (SELECT unnest($ids::VARCHAR[])) GROUP BY 1"
        return dict(self._connection.execute(sql, {"ids": list(span_ids)}).fetchall())

    def trace_sizes(self, trace_ids: Sequence[str]) -> dict[str, tuple[int, int]]:
        """Return of traces the plain bytes of their items of no trajectory of ours, and the last chunk; zeros: none."""
        sql = f"SELECT trace_id, sum(size)::BIGINT, max(chunk) FROM chunks WHERE {_FOREIGN} GROUP BY trace_id"  # noqa: S608
        rows = self._connection.execute(sql, {"named": list(trace_ids)}).fetchall()
        return dict.fromkeys(trace_ids, (0, 0)) | {trace: (size, last) for trace, size, last in rows}

    def spans_of_traces(self, trace_ids: Sequence[str]) -> list[SpanRow]:
        """Return the spans of traces that name no trajectory of ours."""
        return self._spans(_FOREIGN, list(trace_ids))

    def logs_of_traces(self, trace_ids: Sequence[str]) -> list[LogRow]:
        """Return the log records of traces that name no trajectory of ours."""
        return self._logs(_FOREIGN, list(trace_ids))

    def first_spans_of(self, trace_id: str) -> list[SpanRow]:
        """Return the spans of the first chunk of a trace that names no trajectory of ours."""
        sql = f"SELECT min(chunk) FROM chunks WHERE kind = 'spans' AND {_FOREIGN}"  # noqa: S608 - a literal
        ((chunk,),) = self._connection.execute(sql, {"named": [trace_id]}).fetchall()
        return [] if chunk is None else self.spans_in([chunk])

    def logs_in(self, chunks: Sequence[int]) -> list[LogRow]:
        """Return the log records of chunks."""
        return self._logs("chunk IN (SELECT unnest($named::BIGINT[]))", list(chunks))

    def logs_of_trace(self, trace_id: str) -> list[LogRow]:
        """Return the log records that name a trace."""
        found = self._logs("chunk IN (SELECT chunk FROM log_records WHERE trace_id = $named)", trace_id)
        return [log for log in found if log.trace_id == trace_id]

    def _logs(self, where: str, named: object) -> list[LogRow]:
        found = self._bodies(f"c.kind = 'log_records' AND c.{where}", named)
        logs: list[LogRow] = []
        for received_at, origin, body in found:
            logs.extend(self._unpacker.logs(body, origin, received_at))
            self._give_way()
        return logs

    def _spans(self, where: str, named: object) -> list[SpanRow]:
        found = self._bodies(f"c.kind = 'spans' AND c.{where}", named)
        spans: list[SpanRow] = []
        for _, origin, body in found:
            spans.extend(self._unpacker.spans(body, origin))
            self._give_way()
        return spans

    def _bodies(self, where: str, named: object) -> Iterator[tuple[int, Origin, bytes]]:
        """Yield chunks' time of arrival, origin and body, in the order of the blocks that they lie in."""
        sql = (
            "SELECT c.block, c.start, c.length, c.received_at, o.origin, o.service, o.resource, o.scope "  # noqa: S608
            f"FROM chunks c JOIN origins o USING (origin) WHERE {where} ORDER BY c.block, c.start"
        )
        found = self._connection.execute(sql, {"named": named}).fetchall()
        blocks = [(block, list(rows)) for block, rows in groupby(found, key=itemgetter(0))]
        for first in range(0, len(blocks), AT_ONCE):
            few = blocks[first : first + AT_ONCE]
            plain = self.blocks.read({block for block, _ in few})
            for block, rows in few:
                for _, start, length, received_at, *origin in rows:
                    yield received_at, Origin(*origin), plain[block][start : start + length]


def _chunk_rows(table: str, chunks: Mapping[int, Sequence[Item]]) -> Iterator[tuple[Row, bytes]]:
    """Yield chunks' rows and bodies, one at a time."""
    for chunk, group in chunks.items():
        body = b"".join(map(_RECORD, group))
        first = group[0]
        row = {
            "chunk": chunk,
            "kind": table,
            "trajectory_id": first.trajectory_id,
            "trace_id": first.trace_id,
            "origin": first.origin,
            "noted": any(map(_NOTED, group)),
            "items": len(group),
            "received_at": first.received_at,
            "size": len(body),
        }
        yield row, body
