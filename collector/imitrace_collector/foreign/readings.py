"""Read what one foreign span says by itself: which dialect, what it is, whose it is; and its place among the others."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from imitrace import semconv
from imitrace_collector.foreign.dialects import (
    AGENT,
    AGENT_AT_WORK,
    DIALECTS,
    EVALUATOR,
    EVENT_CHOICE,
    EVENT_ROLES,
    MODEL,
    OPENINFERENCE,
    OTEL,
    OTHER,
    OWN_SCOPES,
    RESPONSE_IDS,
    TOOL,
    WORKFLOW,
    Dialect,
    Names,
)
from imitrace_collector.foreign.said import Said
from imitrace_collector.normalize import LONGEST_NAME, as_type
from imitrace_collector.rows import LogRow, SpanRow

Key = tuple[str, str]
"""Trace id and span id."""

CONVERSATION, SESSION = "conversation", "session"

_DEEP = 200
"""How far up a span's place is looked for: spans that name each other as parents have no end."""
_NAMED = {dialect.name: dialect for dialect in DIALECTS}
_MARKS = {mark: dialect.name for dialect in reversed(DIALECTS) for mark in dialect.marks if not mark.endswith(".")}
_PREFIXES = tuple((mark, dialect.name) for dialect in DIALECTS for mark in dialect.marks if mark.endswith("."))
_RUN_ENDINGS = (".run", ".agent", ".arun", ".kickoff")
_RUN_STARTS = ("invoke_agent ", "agent run ", "Agent.", "agent.")


@dataclass(slots=True, eq=False)
class Reading:
    """What one span says by itself."""

    row: SpanRow
    dialects: tuple[Dialect, ...]
    role: str
    said: Said
    logs: list[LogRow] = field(default_factory=list)
    parent: "Reading | None" = None
    inside: list["Reading"] = field(default_factory=list)
    _named: dict[str, str] = field(default_factory=dict)
    _spoken: str = ""
    """The names of its dialects, by line."""

    @property
    def key(self) -> Key:
        """Return its trace and span id."""
        return self.row.trace_id, self.row.span_id

    @property
    def at(self) -> tuple[int, str, str]:
        """Return where it stands among others: by its start."""
        return self.row.started_at, self.row.trace_id, self.row.span_id

    @property
    def source(self) -> str:
        """Return the name of its dialect."""
        return self.dialects[0].name

    def text(self, field_name: str) -> str | None:
        """Return the text of a field of the table, from the first of its dialects that says it."""
        return self.said.text(self.names(field_name))

    def number(self, field_name: str) -> int | None:
        """Return the number in a field of the table, from the first of its dialects that says it."""
        return self.said.number(self.names(field_name))

    def names(self, field_name: str) -> Names:
        """Return the attributes that may fill a field of the table, the most telling first."""
        if not self._spoken:
            self._spoken = "\n".join(dialect.name for dialect in self.dialects)
        return _names(self._spoken, field_name)

    def above(self) -> Iterable["Reading"]:
        """Yield the spans that it is in, the nearest first."""
        found, left = self.parent, _DEEP
        while found is not None and left:
            yield found
            found, left = found.parent, left - 1

    def outermost(self) -> "Reading":
        """Return the outermost span that it is in, or itself."""
        return next(iter([*self.above()][-1:]), self)

    def named(self, kind: str) -> str:
        """Return the id of the conversation, or of the session, that it says it is of; empty where it says none."""
        found = self._named.get(kind)
        if found is None:
            found = (self.text(kind) or "")[:LONGEST_NAME]
            found = self._named[kind] = "" if found.startswith(RESPONSE_IDS) else found
        return found

    def after(self) -> str | None:
        """Return the response that a model call says it goes on from."""
        named = self.text("after") or self.text(CONVERSATION)
        return named if named and (named.startswith(RESPONSE_IDS) or named == self.text("after")) else None

    def agent_name(self) -> str | None:
        """Return the name of the agent that this span says it is of."""
        if self.role == MODEL or self.role == AGENT:
            for dialect in self.dialects:
                for name in dialect.agent:
                    if self.role == MODEL and name not in _ON_CALLS:
                        continue
                    found = self.said.text((name,))
                    if found:
                        return found[:LONGEST_NAME]
        return None

    def agent_at_work(self) -> str | None:
        """Return the agent whose step of a workflow this is: what it was given says so, or a step before it."""
        if self.role != WORKFLOW:
            return None
        found = _last_named(self, "raw_inputs")
        steps = self.parent.inside if found is None and self.parent is not None else []
        before = bisect_left(steps, self.at, key=lambda step: step.at)
        for step in reversed(steps[max(before - _STEPS, 0) : before]):
            found = found or _last_named(step, "raw_outputs")
        return found


def _last_named(step: Reading, field_name: str) -> str | None:
    for name in step.names(field_name) if step.role == WORKFLOW else ():
        said = step.said.value(name)
        place = said.rfind(AGENT_AT_WORK) if isinstance(said, str) else -1
        found = _NAME_IN_TEXT.match(said, place + len(AGENT_AT_WORK)) if place >= 0 else None
        if found is not None:
            return found.group(1)[:LONGEST_NAME]
    return None


_STEPS = 8
"""How many steps of a workflow are asked whose turn it is."""
_NAME_IN_TEXT = re.compile(r"""\\?["']?\s*[=:]\s*\\?["']([^"'\\]+)""")
_ON_CALLS = {
    *("gen_ai.agent.name", "metadata/lc_agent_name", "agent.name", "agent_name"),
    "traceloop.association.properties.lc_agent_name",
}
"""Attributes that name the agent also on a model call's own span."""


