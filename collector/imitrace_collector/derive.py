"""Derive trajectories, steps, messages, tools, scores and losses from what came in: late, and the same each time."""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import pyarrow as pa

from imitrace.exceptions import StoreError
from imitrace_collector.components import BYTES, derive_components, touched
from imitrace_collector.derived_tables import Row, as_arrow
from imitrace_collector.histories import bare, ids_of
from imitrace_collector.joining import LARGEST
from imitrace_collector.losses import losses_of
from imitrace_collector.pace import Pace, Rest, Speed
from imitrace_collector.raw_tables import LOGS, SPANS, Chunk
from imitrace_collector.rows import LogRow, SpanRow
from imitrace_collector.scores import scores_of
from imitrace_collector.store import Session, Store
from imitrace_collector.trajectories import Assembled, assemble, unreadable

CHUNKS = 256
"""Most chunks of one transaction."""
_CHUNKS_BYTES = 16 * 2**20
"""Most bytes of them, unless one chunk has more."""
_TRAJECTORIES = 256
_IDS = 2_000_000
"""How many ids the histories of one insertion have, about."""
_SHARE = 4
"""How many times as long as it worked a deriver rests, so that it takes little from the writer under load."""
_ASKED_SHARE = 1
"""How many times as long as it worked it stands aside for requests, at most, while a reader waits for it."""
_DRAIN_SECONDS = 5.0
_PATIENCE = 120.0
_AS_THEY_ARE = ("trajectories", "messages", "tools")

_Item = TypeVar("_Item")
_log = logging.getLogger(__name__)


class BehindError(StoreError):
    """Report that deriving takes longer than somebody waits."""

    def __init__(self, chunks: int, seconds: float | None, up_to: int) -> None:
        about = "" if seconds is None else f", in about {seconds:.0f} s"
        super().__init__(f"{chunks} chunks are still to be derived{about}; ask again, or wait longer by fresh=SECONDS")
        self.chunks = chunks
        """How many are stored and not derived, of those that were waited for."""
        self.seconds = seconds
        """How long they take at the pace of the last ones; None: not known."""
        self.up_to = up_to
        """The last of them."""


class _Read(NamedTuple):
    """A trajectory's spans, and what was made of them."""

    trajectory_id: str
    spans: Sequence[SpanRow]
    rows: Assembled


def derive_next(session: Session) -> int:
    """Derive what the next chunks touch, in one transaction, and return how many chunks that were."""
    with session.derivation():
        chunks = _first(session.raw.chunks_after(session.derived.derived_chunk(), CHUNKS))
        if not chunks:
            return 0
        own = session.ahead.changed(_touched(chunks))
        traces = {*session.traces_ahead.changed(touched(chunks)), *session.links.traces_of(own)}  # give up our names
        last_of_traces = _derive_foreign(session, traces)
        last = _derive_trajectories(session, own)
        _derive_notes(session, chunks)
        reached = chunks[-1].chunk
        session.derived.advance(reached)
    session.ahead.advance(last, reached)
    session.traces_ahead.advance(last_of_traces, reached)
    return len(chunks)


def derive_all(session: Session) -> None:
    """Derive everything that is not derived yet."""
    while derive_next(session):
        continue


def rebuild(session: Session) -> int:
    """Derive every row anew, in one transaction, and return the number of trajectories."""
    with session.derivation():
        session.forget_derived()
        trajectory_ids = session.raw.trajectory_ids()
        for start in range(0, len(trajectory_ids), _TRAJECTORIES):
            _derive_trajectories(session, trajectory_ids[start : start + _TRAJECTORIES])
        last = 0
        while chunks := _first(session.raw.chunks_after(last, CHUNKS)):
            traces = touched(chunks).keys()
            _derive_foreign(session, traces - set(session.links.known(traces)))
            _derive_notes(session, chunks)
            last = chunks[-1].chunk
        session.derived.advance(last)
    return len(trajectory_ids)


def _touched(chunks: Sequence[Chunk]) -> dict[str, int]:
    spans = (chunk for chunk in chunks if chunk.kind == SPANS)
    return {chunk.trajectory_id: chunk.chunk for chunk in spans if chunk.trajectory_id is not None}


def _first(chunks: Sequence[Chunk]) -> Sequence[Chunk]:
    """Return the first chunks, as many as belong into one transaction."""
    size = 0
    for place, chunk in enumerate(chunks):
        size += chunk.size
        if size > _CHUNKS_BYTES and place:
            return chunks[:place]
    return chunks


