"""Record decisions: what the agent saw, which tools it had, and what it did."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from imitrace.answers import (
    json_text,
    payload_text,
    read_answer,
    tool_definitions,
    wire_message,
    wire_text,
)
from imitrace.binding import wrap
from imitrace.canonical import content_hash, step_digest, text_hash
from imitrace.context import OpenCall, Trajectory, current
from imitrace.exceptions import WireError
from imitrace.messages import Action
from imitrace.provider import active
from imitrace.semconv import (
    ACTION_KINDS,
    ERROR_TYPE,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    POLICY_NAME,
    POLICY_ROLE,
    POLICY_ROLES,
    POLICY_VERSION,
    SPAN_STEP,
    STEP_ACTION_KIND,
    STEP_CONFIDENCE,
    STEP_DECISION,
    STEP_DIGEST,
    STEP_INDEX,
    STEP_MESSAGE,
    STEP_MESSAGES,
    STEP_MESSAGES_OFFSET,
    STEP_PROPENSITY,
    STEP_ROUTE_REASON,
    STEP_TOOLS_HASH,
    TOOL_CALL_ARGUMENTS,
    TOOL_CALL_ID,
    TOOL_CALL_RESULT,
    TOOL_DEFINITIONS,
    TOOL_NAME,
)

if TYPE_CHECKING:
    from imitrace.pipeline import AttributeValue, Pipeline

UNKNOWN_POLICY = "unknown_policy"
"""``error.type`` of a step that was told a policy role we don't know: it must not pass for the configured one's."""

P = ParamSpec("P")
R = TypeVar("R")


class Step:
    """One decision of the agent: open it with what the agent sees, and tell it what the agent did.

    Messages and tools are read when it opens, so that later changes to the lists don't matter. The step is emitted
    when it closes; one that closes without an action is not a decision: it is counted, not emitted. Outside of a
    trajectory it opens one of its own.
    """

    def __init__(self, messages: Sequence[object] | str, tools: Sequence[object] | None = None) -> None:
        self._given = messages
        self._tools = tools
        self._pipeline: Pipeline | None = None
        self._trajectory: Trajectory | None = None
        self._implicit: Trajectory | None = None
        self._messages: list[str] | None = None
        self._definitions: list[dict[str, Any]] = []
        self._actions: list[Action] = []
        self._observations: dict[int, str] = {}
        self._marks: dict[str, AttributeValue] = {}
        self._usage: dict[str, AttributeValue] = {}
        self._model: str | None = None
        self._decision = ""
        self._started_at = 0

    def __enter__(self) -> "Step":
        if current() is None and active() is not None:
            self._implicit = Trajectory().__enter__()
        trajectory = current()
        if trajectory is not None and trajectory.pipeline is not None:
            self._trajectory = trajectory
            self._pipeline = trajectory.pipeline
            with self._pipeline.faults.guard("step"):
                self._open(self._pipeline)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pipeline is not None and self._trajectory is not None:
            with self._pipeline.faults.guard("step"):
                self._close(self._pipeline, self._trajectory, error)
        if self._implicit is not None:
            self._implicit.__exit__(kind, error, trace)

    async def __aenter__(self) -> "Step":
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def act(self, answer: Any) -> None:  # whatever the model's client returns
        """Take the model's answer.

        Args:
            answer: an OpenAI chat completion or assistant message (object or dict), text, ``(name, arguments)``, an
                ``Action``, or a list of these. Anything else is kept as text, with ``error.type`` on the step.
        """
        if self._pipeline is None:
            return
        with self._pipeline.faults.guard("step.act"):
            read = read_answer(answer, self._pipeline.faults)
            self._model = read.model or self._model
            usage = {INPUT_TOKENS: read.input_tokens, OUTPUT_TOKENS: read.output_tokens}
            self._usage.update({name: value for name, value in usage.items() if value is not None})
            if read.error_type is not None:
                self._marks[ERROR_TYPE] = read.error_type
            for action in read.actions:
                self._add(action)

    def tool_call(self, name: str, arguments: Any = None, call_id: str | None = None) -> None:  # dict or JSON text
        """Take one tool call as the action, or as one more of several parallel ones."""
        call = {"id": call_id, "function": {"name": name, "arguments": arguments}}
        self.act({"role": "assistant", "tool_calls": [call]})

    def message(self, text: str) -> None:
        """Take a message as the action."""
        self.act(Action("message", message=text))

    def observe(self, result: Any, call_id: str | None = None) -> None:  # any JSON value
        """Take the result of the latest action, or of the one with ``call_id``, when it is known inside the step."""
        if self._pipeline is None:
            return
        with self._pipeline.faults.guard("step.observe"):
            known = [n for n, action in enumerate(self._actions) if call_id is None or action.call_id == call_id]
            if not known:
                raise WireError(f"observation for call {call_id!r} came before an action of that id; call act() first")
            self._observations[known[-1]] = payload_text(result)

    def policy(  # noqa: PLR0913 - six independent facts about who acted, each a plain keyword
        self,
        *,
        role: str | None = None,
        name: str | None = None,
        version: str | None = None,
        confidence: float | None = None,
        reason: str | None = None,
        propensity: float | None = None,
    ) -> None:
        """Say who decided this step, when it was not the configured policy; another role drops the configured name.

        Args:
            role: ``expert``, ``clone``, ``human`` or ``synthetic``.
            name: model or clone.
            version: its version.
            confidence: its calibrated confidence, 0 to 1.
            reason: why the route led to it.
            propensity: probability with which the route led to it, 0 to 1.
        """
        if self._pipeline is None:
            return
        with self._pipeline.faults.guard("step.policy"):
            if role is not None and role not in POLICY_ROLES:
                self._marks[ERROR_TYPE] = UNKNOWN_POLICY
                raise WireError(f"policy role is {role!r}, allowed: {', '.join(POLICY_ROLES)}")
            texts = {POLICY_ROLE: role, POLICY_NAME: name, POLICY_VERSION: version, STEP_ROUTE_REASON: reason}
            numbers = {STEP_CONFIDENCE: confidence, STEP_PROPENSITY: propensity}
            self._marks.update({key: wire_text(value) for key, value in texts.items() if value is not None})
            self._marks.update({key: float(value) for key, value in numbers.items() if value is not None})

    def settle(self, result: object) -> None:
        """Take what a function decorated as a step returned."""
        self.act(result)

    def _open(self, pipeline: "Pipeline") -> None:
        self._started_at = pipeline.sources.clock()
        self._decision = pipeline.sources.new_id("decision")
        given = [{"role": "user", "content": self._given}] if isinstance(self._given, str) else self._given
        if not isinstance(given, Sequence):
            raise WireError(f"messages is a {type(given).__name__}, expected a list")
        if self._tools:
            self._definitions = tool_definitions(self._tools, pipeline.faults)
        self._messages = [wire_message(message, pipeline.faults) for message in given]

    def _add(self, action: Action) -> None:
        if action.kind not in ACTION_KINDS:
            raise WireError(f"action kind is {action.kind!r}, allowed: {', '.join(ACTION_KINDS)}")
        if self._trajectory is None:
            return
        opened: list[OpenCall] = []
        if action.kind == "tool_call":
            call_id = wire_text(action.call_id or f"call_{self._decision}_{len(self._actions)}")
            action = replace(action, call_id=call_id)
            opened.append(OpenCall(str(action.name), json_text(action.arguments), call_id))
        with self._trajectory.lock:
            memory = self._trajectory.memory
            memory.open_calls = memory.open_calls + opened if self._actions else opened
            self._actions.append(action)

    def _close(self, pipeline: "Pipeline", trajectory: Trajectory, error: BaseException | None) -> None:
        if self._messages is None:
            return
        if not self._actions:
            why = "without act()" if error is None else f"by {type(error).__name__}"
            pipeline.faults.count("step_without_action", f"a step was left {why}, so nothing was recorded")
            return
        shared = trajectory.attributes()
        if self._marks.get(POLICY_ROLE, shared.get(POLICY_ROLE)) != shared.get(POLICY_ROLE):
            shared.pop(POLICY_NAME, None)
            shared.pop(POLICY_VERSION, None)
        if self._model is not None:
            shared.setdefault(POLICY_NAME, wire_text(self._model))
        if error is not None:
            shared[ERROR_TYPE] = type(error).__qualname__
        shared.update(self._marks, **{STEP_DECISION: self._decision})
        ended_at = pipeline.sources.clock()
        with trajectory.lock:
            for attributes in self._commit(trajectory, shared):
                span = pipeline.start(SPAN_STEP, attributes, trajectory.span, self._started_at)
                span.end(ended_at)
                pipeline.count_step()

    def _commit(self, trajectory: Trajectory, shared: "dict[str, AttributeValue]") -> "list[dict[str, AttributeValue]]":
        """Return each action's attributes and remember what they send; nothing is remembered when that fails."""
        messages = self._messages or []
        hashes = [text_hash(message) for message in messages]
        memory = trajectory.memory
        tools_hash = content_hash(self._definitions) if self._definitions else None
        steps: list[dict[str, AttributeValue]] = []
        for position, action in enumerate(self._actions):
            first = position == 0
            offset = memory.common_prefix(hashes) if first else len(messages)
            step = {**shared, STEP_INDEX: memory.steps + position, STEP_MESSAGES_OFFSET: offset}
            step[STEP_MESSAGES] = f"[{','.join(messages[offset:])}]"
            if tools_hash is not None:
                step[STEP_TOOLS_HASH] = tools_hash
                if first and tools_hash != memory.tools_hash:
                    step[TOOL_DEFINITIONS] = json_text(self._definitions)
            step |= _action_attributes(action) | (self._usage if first else {})
            if position in self._observations:
                step[TOOL_CALL_RESULT] = self._observations[position]
            step[STEP_DIGEST] = step_digest(step)
            steps.append(step)
        memory.steps += len(steps)
        memory.messages = hashes
        memory.tools_hash = tools_hash or memory.tools_hash
        return steps


