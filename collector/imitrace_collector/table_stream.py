"""Stream derived tables as Arrow: by agent, time and column, in one consistent view, and never for ever."""

import io
import threading
import weakref
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import pyarrow as pa

from imitrace.exceptions import StoreError, WireError
from imitrace.schema import TABLES
from imitrace_collector.ordered_rows import Selected
from imitrace_collector.store import Store

STREAM_SECONDS = 600.0
"""How long a client may take to read a stream: while it reads, the space of rows written anew is not used again."""

_ROWS_AT_ONCE = 4096
_OF_AGENT = "trajectory_id IN (SELECT trajectory_id FROM trajectories WHERE agent = $agent)"
_TRAJECTORY = "trajectory_id = $trajectory"
_AGENT = {"trajectories": "agent = $agent", "steps": _OF_AGENT, "scores": _OF_AGENT}
_TIME = {"trajectories": "started_at", "steps": "started_at", "scores": "scored_at"}
_NAMED_BY_STEPS = {
    "messages": "message_id IN (SELECT message_id FROM histories JOIN (SELECT trajectory_id, history, "
    "max(history_length) AS needed FROM bare_steps WHERE {steps} GROUP BY ALL) USING (trajectory_id, history) "
    "WHERE position < needed)",
    "tools": "tools_hash IN (SELECT tools_hash FROM bare_steps WHERE {steps})",
}
_ASKED = ("agent", "trajectory", "since", "until", "columns")
_MOST_NS = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which rows and columns of a table are wanted."""

    agent: str | None = None
    trajectory: str | None = None
    since: int | None = None
    """Nanoseconds since 1970 UTC: of trajectories and steps when they started, of scores when they were given."""
    until: int | None = None
    """The first nanosecond that is not wanted any more."""
    columns: tuple[str, ...] | None = None

    @classmethod
    def from_query(cls, table: str, query: Mapping[str, str]) -> Self:
        """Return what an HTTP query asks for; its names are those of the fields, ``columns`` has commas between.

        Raises:
            WireError: a name or a value is none that is allowed.
        """
        unknown = sorted(set(query) - set(_ASKED))
        if unknown:
            raise WireError(f"query has {unknown[0]!r}, allowed: {', '.join(_ASKED)}")
        columns = tuple(query["columns"].split(",")) if "columns" in query else None
        for name in columns or ():
            if name not in TABLES[table]:
                raise WireError(f"column is {name!r}, {table} has: {', '.join(TABLES[table])}")
        since, until = (nanoseconds(query[name]) if name in query else None for name in ("since", "until"))
        agent, trajectory = query.get("agent"), query.get("trajectory")
        return cls(agent=agent, trajectory=trajectory, since=since, until=until, columns=columns)

    def query(self) -> dict[str, object]:
        """Return it as an HTTP query."""
        found = {name: getattr(self, name) for name in _ASKED}
        return found | {"columns": ",".join(self.columns) if self.columns else None}


@contextmanager
def select_rows(store: Store, table: str, selection: Selection) -> Iterator[pa.RecordBatchReader]:
    """Open a table's rows as Arrow batches, in this process."""
    with store.readers(2) as (reader, beside):
        yield reader.select(_selected(table, selection), _ROWS_AT_ONCE, beside)


def nanoseconds(text: str) -> int:
    """Return a time in nanoseconds since 1970 UTC: given so, or in ISO 8601; without a zone it is UTC.

    Raises:
        WireError: it is neither.
    """
    if text.isascii() and text.isdecimal() and len(text) <= len(str(_MOST_NS)):
        return min(int(text), _MOST_NS)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise WireError(
            f"time is {text!r}, expected nanoseconds since 1970 or ISO 8601 like 2026-01-31T12:00Z"
        ) from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    passed = moment - datetime(1970, 1, 1, tzinfo=UTC)
    found = ((passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds) * 1000
    return max(-_MOST_NS, min(found, _MOST_NS))


class TableStream(Iterator[bytes]):
    """A derived table on its way, as an Arrow IPC stream in pieces of a few thousand rows.

    It holds a view, until it is read to the end, closed, let go, or its time is over.
    """

    def __init__(self, view: "_View", clock: threading.Timer) -> None:
        self._pieces = _pieces(view)
        self._end = weakref.finalize(self, _end, view, clock)
        self._end.atexit = False

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the view, from any thread; a piece that is being made is waited for."""
        self._end()
        with suppress(ValueError):  # who makes that piece is still inside
            self._pieces.close()


def stream_table(store: Store, table: str, selection: Selection, seconds: float = STREAM_SECONDS) -> TableStream:
    """Return a derived table's rows; what can't be read is told at once, before the first piece.

    Args:
        store: where from.
        table: a name of ``schema.TABLES``.
        selection: which rows and columns.
        seconds: after this time the next piece is a ``StoreError``, which breaks the answer off.
    """
    view = _View(store, table, selection)
    clock = threading.Timer(
        seconds, view.end, [f"stream of {table} took over {seconds:g} s; read faster, or ask for less"]
    )
    clock.daemon = True
    clock.start()
    return TableStream(view, clock)


def _pieces(view: "_View") -> Generator[bytes]:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, view.schema) as stream:
        while (batch := view.next()) is not None:
            stream.write_batch(batch)
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()


def _end(view: "_View", clock: threading.Timer) -> None:
    clock.cancel()
    view.end("stream was closed")


class _View:
    """A query that runs in a transaction of its own until it is read to the end, or ended by whatever thread."""

    def __init__(self, store: Store, table: str, selection: Selection) -> None:
        self._lock = threading.Lock()
        self._problem: str | None = None
        with ExitStack() as stack:
            reader, beside = stack.enter_context(store.readers(2))
            self._batches = reader.select(_selected(table, selection), _ROWS_AT_ONCE, beside)
            self.schema = self._batches.schema
            self._stack = stack.pop_all()

    def next(self) -> pa.RecordBatch | None:
        with self._lock:
            if self._problem is not None:
                raise StoreError(self._problem)
            return next(self._batches, None)

    def end(self, problem: str) -> None:
        with self._lock:
            if self._problem is None:
                self._problem = problem
                self._batches.close()
                self._stack.close()


def _selected(table: str, selection: Selection) -> Selected:
    if table in _NAMED_BY_STEPS:
        steps = _where("steps", selection)
        where = _NAMED_BY_STEPS[table].format(steps=steps) if steps else ""
    else:
        where = _where(table, selection)
    given = {name: getattr(selection, name) for name in ("agent", "trajectory", "since", "until")}
    return Selected(
        table=table,
        columns=selection.columns or tuple(TABLES[table]),
        where=where or "true",
        parameters={name: value for name, value in given.items() if value is not None},
        ordered=True,
    )


def _where(table: str, selection: Selection) -> str:
    conditions = [_AGENT[table]] if selection.agent is not None else []
    conditions += [_TRAJECTORY] if selection.trajectory is not None else []
    conditions += [f"{_TIME[table]} >= $since"] if selection.since is not None else []
    conditions += [f"{_TIME[table]} < $until"] if selection.until is not None else []
    return " AND ".join(conditions)
