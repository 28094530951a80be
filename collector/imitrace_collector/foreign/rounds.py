"""Tell the answers apart of a span that several model calls wrote over each other: what it holds is the last one's.

So it is where two instrumentors share a span. The last request has the answers before its own, and what came back.
"""

from collections.abc import Mapping
from dataclasses import replace

from imitrace.messages import Message
from imitrace_collector.foreign.answers import one_answer, raw_answer
from imitrace_collector.foreign.calls import Call
from imitrace_collector.foreign.dialects import TOOL
from imitrace_collector.foreign.runs import Run

_RULE = "a later request of the same span"


def rounds_of(call: Call, runs: Mapping[int, Run]) -> list[Call]:
    """Return the model calls that a span tells of: one, unless its own request holds what tools in it gave.

    Args:
        call: as its span says.
        runs: by the identity of their reading.
    """
    ran = {runs[id(span)].call_id for span in call.reading.inside if span.role == TOOL and id(span) in runs} - {None}
    answers = _answers(call, ran) if ran else []
    found: list[Call] = []
    for place in answers:
        one = replace(call, seen=call.seen[:place], answer=call.seen[place], answer_problem=None, _prints=None)
        one.answer_from, one.decision = (_RULE, call.reading), f"{call.decision}.{len(found)}"
        one.input_tokens = one.output_tokens = one.error_type = None
        one.response_ids = frozenset()
        found.append(one)
    if answers:
        _keep_last(call)
    return [*found, call]


def _answers(call: Call, ran: set[str | None]) -> list[int]:
    """Return where the answers of these calls stand in the last request: from the first whose tools ran in the span."""
    turn = max((place for place, message in enumerate(call.seen) if message["role"] == "user"), default=-1)
    answers = [place for place in range(turn + 1, len(call.seen)) if call.seen[place]["role"] == "assistant"]
    first = next((place for place in answers if _ids(call.seen[place]) & ran), len(call.seen))
    return [place for place in answers if place >= first]


def _keep_last(call: Call) -> None:
    """Take earlier answers out of what is left of the last."""
    whole = one_answer(raw_answer(call.reading.said, call.reading.names("raw_outputs")).messages)
    before = {name for message in call.seen for name in _ids(message)}
    if whole is not None and not _ids(whole) & before:
        call.answer, call.answer_from = whole, ("raw output", call.reading)
    elif call.answer is not None:
        parts = [part for part in call.answer["parts"] if part["type"] != "tool_call" or part["id"] not in before]
        call.answer = {**call.answer, "parts": parts} if parts else None


def _ids(message: Message) -> set[str | None]:
    return {part["id"] for part in message["parts"] if part["type"] == "tool_call"} - {None}
