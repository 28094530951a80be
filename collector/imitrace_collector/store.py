"""Own the store: one DuckDB file, its transactions, and consistent views of it."""

import logging
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa

from imitrace.exceptions import StoreError
from imitrace.schema import TABLES
from imitrace_collector.ahead import Ahead
from imitrace_collector.derived_tables import STORED, DerivedTables, KnownMessages
from imitrace_collector.durable import put_in_place, sync
from imitrace_collector.gate import Gate
from imitrace_collector.histories import BARE, IDS_NEEDED, KEYS, STATE, STEPS, with_states
from imitrace_collector.link_tables import COMPONENT_TABLES, LinkTables
from imitrace_collector.ordered_rows import Selected, in_order
from imitrace_collector.pace import GiveWay, never
from imitrace_collector.raw_tables import RawTables
from imitrace_collector.rows import LogRow, SpanRow
from imitrace_collector.store_files import (
    as_store_error,
    check_version,
    connect,
    ddl,
    gave_up,
    make_folder,
    roll_back,
    tables_in,
)

_log = logging.getLogger(__name__)

_PATIENCE = 1.0
"""Seconds for which others are kept outside while a file is to be opened anew."""
_QUERIES = 2
"""Readers' queries that run at the same time: all share DuckDB's memory with whoever commits."""
_BATCH = 8192
"""Rows of a batch of a whole table, and so of a snapshot's row group."""


class Reader:
    """Read one consistent view of the store, on a connection of its own; close it by leaving the ``with``."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, turns: AbstractContextManager[object] | None = None
    ) -> None:
        """Read over a connection; ``turns`` is held by each query whose rows are fetched whole."""
        self._connection = connection
        self._turns = turns or nullcontext()
        self._asked = threading.Lock()
        self._read: weakref.ref[pa.RecordBatchReader] | None = None

    @property
    def raw(self) -> RawTables:
        """Return what came in."""
        return RawTables(self._connection)

    @property
    def links(self) -> LinkTables:
        """Return which traces belong together."""
        return LinkTables(self._connection)

    def rows(self, sql: str, **parameters: object) -> list[dict[str, Any]]:
        """Return a query's rows as dictionaries."""
        with as_store_error("query"):
            result = self._connection.execute(sql, parameters)
            names = [column[0] for column in result.description or ()]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def batches(self, sql: str, rows: int, parameters: Mapping[str, object] | None = None) -> pa.RecordBatchReader:
        """Return a query's rows as Arrow batches of at most so many; one such query at a time."""
        with as_store_error("query"):
            batches = self._connection.sql(sql, params=dict(parameters or {})).to_arrow_reader(rows)
        self._read = weakref.ref(batches)
        return batches

    def fetched(self, sql: str, parameters: Mapping[str, object]) -> pa.Table:
        """Return a query's rows, all at once."""
        with self._turns, as_store_error("query"):
            return self._connection.sql(sql, params=dict(parameters)).to_arrow_table()

    def end(self) -> None:
        """Let go of batches that are not read to their end, whoever holds them."""
        batches = None if self._read is None else self._read()
        if batches is not None:
            batches.close()

    def trace(self, trace_id: str) -> tuple[list[SpanRow], list[LogRow]]:
        """Return the spans and the log records of a trace, decoded."""
        with as_store_error("query"):
            return self.raw.spans_of_trace(trace_id), self.raw.logs_of_trace(trace_id)

    def interrupt(self) -> None:
        """End the query that runs; from any thread."""
        self._connection.interrupt()

    def select(self, rows: Selected, most: int, beside: "Reader | None" = None) -> pa.RecordBatchReader:
        """Return rows as Arrow batches of at most so many, of steps with long states fewer.

        Args:
            rows: which.
            most: rows of a batch.
            beside: another reader of this view, for the states of steps while these are read; without one all steps
                are read first, but for their states.
        """
        if rows.table != STEPS:
            return self._rows_of(rows, most)
        bare = replace(rows, table=BARE, columns=[name for name in rows.columns if name != STATE])
        if STATE not in rows.columns:
            return self._rows_of(bare, most)
        wanted = replace(bare, columns=list(dict.fromkeys((*bare.columns, *KEYS))))
        steps = self._rows_of(wanted, max(most, _BATCH))
        if beside is None:
            with as_store_error("query"):
                steps = steps.read_all().to_reader(_BATCH)
        return with_states(steps, rows.columns, (beside or self).ids, most)

    def _rows_of(self, rows: Selected, most: int) -> pa.RecordBatchReader:
        if not rows.ordered:
            return self.batches(rows.sql(), most, rows.parameters)
        return in_order(self, rows, most)

    def ids(self, needed: pa.Table) -> pa.Array:
        """Return what a ``histories.Lookup`` does; from any thread."""
        with self._asked, self._turns, as_store_error("query"):
            self._connection.register("needed", needed)
            found = self._connection.sql(IDS_NEEDED).to_arrow_table()
            self._connection.unregister("needed")
        return found.column(0).combine_chunks()

    def table(self, table: str, beside: "Reader | None" = None) -> pa.RecordBatchReader:
        """Return a derived table as Arrow batches, in ``ORDER``."""
        return self.select(_whole(table), _BATCH, beside)


