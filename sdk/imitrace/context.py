"""Hold the trajectory that the code runs in: what its steps, tools and scores inherit, and what was already sent."""

import contextlib
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING

from imitrace.binding import Instead
from imitrace.memory import Memory
from imitrace.provider import active, before_flush, faults
from imitrace.semconv import (
    AGENT_NAME,
    AGENT_VERSION,
    ERROR_TYPE,
    OPERATION,
    OUTCOMES,
    PART_POSITION,
    POLICY_NAME,
    POLICY_ROLE,
    POLICY_VERSION,
    SPAN_TRAJECTORY,
    STEP_INCOMPLETE,
    TRAJECTORY_ID,
    TRAJECTORY_OUTCOME,
    TRAJECTORY_STEP_COUNT,
    TRAJECTORY_TAGS,
    TRAJECTORY_TASK,
)
from imitrace.shapes.plain import json_text, wire_text

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

    from imitrace.pipeline import Pipeline
    from imitrace.propagation import Headers, Origin
    from imitrace.spans import AttributeValue, OpenSpan
    from imitrace.verdict import Verdict

_current: ContextVar["Trajectory | None"] = ContextVar("imitrace_trajectory", default=None)


class Trajectory:
    """One task, from first to last step; open it with ``with`` or ``async with``.

    Steps, tools, outcomes and scores inside belong to it, also in tasks of ``asyncio``, in threads and thread pools,
    and in forked processes, whose steps become a part of their own.
    """

    def __init__(
        self,
        task: str | None = None,
        id: str | None = None,  # noqa: A002 - `id=` is what the caller writes
        tags: Mapping[str, str] | None = None,
        agent: str | None = None,
        joins: "Headers | None" = None,
    ) -> None:
        self.id = id
        self.lock = threading.RLock()
        self.memory = Memory()
        self.pipeline: Pipeline | None = None
        self.tags: dict[str, str] = {}
        self.declined: tuple[int, Verdict] | None = None
        """What a clone said, and after how many messages, of a decision that another part of the program takes."""
        self._task = task
        self._given_tags = tags
        self._agent = agent
        self._joins = joins
        self._origin: Origin | None = None
        self._outer: Trajectory | None = None
        self._span: OpenSpan | None = None
        self._outcome: str | None = None
        self._inherited: dict[str, AttributeValue] = {}
        self._token: Token[Trajectory | None] | None = None
        self._ended = False
        self._quiet = False
        self._forked = False
        self._entered = 0
        self._crossed = False
        self._left_out: SpanContext | None = None
        self._committing = False
        self._deferred: deque[Callable[[], None]] = deque()

    def __enter__(self) -> "Trajectory":
        if self._ended:  # opened again: it goes on as another part
            self.__init__(self._task, self.id, self._given_tags, self._agent, self._joins)  # type: ignore[misc]
        self._entered += 1
        if self._entered > 1:
            return self
        self._outer = current()
        pipeline = active()
        if self._given_tags:
            with faults().guard("tags"):
                self.tags = {str(name): str(value) for name, value in self._given_tags.items()}
        if pipeline is not None:
            with pipeline.faults.guard("trajectory"):
                self._open(pipeline)
        self.resume()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered -= 1
        if self._entered:
            return
        self.suspend()
        self.end(error)

    async def __aenter__(self) -> "Trajectory":
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def resume(self) -> None:
        """Make it the current one: when it opens, and when a generator inside runs on."""
        self._token = _current.set(self)

    def suspend(self) -> None:
        """Make it no longer the current one: when it ends, and while a generator inside waits."""
        token, self._token = self._token, None
        if token is None:
            return
        self._crossed = self._crossed or _current.get() is not self
        try:
            _current.reset(token)
        except ValueError:  # it ends in another context than it began in
            self._crossed = True

    def commit(self, work: Callable[[], None]) -> None:
        """Do what must not be interleaved; what a finaliser or a signal handler adds meanwhile is done after it."""
        with self.lock:
            self._deferred.append(work)
            if self._committing:
                return
            self._committing = True
            try:
                while self._deferred:
                    self._deferred.popleft()()
            finally:
                self._committing = False

    def outcome(self, value: str) -> None:
        """Say how the task ended: ``success``, ``failure`` or ``abandoned``; anything else is counted and ignored."""
        if self.pipeline is None:
            return
        if value not in OUTCOMES or self._ended:
            when = " after the trajectory's end" if self._ended else ""
            self.pipeline.faults.count("outcome", f"outcome is {value!r}{when}, allowed: {', '.join(OUTCOMES)} inside")
            return
        self._outcome = value

    def instead(self) -> Instead | None:
        """Let the function of an agent run."""

    def settle(self, result: object) -> None:
        """Take what a function decorated as an agent returned: nothing of it is recorded."""

    def take(self, item: object) -> None:
        """Take what such a generator yielded: nothing of it is recorded."""

    def stream(self, result: object) -> None:
        """Take nothing that an agent returns for a stream, but a generator."""

    def attributes(self) -> "dict[str, AttributeValue]":
        """Return what every span inside inherits."""
        if self._ended and self.pipeline is not None:
            self.pipeline.faults.count("late_span", f"trajectory {self.id} got a step or a tool run after its end")
        return dict(self._inherited)

    def span(self) -> "OpenSpan":
        """Return the span that steps and tool runs hang from; a forked process begins its own with the first."""
        if self._span is None:
            assert self.pipeline is not None  # noqa: S101 - only asked while it records
            outer = self._recorded_outer()
            parent = self._origin.span if self._origin else None if outer is None else outer.span().context
            self._span = self.pipeline.start(SPAN_TRAJECTORY, parent, self.pipeline.clock())
        return self._span

    def origin(self) -> "Origin | None":
        """Return what another process needs to go on with this trajectory, or to leave it out; None when it is off."""
        from imitrace.propagation import Origin

        if self._left_out is not None:
            return Origin(str(self.id), self._left_out, 0)
        if self.pipeline is None or self.id is None:
            return None

        with self.lock:
            return Origin(self.id, self.span().context, self.memory.steps)

    def end(self, error: BaseException | None = None, outcome: str | None = None) -> None:
        """Record it, once.

        Args:
            error: what left it.
            outcome: how it ended, if nobody said so before.
        """
        if self.pipeline is None or self._ended:
            return
        with self.pipeline.faults.guard("trajectory"):
            _open.discard(self)
            self._ended = True
            if self._span is not None:
                self._record(self.pipeline, self._span, error, outcome)

    def become_part(self) -> None:
        """Go on as a part of its own: in a forked child, where the parent goes on with the original."""
        origin = self._origin
        self._forked = True
        if self.pipeline is not None and self._span is not None and not self._ended:
            from imitrace.propagation import Origin

            origin = Origin(str(self.id), self._span.context, self.memory.steps)
        self.lock = threading.RLock()
        self.memory = Memory()
        self._deferred.clear()
        self._committing = False
        self._origin, self._span, self._outcome = origin, None, None

    def end_part(self) -> None:
        """Record what a forked child did so far as a part, and go on as another: it may end without a word."""
        if self._forked and self.pipeline is not None and self._span is not None and not self._ended:
            with self.pipeline.faults.guard("trajectory"):
                self._record(self.pipeline, self._span, None, None)
                self.become_part()

    def _recorded_outer(self) -> "Trajectory | None":
        return self._outer if self._outer is not None and self._outer.pipeline is not None else None

    def _open(self, pipeline: "Pipeline") -> None:
        outer = self._recorded_outer()
        given = None if self.id is None else pipeline.clean(self.id)
        if self._joins is not None:
            from imitrace.propagation import read_origin

            self._origin = read_origin(self._joins)
        elif outer is not None and outer.id == given:
            self._origin = outer.origin()
        if self._origin is not None:
            self.id = wire_text(self._origin.trajectory_id)
        else:
            self.id = pipeline.ids.name("trajectory") if given is None else given
        if not self._is_recorded(pipeline):
            from imitrace.spans import unsampled

            self._left_out = unsampled(pipeline.ids)
            return
        config = pipeline.config
        inherited = {
            TRAJECTORY_ID: self.id,
            AGENT_NAME: self._agent or config.agent,
            AGENT_VERSION: config.agent_version,
            POLICY_ROLE: config.policy_role,
            POLICY_NAME: config.policy_name,
            POLICY_VERSION: config.policy_version,
            TRAJECTORY_TASK: None if self._task is None else pipeline.clean(self._task),
        }
        self._inherited = {name: wire_text(value) for name, value in inherited.items() if value is not None}
        if self.tags:
            self._inherited[TRAJECTORY_TAGS] = json_text(
                {pipeline.clean(name): pipeline.clean(tag) for name, tag in self.tags.items()}
            )
        self.pipeline = pipeline
        if not self._quiet:
            self.span()
        _open.add(self)

    def _is_recorded(self, pipeline: "Pipeline") -> bool:
        sampler = pipeline.config.sampler
        if self._origin is not None and not self._origin.span.trace_flags.sampled:
            return False
        if sampler.parent_based and self._origin is None and self._recorded_outer() is None:
            from opentelemetry.trace import get_current_span

            around = get_current_span().get_span_context()
            if around.is_valid and not around.trace_flags.sampled:
                return False
        return sampler.records(str(self.id))

    def _record(self, pipeline: "Pipeline", span: "OpenSpan", error: BaseException | None, outcome: str | None) -> None:
        memory = self.memory
        attributes = {**self._inherited, OPERATION: SPAN_TRAJECTORY}
        attributes[TRAJECTORY_STEP_COUNT] = memory.steps + memory.unreadable + memory.open_steps
        if self._crossed:
            pipeline.faults.count("context_crossed", f"trajectory {self.id} began and ended in different contexts")
            attributes[STEP_INCOMPLETE] = "it was left in another context than entered: steps may be in others"
        if error is not None:
            outcome = "failure" if isinstance(error, Exception) else "abandoned"
            attributes[ERROR_TYPE] = type(error).__qualname__
        if self._outcome or outcome:
            attributes[TRAJECTORY_OUTCOME] = str(self._outcome or outcome)
        if self._origin is not None:
            attributes[PART_POSITION] = self._origin.position
        pipeline.record(span, attributes, pipeline.clock(), error)


