"""Find the traces of other instrumentation that belong together, and derive their trajectories.

A trace that our own steps are in is left to them. What has no trace, like a score that names a conversation, counts as
a trace of its own.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import pyarrow as pa

from imitrace.exceptions import StoreError
from imitrace_collector.derived_tables import as_arrow
from imitrace_collector.foreign.assembly import Derived, assemble
from imitrace_collector.foreign.conversations import Traces, read_traces
from imitrace_collector.foreign.links import CONTINUES, SPAN, began, links_of
from imitrace_collector.joining import LARGEST, TRACE, Trace, components, linked
from imitrace_collector.link_tables import LOG, Link, apart, is_log
from imitrace_collector.raw_tables import LOGS, Chunk, RawTables
from imitrace_collector.rows import LogRow, SpanRow
from imitrace_collector.store import Session
from imitrace_collector.trajectories import Assembled, unreadable

_SPAN = f"{CONTINUES}{SPAN}"
"""How a key begins that names a span in another trace; once that is here, the trace's own key takes its place."""
_TRACES = 256

BYTES = 4 * 2**20
"""Most bytes of spans that are decoded at once, unless one trajectory, or component, has more: with all that is made of
them they take nine times as much, and larger groups are no faster."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Items:
    """The spans and log records of one or more traces."""

    spans: list[SpanRow]
    logs: list[LogRow]
    size: int
    """Bytes."""
    too_much: bool = False
    """Whether it was not read, for it has more than ``LARGEST`` bytes."""

    @cached_property
    def said(self) -> Traces:
        """Return what they say; whoever assembles it uses it up."""
        return read_traces(self.spans, self.logs)


Insert = Callable[[Sequence[Assembled]], None]
"""Writes trajectories' rows, each by itself."""


def touched(chunks: Iterable[Chunk]) -> dict[str, int]:
    """Return the traces that chunks bring something of, and a name for each noted log record without one.

    Each has the number of the last of these chunks.
    """
    found = {}
    for chunk in chunks:
        if chunk.trace_id is not None:
            found[chunk.trace_id] = chunk.chunk
        elif chunk.kind == LOGS and chunk.noted and chunk.trajectory_id is None:
            found |= {f"{LOG}{chunk.chunk}.{place}": chunk.chunk for place in range(chunk.items)}
    return found


def derive_components(session: Session, traces: Iterable[str], insert: Insert) -> dict[str, int]:
    """Derive anew what traces belong to, with all that is connected with them.

    Returns the last chunk that there is of each of the traces.

    Args:
        session: inside a derivation.
        traces: as ``touched`` names them.
        insert: takes trajectories' rows.
    """
    names = sorted(traces)
    sizes = session.raw.trace_sizes(names) if names else {}
    group: list[str] = []
    size = 0
    for name in names:
        own, _ = sizes[name]
        if group and (size + own > BYTES or len(group) == _TRACES):
            _derive(session, group, insert)
            group, size = [], 0
        group.append(name)
        size += own
    if group:
        _derive(session, group, insert)
    return {name: last for name, (_, last) in sizes.items()}


def _derive(session: Session, traces: Sequence[str], insert: Insert) -> None:
    loaded = items_of(session.raw, traces)
    news = _read(session, loaded)
    span_ids = [span.span_id for trace, items in loaded.items() if news[trace].keys for span in items.spans]
    waiting = session.links.with_keys([f"{_SPAN}{span_id}" for span_id in span_ids]) if span_ids else []
    news |= _read(session, items_of(session.raw, [trace for trace in waiting if trace not in news]))
    known = set(session.links.known(news))
    news = {trace: own for trace, own in news.items() if own.keys or trace in known}
    if not news:
        return
    links = linked(session.links, news)
    _forget(session, list(news.keys() | {link.trace_id for link in links}))
    groups = {group[0].trace_id: group for group in components(links)}
    derived: dict[str, Derived] = {}
    for together, absent in _portions(groups, loaded):
        items = loaded | (items_of(session.raw, absent) if absent else {})
        for name in together:
            derived[name] = _assembled(session, groups[name], items)
            session.give_way()
    ids = [id_ for found in derived.values() for id_ in _ids(found)]
    taken = set(session.raw.named(ids)) if ids else set()
    if taken:
        derived = {name: _renamed(found, taken) for name, found in derived.items()}
    insert([rows for found in derived.values() for rows in found.trajectories])
    scores = [(name, row) for name, found in derived.items() for row in found.scores]
    table = as_arrow("scores", [row for _, row in scores])
    session.derived.insert("scores", table)
    session.links.store(
        groups,
        [(name, id_) for name, found in derived.items() for id_ in _ids(found)],
        table.append_column("component", pa.array([name for name, _ in scores], pa.string())),
    )


