"""Keep the messages that a trajectory's steps had before them once: a state is the beginning of a history.

The store has ``histories``, a row for each message of one, and ``bare_steps``, whose rows say which history and how
much of it; ``steps`` of ``imitrace.schema`` is made of both, in portions whose ids have a bound, whatever the rows are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain, islice, zip_longest
from typing import Any, Final, overload

import pyarrow as pa

from imitrace import schema
from imitrace.exceptions import StoreError

HISTORIES: Final = {"trajectory_id": "string", "history": "int64", "position": "int64", "message_id": "string"}
"""Columns of ``histories``: the messages of each history of a trajectory, by position from 0."""

STEPS, BARE, STATE = "steps", "bare_steps", "state"
BARE_STEPS: Final = {name: kind for name, kind in schema.STEPS.items() if name != STATE} | {
    "history": "int64",
    "history_length": "int64",
}
"""Columns of ``bare_steps``: a step's state is the first ``history_length`` messages of its history."""

IDS_NEEDED = (
    "SELECT message_id FROM histories h JOIN (SELECT *, row_number() OVER () AS place FROM needed) n "
    "ON h.trajectory_id = n.trajectory_id AND h.history = n.history AND h.position < n.needed "
    "ORDER BY n.place, h.position"
)
"""What a ``Lookup`` asks, with its argument as the table ``needed``."""

KEYS = ("trajectory_id", "history", "history_length")
_TRIED = 8
"""Histories that a state is compared with: of a trajectory with more it is most likely one of the last."""
_IDS = 2**19
"""Ids that are in memory at once, unless one state has more."""

Ids = Sequence[str]
Lookup = Callable[[pa.Table], pa.Array]
"""Return the ids of histories: of each row of a table its first ``needed``, one after the other."""


class State(Sequence[str]):
    """The first ids of a history, which may go on after them."""

    __slots__ = ("history", "length")
    __hash__ = None  # type: ignore[assignment]  # it is as good as a list

    def __init__(self, history: list[str], length: int) -> None:
        self.history = history
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[str]:
        return islice(self.history, self.length)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return self.history[: self.length][place]
        return self.history[range(self.length)[place]]

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, State | list) else NotImplemented

    def __repr__(self) -> str:
        return repr(list(self))


def new_in(state: Ids, before: Ids) -> Ids:
    """Return the ids of a state at whose places another has other ones, or none."""
    if isinstance(state, State) and isinstance(before, State) and state.history is before.history:
        return state[len(before) :]
    return [found for found, other in zip_longest(state, before) if found is not None and found != other]


class Histories:
    """The histories of one trajectory, as the states of its steps are told."""

    def __init__(self) -> None:
        self._last: list[list[str]] = []

    def of(self, ids: Ids) -> State:
        """Return a state of these ids: of a history that begins with them or that they go on, else of a new one."""
        for history in reversed(self._last):
            shared = min(len(history), len(ids))
            if history[:shared] == ids[:shared]:
                history.extend(ids[shared:])
                return State(history, len(ids))
        self._last = [*self._last[1 - _TRIED :], list(ids)]
        return State(self._last[-1], len(ids))

    def after(self, before: State, offset: int, new: Ids) -> State:
        """Return the state that keeps the first ``offset`` ids of another, and goes on with new ones."""
        if not goes_on(before, offset, new):
            return self.of([*before[:offset], *new])
        end = offset + len(new)
        before.history.extend(new[len(before.history) - offset :] if end > len(before.history) else ())
        return State(before.history, end)


def goes_on(before: State, offset: int, new: Ids) -> bool:
    """Return whether a state's history has, after its first ``offset`` ids, no others than these."""
    there = before.history[offset : offset + len(new)]
    return there == new[: len(there)]


def ids_of(rows: Iterable[Mapping[str, Any]]) -> int:
    """Return how many ids the histories have that the states of steps are of."""
    found = {id(history): len(history) for history in (_history(row[STATE]) for row in rows)}
    return sum(found.values())


def _history(state: Ids) -> Ids:
    return state.history if isinstance(state, State) else state


def bare(rows: Iterable[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], pa.Table]:
    """Return rows of ``schema.STEPS`` as those of ``bare_steps`` and of ``histories``.

    Histories are numbered by trajectory, in the order of the steps that are of them.
    """
    steps = []
    own: dict[str, Histories] = {}
    kept: dict[str, dict[int, list[str]]] = {}
    numbers: dict[int, int] = {}
    for row in rows:
        state, name = row[STATE], row["trajectory_id"]
        if not isinstance(state, State):
            state = own.setdefault(name, Histories()).of(state)
        of_it = kept.setdefault(name, {})
        number = numbers.setdefault(id(state.history), len(of_it))
        of_it[number] = state.history
        step = {**row, "history": number, "history_length": len(state)}
        del step[STATE]
        steps.append(step)
    return steps, _flat([(name, number, ids) for name, of_it in kept.items() for number, ids in of_it.items()])


