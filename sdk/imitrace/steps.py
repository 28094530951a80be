"""Record decisions: what the agent saw, which tools it had, and what it did."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

from imitrace.binding import Instead
from imitrace.canonical import step_digest
from imitrace.context import Memory, OpenCall, Trajectory, current
from imitrace.exceptions import WireError
from imitrace.history import HistoryReader, Known, OfferedTools, WireMessage
from imitrace.messages import Action
from imitrace.provider import active
from imitrace.semconv import (
    ACTION_KINDS,
    ERROR_TYPE,
    EVENT_EXCEPTION,
    EXCEPTION_MESSAGE,
    EXCEPTION_TYPE,
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
    STEP_INCOMPLETE,
    STEP_INDEX,
    STEP_MESSAGE,
    STEP_MESSAGES,
    STEP_MESSAGES_OFFSET,
    STEP_PROPENSITY,
    STEP_ROUTE_REASON,
    STEP_SHADOW,
    STEP_TOOLS_HASH,
    TOOL_CALL_ARGUMENTS,
    TOOL_CALL_ID,
    TOOL_CALL_RESULT,
    TOOL_DEFINITIONS,
    TOOL_NAME,
    TRAJECTORY_ID,
)
from imitrace.shapes.answers import Kept, read_answer
from imitrace.shapes.plain import json_text, payload_text, wire_text
from imitrace.shapes.streams import Joiner
from imitrace.traced_stream import traced_stream

if TYPE_CHECKING:
    from imitrace.clones import Verdict
    from imitrace.pipeline import Pipeline
    from imitrace.redaction.redactor import Redactor
    from imitrace.spans import AttributeValue

UNKNOWN_POLICY = "unknown_policy"
"""``error.type`` of a step that was told a policy role we don't know: it must not pass for the configured one's."""
LEFT_EARLY = "stream_left_early"
"""``error.type`` of a step whose streamed answer was not read to its end: what came is not what was decided."""


class _Taken(NamedTuple):
    """An action that was taken."""

    action: Action
    call_id: str | None
    """The action's, or one of our own for a call without."""
    arguments: str
    """Of a call, as canonical JSON."""


