"""Find which traces of other instrumentation make one component: from what changed, and what is near that.

Which do is a function of the traces alone, in whatever order they came, and each changes only what is near it: one from
one where traces go on from each other, and all of a conversation unless that is too long.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from imitrace_collector.foreign.links import CHAIN, CONTINUES, CONVERSATION, PROVIDES
from imitrace_collector.foreign.matching import NEAR, End, goes_on_from, is_about
from imitrace_collector.link_tables import WHOLE, Link, LinkTables, Total, is_log

TRACE = "trace:"
"""How a key begins that names a trace: all that have it belong together."""
MOST = 500
"""Most traces of a conversation, or session, that are put together."""
LARGEST = 256 * 2**20
"""Most bytes of them."""

_NONE = Total(0, 0, False)
_Side = tuple[str, str]
"""A key, and the trace that has it."""


class Trace(NamedTuple):
    """A trace as it is now."""

    began: int
    size: int
    keys: Collection[str]
    """Empty when it is no agent's, or no longer."""


def linked(tables: LinkTables, news: Mapping[str, Trace]) -> list[Link]:
    """Return the links of these traces, of all that were in a component with one, and of all that they connect with.

    Args:
        tables: what is stored of these traces there is older.
        news: by trace id.
    """
    before = tables.of_traces(news)
    joined: dict[_Side, str | None] = {(link.key, link.trace_id): link.joined for link in before}
    found = [*_conversations(tables, news, before), *_pairs(tables, news, before)]
    joined |= {(key, trace): other for key, trace, other in found}
    near = {*news, *(trace for _, trace, _ in found)}
    near |= {other for key, _, other in found if other is not None and key.startswith(CONTINUES)}
    near.update(tables.with_keys(key for own in news.values() for key in own.keys if key.startswith(TRACE)))
    stored = (link for link in tables.of_components(near) if link.trace_id not in news)
    links = [link._replace(joined=joined.get((link.key, link.trace_id), link.joined)) for link in stored]
    for trace, own in news.items():
        links += [Link(key, trace, own.began, own.size, joined.get((key, trace))) for key in own.keys]
    return links


def components(links: Iterable[Link]) -> list[list[Link]]:
    """Return the links of the traces that belong together, each group and the groups in order."""
    above: dict[str, str] = {}

    def top(trace: str) -> str:
        while above.setdefault(trace, trace) != trace:
            above[trace] = above[above[trace]]
            trace = above[trace]
        return trace

    links = sorted(links, key=lambda link: (link.trace_id, link.key))
    owners: dict[str, str] = {}
    for link in links:
        other = link.trace_id
        if link.key.startswith(TRACE) or (link.key.startswith(CONVERSATION) and link.joined is not None):
            other = owners.setdefault(link.key, link.trace_id)
        elif link.joined is not None:
            other = link.joined
        above[top(link.trace_id)] = top(other)
    groups = defaultdict(list)
    for link in links:
        groups[top(link.trace_id)].append(link)
    return sorted(groups.values(), key=lambda group: group[0].trace_id)


def _conversations(
    tables: LinkTables, news: Mapping[str, Trace], before: Sequence[Link]
) -> Iterator[tuple[str, str, str | None]]:
    """Yield of each conversation that something changed in who is in it, and whether it is put together."""
    members: dict[str, list[str]] = defaultdict(list)
    for trace, own in news.items():
        for key in own.keys:
            if key.startswith(CONVERSATION):
                members[key].append(trace)
    was = {link.key: link.joined is not None for link in before if link.key.startswith(CONVERSATION)}
    keys = members.keys() | was.keys()
    totals = tables.totals(keys, news) if keys else {}
    joined = {}
    for key in keys:
        others = totals.get(key, _NONE)
        traces = others.traces + sum(1 for trace in members[key] if not is_log(trace))
        size = others.size + sum(news[trace].size for trace in members[key])
        joined[key] = WHOLE if traces <= MOST and size <= LARGEST else None
    changed = [key for key in keys & totals.keys() if joined[key] or totals[key].whole or was.get(key)]
    for key, trace in tables.sides(changed) if changed else ():
        if trace not in news:
            members[key].append(trace)
    for key in sorted(keys):
        for trace in members[key]:
            yield key, trace, joined[key]


def _pairs(
    tables: LinkTables, news: Mapping[str, Trace], before: Sequence[Link]
) -> Iterator[tuple[str, str, str | None]]:
    """Yield who goes on from whom, of these traces and of those for which that has changed."""
    old = {(link.key, link.trace_id, link.began) for link in before if _is_paired(link.key)}
    new = {(key, trace, own.began) for trace, own in news.items() for key in own.keys if _is_paired(key)}
    times: dict[str, list[int]] = defaultdict(list)
    for key, _, began in old ^ new:
        times[_both(key)].append(began)
    if not times:
        return
    ranges = {
        f"{side}{both}": (both, min(found), max(found))
        for both, found in times.items()
        for side in (PROVIDES, CONTINUES)
    }
    ends: dict[str, list[End]] = defaultdict(list)
    stored: dict[_Side, str | None] = {}
    for link in tables.near(ranges, 2 * NEAR):
        if link.trace_id not in news:
            ends[_both(link.key)].append(End(link.began, link.trace_id, link.key.startswith(PROVIDES)))
            stored[link.key, link.trace_id] = link.joined
    for key, trace, began in new:
        if _both(key) in times:
            ends[_both(key)].append(End(began, trace, key.startswith(PROVIDES)))
    for both, found in sorted(ends.items()):
        for trace, other in _chosen(both, sorted(found), min(times[both]), max(times[both])):
            key = f"{CONTINUES}{both}"
            if trace in news or stored[key, trace] != other:
                yield key, trace, other


def _chosen(both: str, ends: Sequence[End], first: int, last: int) -> Iterator[tuple[str, str | None]]:
    """Yield who goes on from whom, of those that are near these times."""
    choose = goes_on_from if both.startswith(CHAIN) else is_about
    start = bisect_left(ends, first, key=_began) - NEAR
    for place in range(max(0, start), min(len(ends), bisect_right(ends, last, key=_began) + NEAR)):
        if not ends[place].provides:
            yield ends[place].trace_id, choose(ends, place)


def _began(end: End) -> int:
    return end.began


def _is_paired(key: str) -> bool:
    return key.startswith((PROVIDES, CONTINUES))


def _both(key: str) -> str:
    return key.removeprefix(PROVIDES) if key.startswith(PROVIDES) else key.removeprefix(CONTINUES)
