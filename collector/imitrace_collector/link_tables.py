"""Keep which traces of other instrumentation belong together, and what each such component was derived to."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import duckdb
import pyarrow as pa

from imitrace.schema import SCORES
from imitrace_collector.foreign.links import CONTINUES, PROVIDES

COMPONENT_TABLES = ("links", "component_trajectories", "component_scores")

_MATCHING = f"""
CASE WHEN starts_with(key, '{PROVIDES}') THEN '{CONTINUES}' || key[{len(PROVIDES) + 1}:]
     WHEN starts_with(key, '{CONTINUES}') THEN '{PROVIDES}' || key[{len(CONTINUES) + 1}:] ELSE key END
"""
_SCORES = ", ".join(SCORES)

Keys = Mapping[str, frozenset[str]]
"""Trace -> the keys by which it connects with others; at least one, its own."""


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

    def linked(self, keys: Keys) -> Keys:
        """Return these traces, all that were in a component with one of them, and all that their keys connect.

        Args:
            keys: of traces as they are now; what is stored of them is older.
        """
        found = dict(keys)
        news: Keys = keys
        while news:
            asked = {key for own in news.values() for key in own}
            near = self._column(f"SELECT DISTINCT trace_id FROM links WHERE {_MATCHING} IN ($named)", asked)  # noqa: S608
            stored = self._stored([*news, *near])
            news = {trace: own for trace, own in stored.items() if trace not in found}
            found |= news
        return found

    def _stored(self, traces: Iterable[str]) -> Keys:
        """Return the stored keys of every trace that is in a component with one of these."""
        rows = self._rows(
            "SELECT trace_id, key FROM links WHERE component IN "
            "(SELECT component FROM links WHERE trace_id IN ($named))",
            traces,
        )
        keys = defaultdict(set)
        for trace, key in rows:
            keys[trace].add(key)
        return {trace: frozenset(own) for trace, own in keys.items()}

    def together(self, trace: str) -> list[str]:
        """Return the traces of the component that a trace is in, itself among them; none when it is in none."""
        return sorted(self._stored([trace]))

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

    def store(self, components: Mapping[str, Keys], trajectories: Sequence[tuple[str, str]], scores: pa.Table) -> None:
        """Store components, and what they were derived to.

        Args:
            components: the keys of each component's traces.
            trajectories: component and trajectory id.
            scores: rows of ``component_scores``.
        """
        links = [
            (key, trace, component)
            for component, keys in components.items()
            for trace in sorted(keys)
            for key in sorted(keys[trace])
        ]
        self._insert("links", _table(links, ("key", "trace_id", "component")))
        self._insert("component_trajectories", _table(trajectories, ("component", "trajectory_id")))
        self._insert("component_scores", scores)

    def _insert(self, table: str, rows: pa.Table) -> None:
        if len(rows):
            self._connection.register("linked", rows)
            self._connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM linked")  # noqa: S608 - our own names
            self._connection.unregister("linked")

    def _column(self, sql: str, named: Iterable[str]) -> list[str]:
        return [row[0] for row in self._rows(sql, named)]

    def _rows(self, sql: str, named: Iterable[str]) -> list[tuple[str, ...]]:
        whole = sql.replace("($named)", "(SELECT unnest($named::VARCHAR[]))")
        return self._connection.execute(whole, {"named": list(named)}).fetchall()


def _table(rows: Sequence[tuple[str, ...]], names: Sequence[str]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    return pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)})
