"""Read agents whose own span tells of many decisions, because nobody watched their model: one call for each answer."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from imitrace.messages import Message
from imitrace_collector.foreign.answers import raw_answer
from imitrace_collector.foreign.calls import Call, dropped, error_of, told_by, tools_of
from imitrace_collector.foreign.chains import Print, prints
from imitrace_collector.foreign.contents import NOTHING, Told, has_content, joined, read_messages
from imitrace_collector.foreign.dialects import AGENT, MODEL, TOOL
from imitrace_collector.foreign.events import Event, answer_in, events_of, request_in
from imitrace_collector.foreign.readings import Reading
from imitrace_collector.foreign.runs import Run
from imitrace_collector.foreign.said import json_value

ACCUMULATED = "its request is not in the spans: the state is put together from earlier answers and tool runs"


def records_among(readings: Iterable[Reading]) -> Iterator[Reading]:
    """Yield the agents' spans that no model call, and no other agent's span, is in."""
    for reading in readings:
        if reading.role == AGENT and not _watched(reading):
            yield reading


def read_record(reading: Reading, runs: Sequence[Run]) -> list[Call]:
    """Return the decisions that an agent's span tells of, in their order.

    Args:
        reading: the agent's span.
        runs: the tool runs directly in it, in the order in which they began.
    """
    whole = _from_transcript(reading, runs)
    if whole:
        return whole
    events = events_of(reading)
    answers = _answers(reading, events)
    if not any(part["type"] == "tool_call" for answer in answers for part in answer["parts"]):
        answers = [*(_called(run) for run in runs if run.arguments is not None), *answers]
    prompt = _prompt(reading, events)
    tools = tools_of(reading)
    calls = []
    for place, answer in enumerate(answers):
        call = Call(reading, (), spans=[reading], decision=f"{reading.row.span_id}.{place}", accumulated=True)
        call.answer, call.answer_from = answer, ("agent's span", reading)
        call.seen_from = ("agent's span", reading)
        call.seen_problem = "; ".join(filter(None, (ACCUMULATED, dropped(reading))))
        call.tools, call.tools_from = tools, ("own span", reading) if tools else None
        if place == 0:
            call.seen = prompt
            call.input_tokens, call.output_tokens = reading.number("input_tokens"), reading.number("output_tokens")
        calls.append(call)
    if calls and calls[-1].answer is not None and calls[-1].answer["parts"][0]["type"] == "text":
        calls[-1].error_type = error_of(reading)
    return calls


def _from_transcript(reading: Reading, runs: Sequence[Run]) -> list[Call]:
    """Return the decisions in a transcript that an agent gave back: before each stands all that its model saw.

    Nothing where it holds no request, or no calls though tools were run: then answers are not written as they were.
    """
    told, rule = _transcript(reading)
    asked = [message for message in told.messages if message["role"] != "system"]
    called = any(part.get("type") == "tool_call" for message in asked for part in message["parts"])
    if not asked or asked[0]["role"] == "assistant" or (runs and not called):
        return []
    given = prints(_prompt(reading, events_of(reading)))
    had = len(given) if prints(asked)[: len(given)] == given else 0
    problems = [told.problem, dropped(reading), None if had or not _answered(given) else _UNTOLD_START]
    if told.messages[0]["role"] != "system":
        problems.append(_UNTOLD_SYSTEM)
    tools = tools_of(reading)
    calls: list[Call] = []
    for place, answer in enumerate(told.messages):
        had -= place > 0 and told.messages[place - 1]["role"] != "system"
        if answer["role"] != "assistant" or had > 0 or not answer["parts"]:
            continue
        call = Call(reading, (), spans=[reading], decision=f"{reading.row.span_id}.{len(calls)}")
        call.answer, call.answer_from = answer, (rule, reading)
        call.seen, call.seen_from = told.messages[:place], (rule, reading)
        call.seen_problem = "; ".join(filter(None, problems)) or None
        call.tools, call.tools_from = tools, ("own span", reading) if tools else None
        if not calls:
            call.input_tokens, call.output_tokens = reading.number("input_tokens"), reading.number("output_tokens")
        calls.append(call)
    return calls


_UNTOLD_SYSTEM = "whether its model saw a system prompt is not in the spans"
_UNTOLD_START = "which of the answers in the transcript are of this run is not in the spans"


def _transcript(reading: Reading) -> tuple[Told, str]:
    """Return the first list of messages that an agent gave back with both what was asked and what was answered."""
    for name in (*reading.names("outputs"), *reading.names("raw_outputs")):
        value = reading.said.structure(name)
        if not isinstance(value, dict):
            value = json_value(value)[0]
        if isinstance(value, dict) and isinstance(value.get("messages"), list):
            told = read_messages(name, value["messages"], "assistant")
            if {"user", "assistant"} <= {message["role"] for message in told.messages}:
                return replace(told, messages=joined(told.messages)), f"transcript {name}"
    return NOTHING, ""


def _answered(given: Iterable[Print]) -> bool:
    return any(role == "assistant" for role, *_ in given)


def _watched(reading: Reading) -> bool:
    return any(span.role in (MODEL, AGENT) or (span.role != TOOL and _watched(span)) for span in reading.inside)


def _answers(reading: Reading, events: Sequence[Event]) -> list[Message]:
    """Return the assistant's messages; the calls of one answer are one message."""
    for told, _, _ in told_by(reading, "outputs", events):
        found = [message for message in told.messages if message["role"] == "assistant"]
        if has_content(found):
            return found
    told = answer_in(events)
    if not has_content(told.messages):
        told = raw_answer(reading.said, reading.names("raw_outputs"))
    return [message for message in told.messages if has_content((message,))]


def _prompt(reading: Reading, events: Sequence[Event]) -> tuple[Message, ...]:
    for told, _, _ in told_by(reading, "inputs", events):
        if has_content(told.messages):
            return told.messages
    told = request_in(events)
    if has_content(told.messages):
        return told.messages
    name, value = reading.said.first(reading.names("raw_inputs"))
    return read_messages(name, value).messages if name is not None else ()


def _called(run: Run) -> Message:
    arguments = run.arguments if isinstance(run.arguments, dict) else {"input": run.arguments}
    part = {"type": "tool_call", "id": run.call_id, "name": run.name, "arguments": arguments}
    return {"role": "assistant", "parts": [part]}
