"""Sort the raw spans of one trajectory into its parts: the same parts for any order and repetition of arrival.

A part is what one ``invoke_agent`` span with a step count announces. A trajectory has several when another process
joined it, or when it was resumed; the steps of each are numbered from 0.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from imitrace import semconv
from imitrace_collector.normalize import (
    SOURCE,
    Attributes,
    SentStep,
    ToolRun,
    as_type,
    operation,
    read_run,
    read_step,
    scope_name,
)
from imitrace_collector.rows import SpanRow

Key = tuple[str, str]
"""Trace id and span id."""

Path = tuple[tuple[int, int, int, str, str], ...]
"""Where a part or a step stands: paths in order are the merged order of all steps."""

Root = tuple[SpanRow, Attributes]
"""The ``invoke_agent`` span of a part."""

_END = 2**63
"""A position after every step's."""
_DEEP = 100
"""How far up a span's place is looked for: parts that name each other as callers have no end."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The steps that one ``invoke_agent`` span holds, by the sender's index; it has no root while that runs."""

    root: Root | None
    path: Path
    problem: str | None = None
    """Why it can't be told where its steps belong."""
    caller_missing: bool = False
    """Whether the part that it joined has not arrived."""
    steps: dict[int, list[SentStep]] = field(default_factory=dict)
    unnumbered: list[SentStep] = field(default_factory=list)

    @property
    def announced(self) -> int | None:
        """Return how many steps its sender says there are."""
        return None if self.root is None else announced(self.root[1])

    @property
    def started_at(self) -> int:
        """Return when it began, as far as is known."""
        return self.root[0].started_at if self.root else min(step.row.started_at for step in self.in_order())

    def in_order(self) -> list[SentStep]:
        """Return every step span, by index, those without a usable one last."""
        return [step for index in sorted(self.steps) for step in self.steps[index]] + self.unnumbered

    def step_path(self, index: int) -> Path:
        """Return where its step ``index`` stands: after the parts that joined before it."""
        return (*self.path, (index, 1, 0, "", ""))

    def end_path(self) -> Path:
        """Return where it ends: after all its steps and all that joined it."""
        return (*self.path, (_END, 1, 0, "", ""))


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What a trajectory's spans say, sorted."""

    parts: Sequence[Part]
    """In the order in which they begin."""
    runs: Mapping[str, Sequence[ToolRun]]
    """Tool runs by call id, in the order in which they began."""
    stray_chunks: int
    """How many chunks belong to no step and no tool run that arrived."""


@dataclass(frozen=True)
class _Spans:
    """One trajectory's spans by what they are, each kind in the order in which they began."""

    parents: dict[Key, Key] = field(default_factory=dict)
    roots: list[Root] = field(default_factory=list)
    steps: list[Root] = field(default_factory=list)
    runs: list[Root] = field(default_factory=list)
    chunks: dict[Key, list[Attributes]] = field(default_factory=lambda: defaultdict(list))


def sort_spans(spans: Iterable[SpanRow]) -> Sent:
    """Return what the raw spans of one trajectory say.

    A step belongs to the part whose span is its parent, or the nearest above that. A step of our own SDK without one
    belongs to a part whose span has not arrived; one of another sender, who may hang it anywhere, to the first part.
    """
    found = _by_kind(spans)
    parts = _parts(found.roots)
    first = min(parts.values(), key=lambda part: part.path, default=None)
    waiting: dict[Key, Part] = {}
    for span, attributes in found.steps:
        step = read_step(span, attributes, found.chunks.pop(_key(span), ()))
        part = _part_above(span, parts, found.parents)
        if part is None and scope_name(span) != SOURCE:
            part = first
        if part is None:
            part = waiting.setdefault(_waiting_for(span), Part(root=None, path=_top(span)))
        _place(step, part)
    runs: dict[str, list[ToolRun]] = defaultdict(list)
    for span, attributes in found.runs:
        run = read_run(span, attributes, found.chunks.pop(_key(span), ()))
        if run.result is not None or run.problem is not None:
            runs[str(attributes.get(semconv.TOOL_CALL_ID))].append(run)
    ordered = sorted([*parts.values(), *waiting.values()], key=lambda part: part.path)
    return Sent(parts=ordered, runs=runs, stray_chunks=sum(map(len, found.chunks.values())))