def span_agent(reading: Reading) -> str:
    """Return an agent span's own name, without what says that it is one."""
    name = reading.row.name
    for start in _RUN_STARTS:
        name = name.removeprefix(start)
    for end in _RUN_ENDINGS:
        name = name.removesuffix(end)
    return str(as_type(name, "string"))[:LONGEST_NAME]


def is_own(span: SpanRow) -> bool:
    """Return whether a span is of our own SDK, or of an importer."""
    return span.name in (semconv.SPAN_STEP, semconv.SPAN_CHUNK) or _scope(span.scope).startswith(OWN_SCOPES)


def has_own_steps(spans: Iterable[SpanRow]) -> bool:
    """Return whether our own steps are among these spans: then they, and not foreign spans, tell the decisions."""
    return any(span.name == semconv.SPAN_STEP for span in spans)


def read_span(span: SpanRow) -> Reading | None:
    """Return what a span says, or None when no dialect is spoken in it.

    The scope says which dialect is read first; by itself it is no sign, for many are not of agents at all.
    """
    attributes = span.attributes
    spoken = {_MARKS[mark] for mark in _MARKS.keys() & attributes.keys()}
    if not spoken:
        spoken = {name for mark, name in _PREFIXES if any(key.startswith(mark) for key in attributes)}
        if not spoken:
            return None
    first = _by_scope(_scope(span.scope))
    dialects = first + _among(frozenset(spoken | {OTEL.name}) - {dialect.name for dialect in first})
    if not first and OPENINFERENCE.name in spoken and OTEL.roles[0][0] in attributes:  # its processor's translation
        dialects = (OTEL, *(dialect for dialect in dialects if dialect is not OTEL))
    said = Said(attributes)
    return Reading(row=span, dialects=dialects, role=_role(span.name, said, dialects), said=said)


@lru_cache(maxsize=4096)
def _names(spoken: str, field_name: str) -> Names:
    dialects = (_NAMED[name] for name in spoken.split("\n"))
    return tuple(dict.fromkeys(name for dialect in dialects for name in getattr(dialect, field_name)))


@lru_cache(maxsize=1024)
def _among(names: frozenset[str]) -> tuple[Dialect, ...]:
    return tuple(dialect for dialect in DIALECTS if dialect.name in names)


def read_trees(spans: Iterable[SpanRow], logs: Iterable[LogRow]) -> list[Reading]:
    """Return every span's reading, in the order in which they began, each with its parent, children and log records.

    What speaks no dialect has a reading too, for others may hang under it.
    """
    readings: dict[Key, Reading] = {}
    for span in spans:
        key = span.trace_id, span.span_id
        if key not in readings or _fingerprint(span) < _fingerprint(readings[key].row):
            readings[key] = read_span(span) or Reading(row=span, dialects=(OTEL,), role=OTHER, said=Said({}))
    ordered = sorted(readings.values(), key=lambda reading: reading.at)
    for reading in ordered:
        parent = readings.get((reading.row.trace_id, reading.row.parent_span_id or ""))
        if parent is not None and not _is_in(parent, reading):
            reading.parent = parent
            parent.inside.append(reading)
    for log in sorted_logs(logs):
        owner = readings.get((log.trace_id or "", log.span_id or ""))
        if owner is not None:
            owner.logs.append(log)
    return ordered


def _is_in(span: Reading, other: Reading) -> bool:
    """Return whether a span is another, or in it, or too deep to tell: spans that are in each other have no end."""
    found: Reading | None = span
    for _ in range(_DEEP):
        if found is None:
            return False
        if found is other:
            return True
        found = found.parent
    return True


def sorted_logs(logs: Iterable[LogRow]) -> list[LogRow]:
    """Return each log record once, in the order of their times; those of one time as they follow in a conversation."""
    found: dict[tuple[object, ...], LogRow] = {}
    for log in logs:
        said = repr((log.event_name, log.body, log.attributes))
        found[log.logged_at, _RANKS.get(log.event_name, 0), log.trace_id or "", log.span_id or "", said] = log
    return [log for _, log in sorted(found.items(), key=lambda item: item[0])]


_RANKS = {name: rank for rank, name in enumerate((*EVENT_ROLES, EVENT_CHOICE), start=1)}


def is_agents(reading: Reading) -> bool:
    """Return whether a span is one of an agent's: its model, its tools, the agent itself, or a judge of it."""
    return reading.role in (MODEL, TOOL, AGENT, EVALUATOR)


def _role(name: str, said: Said, dialects: Sequence[Dialect]) -> str:
    attributes = said.attributes
    for dialect in dialects:
        if name in dialect.spans:
            return dialect.spans[name]
        for attribute, roles in dialect.roles:
            value = attributes.get(attribute)
            if value is None:
                continue
            role = roles.get("")
            if isinstance(value, str):
                role = roles.get(value) or roles.get(value.upper()) or role
            if role == AGENT and "tool.name" in attributes:
                return TOOL  # OpenInference takes a tool that is named after an agent for one
            if role is not None:
                return role
    return OTHER


@lru_cache(maxsize=1024)
def _by_scope(name: str) -> tuple[Dialect, ...]:
    """Return the dialect of a scope: that with the longest of the prefixes that fit."""
    fits = [(len(prefix), -place) for place, dialect in enumerate(DIALECTS) for prefix in dialect.scopes
            if name == prefix or name.startswith((f"{prefix}.", f"{prefix}_", f"{prefix}-")) or
            (prefix.endswith(".") and name.startswith(prefix))]  # fmt: skip
    return (DIALECTS[-max(fits)[1]],) if fits else ()


def _scope(scope: Mapping[str, Any]) -> str:
    name = scope.get("name")
    return name if isinstance(name, str) else ""


def _fingerprint(span: SpanRow) -> tuple[int, str]:
    return -len(span.attributes), repr(span)