def _whole(table: str) -> Selected:
    return Selected(table=table, columns=tuple(TABLES[table]), ordered=True)


class Session:
    """Write over a connection of its own, for one thread; several may write at once where their tables differ.

    Between transactions the store may change its file, so nothing is read or written outside of them.
    """

    def __init__(self, store: "Store", give_way: GiveWay = never) -> None:
        self._store = store
        self.give_way = give_way
        self.enter()

    def enter(self) -> None:
        """Connect to the store's file."""
        self._connection = self._store.connected()
        self._inside = True
        self.ahead, self.traces_ahead = Ahead(), Ahead()  # the file may lack what was derived last
        self.raw = RawTables(self._connection, self.give_way)
        self.derived = DerivedTables(self._connection, self._store.messages)
        self.links = LinkTables(self._connection)

    def leave(self) -> None:
        """Let go of the store's file; the next transaction connects anew."""
        self._connection.close()
        self._inside = False

    def _enter_again(self) -> None:
        if not self._inside:
            self.enter()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything written inside durable at the end, or nothing of it."""
        with self._store.entered(), as_store_error("write"):
            self._enter_again()
            self._connection.execute("BEGIN")
            try:
                yield
                with self._store.commits:
                    self._connection.execute("COMMIT")
                sync(self._store.path.parent)
            except BaseException:
                roll_back(self._connection)
                raise

    @contextmanager
    def derivation(self) -> Iterator[None]:
        """Be the one transaction that may change derived tables: what one found there no other takes away."""
        with self._store.deriving:
            try:
                with self.transaction():
                    yield
            except BaseException:
                self._store.messages.forget()  # some that it wrote are not there after all
                raise

    def positions(self) -> tuple[int, int]:
        """Return the last chunk that is stored, and the last up to which everything is derived."""
        with self._store.entered(), as_store_error("query"):
            self._enter_again()
            return self.raw.last_chunk(), self.derived.derived_chunk()

    def execute(self, sql: str, **parameters: object) -> list[tuple[Any, ...]]:
        """Return a statement's rows; for a count of rows changed, its one row."""
        return self._connection.execute(sql, parameters).fetchall()

    def forget_derived(self) -> None:
        """Make every derived table anew, empty and in this program's columns; what came in stays."""
        self.derived.messages_change()
        ours = {*STORED, STEPS, "losses", *COMPONENT_TABLES}  # an older program has steps as a table
        drops = "".join(f"DROP TABLE {table}; " for table in sorted(ours & tables_in(self._connection)))
        drops += f"DROP VIEW IF EXISTS {STEPS};"
        self._connection.execute(f"{drops} DELETE FROM meta WHERE key <> 'deleted'; {ddl()}")  # noqa: S608 - names are our own


