"""Record tool runs, tied to the decision that asked for them."""

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from imitrace.binding import Instead, wrap
from imitrace.context import Trajectory, current
from imitrace.provider import active
from imitrace.semconv import (
    AGENT_NAME,
    AGENT_VERSION,
    ERROR_TYPE,
    OPERATION,
    SPAN_TOOL,
    TOOL_CALL_ARGUMENTS,
    TOOL_CALL_ID,
    TOOL_CALL_RESULT,
    TOOL_NAME,
    TRAJECTORY_ID,
)
from imitrace.shapes.answers import arguments_text
from imitrace.shapes.content_parts import result_part
from imitrace.shapes.plain import json_text, mapping, payload_text, plain, wire_text

if TYPE_CHECKING:
    from imitrace.pipeline import Pipeline
    from imitrace.spans import AttributeValue

P = ParamSpec("P")
R = TypeVar("R")

_PAYLOADS = {TOOL_CALL_ARGUMENTS, TOOL_CALL_RESULT, TOOL_CALL_ID}

MAX_YIELDED = 16 * 2**20
"""Characters that a generator may yield and still have them recorded as the tool's result."""


class ToolRun:
    """One run of a tool: open it with ``with`` or ``async with``, or decorate a function with it.

    It belongs to the trajectory around it; outside of one it is counted, not recorded.
    """

    def __init__(self, name: str | None, call_id: str | None = None, arguments: Any = None) -> None:  # dict or JSON
        self._name = name
        self._call_id = call_id
        self._given = arguments
        self._attributes: dict[str, AttributeValue] = {}
        self._pipeline: Pipeline | None = None
        self._trajectory: Trajectory | None = None
        self._yielded: list[str] | None = None
        self._yielded_text = True
        self._yielded_size = 0
        self._started_at = 0

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function under this name: each call is a run of its own."""
        named = getattr(function, "__func__", function)  # a static method's or a class method's own
        name = self._name or str(getattr(named, "__name__", None) or type(named).__name__)
        return wrap(function, lambda arguments: ToolRun(name, arguments=arguments), _is_traced)

    def __enter__(self) -> "ToolRun":
        trajectory = current()
        pipeline = active() if trajectory is None else trajectory.pipeline
        if pipeline is None:
            return self
        if trajectory is None:
            pipeline.faults.count("tool_outside", f"tool {self._name!r} ran outside of a trajectory, not recorded")
            return self
        self._trajectory = trajectory
        self._pipeline = pipeline
        with pipeline.faults.guard("tool"):
            self._open(pipeline, trajectory)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pipeline is not None and self._trajectory is not None:
            with self._pipeline.faults.guard("tool"):
                self._close(self._pipeline, self._trajectory, error)

    async def __aenter__(self) -> "ToolRun":
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def result(self, value: Any) -> None:  # any JSON value
        """Take what the tool returned: text as it is, anything else as JSON."""
        if self._pipeline is None:
            return
        with self._pipeline.faults.guard("tool.result"):
            self._keep(payload_text(_shown(value)))

    def _keep(self, text: str) -> None:
        self._attributes[TOOL_CALL_RESULT] = text

    def suspend(self) -> None:
        """Do nothing: a tool run is never current."""

    resume = suspend

    def instead(self) -> Instead | None:
        """Let the tool run."""

    def settle(self, result: object) -> None:
        """Take what a function decorated as a tool returned, or all that it yielded."""
        items = self._yielded
        if items is None or result is not None:
            self.result(result)
        elif self._yielded_size <= MAX_YIELDED:
            self._keep("".join(items) if self._yielded_text else f"[{','.join(items)}]")

    def take(self, item: object) -> None:
        """Take what a generator decorated as a tool yielded."""
        if self._pipeline is None or self._yielded_size > MAX_YIELDED:
            return
        with self._pipeline.faults.guard("tool.result"):
            items = self._yielded if self._yielded is not None else []
            if self._yielded_text and not isinstance(item, str):
                items, self._yielded_text = [json_text(text) for text in items], False
            items.append(wire_text(item) if self._yielded_text else json_text(plain(item)))
            self._yielded = items
            self._yielded_size += len(items[-1])
            if self._yielded_size > MAX_YIELDED:
                self._yielded = []
                self._pipeline.faults.count("tool_stream", f"tool {self._name!r} yields over {MAX_YIELDED} characters")

    def stream(self, result: object) -> None:
        """Take nothing that a tool returns for a stream, but a generator."""

    def _open(self, pipeline: "Pipeline", trajectory: Trajectory) -> None:
        self._started_at = pipeline.clock()
        name = self._name or "unknown"
        arguments = arguments_text(self._given)
        call_id = self._call_id or self._take_open_call(trajectory, name, arguments)
        inherited = trajectory.attributes()
        self._attributes = {
            key: inherited[key] for key in (TRAJECTORY_ID, AGENT_NAME, AGENT_VERSION) if key in inherited
        }
        self._attributes |= {OPERATION: SPAN_TOOL, TOOL_NAME: wire_text(name), TOOL_CALL_ARGUMENTS: arguments}
        if call_id is not None:
            self._attributes[TOOL_CALL_ID] = wire_text(call_id)

    @staticmethod
    def _take_open_call(trajectory: Trajectory, name: str, arguments: str) -> str | None:
        """Return the id of the last decision's unanswered call of this tool with these arguments."""
        with trajectory.lock:
            for call in trajectory.memory.open_calls:
                if (call.name, call.arguments) == (name, arguments):
                    trajectory.memory.open_calls.remove(call)
                    return call.call_id
        return None

    def _close(self, pipeline: "Pipeline", trajectory: Trajectory, error: BaseException | None) -> None:
        attributes = self._attributes
        if error is not None:
            attributes[ERROR_TYPE] = type(error).__qualname__
        if pipeline.redactor is not None:
            for name in _PAYLOADS & attributes.keys():
                attributes[name] = pipeline.redactor.text(str(attributes[name]))
        span = pipeline.start(SPAN_TOOL, trajectory.span().context, self._started_at)
        pipeline.record(span, attributes, pipeline.clock(), error)


def _shown(value: Any) -> Any:
    """Return what a model is shown of a result: of MCP's, its content."""
    found = mapping(value) if hasattr(value, "content") or isinstance(value, Mapping) else None
    if found is not None and isinstance(found.get("content"), list) and {"is_error", "isError"} & found.keys():
        return result_part(None, found["content"])["response"]
    return value


def _is_traced() -> bool:
    trajectory = current()
    return active() is not None if trajectory is None else trajectory.pipeline is not None


@overload
def tool(name: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def tool(name: str | None = None, *, call_id: str | None = None, arguments: Any = None) -> ToolRun: ...


def tool(
    name: Callable[..., object] | str | None = None, *, call_id: str | None = None, arguments: Any = None
) -> Callable[..., object] | ToolRun:
    """Record tool runs, as a decorator or as ``with imitrace.tool(name, arguments=...) as t: t.result(...)``.

    Args:
        name: the tool's name; as ``@imitrace.tool`` the function, whose name it takes.
        call_id: id of the model's call; else that of the last decision's unanswered call of this tool with equal
            arguments.
        arguments: what the tool was called with, as an object or as JSON text.
    """
    if name is not None and not isinstance(name, str):
        return ToolRun(None)(name)
    return ToolRun(name, call_id, arguments)