def _derive_trajectories(session: Session, trajectory_ids: Sequence[str]) -> dict[str, int]:
    """Derive trajectories anew, and return the last chunk of each."""
    if not trajectory_ids:
        return {}
    session.derived.forget(trajectory_ids)
    group: list[str] = []
    size = 0
    sizes = session.raw.sizes(trajectory_ids)
    for trajectory_id, own, first, _ in sizes:
        if own > LARGEST:
            found = session.raw.spans_in([first])
            error = StoreError(f"they have {own} bytes, allowed: {LARGEST}")
            _insert(session, _tables([unreadable(trajectory_id, found, error)]))
            continue
        if group and size + own > BYTES:
            _derive_group(session, group)
            group, size = [], 0
        group.append(trajectory_id)
        size += own
    _derive_group(session, group)
    return {trajectory_id: last for trajectory_id, _, _, last in sizes}


def _derive_group(session: Session, trajectory_ids: Sequence[str]) -> None:
    groups: dict[str, list[SpanRow]] = defaultdict(list)
    for span in session.raw.spans_of(trajectory_ids):
        groups[span.trajectory_id or ""].append(span)
    for portion in _portions(_assembled(session, trajectory_id, group) for trajectory_id, group in groups.items()):
        _insert(session, _tables_of(portion))


def _insert(session: Session, tables: Mapping[str, pa.Table]) -> None:
    for table, rows in tables.items():
        session.give_way()
        session.derived.insert(table, rows)


def _tables_of(portion: Sequence[_Read]) -> Mapping[str, pa.Table]:
    """Return trajectories' rows by table; of one whose rows no table can have there is only the reason."""
    try:
        return _tables([read.rows for read in portion])
    except Exception as error:
        if len(portion) > 1:
            alone = [_tables_of([read]) for read in portion]
            return {table: pa.concat_tables([tables[table] for tables in alone]) for table in alone[0]}
        (read,) = portion
        return _tables([_not_read(read.trajectory_id, read.spans, error)])


def _tables(portion: Sequence[Assembled]) -> Mapping[str, pa.Table]:
    steps, histories = bare([row for rows in portion for row in rows.steps])
    tables = {table: [row for rows in portion for row in getattr(rows, table)] for table in _AS_THEY_ARE}
    tables["bare_steps"] = steps
    return {table: as_arrow(table, rows) for table, rows in tables.items()} | {"histories": histories}


def _portions(reads: Iterable[_Read]) -> Iterator[list[_Read]]:
    """Yield what was read of trajectories, a few at a time where their histories are long."""
    portion: list[_Read] = []
    ids = 0
    for read in reads:
        portion.append(read)
        ids += ids_of(read.rows.steps)
        if ids > _IDS:
            yield portion
            portion, ids = [], 0
    yield portion


def _assembled(session: Session, trajectory_id: str, spans: Sequence[SpanRow]) -> _Read:
    session.give_way()
    try:
        return _Read(trajectory_id, spans, assemble(trajectory_id, spans))
    except Exception as error:  # one trajectory that breaks our reading must not keep all others from being derived
        return _Read(trajectory_id, spans, _not_read(trajectory_id, spans, error))


def _not_read(trajectory_id: str, spans: Sequence[SpanRow], error: Exception) -> Assembled:
    _log.error("trajectory %r can't be derived", trajectory_id, exc_info=error)
    return unreadable(trajectory_id, spans, error)


def _derive_foreign(session: Session, traces: Iterable[str]) -> dict[str, int]:
    def insert(found: Sequence[Assembled]) -> None:
        for portion in _portions(_Read(rows.trajectories[0]["trajectory_id"], (), rows) for rows in found):
            _insert(session, _tables_of(portion))

    return derive_components(session, traces, insert)


def _derive_notes(session: Session, chunks: Sequence[Chunk]) -> None:
    """Derive what each item says by itself: scores, and what its sender lost."""
    spans = session.raw.spans_in([chunk.chunk for chunk in chunks if chunk.noted and chunk.kind == SPANS])
    logs = session.raw.logs_in([chunk.chunk for chunk in chunks if chunk.noted and chunk.kind == LOGS])
    for table, rows in note_tables(spans, logs):
        session.derived.insert(table, rows)