def announced(attributes: Attributes) -> int | None:
    """Return how many steps an ``invoke_agent`` span announces."""
    count: int | None = as_type(attributes.get(semconv.TRAJECTORY_STEP_COUNT), "int64")
    return count


def _by_kind(spans: Iterable[SpanRow]) -> _Spans:
    unique = {_key(span): span for span in spans}
    found = _Spans()
    for span in sorted(unique.values(), key=lambda span: (span.started_at, *_key(span))):
        attributes = span.attributes
        kind = operation(span, attributes)
        if span.parent_span_id:
            found.parents[_key(span)] = (span.trace_id, span.parent_span_id)
        if kind == semconv.SPAN_CHUNK:
            found.chunks[span.trace_id, span.parent_span_id or ""].append(attributes)
        elif kind is not None:
            kinds = {
                semconv.SPAN_TRAJECTORY: found.roots,
                semconv.SPAN_STEP: found.steps,
                semconv.SPAN_TOOL: found.runs,
            }
            kinds[kind].append((span, attributes))
    return found


def _parts(roots: Sequence[Root]) -> dict[Key, Part]:
    """Return the parts by the key of their span.

    An agent called inside a trajectory is an ``invoke_agent`` span too; only those that count steps are parts. Where
    none does, the first is the only part.
    """
    counting = {_key(root[0]): root for root in roots if announced(root[1]) is not None}
    by_key = counting or {_key(root[0]): root for root in roots[:1]}
    paths: dict[Key, Path] = {}
    return {key: _part(root, by_key, paths) for key, root in by_key.items()}


def _part(root: Root, roots: Mapping[Key, Root], paths: dict[Key, Path]) -> Part:
    """Return a part, without its steps, at its place among the others."""
    path = _path(root, roots, paths)
    too_deep = f"stands under {_DEEP} parts or more, or calls itself" if path is None else None
    own = _caller(root, roots)
    return Part(
        root=root,
        path=_top(root[0]) if path is None else path,
        problem=too_deep or (None if own is None else _position_problem(root[1], own[1])),
        caller_missing=own is None and semconv.PART_POSITION in root[1],
    )


def _path(root: Root, roots: Mapping[Key, Root], paths: dict[Key, Path]) -> Path | None:
    """Return a part's path, out of those that are known, and remember it; None where there is none within reach."""
    chain = [root]
    while (caller := _caller(chain[-1], roots)) is not None and _key(caller[0]) not in paths and len(chain) < _DEEP:
        chain.append(caller)
    above = () if caller is None else paths.get(_key(caller[0]))
    if above is None or len(above) + len(chain) > _DEEP:
        return None
    for span, attributes in reversed(chain):
        position = _position(attributes)
        at = (_END if position is None else position, 0, span.started_at, span.trace_id, span.span_id)
        above = paths[_key(span)] = (*above, at) if above else _top(span)
    return above


def _caller(root: Root, roots: Mapping[Key, Root]) -> Root | None:
    return roots.get((root[0].trace_id, root[0].parent_span_id or ""))


def _position(attributes: Attributes) -> int | None:
    position: int | None = as_type(attributes.get(semconv.PART_POSITION), "int64")
    return position


def _position_problem(attributes: Attributes, caller: Attributes) -> str | None:
    position, steps = _position(attributes), announced(caller)
    if position is None:
        return "says no position in the part that called it"
    if steps is None or not 0 <= position <= steps:
        return f"says position {position} in the part that called it, which has {steps} steps"
    return None


def _top(span: SpanRow) -> Path:
    return ((0, 0, span.started_at, span.trace_id, span.span_id),)


def _part_above(span: SpanRow, parts: Mapping[Key, Part], parents: Mapping[Key, Key]) -> Part | None:
    above = parents.get(_key(span))
    for _ in range(_DEEP):
        if above is None or above in parts:
            break
        above = parents.get(above)
    return None if above is None else parts.get(above)


def _waiting_for(span: SpanRow) -> Key:
    """Return the span that is awaited for a step; of foreign steps one for all, for they may hang anywhere."""
    return (span.trace_id, span.parent_span_id or "") if scope_name(span) == SOURCE else ("", "")


def _place(step: SentStep, part: Part) -> None:
    index = step.columns["step_index"]
    if index is None or index < 0:
        part.unnumbered.append(step)
    else:
        part.steps.setdefault(index, []).append(step)


def _key(span: SpanRow) -> Key:
    return span.trace_id, span.span_id
