"""Read trajectories in the Agent Trajectory Interchange Format (ATIF), versions 1.0 to 1.8, one document each.

Source: https://harborframework.com/docs/trajectory-format and the models of https://pypi.org/project/atif. An agent's
step is a decision, unless ``is_copied_context`` says that it was another trajectory's, or ``llm_call_count`` 0 that no
model made it. Sub-agents' trajectories stand in the document, or in documents of their own.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from imitrace.canonical import content_hash
from imitrace.exceptions import WireError
from imitrace.faults import Faults
from imitrace.messages import Message, canonical_role
from imitrace.shapes.content_parts import call_part, content_parts, result_part
from imitrace.shapes.plain import short
from imitrace.shapes.tool_shapes import tool_definitions
from imitrace_collector.imports.conversations import (
    Conversation,
    Facts,
    Given,
    Json,
    Row,
    Transcript,
    agent_name,
    count,
    each,
    text,
    time_of,
    under,
)

_FAULTS = Faults()
_DEEP = 20
"""How far sub-agents are followed into each other."""


def _document(row: Row, given: Given) -> Iterator[Conversation]:
    yield from _trajectories(row, row.value, given, ())


def _trajectories(row: Row, found: Any, given: Given, above: tuple[str, ...]) -> Iterator[Conversation]:
    """Yield a trajectory and those of its sub-agents; one without a name of its own is named under the one above."""
    if not isinstance(found, Mapping) or not isinstance(found.get("steps"), list):
        raise WireError("it has no list 'steps'")
    name = text(found.get("trajectory_id") or found.get("session_id") or content_hash(found)) or ""
    if above and not found.get("trajectory_id"):
        name = above[-1]
    yield _conversation(row, found, given, (name, above[0] if above else None))
    named: Counter[str] = Counter()
    for inner in (found.get("subagent_trajectories") or []) if len(above) < _DEEP else []:
        agent = str((inner.get("agent") or {}).get("name"))
        named[agent] += 1
        again = f".{named[agent]}" if named[agent] > 1 else ""
        yield from _trajectories(row, inner, given, (name, *above[1:], f"{name}/{agent}{again}"))


def _conversation(row: Row, found: Json, given: Given, named: tuple[str, str | None]) -> Conversation:
    name, parent = named
    agent = under(found, "agent")
    tools = agent.get("tool_definitions")
    known = Facts(
        model=text(agent.get("model_name")),
        tools=tool_definitions(tools, _FAULTS) if isinstance(tools, list) else given.tools,
    )
    transcript = Transcript()
    for step in found["steps"]:
        _step(step, known, transcript)
    times = [time_of(step.get("timestamp")) for step in found["steps"]]
    return Conversation(
        place=row.place,
        position=row.position,
        trajectory_id=name,
        agent=agent_name(given if parent is None else Given(), agent.get("name")),
        agent_version=text(agent.get("version")),
        decisions=transcript.decisions,
        after=transcript.after(),
        started_at=next((at for at in times if at is not None), None),
        tags={} if parent is None else {"parent": parent},
    )


def _step(step: Any, known: Facts, transcript: Transcript) -> None:
    if not isinstance(step, Mapping) or not isinstance(step.get("source"), str):
        raise WireError(f"step is {short(step)}, expected an object with 'source'")
    message = _message(step)
    decided = step["source"] == "agent" and not step.get("is_copied_context") and step.get("llm_call_count") != 0
    if decided:
        transcript.answer(message, _facts(step, known))
    else:
        transcript.say(message)
    for result in _results(step):
        transcript.say(result)


def _message(step: Json) -> Message:
    role = "assistant" if step["source"] == "agent" else canonical_role(step["source"])
    thoughts = [{"type": "thinking", "thinking": step["reasoning_content"]}] if step.get("reasoning_content") else []
    calls = [
        call_part(
            {"id": call.get("tool_call_id"), "name": call.get("function_name"), "arguments": call.get("arguments")}
        )
        for call in step.get("tool_calls") or []
    ]
    return {"role": role, "parts": [*content_parts(thoughts), *content_parts(step.get("message")), *calls]}


def _results(step: Json) -> Iterable[Message]:
    """Yield what came back: of a call, or, where it names none, from the agent's surroundings."""
    for result in under(step, "observation").get("results") or []:
        if result.get("source_call_id") is not None:
            yield {"role": "tool", "parts": [result_part(result["source_call_id"], _content(result))]}
        elif result.get("content"):
            yield {"role": "user", "parts": content_parts(result["content"])}


def _content(result: Json) -> Any:
    if result.get("content") is None and result.get("subagent_trajectory_ref"):
        return {"subagent_trajectory_ref": result["subagent_trajectory_ref"]}
    return result.get("content")


def _facts(step: Json, known: Facts) -> Facts:
    paid = under(step, "metrics")
    return Facts(
        model=text(step.get("model_name")) or known.model,
        input_tokens=count(paid.get("prompt_tokens")),
        output_tokens=count(paid.get("completion_tokens")),
        tools=known.tools,
        at=time_of(step.get("timestamp")),
    )


read = each(_document)