def _flat(histories: Sequence[tuple[str, int, list[str]]]) -> pa.Table:
    names = pa.array([name for name, *_ in histories], pa.string())
    numbers = pa.array([number for _, number, _ in histories], pa.int64())
    places = pa.array(chain.from_iterable([place] * len(ids) for place, (*_, ids) in enumerate(histories)), pa.int64())
    columns = {
        "trajectory_id": names.take(places),
        "history": numbers.take(places),
        "position": pa.array(chain.from_iterable(range(len(ids)) for *_, ids in histories), pa.int64()),
        "message_id": pa.array(chain.from_iterable(ids for *_, ids in histories), pa.string()),
    }
    return pa.table(columns)


def with_states(steps: pa.RecordBatchReader, columns: Sequence[str], lookup: Lookup, rows: int) -> pa.RecordBatchReader:
    """Return steps with their states.

    Args:
        steps: of ``bare_steps`` the columns that are wanted, and ``trajectory_id``, ``history`` and ``history_length``.
        columns: those wanted, ``state`` among them, in order.
        lookup: is called while ``steps`` is read.
        rows: most of a batch; it has fewer where states are long.

    Raises:
        StoreError: of a history ids are missing; when such a batch is read.
    """
    state = pa.field(STATE, pa.list_(pa.string()))
    schema = pa.schema([state if name == STATE else steps.schema.field(name) for name in columns])
    return pa.RecordBatchReader.from_batches(schema, _completed(steps, schema, lookup, rows))


def _completed(
    steps: Iterable[pa.RecordBatch], schema: pa.Schema, lookup: Lookup, rows: int
) -> Iterator[pa.RecordBatch]:
    for batch in steps:
        for portion, needed in _portions(batch):
            histories = _looked_up(needed, lookup)
            for few in _slices(portion, rows):
                state = _states(few, histories)
                yield pa.record_batch(
                    [state if name == STATE else few.column(name) for name in schema.names], schema=schema
                )


def _portions(batch: pa.RecordBatch) -> Iterator[tuple[pa.RecordBatch, pa.Table]]:
    """Yield a batch in portions whose histories are not too long together, each with what it needs of them."""
    keys = pa.Table.from_batches([batch.select(KEYS)])
    needed = keys.group_by(KEYS[:2]).aggregate([("history_length", "max")])
    needed = needed.rename_columns([*KEYS[:2], "needed"])
    half = len(batch) // 2
    if half and sum(needed["needed"].to_pylist()) > _IDS:
        yield from _portions(batch.slice(0, half))
        yield from _portions(batch.slice(half))
    else:
        yield batch, needed


def _looked_up(needed: pa.Table, lookup: Lookup) -> dict[tuple[str, int], pa.Array]:
    ids = lookup(needed)
    keys = list(zip(needed["trajectory_id"].to_pylist(), needed["history"].to_pylist(), strict=True))
    lengths = needed["needed"].to_pylist()
    if len(ids) != sum(lengths):
        raise StoreError(f"histories have {len(ids)} of {sum(lengths)} messages of their steps; run `imitrace rebuild`")
    starts = accumulate(lengths, initial=0)
    return {key: ids.slice(start, length) for key, start, length in zip(keys, starts, lengths, strict=False)}


def _slices(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    """Yield a batch in slices of at most so many rows, whose states have at most ``_IDS`` ids."""
    start, ids = 0, 0
    for place, length in enumerate(batch["history_length"].to_pylist()):
        ids += length
        if place > start and (ids > _IDS or place - start == rows):
            yield batch.slice(start, place - start)
            start, ids = place, length
    yield batch.slice(start)


def _states(batch: pa.RecordBatch, histories: Mapping[tuple[str, int], pa.Array]) -> pa.ListArray:
    names, numbers, lengths = (batch[name].to_pylist() for name in KEYS)
    parts = [
        histories[name, number].slice(0, length) for name, number, length in zip(names, numbers, lengths, strict=True)
    ]
    offsets = pa.array(accumulate(lengths, initial=0), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.concat_arrays(parts) if parts else pa.array([], pa.string()))
