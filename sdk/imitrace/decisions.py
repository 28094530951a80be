"""Write decisions as steps of the wire, with only what is new since the step before."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from imitrace.history import HistoryReader, Known, OfferedTools, WireMessage
from imitrace.memory import Memory
from imitrace.messages import Action
from imitrace.semconv import (
    STEP_ACTION_KIND,
    STEP_INCOMPLETE,
    STEP_INDEX,
    STEP_MESSAGE,
    STEP_MESSAGES,
    STEP_MESSAGES_OFFSET,
    STEP_TOOLS_HASH,
    TOOL_CALL_ARGUMENTS,
    TOOL_CALL_ID,
    TOOL_CALL_RESULT,
    TOOL_DEFINITIONS,
    TOOL_NAME,
)
from imitrace.shapes.answers import Kept
from imitrace.shapes.plain import json_text, wire_text

if TYPE_CHECKING:
    from imitrace.pipeline import Pipeline
    from imitrace.spans import AttributeValue


class Taken(NamedTuple):
    """An action that was taken."""

    action: Action
    call_id: str | None
    """The action's, or one of our own for a call without."""
    arguments: str
    """Of a call, as canonical JSON."""


@dataclass
class Decided:
    """What one decision saw and did."""

    messages: list[WireMessage] | None = None
    """None until they were read."""
    known: Known = field(default_factory=dict)
    tools: OfferedTools | None = None
    taken: list[Taken] = field(default_factory=list)
    observations: dict[int, str] = field(default_factory=dict)
    """By position of the action."""
    usage: "dict[str, AttributeValue]" = field(default_factory=dict)
    kept: Kept | None = None
    lack: str | None = None
    """Why this is not all that was seen."""


def wire_steps(
    decided: Decided, shared: "dict[str, AttributeValue]", memory: Memory, pipeline: "Pipeline"
) -> "list[dict[str, AttributeValue]]":
    """Return each action's attributes and remember what they send; nothing is remembered when that fails.

    Args:
        decided: the decision; each of its actions is a step.
        shared: attributes that all of them have.
        memory: what its trajectory has sent before.
        pipeline: whose redactor cleans what is sent.
    """
    tools = decided.tools
    texts, lack = _state(decided, memory)
    if lack is not None:
        shared[STEP_INCOMPLETE] = lack
    steps: list[dict[str, AttributeValue]] = []
    offset = memory.common_prefix(texts)
    for position, taken in enumerate(decided.taken):
        new = texts[offset:] if position == 0 else []
        step = {
            **shared,
            STEP_INDEX: memory.steps + position,
            STEP_MESSAGES_OFFSET: len(texts) - len(new),
            STEP_MESSAGES: f"[{','.join(new)}]",
        }
        if tools is not None:
            step[STEP_TOOLS_HASH] = tools.hash
            if position == 0 and tools.hash != memory.tools_hash:
                step[TOOL_DEFINITIONS] = tools.sent
        step.update(_action_attributes(taken, pipeline))
        if position == 0:
            step.update(decided.usage)
        if position in decided.observations:
            step[TOOL_CALL_RESULT] = pipeline.clean(decided.observations[position])
        steps.append(step)
    memory.steps += len(steps)
    _remember(decided, texts, None if lack else decided.kept, memory, pipeline)
    return steps


def _state(decided: Decided, memory: Memory) -> tuple[list[str], str | None]:
    """Return all messages of the state, also those that only the model's service holds, or why some are not there."""
    texts = [message.sent for message in decided.messages or []]
    before = None if decided.kept is None else decided.kept.after
    if before is None:
        return texts, decided.lack
    if before == memory.service_id:
        return [*memory.messages, *memory.answer, *texts], decided.lack
    return texts, "what came before is kept by the model's service, and no step of this trajectory led to it"


def _remember(decided: Decided, texts: list[str], kept: Kept | None, memory: Memory, pipeline: "Pipeline") -> None:
    memory.messages, memory.known = texts, decided.known
    memory.service_id = None if kept is None else kept.id
    if kept is not None:
        reader = HistoryReader(pipeline.faults, pipeline.redactor)
        memory.answer = [reader.made(json_text(message)).sent for message in kept.said]
    if decided.tools is not None:
        memory.tools, memory.tools_hash = decided.tools, decided.tools.hash


def _action_attributes(taken: Taken, pipeline: "Pipeline") -> "dict[str, AttributeValue]":
    action, redactor = taken.action, pipeline.redactor

    if action.kind == "message":
        return {STEP_ACTION_KIND: "message", STEP_MESSAGE: pipeline.clean(action.message or "")}
    return {
        STEP_ACTION_KIND: "tool_call",
        TOOL_NAME: wire_text(action.name),
        TOOL_CALL_ID: pipeline.clean(taken.call_id),
        TOOL_CALL_ARGUMENTS: taken.arguments if redactor is None else json_text(redactor.value(action.arguments)),
    }