def items_of(raw: RawTables, traces: Sequence[str]) -> dict[str, Items]:
    """Return what came of each trace, without our own trajectories'; nothing of those that our own steps are in."""
    named = [trace for trace in traces if not is_log(trace)]
    sizes = raw.trace_sizes(named) if named else {}
    ours = set(raw.traces_with_steps(named)) if named else set()
    found = {}
    for trace in traces:
        size, _ = sizes.get(trace, (0, 0))
        found[trace] = Items([], [], size, trace not in ours and size > LARGEST)
    wanted = [trace for trace in named if trace not in ours and not found[trace].too_much]
    for span in raw.spans_of_traces(wanted) if wanted else ():
        found[span.trace_id].spans.append(span)
    for log in raw.logs_of_traces(wanted) if wanted else ():
        found[log.trace_id or ""].logs.append(log)
    for trace in traces:
        if is_log(trace):
            chunk, place = map(int, trace.removeprefix(LOG).split("."))
            found[trace].logs.append(raw.logs_in([chunk])[place])
    return found


def _read(session: Session, loaded: Mapping[str, Items]) -> dict[str, Trace]:
    """Return each trace, with its keys; without any where it has no agent's spans."""
    found = {}
    for trace, items in loaded.items():
        found[trace] = _links(trace, items)
        session.give_way()
    meant = [key.removeprefix(_SPAN) for keys in found.values() for key in keys if key.startswith(_SPAN)]
    places = session.raw.traces_of_spans(meant) if meant else {}
    here = {f"{_SPAN}{span_id}": f"{TRACE}{trace}" for span_id, trace in places.items()}
    traces = {}
    for trace, keys in found.items():
        items = loaded[trace]
        named = {here.get(key, key) for key in keys} | {f"{TRACE}{trace}"} if keys or items.too_much else keys
        traces[trace] = Trace(_began(items), items.size, named)
    return traces


def _began(items: Items) -> int:
    try:
        return began(items.spans, items.logs, items.said)
    except Exception:  # as above
        return 0


def _links(trace: str, items: Items) -> frozenset[str]:
    try:
        return links_of(items.spans, items.logs, items.said)
    except Exception:  # it is told when the trace is assembled, by itself
        return frozenset({f"{TRACE}{trace}"})


def _forget(session: Session, traces: Sequence[str]) -> None:
    session.derived.forget(session.links.trajectories_of(traces))
    session.derived.delete("scores", as_arrow("scores", session.links.scores_of(traces)))
    session.links.forget(traces)


def _portions(
    groups: Mapping[str, Sequence[Link]], loaded: Mapping[str, Items]
) -> Iterator[tuple[list[str], list[str]]]:
    """Yield components, and which of their traces are still to be read: of so many as may be decoded at once."""
    together: list[str] = []
    absent: list[str] = []
    size = 0
    for name, links in groups.items():
        sizes = {link.trace_id: link.size for link in links}
        missing = [trace for trace in sizes if trace not in loaded] if sum(sizes.values()) <= LARGEST else []
        own = sum(sizes[trace] for trace in missing)
        if size and size + own > BYTES:
            yield together, absent
            together, absent, size = [], [], 0
        together.append(name)
        absent += missing
        size += own
    yield together, absent


def _assembled(session: Session, links: Sequence[Link], loaded: Mapping[str, Items]) -> Derived:
    """Return what a component is derived to; a row that says why where it can't be."""
    sizes = {link.trace_id: link.size for link in links}
    traces, size = list(sizes), sum(sizes.values())
    if size > LARGEST:
        error = StoreError(f"they have {size} bytes, allowed: {LARGEST}")
        return Derived([unreadable(traces[0], session.raw.first_spans_of(traces[0]), error)])
    items = [loaded[trace] for trace in traces]
    spans = [span for found in items for span in found.spans]
    try:
        said = items[0].said if len(items) == 1 else None
        return assemble(spans, [log for found in items for log in found.logs], said, apart(links))
    except Exception as error:  # one component that breaks our reading must not keep all others from being derived
        _log.error("trace %r can't be derived", traces[0], exc_info=error)
        return Derived([unreadable(traces[0], spans, error)] if spans else [])


def _ids(derived: Derived) -> list[str]:
    return [row["trajectory_id"] for rows in derived.trajectories for row in rows.trajectories]


def _renamed(derived: Derived, taken: AbstractSet[str]) -> Derived:
    """Give trajectories another id where our own dialect has one of this name."""
    renamed = {id_: f"{id_}@trace" for id_ in taken}
    for rows in derived.trajectories:
        for row in chain(rows.trajectories, rows.steps):
            row["trajectory_id"] = renamed.get(row["trajectory_id"], row["trajectory_id"])
        for row in rows.trajectories:
            row["parent"] = renamed.get(row["parent"], row["parent"])
    scores = [
        row | {"trajectory_id": renamed.get(row["trajectory_id"], row["trajectory_id"])} for row in derived.scores
    ]
    return replace(derived, scores=scores)
