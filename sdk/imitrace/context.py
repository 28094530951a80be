"""Hold the trajectory that the code runs in: what its steps, tools and scores inherit, and what was already sent."""

import contextlib
import threading
from collections.abc import Mapping
from contextvars import ContextVar, Token
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from imitrace.answers import json_text, wire_text
from imitrace.provider import active
from imitrace.semconv import (
    AGENT_NAME,
    AGENT_VERSION,
    ERROR_TYPE,
    OPERATION,
    OUTCOMES,
    POLICY_NAME,
    POLICY_ROLE,
    POLICY_VERSION,
    SPAN_TRAJECTORY,
    TRAJECTORY_ID,
    TRAJECTORY_OUTCOME,
    TRAJECTORY_STEP_COUNT,
    TRAJECTORY_TAGS,
    TRAJECTORY_TASK,
)

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from imitrace.pipeline import AttributeValue, Pipeline

_current: ContextVar["Trajectory | None"] = ContextVar("imitrace_trajectory", default=None)


@dataclass(frozen=True)
class OpenCall:
    """A tool call of the last decision that no tool run has answered yet."""

    name: str
    arguments: str
    call_id: str


class Memory:
    """What a trajectory has sent, so that each step sends only what is new; guarded by the trajectory's lock."""

    def __init__(self) -> None:
        self.steps = 0
        self.messages: list[str] = []
        self.tools_hash: str | None = None
        self.open_calls: list[OpenCall] = []

    def common_prefix(self, messages: list[str]) -> int:
        """Return how many messages, by hash, the previous step began with as well."""
        count = 0
        for before, now in zip(self.messages, messages, strict=False):
            if before != now:
                break
            count += 1
        return count


class Trajectory:
    """One task, from first to last step; open it with ``with`` or ``async with``.

    Steps, tools, outcomes and scores inside belong to it, also in tasks of ``asyncio`` and in threads that run in a
    copied context (``contextvars.copy_context().run``).
    """

    def __init__(
        self,
        task: str | None = None,
        id: str | None = None,  # noqa: A002 - `id=` is what the caller writes
        tags: Mapping[str, str] | None = None,
        agent: str | None = None,
    ) -> None:
        self.id = id
        self.lock = threading.Lock()
        self.memory = Memory()
        self.pipeline: Pipeline | None = None
        self.span: Span | None = None
        self._task = task
        self._tags = tags
        self._agent = agent
        self._outcome: str | None = None
        self._inherited: dict[str, AttributeValue] = {}
        self._token: Token[Trajectory | None] | None = None
        self._ended = False

    def __enter__(self) -> "Trajectory":
        pipeline = active()
        if pipeline is not None:
            with pipeline.faults.guard("trajectory"):
                self._open(pipeline)
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            with contextlib.suppress(ValueError):  # closed in another context than it was opened in
                _current.reset(self._token)
        if self.pipeline is not None:
            with self.pipeline.faults.guard("trajectory"):
                self._close(self.pipeline, error)

    async def __aenter__(self) -> "Trajectory":
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def outcome(self, value: str) -> None:
        """Say how the task ended: ``success``, ``failure`` or ``abandoned``; anything else is counted and ignored."""
        if self.pipeline is None:
            return
        if value not in OUTCOMES or self._ended:
            when = " after the trajectory's end" if self._ended else ""
            self.pipeline.faults.count("outcome", f"outcome is {value!r}{when}, allowed: {', '.join(OUTCOMES)} inside")
            return
        self._outcome = value

    def settle(self, result: object) -> None:
        """Take what a function decorated as an agent returned: nothing of it is recorded."""

    def attributes(self) -> "dict[str, AttributeValue]":
        """Return what every span inside inherits."""
        if self._ended and self.pipeline is not None:
            self.pipeline.faults.count("late_span", f"trajectory {self.id} got a step or a tool run after its end")
        return dict(self._inherited)

    def _open(self, pipeline: "Pipeline") -> None:
        config = pipeline.config
        self.id = wire_text(self.id or pipeline.sources.new_id("trajectory"))
        inherited = {
            TRAJECTORY_ID: self.id,
            AGENT_NAME: self._agent or config.agent,
            AGENT_VERSION: config.agent_version,
            POLICY_ROLE: config.policy_role,
            POLICY_NAME: config.policy_name,
            POLICY_VERSION: config.policy_version,
            TRAJECTORY_TASK: self._task,
        }
        self._inherited = {name: wire_text(value) for name, value in inherited.items() if value is not None}
        if self._tags:
            with pipeline.faults.guard("tags"):
                self._inherited[TRAJECTORY_TAGS] = json_text({str(k): str(v) for k, v in self._tags.items()})
        outer = _current.get()
        self.span = pipeline.start(
            SPAN_TRAJECTORY,
            {**self._inherited, OPERATION: "invoke_agent"},
            None if outer is None else outer.span,
            pipeline.sources.clock(),
        )
        self.pipeline = pipeline

    def _close(self, pipeline: "Pipeline", error: BaseException | None) -> None:
        assert self.span is not None  # noqa: S101 - set with the pipeline
        if error is not None:
            self._outcome = self._outcome or ("failure" if isinstance(error, Exception) else "abandoned")
            self.span.set_attribute(ERROR_TYPE, type(error).__qualname__)
        if self._outcome is not None:
            self.span.set_attribute(TRAJECTORY_OUTCOME, self._outcome)
        self.span.set_attribute(TRAJECTORY_STEP_COUNT, self.memory.steps)
        self._ended = True
        self.span.end(pipeline.sources.clock())


def current() -> Trajectory | None:
    """Return the trajectory that the code runs in, None outside of one."""
    return _current.get()


def current_trajectory_id() -> str | None:
    """Return the id of the trajectory that the code runs in, None outside of one or when tracing is off."""
    trajectory = _current.get()
    return None if trajectory is None or trajectory.pipeline is None else trajectory.id
