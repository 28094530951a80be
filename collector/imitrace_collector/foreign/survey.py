"""Say what was recognised of what came from other instrumentors, what was not, and why: what ``dialects`` tells."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from imitrace_collector.foreign.agent_records import records_among
from imitrace_collector.foreign.conversations import read_traces
from imitrace_collector.foreign.dialects import DIALECTS, MODEL
from imitrace_collector.foreign.observations import has_answer
from imitrace_collector.foreign.readings import is_own, read_span
from imitrace_collector.normalize import scope_name, service_of
from imitrace_collector.rows import LogRow, SpanRow

UNKNOWN_SCOPE = "no dialect knows its attributes: not an agent's, or of an instrumentor that is not known yet"
_NOT_COUNTED = ("service", "dialect", "scopes", "switch")
_SWITCHES = {dialect.name: dialect.switch for dialect in DIALECTS}


class Spoken(NamedTuple):
    """What one service said in one dialect."""

    service: str
    dialect: str
    scopes: tuple[str, ...]
    spans: int
    model_calls: int
    """Each counted once, however many spans tell of it."""
    with_content: int
    without_content: int
    without_answer: int
    """Of those with content: nothing says what the model decided."""
    failed: int
    """Of those without content: they ended with an error, so that there was no answer."""
    tool_runs: int
    silent_agents: int
    """Agents' spans that tell of no decision, and that no model call is in."""
    switch: str | None
    """How content is turned on, where calls have none."""


class Unread(NamedTuple):
    """What one service sent from a scope that nobody reads."""

    service: str
    scope: str
    spans: int
    why: str


class Survey(NamedTuple):
    """What was recognised, and what was not."""

    spoken: tuple[Spoken, ...]
    unread: tuple[Unread, ...]


def survey(spans: Iterable[SpanRow], logs: Iterable[LogRow]) -> Survey:
    """Return by service and dialect what spans and log records say; our own spans are not counted."""
    spans = [span for span in spans if not is_own(span)]
    counts: dict[tuple[str, str], Counter[str]] = {}
    scopes: dict[tuple[str, str], set[str]] = {}
    unread: Counter[tuple[str, str]] = Counter()
    for span in spans:
        reading = read_span(span)
        service = service_of(span) or ""
        if reading is None:
            unread[service, scope_name(span)] += 1
            continue
        key = service, reading.source
        counts.setdefault(key, Counter())["spans"] += 1
        scopes.setdefault(key, set()).add(scope_name(span))
    traces = read_traces(spans, logs)
    for call in (*traces.calls, *traces.silent):
        found = counts.setdefault((service_of(call.reading.row) or "", call.reading.source), Counter())
        if call.reading.role != MODEL:
            continue
        found["calls"] += 1
        found["with" if call.has_content else "without"] += 1
        found["failed"] += not call.has_content and call.error_type is not None
        found["unanswered"] += call.has_content and not (call.answer and has_answer(call.answer))
    told = {id(call.reading) for call in traces.calls}
    for reading in records_among(traces.readings):
        silent = id(reading) not in told
        counts.setdefault((service_of(reading.row) or "", reading.source), Counter())["silent agents"] += silent
    for run in traces.runs.values():
        counts.setdefault((service_of(run.reading.row) or "", run.reading.source), Counter())["runs"] += 1
    return Survey(
        tuple(_spoken(key, counts[key], scopes.get(key, set())) for key in sorted(counts)),
        tuple(Unread(service, scope, unread[service, scope], UNKNOWN_SCOPE) for service, scope in sorted(unread)),
    )


def _spoken(key: tuple[str, str], found: Counter[str], scopes: Iterable[str]) -> Spoken:
    lacking = found["without"] - found["failed"] + (0 if found["with"] else found["silent agents"])
    return Spoken(
        service=key[0],
        dialect=key[1],
        scopes=tuple(sorted(scopes)),
        spans=found["spans"],
        model_calls=found["calls"],
        with_content=found["with"],
        without_content=found["without"],
        without_answer=found["unanswered"],
        failed=found["failed"],
        tool_runs=found["runs"],
        silent_agents=found["silent agents"],
        switch=_SWITCHES.get(key[1]) if lacking else None,
    )


def total(surveys: Iterable[Survey]) -> Survey:
    """Return one survey of what several tell: of traces that have none in common."""
    spoken: dict[tuple[str, str], Spoken] = {}
    unread: dict[tuple[str, str], Unread] = {}
    for one in surveys:
        for said in one.spoken:
            key = said.service, said.dialect
            spoken[key] = _sum(spoken[key], said) if key in spoken else said
        for left in one.unread:
            before = unread.get((left.service, left.scope))
            unread[left.service, left.scope] = left._replace(spans=left.spans + before.spans) if before else left
    return Survey(tuple(spoken[key] for key in sorted(spoken)), tuple(unread[key] for key in sorted(unread)))


def _sum(one: Spoken, other: Spoken) -> Spoken:
    counted = {name: getattr(one, name) + getattr(other, name) for name in Spoken._fields if name not in _NOT_COUNTED}
    scopes = tuple(sorted({*one.scopes, *other.scopes}))
    return one._replace(scopes=scopes, switch=one.switch or other.switch, **counted)