class Step:
    """One decision of the agent: open it with what the agent sees, and tell it what the agent did.

    Messages and tools are read when it opens, so that later changes to the lists don't matter. The step is emitted
    when it closes; one that closes without an action is not a decision: it is counted, not emitted. Outside of a
    trajectory it opens one of its own.
    """

    def __init__(
        self,
        messages: Any,
        tools: Sequence[object] | None = None,
        system: Any = None,
        answer: Callable[[Any], object] | None = None,
    ) -> None:
        self._given = messages
        self._given_tools = tools
        self._system = system
        self._answer = answer
        self._pipeline: Pipeline | None = None
        self._trajectory: Trajectory | None = None
        self._implicit: Trajectory | None = None
        self._messages: list[WireMessage] | None = None
        self._known: Known = {}
        self._tools: OfferedTools | None = None
        self._actions: list[_Taken] = []
        self._observations: dict[int, str] = {}
        self._marks: dict[str, AttributeValue] = {}
        self._usage: dict[str, AttributeValue] = {}
        self._model: str | None = None
        self._kept: Kept | None = None
        self._joiner: Joiner | None = None
        self._decision = ""
        self._started_at = 0

    def __enter__(self) -> "Step":
        trajectory = current()
        if trajectory is None and active() is not None:
            trajectory = self._implicit = Trajectory().__enter__()
        if trajectory is not None and trajectory.pipeline is not None:
            self._trajectory = trajectory
            pipeline = self._pipeline = trajectory.pipeline
            with pipeline.faults.guard("step"):
                self._started_at = pipeline.clock()
                self._decision = pipeline.ids.name("decision")
                self._read(HistoryReader(pipeline.faults, pipeline.redactor), trajectory)
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
            answer: a chat completion, a response, a message of OpenAI's, Anthropic's or LangChain's client (object or
                dict), text, ``(name, arguments)``, an ``Action``, or a list of these. Anything else is kept as text,
                with ``error.type`` on the step.
        """
        if self._pipeline is None:
            return
        with self._pipeline.faults.guard("step.act"):
            read = read_answer(answer, self._pipeline.faults)
            self._model = read.model or self._model
            self._kept = read.kept
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
            known = [n for n, taken in enumerate(self._actions) if call_id is None or taken.call_id == call_id]
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

    def shadow(self, verdict: "Verdict") -> None:
        """Record what a clone would have done here, beside what is done."""
        if self._pipeline is None:
            return
        with self._pipeline.faults.guard("step.shadow"):
            says = verdict.shadow()
            redactor = self._pipeline.redactor
            self._marks[STEP_SHADOW] = json_text(says if redactor is None else redactor.value(says))

    def suspend(self) -> None:
        """Make the trajectory that a step opened of its own no longer the current one."""
        if self._implicit is not None:
            self._implicit.suspend()

    def resume(self) -> None:
        """Make it current again."""
        if self._implicit is not None:
            self._implicit.resume()

    def instead(self) -> Instead | None:
        """Let the decorated function decide."""

    def settle(self, result: object) -> None:
        """Take what a function decorated as a step returned, or the end of what it streamed."""
        joiner, self._joiner = self._joiner, None
        if result is not None or joiner is None:
            self.act(self._read_result(result))
        elif self._pipeline is not None:
            with self._pipeline.faults.guard("step.act"):
                self.act(joiner.answer())

    def take(self, item: object) -> None:
        """Take a chunk of a streamed answer."""
        if self._pipeline is None:
            return
        with self._pipeline.faults.guard("step.stream"):
            if self._joiner is None:
                self._joiner = Joiner()
            self._joiner.add(item)

    def stream(self, result: object) -> object | None:
        """Return a streamed answer wrapped so that the step ends when it does, None for any other answer."""
        return None if self._pipeline is None else traced_stream(result, self)

    def _read_result(self, result: object) -> object:
        if self._answer is None or self._pipeline is None:
            return result
        with self._pipeline.faults.guard("step.answer"):
            return self._answer(result)
        return result

    def _read(self, reader: HistoryReader, trajectory: Trajectory | None) -> None:
        """Read what the agent sees."""
        known = {} if trajectory is None else trajectory.memory.known
        if self._given_tools:
            before = None if trajectory is None else trajectory.memory.tools
            with reader.faults.guard("step.tools"):
                self._tools = reader.read_tools(self._given_tools, before)
        self._messages, self._known = reader.read(self._given, self._system, known)

    def _add(self, action: Action) -> None:
        if action.kind not in ACTION_KINDS:
            raise WireError(f"action kind is {action.kind!r}, allowed: {', '.join(ACTION_KINDS)}")
        if self._trajectory is None:
            return
        taken, opened = _Taken(action, None, ""), []
        if action.kind == "tool_call":
            call_id = action.call_id or f"call_{self._decision}_{len(self._actions)}"
            taken = _Taken(action, call_id, json_text(action.arguments))
            opened = [OpenCall(str(action.name), taken.arguments, call_id)]
        with self._trajectory.lock:
            memory = self._trajectory.memory
            memory.open_calls = memory.open_calls + opened if self._actions else opened
            self._actions.append(taken)

    def _close(self, pipeline: "Pipeline", trajectory: Trajectory, error: BaseException | None) -> None:
        if self._joiner is not None and error is None:
            finished = self._joiner.finished
            self.settle(None)
            if not finished:
                self._marks[ERROR_TYPE] = LEFT_EARLY
        if self._messages is None:
            return
        if not self._actions:
            why = "without act()" if error is None else f"by {type(error).__name__}"
            pipeline.faults.count("step_without_action", f"a step was left {why}, so it is no decision")
            if error is not None:
                says = {TRAJECTORY_ID: str(trajectory.id), ERROR_TYPE: type(error).__qualname__}
                says |= {EXCEPTION_TYPE: type(error).__qualname__, EXCEPTION_MESSAGE: pipeline.words(error)}
                pipeline.emit_event(EVENT_EXCEPTION, says, trajectory.span().context)
            return
        shared = trajectory.attributes()
        if self._marks.get(POLICY_ROLE, shared.get(POLICY_ROLE)) != shared.get(POLICY_ROLE):
            shared.pop(POLICY_NAME, None)
            shared.pop(POLICY_VERSION, None)
        if self._model is not None:
            shared.setdefault(POLICY_NAME, wire_text(self._model))
        if error is not None:
            shared[ERROR_TYPE] = type(error).__qualname__
        shared.update(self._marks)
        shared[STEP_DECISION] = self._decision
        ended_at = pipeline.clock()
        with trajectory.lock:
            parent = trajectory.span().context
            for attributes in self._commit(trajectory, shared, pipeline):
                pipeline.record(pipeline.start(SPAN_STEP, parent, self._started_at), attributes, ended_at, error)
        pipeline.count_steps(len(self._actions))

    def _commit(
        self, trajectory: Trajectory, shared: "dict[str, AttributeValue]", pipeline: "Pipeline"
    ) -> "list[dict[str, AttributeValue]]":
        """Return each action's attributes and remember what they send; nothing is remembered when that fails."""
        redactor, memory = pipeline.redactor, trajectory.memory
        texts, lack = self._state(memory)
        if lack is not None:
            shared[STEP_INCOMPLETE] = lack
        steps: list[dict[str, AttributeValue]] = []
        offset = memory.common_prefix(texts)
        for position, taken in enumerate(self._actions):
            new = texts[offset:] if position == 0 else []
            step = {
                **shared,
                STEP_INDEX: memory.steps + position,
                STEP_MESSAGES_OFFSET: len(texts) - len(new),
                STEP_MESSAGES: f"[{','.join(new)}]",
            }
            if self._tools is not None:
                step[STEP_TOOLS_HASH] = self._tools.hash
                if position == 0 and self._tools.hash != memory.tools_hash:
                    step[TOOL_DEFINITIONS] = self._tools.sent
            step.update(_action_attributes(taken, redactor))
            if position == 0:
                step.update(self._usage)
            if position in self._observations:
                result = self._observations[position]
                step[TOOL_CALL_RESULT] = result if redactor is None else redactor.text(result)
            step[STEP_DIGEST] = step_digest(step)
            steps.append(step)
        memory.steps += len(steps)
        memory.messages, memory.known = texts, self._known
        memory.service_id = None if self._kept is None or lack else self._kept.id
        if self._kept is not None:
            reader = HistoryReader(pipeline.faults, redactor)
            memory.answer = [reader.made(json_text(message)).sent for message in self._kept.said]
        if self._tools is not None:
            memory.tools, memory.tools_hash = self._tools, self._tools.hash
        return steps

    def _state(self, memory: Memory) -> tuple[list[str], str | None]:
        """Return all messages of the state, also those that only the model's service holds, or why it lacks those."""
        texts = [message.sent for message in self._messages or []]
        before = None if self._kept is None else self._kept.after
        if before is None:
            return texts, None
        if before == memory.service_id:
            return [*memory.messages, *memory.answer, *texts], None
        return texts, "what came before is kept by the model's service, and no step of this trajectory led to it"


def _action_attributes(taken: _Taken, redactor: "Redactor | None") -> "dict[str, AttributeValue]":
    action = taken.action

    def clean(text: object) -> str:
        return wire_text(text) if redactor is None else redactor.text(wire_text(text))

    if action.kind == "message":
        return {STEP_ACTION_KIND: "message", STEP_MESSAGE: clean(action.message or "")}
    return {
        STEP_ACTION_KIND: "tool_call",
        TOOL_NAME: wire_text(action.name),
        TOOL_CALL_ID: clean(taken.call_id),
        TOOL_CALL_ARGUMENTS: taken.arguments if redactor is None else json_text(redactor.value(action.arguments)),
    }
