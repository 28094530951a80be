"""Read rows of a table in its order, some thousands at a time, whatever the table holds.

A sort of a whole table keeps what it may use of DuckDB's memory until its last row is fetched, however slowly that is
done, and leaves nothing to whoever commits beside it. So a table is read in portions that are each sorted, and fetched
whole, by themselves; between them nothing is held but the transaction.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import pyarrow as pa

from imitrace_collector.derived_tables import ORDER

PORTION: Final = 8_192
"""Rows that are sorted together."""
_KEYS: Final = {
    "trajectories": "started_at",
    "bare_steps": "trajectory_id",
    "messages": "left(message_id, 3)",
    "tools": "left(tools_hash, 3)",
    "scores": "trajectory_id",
}
"""What tables are cut by: it rises as their order does, is never null, and has a value of few rows."""
_ORDERS: Final = {**ORDER, "bare_steps": ORDER["steps"]}


@dataclass(frozen=True, kw_only=True)
class Selected:
    """Rows and columns of one of ``schema.TABLES``, or of another table, as SQL says them."""

    table: str
    columns: Sequence[str]
    where: str = "true"
    parameters: Mapping[str, object] = field(default_factory=dict)
    ordered: bool = False
    """Whether they come in ``ORDER``."""

    def sql(self) -> str:
        """Return the query."""
        order = f"ORDER BY {_ORDERS[self.table]}" if self.ordered else ""
        return f"SELECT {', '.join(self.columns)} FROM {self.table} WHERE {self.where} {order}"  # noqa: S608 - our names


class Source(Protocol):
    """Where rows are read from: one view."""

    def fetched(self, sql: str, parameters: Mapping[str, object]) -> pa.Table:
        """Return a query's rows, all at once."""
        ...

    def batches(self, sql: str, rows: int, parameters: Mapping[str, object]) -> pa.RecordBatchReader:
        """Return a query's rows as Arrow batches of at most so many."""
        ...


def in_order(source: Source, rows: Selected, most: int, portion: int = PORTION) -> pa.RecordBatchReader:
    """Return rows in order as Arrow batches.

    Args:
        source: is asked while they are read, too.
        rows: which.
        most: rows of a batch.
        portion: rows that are sorted together, unless one key alone has more.
    """
    nothing = replace(rows, ordered=False, where=f"({rows.where}) AND false")
    schema = source.fetched(nothing.sql(), rows.parameters).schema
    counted = replace(rows, columns=(f"{_KEYS[rows.table]} AS part", "count(*) AS rows"), ordered=False)
    counts = source.fetched(f"{counted.sql()} GROUP BY ALL ORDER BY ALL", rows.parameters)
    pairs = zip(counts["part"].to_pylist(), counts["rows"].to_pylist(), strict=True)
    batches = (
        batch
        for first, last, count in _portions(pairs, portion)
        for batch in _between(source, rows, (first, last), most, whole=count <= portion)
    )
    return pa.RecordBatchReader.from_batches(schema, batches)


def _between(
    source: Source, rows: Selected, keys: tuple[object, object], most: int, *, whole: bool
) -> Iterator[pa.RecordBatch]:
    """Return the rows from one key to another; ``whole``: fetched at once."""
    where = f"({rows.where}) AND {_KEYS[rows.table]} BETWEEN $first_part AND $last_part"
    parameters = {**rows.parameters, "first_part": keys[0], "last_part": keys[1]}
    sql = replace(rows, where=where).sql()
    if whole:
        yield from source.fetched(sql, parameters).to_batches(most)
    else:  # a sort of DuckDB's, which leaves memory where it must
        yield from source.batches(sql, most, parameters)


def _portions(counts: Iterable[tuple[object, int]], most: int) -> Iterator[tuple[object, object, int]]:
    """Yield the first and the last key of each portion, and its number of rows."""
    first = last = None
    total = 0
    for key, count in counts:
        if total and total + count > most:
            yield first, last, total
            total = 0
        first, last, total = key if not total else first, key, total + count
    if total:
        yield first, last, total
