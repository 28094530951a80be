"""Record decisions: what the agent saw, which tools it had, and what it did."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from imitrace.binding import Instead
from imitrace.context import Trajectory, current
from imitrace.decisions import Decided, Taken, wire_steps
from imitrace.exceptions import WireError
from imitrace.faults import Faults
from imitrace.history import HistoryReader, listed_tools
from imitrace.memory import Memory, OpenCall
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
    STEP_CONFIDENCE,
    STEP_DECISION,
    STEP_PROPENSITY,
    STEP_ROUTE_REASON,
    STEP_SHADOW,
    TRAJECTORY_ID,
)
from imitrace.shapes.answers import read_answer
from imitrace.shapes.plain import json_text, payload_text, wire_text
from imitrace.shapes.streams import Joiner
from imitrace.traced_stream import traced_stream

if TYPE_CHECKING:
    from imitrace.pipeline import Pipeline
    from imitrace.spans import AttributeValue
    from imitrace.verdict import Verdict

UNKNOWN_POLICY = "unknown_policy"
"""``error.type`` of a step that was told a policy role we don't know: it must not pass for the configured one's."""
NOTHING_SEEN: Any = object()
"""What a decorated function saw that takes no argument which could say so."""
LEFT_EARLY = "stream_left_early"
"""``error.type`` of a step whose streamed answer was not read to its end: what came is not what was decided."""


class _Losing:
    """A guard that remembers that what it swallowed costs the decision."""

    def __init__(self, step: "Step", faults: Faults, reason: str) -> None:
        self._step = step
        self._guard = faults.guard(reason)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        swallowed = self._guard.__exit__(kind, error, trace)
        if swallowed:
            self._step._lost = True
        return swallowed


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
        self._decided = Decided()
        self._marks: dict[str, AttributeValue] = {}
        self._model: str | None = None
        self._joiner: Joiner | None = None
        self._decision = ""
        self._started_at = 0
        self._memory: Memory | None = None
        self._lost = False

    def __enter__(self) -> "Step":
        if self._decision:  # opened again: another decision
            Step.__init__(self, self._given, self._given_tools, self._system, self._answer)
        trajectory = current()
        if trajectory is None and active() is not None:
            trajectory = self._implicit = Trajectory().__enter__()
        if trajectory is not None and trajectory.pipeline is not None:
            self._trajectory = trajectory
            pipeline = self._pipeline = trajectory.pipeline
            self._memory = trajectory.memory
            self._memory.open_steps += 1
            self._started_at = pipeline.clock()
            self._decision = pipeline.ids.name("decision")
            with _Losing(self, pipeline.faults, "step"):
                self._read(HistoryReader(pipeline.faults, pipeline.redactor), trajectory)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        memory, self._memory = self._memory, None
        if memory is not None and self._pipeline is not None and self._trajectory is not None:
            memory.open_steps -= 1
            if memory is self._trajectory.memory:  # else this is a forked child, and the decision its parent's
                with _Losing(self, self._pipeline.faults, "step"):
                    self._close(self._pipeline, self._trajectory, error)
                memory.unreadable += self._lost
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
        with _Losing(self, self._pipeline.faults, "step.act"):
            read = read_answer(answer, self._pipeline.faults)
            self._model = read.model or self._model
            self._decided.kept = read.kept
            usage = {INPUT_TOKENS: read.input_tokens, OUTPUT_TOKENS: read.output_tokens}
            self._decided.usage.update({name: value for name, value in usage.items() if value is not None})
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
            known = [n for n, taken in enumerate(self._decided.taken) if call_id is None or taken.call_id == call_id]
            if not known:
                raise WireError(f"observation for call {call_id!r} came before an action of that id; call act() first")
            self._decided.observations[known[-1]] = payload_text(result)

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
            why = None if reason is None else self._pipeline.clean(reason)
            texts = {POLICY_ROLE: role, POLICY_NAME: name, POLICY_VERSION: version, STEP_ROUTE_REASON: why}
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

    def asked(self, verdict: "Verdict", *, acted: bool) -> None:
        """Record that a clone was asked about this step: who it is where it acted, else what it would have done."""
        if acted:
            self.policy(
                role="clone",
                name=verdict.clone,
                version=verdict.version,
                confidence=verdict.confidence,
                reason=verdict.reason,
                propensity=verdict.propensity,
            )
            return
        self.policy(reason=verdict.reason, propensity=verdict.propensity)
        if verdict.action is not None:
            self.shadow(verdict)

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
        if result is None and self._joiner is not None:
            self._act_joined(whole=not self._joiner.announces_end)
            return
        self._joiner = None
        self.act(self._read_result(result))

    def take(self, item: object) -> None:
        """Take a chunk of a streamed answer."""
        if self._pipeline is None:
            return
        with _Losing(self, self._pipeline.faults, "step.stream"):
            if self._joiner is None:
                self._joiner = Joiner()
            self._joiner.add(item)

    def stream(self, result: object) -> object | None:
        """Return a streamed answer wrapped so that the step ends when it does, None for any other answer."""
        return None if self._pipeline is None or self._answer is not None else traced_stream(result, self)

    def _act_joined(self, *, whole: bool) -> None:
        """Take the chunks that came as the answer; where it is not known to be whole their stream must have said so."""
        joiner, self._joiner = self._joiner, None
        if joiner is None or self._pipeline is None:
            return
        with _Losing(self, self._pipeline.faults, "step.act"):
            self.act(joiner.answer())
            if not (whole or joiner.finished):
                self._marks[ERROR_TYPE] = LEFT_EARLY

    def _read_result(self, result: object) -> object:
        if self._answer is None or self._pipeline is None:
            return result
        with self._pipeline.faults.guard("step.answer"):
            return self._answer(result)
        return result

    def _read(self, reader: HistoryReader, trajectory: Trajectory | None) -> None:
        """Read what the agent sees."""
        known = {} if trajectory is None else trajectory.memory.known
        if self._given_tools is not None:
            before = None if trajectory is None else trajectory.memory.tools
            self._decided.lack = "the tools offered could not be read"
            with reader.faults.guard("step.tools"):
                tools = listed_tools(self._given_tools)
                self._decided.tools = reader.read_tools(tools, before) if tools else None
                self._decided.lack = None
        if self._given is NOTHING_SEEN:
            self._decided.lack = "the function that decided takes no messages, so what it saw is unknown"
            reader.faults.count("no_messages", f"{self._decided.lack}; use the with form, or pass them")
            self._given = []
        self._decided.messages, self._decided.known = reader.read(self._given, self._system, known)

    def _add(self, action: Action) -> None:
        if action.kind not in ACTION_KINDS:
            raise WireError(f"action kind is {action.kind!r}, allowed: {', '.join(ACTION_KINDS)}")
        if self._trajectory is None:
            return
        taken, opened = Taken(action, None, ""), []
        if action.kind == "tool_call":
            call_id = action.call_id or f"call_{self._decision}_{len(self._decided.taken)}"
            taken = Taken(action, call_id, json_text(action.arguments))
            opened = [OpenCall(str(action.name), taken.arguments, call_id)]
        with self._trajectory.lock:
            memory = self._trajectory.memory
            memory.open_calls = memory.open_calls + opened if self._decided.taken else opened
            self._decided.taken.append(taken)

    def _close(self, pipeline: "Pipeline", trajectory: Trajectory, error: BaseException | None) -> None:
        if error is None:
            self._act_joined(whole=False)
        if self._decided.messages is None or (self._lost and not self._decided.taken):
            return
        if not self._decided.taken:
            _tell_no_decision(pipeline, trajectory, error)
            return
        shared = trajectory.attributes()
        if self._marks.get(POLICY_ROLE, shared.get(POLICY_ROLE)) != shared.get(POLICY_ROLE):
            shared.pop(POLICY_NAME, None)
            shared.pop(POLICY_VERSION, None)
        if self._model is not None:
            shared.setdefault(POLICY_NAME, wire_text(self._model))
        if error is not None:
            shared[ERROR_TYPE] = type(error).__qualname__
        self._take_declined(trajectory)
        shared.update(self._marks)
        shared[STEP_DECISION] = self._decision
        ended_at = pipeline.clock()

        def emit() -> None:
            parent = trajectory.span().context
            for attributes in wire_steps(self._decided, shared, trajectory.memory, pipeline):
                pipeline.record(pipeline.start(SPAN_STEP, parent, self._started_at), attributes, ended_at, error)
            pipeline.count_steps(len(self._decided.taken))

        trajectory.commit(emit)

    def _take_declined(self, trajectory: Trajectory) -> None:
        """Record what a clone said of this state where it was asked elsewhere, such as in another node of a graph."""
        declined, trajectory.declined = trajectory.declined, None
        if declined is None or STEP_SHADOW in self._marks or self._decided.messages is None:
            return
        seen, verdict = declined
        if seen == len(self._decided.messages) and self._marks.get(POLICY_ROLE) != "clone":
            self.asked(verdict, acted=False)


def _tell_no_decision(pipeline: "Pipeline", trajectory: Trajectory, error: BaseException | None) -> None:
    why = "without act()" if error is None else f"by {type(error).__name__}"
    pipeline.faults.count("step_without_action", f"a step was left {why}, so it is no decision")
    if error is not None:
        kind = type(error).__qualname__
        says = {TRAJECTORY_ID: str(trajectory.id), ERROR_TYPE: kind, EXCEPTION_TYPE: kind}
        says[EXCEPTION_MESSAGE] = pipeline.words(error)
        pipeline.emit_event(EVENT_EXCEPTION, says, trajectory.span().context)