_open: "weakref.WeakSet[Trajectory]" = weakref.WeakSet()


def current() -> Trajectory | None:
    """Return the trajectory that the code runs in, None outside of one; one that has ended is none."""
    trajectory = _current.get()
    while trajectory is not None and trajectory._ended:
        trajectory = trajectory._outer
    return trajectory


def current_trajectory_id() -> str | None:
    """Return the id of the trajectory that the code runs in, None outside of one.

    While tracing is off, and in a trajectory that is not sampled, it is the id that was given, if any.
    """
    trajectory = current()
    return None if trajectory is None else trajectory.id


@contextlib.contextmanager
def entered(trajectory: Trajectory | None) -> Iterator[None]:
    """Run a block in a trajectory that is open already, or in none."""
    token = _current.set(trajectory)
    try:
        yield
    finally:
        _current.reset(token)


def joined_by_worker(headers: Mapping[str, str]) -> Trajectory:
    """Return a part for work that was handed over to this process: it is recorded once something happens in it."""
    trajectory = Trajectory(joins=headers)
    trajectory._quiet = True
    return trajectory


def end_open() -> None:
    """End what is still open when the process ends: as abandoned, or without a word where it is only a part."""
    for trajectory in list(_open):
        trajectory.end(outcome=None if trajectory._origin else "abandoned")


def _end_forked_parts() -> None:
    for trajectory in list(_open):
        trajectory.end_part()


def _forked() -> None:
    """Let the trajectories around the code go on in a forked child as parts; the others stay with the parent."""
    _open.clear()
    trajectory = current()
    while trajectory is not None:
        trajectory.become_part()
        _open.add(trajectory)
        trajectory = trajectory._outer


before_flush(_end_forked_parts)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
