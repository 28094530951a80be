"""Keep which traces of other instrumentation belong together, and what each such component was derived to."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from imitrace.schema import SCORES
from imitrace_collector.blocks import insert_rows
from imitrace_collector.foreign.links import CONVERSATION

COMPONENT_TABLES = ("links", "component_trajectories", "component_scores")

_TOGETHER = "component IN (SELECT component FROM links WHERE trace_id IN ($named))"
_SCORES = ", ".join(SCORES)


class Link(NamedTuple):
    """By what a trace connects with others, and with whom."""

    key: str
    trace_id: str
    began: int
    size: int
    """Bytes of all that came of the trace."""
    joined: str | None
    """Of a key that ``continues:`` one the trace that it goes on from; of a conversation's ``WHOLE``, or nothing if it
    has too many traces."""


class Total(NamedTuple):
    """What the traces come to that share a key."""

    traces: int
    """Without those that are a log record each."""
    size: int
    whole: bool


WHOLE = "whole"
LOG = "log "
"""How the name of a log record that has no trace begins."""
_LINK = ", ".join(Link._fields)
_TYPES = {name: pa.int64() if name in ("began", "size") else pa.string() for name in (*Link._fields, "component")}


class LinkTables:
    """Write ``links`` and what belongs to components over one connection, for one thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def known(self, traces: Iterable[str]) -> list[str]:
        """Return those of the traces that belong to a component already."""
        return self._column("SELECT DISTINCT trace_id FROM links WHERE trace_id IN ($named)", traces)

    def with_keys(self, keys: Iterable[str]) -> list[str]:
        """Return the traces that have one of these keys."""
        return self._column("SELECT DISTINCT trace_id FROM links WHERE key IN ($named)", keys)

    def sides(self, keys: Iterable[str]) -> list[tuple[str, str]]:
        """Return these keys with each trace that has one."""
        rows = self._rows("SELECT key, trace_id FROM links WHERE key IN ($named)", keys)
        return [(key, trace) for key, trace in rows]

    def of_traces(self, traces: Iterable[str]) -> list[Link]:
        """Return what is stored of traces."""
        return self._links("trace_id IN ($named)", traces)

    def of_components(self, traces: Iterable[str]) -> list[Link]:
        """Return what is stored of every trace that is in a component with one of these."""
        return self._links(_TOGETHER, traces)

    def totals(self, keys: Iterable[str], without: Iterable[str]) -> dict[str, Total]:
        """Return what the traces come to that share each of these keys, but for some."""
        sql = (
            f"SELECT key, count(*) FILTER (NOT starts_with(trace_id, '{LOG}')), sum(size)::BIGINT, "  # noqa: S608
            "bool_or(joined IS NOT NULL) FROM links WHERE key IN (SELECT unnest($keys::VARCHAR[])) "
            "AND trace_id NOT IN (SELECT unnest($without::VARCHAR[])) GROUP BY key"
        )
        named = {"keys": list(keys), "without": list(without)}
        return {key: Total(*rest) for key, *rest in self._connection.execute(sql, named).fetchall()}

    def near(self, times: Mapping[str, tuple[str, int, int]], count: int) -> list[Link]:
        """Return what is stored of keys within times, and of so many that began before and after these.

        Args:
            times: key -> of what it is one side, the first and the last time.
            count: of each side of the times, and of both sides of the key together.
        """
        rows = [(key, *rest) for key, rest in times.items()]
        table = pa.table(list(map(pa.array, zip(*rows, strict=True))), names=["key", "pair", "earliest", "latest"])
        self._connection.register("times", table)
        sql = (
            f"SELECT {_LINK} FROM (SELECT l.*, pair, (began > latest)::INT - (began < earliest)::INT AS side "  # noqa: S608
            "FROM links l JOIN times USING (key)) "
            "QUALIFY side = 0 OR rank() OVER (PARTITION BY pair, side ORDER BY side * began) <= $count"
        )
        found = self._connection.execute(sql, {"count": count}).fetchall()
        self._connection.unregister("times")
        return [Link(*row) for row in found]

    def together(self, trace: str) -> list[str]:
        """Return the traces of the component that a trace is in, itself among them; none when it is in none."""
        return sorted({link.trace_id for link in self.of_components([trace])})

    def apart(self, traces: Iterable[str]) -> frozenset[str]:
        """Return the conversations of traces that are not put together."""
        return apart(self.of_traces(traces))

    def trajectories_of(self, traces: Iterable[str]) -> list[str]:
        """Return the trajectories that the components of traces were derived to."""
        return self._column(
            "SELECT DISTINCT trajectory_id FROM component_trajectories WHERE component IN "
            "(SELECT component FROM links WHERE trace_id IN ($named))",
            traces,
        )

    def traces_of(self, trajectory_ids: Iterable[str]) -> list[str]:
        """Return the traces of the components that were derived to one of these trajectories."""
        return self._column(
            "SELECT DISTINCT trace_id FROM links WHERE component IN "
            "(SELECT component FROM component_trajectories WHERE trajectory_id IN ($named))",
            trajectory_ids,
        )

    def scores_of(self, traces: Iterable[str]) -> list[dict[str, object]]:
        """Return the rows of ``scores`` that were derived from the components of traces."""
        rows = self._rows(
            f"SELECT {_SCORES} FROM component_scores WHERE component IN "  # noqa: S608 - names are our own
            "(SELECT component FROM links WHERE trace_id IN ($named))",
            traces,
        )
        return [dict(zip(SCORES, row, strict=True)) for row in rows]

    def forget(self, traces: Sequence[str]) -> None:
        """Delete the components of traces."""
        named = "(SELECT component FROM links WHERE trace_id IN (SELECT unnest($named::VARCHAR[])))"
        for table in reversed(COMPONENT_TABLES):
            self._connection.execute(f"DELETE FROM {table} WHERE component IN {named}", {"named": list(traces)})  # noqa: S608

    def store(
        self, components: Mapping[str, Iterable[Link]], trajectories: Sequence[tuple[str, str]], scores: pa.Table
    ) -> None:
        """Store components, and what they were derived to.

        Args:
            components: what connects each component's traces.
            trajectories: component and trajectory id.
            scores: rows of ``component_scores``.
        """
        links = [(*link, component) for component, own in components.items() for link in sorted(own, key=_order)]
        columns = list(zip(*links, strict=True)) or [()] * len(_TYPES)
        arrays = [pa.array(column, kind) for column, kind in zip(columns, _TYPES.values(), strict=True)]
        self._insert("links", pa.table(arrays, names=list(_TYPES)))
        self._insert("component_trajectories", _table(trajectories, ("component", "trajectory_id")))
        self._insert("component_scores", scores)

    def _insert(self, table: str, rows: pa.Table) -> None:
        if len(rows):
            insert_rows(self._connection, table, rows)

    def _links(self, where: str, named: Iterable[str]) -> list[Link]:
        return [Link(*row) for row in self._rows(f"SELECT {_LINK} FROM links WHERE {where}", named)]  # noqa: S608

    def _column(self, sql: str, named: Iterable[str]) -> list[str]:
        return [row[0] for row in self._rows(sql, named)]

    def _rows(self, sql: str, named: Iterable[str]) -> list[tuple[Any, ...]]:
        whole = sql.replace("($named)", "(SELECT unnest($named::VARCHAR[]))")
        return self._connection.execute(whole, {"named": list(named)}).fetchall()


def apart(links: Iterable[Link]) -> frozenset[str]:
    """Return the conversations among links that are not put together."""
    cut = (link.key for link in links if link.key.startswith(CONVERSATION) and link.joined is None)
    return frozenset(key.removeprefix(CONVERSATION) for key in cut)


def _order(link: Link) -> tuple[str, str]:
    return link.trace_id, link.key


def _table(rows: Sequence[tuple[str, ...]], names: Sequence[str]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)})


def is_log(trace: str) -> bool:
    """Return whether a trace's name is that of a log record which has none."""
    return trace.startswith(LOG)