@overload
def step(messages: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def step(messages: Sequence[object] | str, tools: Sequence[object] | None = None) -> Step: ...


def step(
    messages: Callable[..., object] | Sequence[object] | str, tools: Sequence[object] | None = None
) -> Callable[..., object] | Step:
    """Record one decision, as ``with imitrace.step(messages, tools) as s: s.act(model(...))`` or as a decorator.

    As a decorator it stands on the function that calls the model, sync or async: its arguments ``messages`` and
    ``tools`` (else its first two) are what the agent sees, and what it returns is the answer.

    Args:
        messages: the conversation so far: OpenAI chat messages or messages in GenAI parts form; or the function.
        tools: the tools offered, as OpenAI function schemas.
    """
    return wrap(messages, _step_of) if callable(messages) else Step(messages, tools)


def _step_of(arguments: dict[str, Any]) -> Step:
    values = list(arguments.values())
    second = values[1] if len(values) > 1 and isinstance(values[1], list | tuple) else None
    return Step(arguments.get("messages", values[0] if values else []), arguments.get("tools", second))


def _action_attributes(action: Action) -> "dict[str, AttributeValue]":
    if action.kind == "message":
        return {STEP_ACTION_KIND: "message", STEP_MESSAGE: wire_text(action.message or "")}
    return {
        STEP_ACTION_KIND: "tool_call",
        TOOL_NAME: wire_text(action.name),
        TOOL_CALL_ID: wire_text(action.call_id),
        TOOL_CALL_ARGUMENTS: json_text(action.arguments),
    }