class Store:
    """Hold a store file open; sessions write, readers read, each on a connection of its own."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, path: Path, *, read_only: bool) -> None:
        self._connection = connection
        self._read_only = read_only
        self._sessions: list[Session] = []
        self._given_up = False
        self._turns = threading.Semaphore(_QUERIES)
        self.path = path
        self.gate = Gate()
        """Readers and transactions come in together, whoever changes the file comes in alone."""
        self.commits = threading.Lock()
        """Held while a transaction is committed, so that views that begin while one holds it are the same."""
        self.deriving = threading.Lock()
        self.messages = KnownMessages()
        """For who holds ``deriving``."""
        self.maintenance = threading.RLock()
        """For whoever deletes what came in, or copies all of it: one of them at a time."""

    @classmethod
    def open(cls, path: Path, *, read_only: bool = False, create: bool = True, older: bool = False) -> Self:
        """Open the store file.

        Args:
            path: the file; it and its folder are made when absent.
            read_only: never write; then several processes may read.
            create: False or ``read_only`` refuse to make it.
            older: take one whose derived tables are an older program's, to rebuild them.

        Raises:
            StoreError: another process holds it, it is no store, a newer or older program wrote it, or it is absent.
        """
        create = create and not read_only
        if not create and not path.exists():
            raise StoreError(f"no store at {path}; fill one by `imitrace collect` or `imitrace import`, or name --home")
        if create:
            make_folder(path)
        return cls(_open(path, read_only, older), path, read_only=read_only)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what was committed is in it."""
        self._connection.close()

    def checkpoint(self) -> None:
        """Move what is in the write-ahead log into the file itself."""
        with self.entered(), as_store_error("checkpoint"):
            self._connection.execute("FORCE CHECKPOINT store")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be inside the gate beside others; a file that DuckDB gave up is opened anew first.

        Raises:
            StoreError: the file can't be opened, or somebody still reads what there was.
        """
        if self._given_up:
            self._open_anew()
        with self.gate.together():
            try:
                yield
            except (StoreError, duckdb.Error) as error:
                self._given_up |= gave_up(error)
                raise

    def _open_anew(self) -> None:
        with self.gate.alone(_PATIENCE) as alone:
            if not alone:
                raise StoreError(f"store {self.path} must be opened anew, and somebody still reads; try again")
            if self._given_up:
                self._leave()
                self._enter()
                self._given_up = False
                _log.warning("store was opened anew after DuckDB had given it up")

    def _leave(self) -> None:
        for session in self._sessions:
            session.leave()
        self._connection.close()

    def _enter(self) -> None:
        self._connection = _open(self.path, self._read_only)
        self.messages.forget()

    def underived(self) -> bool:
        """Return whether something is stored that nothing is derived from yet."""
        with self.session() as session:
            stored, derived = session.positions()
        return derived < stored

    @contextmanager
    def session(self, give_way: GiveWay = never) -> Iterator[Session]:
        """Open a connection to write on; long work over it calls ``give_way`` now and then."""
        with self.entered():
            session = Session(self, give_way)
            self._sessions.append(session)
        try:
            yield session
        finally:
            self._sessions.remove(session)
            session.leave()

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Open one consistent view; writing goes on beside it."""
        with self.entered(), self._view() as reader:
            yield reader

    @contextmanager
    def readers(self, count: int) -> Iterator[list[Reader]]:
        """Open several connections on one and the same view, for as many threads."""
        with self.entered(), ExitStack() as stack:
            with self.commits:  # a view begins with the first read
                opened = [stack.enter_context(self._view()) for _ in range(count)]
                for reader in opened:
                    reader.rows("SELECT key FROM meta LIMIT 1")
            yield opened

    @contextmanager
    def _view(self) -> Iterator[Reader]:
        with self.connected() as cursor:
            cursor.execute("BEGIN")
            reader = Reader(cursor, self._turns)
            try:
                yield reader
            finally:
                reader.end()
                roll_back(cursor)

    def connected(self) -> duckdb.DuckDBPyConnection:
        """Return a connection of one's own, to be closed; for those who are inside the gate."""
        with as_store_error("connection"):
            cursor = self._connection.cursor()
            cursor.execute("USE store")
            return cursor

    def replace_file(self, aside: Path) -> None:
        """Take another file, which is whole and closed, for one's own; only for who is alone inside the gate.

        Raises:
            StoreError: that failed; then the store goes on with its own.
        """
        log = self.path.with_name(f"{self.path.name}.wal")
        with as_store_error("swap"):
            self._connection.execute("FORCE CHECKPOINT store")
            self._leave()
            try:
                if log.exists():  # it would be replayed on the file that takes this one's name
                    raise StoreError(f"store {self.path} keeps its write-ahead log after a checkpoint")
                put_in_place(aside, self.path)
            finally:
                self._enter()


def _open(path: Path, read_only: bool = False, older: bool = False) -> duckdb.DuckDBPyConnection:
    connection = connect(path, read_only)
    try:
        with as_store_error("opening"):
            if not read_only and not tables_in(connection):
                connection.execute(f"BEGIN; {ddl()} COMMIT;")
            check_version(connection, path, older)
    except BaseException:
        connection.close()
        raise
    return connection