def note_tables(spans: Sequence[SpanRow], logs: Sequence[LogRow]) -> Iterator[tuple[str, pa.Table]]:
    """Yield what items say by themselves, each with the name of the table that it belongs to."""
    yield "scores", _notes("scores", lambda found: scores_of(found, ()), spans)
    yield "scores", _notes("scores", lambda found: scores_of((), found), logs)
    yield "losses", _notes("losses", losses_of, logs)


def _notes(table: str, read: Callable[[Sequence[_Item]], Sequence[Row]], items: Sequence[_Item]) -> pa.Table:
    """Return the rows that items say; one whose rows no table can have stays raw, and stops no other."""
    try:
        return as_arrow(table, read(items))
    except Exception:
        if len(items) == 1:
            _log.exception("%s of one item can't be derived; it stays as it came", table)
            return as_arrow(table, [])
        return pa.concat_tables([_notes(table, read, [item]) for item in items])


class Deriver:
    """Own the deriving thread of a store; whoever reads waits for it first."""

    def __init__(self, store: Store, rest: Rest | None = None, busy: Callable[[], bool] = lambda: False) -> None:
        """Start the thread.

        Args:
            store: where from and where to.
            rest: when trajectories, which may still grow, are derived unasked.
            busy: whether requests are in hand, for which deriving stands aside.
        """
        self._pace = Pace(busy, _SHARE)
        self._rest = rest or Rest()
        self._busy = busy
        self._speed = Speed()
        self._store = store
        self._worked = 0.0
        with store.session() as session:
            self._committed, self._derived = session.positions()
        self._target = self._asked = 0
        self._problem: StoreError | None = None
        self._stop_by: float | None = None
        self._released = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="imitrace-deriver", daemon=True)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Return how many chunks are not derived yet."""
        return self._committed - self._derived

    def committed(self, chunk: int) -> None:
        """Hear that everything up to a chunk has been stored."""
        with self._changed:
            self._committed = chunk
            self._rest.came()
            self._changed.notify_all()

    def catch_up(self, patience: float = _PATIENCE, up_to: int | None = None) -> int:
        """Return once everything that was stored before this call is derived: up to which chunk that was.

        Args:
            patience: seconds.
            up_to: wait for no chunk after this one.

        Raises:
            StoreError: that failed.
            BehindError: that takes longer than ``patience`` seconds.
        """
        with self._changed:
            target = self._committed if up_to is None else min(up_to, self._committed)
            self._asked = max(self._asked, target)
            self._problem = None  # it may have passed: try again before it is told again
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._derived >= target or self._problem or self._released, patience)
            if self._derived < target:
                left = target - self._derived
                raise self._problem or BehindError(left, self._speed.seconds(left), target)
        return target

    def release(self) -> None:
        """Let nobody wait any more, for the collector stops."""
        with self._changed:
            self._released = True
            self._changed.notify_all()

    def stop(self) -> None:
        """Derive what is left, as far as that goes in five seconds, and end the thread."""
        with self._changed:
            self._stop_by = time.monotonic() + _DRAIN_SECONDS
            self._pace.stop()
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        with self._store.session(self._pace.give_way) as session:
            while self._wait_for_work():
                self._pace.begin()
                began = time.monotonic()
                try:
                    self._speed.note(derive_next(session), time.monotonic() - began)
                    derived, problem = session.positions()[1], None
                except StoreError as error:
                    _log.error("deriving failed, trying again: %s", error)
                    derived, problem = self._derived, error
                except Exception as error:  # the thread must outlive it, and readers must be told
                    _log.exception("deriving failed, trying again")
                    derived, problem = self._derived, StoreError(f"deriving failed: {type(error).__name__}: {error}")
                with self._changed:
                    self._derived, self._problem = derived, problem
                    self._worked += self._pace.worked
                    self._changed.notify_all()

    def _wait_for_work(self) -> bool:
        """Wait until something is to be derived: at once for a reader, else after a rest; False when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._stop_by or self._committed > self._derived)
            if self._derived >= self._target or self._problem:
                self._rest.begin(_SHARE * self._worked)
                while not (self._stop_by or self._must_hurry()) and (left := self._rest_left()) > 0:
                    self._changed.wait(left)
                self._target, self._worked = self._committed, 0.0
            self._pace.share = _ASKED_SHARE if self._asked > self._derived else _SHARE
            if self._stop_by is None:
                return True
            return self._committed > self._derived and self._problem is None and time.monotonic() < self._stop_by

    def _rest_left(self) -> float:
        if self._busy():
            self._rest.came()
        return self._rest.left()

    def _must_hurry(self) -> bool:
        return self._asked > self._derived and self._problem is None
