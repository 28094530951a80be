"""Find the tool calls that a model wrote as text, as agents in the ReAct style and those that write code have it.

Whoever ran the tools read them out of the answer: a run behind it whose tool and arguments all stand in it is one.
"""

import json
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from imitrace.messages import Message, message_text
from imitrace.shapes.content_parts import Part
from imitrace_collector.foreign.answers import raw_answer
from imitrace_collector.foreign.calls import Call, told_by
from imitrace_collector.foreign.dialects import AGENT
from imitrace_collector.foreign.runs import Run
from imitrace_collector.foreign.threads import Frame

_LEAVES = 1000
"""Most values in a call's arguments that are looked for in a text."""
UNTOLD = "its agent went on, and no tool's run tells what it wrote"


def read_written_calls(frame: Frame, runs: Sequence[Run]) -> None:
    """Add the calls that answers hold as text; what else such an agent wrote before its last words is marked.

    Args:
        frame: whose calls' answers are read.
        runs: in the frame.
    """
    asked = {part["name"] for call in frame.calls for part in _tool_calls(call.answer)}  # an agent that need not write
    free = sorted((run for run in runs if run.name and run.name not in asked), key=lambda run: run.reading.at)
    starts = [run.began for run in free]
    plain: list[Call] = []
    found = False
    for place, call in enumerate(frame.calls if free else ()):
        if call.answer is None or call.accumulated or _tool_calls(call.answer):
            continue
        end = frame.calls[place + 1].reading.row.started_at if place + 1 < len(frame.calls) else None
        behind = free[bisect_left(starts, call.reading.row.started_at) : end and bisect_left(starts, end)]
        text = message_text(call.answer) if behind else ""
        parts = [_part(run) for run in behind if _stands_in(run, text)]
        if parts:
            found = True
            call.answer = {**call.answer, "parts": [*call.answer["parts"], *parts]}
            call.answer_from = ("tool runs whose calls stand in its text", call.reading)
        else:
            plain.append(call)
    if found:
        _end(plain, frame)


def _end(plain: Sequence[Call], frame: Frame) -> None:
    """Tell last words, as their agent said them, from what nobody was told."""
    last = {id(call.reading.outermost()): call for call in frame.calls}
    ends = {id(call) for call in last.values()}
    for call in plain:
        if id(call) not in ends:
            call.answer_problem = "; ".join(filter(None, (call.answer_problem, UNTOLD)))
            continue
        said = _said_by_agent(call)
        if said and call.answer is not None and said in message_text(call.answer):
            call.answer = {**call.answer, "parts": [{"type": "text", "content": said}]}


def _said_by_agent(call: Call) -> str | None:
    for span in call.reading.above():
        if span.role == AGENT:
            told = [found.messages for found, _, _ in told_by(span, "outputs", ())]
            told.append(raw_answer(span.said, span.names("raw_outputs")).messages)
            return next((message_text(messages[-1]).strip() for messages in told if messages), None)
    return None


def _stands_in(run: Run, text: str) -> bool:
    """Return whether a text names a tool, and all that it was run with."""
    if run.arguments is None or not re.search(rf"(?<!\w){re.escape(run.name)}(?!\w)", text):
        return False
    leaves = list(islice(_leaves(run.arguments), _LEAVES + 1))
    return len(leaves) <= _LEAVES and all(any(form in text for form in _forms(leaf)) for leaf in leaves)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    elif value is not None:
        yield value


def _forms(value: Any) -> tuple[str, ...]:
    written = json.dumps(value, ensure_ascii=False)
    return (value, written[1:-1], repr(value)[1:-1]) if isinstance(value, str) else (written, repr(value))


def _part(run: Run) -> Part:
    arguments = run.arguments if isinstance(run.arguments, dict) else {"input": run.arguments}
    return {"type": "tool_call", "id": run.call_id, "name": run.name, "arguments": arguments}


def _tool_calls(answer: Message | None) -> list[Part]:
    return [part for part in answer["parts"] if part["type"] == "tool_call"] if answer else []
