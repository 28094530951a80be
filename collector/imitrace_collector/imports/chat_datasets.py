"""Read the forms in which conversations are kept for training: OpenAI's fine-tuning JSONL, ShareGPT and TRL's.

OpenAI: ``messages``, ``tools``, ``parallel_tool_calls``; an assistant's message with ``weight`` 0 is not to be learnt,
so it is context here and no decision (https://platform.openai.com/docs/guides/supervised-fine-tuning). TRL has the same
without weights, or ``prompt`` and ``completion`` for one decision (https://huggingface.co/docs/trl/dataset_formats).
ShareGPT: ``conversations`` of ``from`` and ``value``, with ``function_call`` and ``observation`` for tools
(https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imitrace.canonical import content_hash
from imitrace.exceptions import WireError
from imitrace.messages import Message, from_openai
from imitrace.shapes.chat_shapes import parts_messages
from imitrace.shapes.plain import short
from imitrace_collector.chat_jsonl import offered_tools
from imitrace_collector.imports.calls import Call, each_call
from imitrace_collector.imports.conversations import (
    Conversation,
    Facts,
    Given,
    Json,
    Row,
    Transcript,
    agent_name,
    each,
)

_SPEAKERS = {"human": "user", "gpt": "assistant", "observation": "tool"}


def _fine_tune(row: Row, given: Given) -> Iterator[Conversation]:
    line = _object(row)
    messages = line.get("messages")
    if not isinstance(messages, list) or not messages:
        raise WireError("'messages' is missing or empty, expected a list of chat messages")
    told = [message.get("weight", 1) != 0 for message in messages if isinstance(message, Mapping)]
    tools = _functions(line) or offered_tools(line.get("tools"), given)
    yield _conversation(row, given, list(map(from_openai, messages)), (told, tools))


def _functions(line: Json) -> Sequence[Json]:
    """Return the definitions of the older form, in which a tool is a function and nothing else."""
    return offered_tools(line.get("functions"), Given())


def _sharegpt(row: Row, given: Given) -> Iterator[Conversation]:
    line = _object(row)
    tools = line.get("tools")
    if isinstance(tools, str) and tools.strip():
        try:
            tools = json.loads(tools)
        except (ValueError, RecursionError) as error:
            raise WireError(f"'tools' is {short(tools)}, expected JSON") from error
    messages = [{"role": "system", "content": line["system"]}] if line.get("system") else []
    calls: list[str | None] = []
    for turn in line["conversations"]:
        message = _turn(turn, calls)
        messages.append(message)
    yield _conversation(
        row, given, list(map(from_openai, messages)), ([True] * len(messages), offered_tools(tools, given))
    )


def _turn(turn: Any, calls: list[str | None]) -> dict[str, Any]:
    """Return one turn as an OpenAI message.

    Args:
        turn: ``from`` and ``value``.
        calls: ids of the calls not answered yet, by order; this turn's are added or taken.
    """
    if not isinstance(turn, Mapping) or not isinstance(turn.get("from"), str) or not isinstance(turn.get("value"), str):
        raise WireError(f"turn is {short(turn)}, expected an object with 'from' and 'value'")
    speaker, value = turn["from"], turn["value"]
    if speaker == "function_call":
        return {"role": "assistant", "tool_calls": _function_calls(value, calls)}
    role = _SPEAKERS.get(speaker, speaker)
    message = {"role": role, "content": value}
    if role == "tool":
        message["tool_call_id"] = calls.pop(0) if calls else None
    elif role == "assistant":
        calls.clear()
    return message


def _function_calls(value: str, calls: list[str | None]) -> list[dict[str, Any]]:
    try:
        found = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise WireError(f"function_call is {short(value)}, expected JSON") from error
    listed = found if isinstance(found, list) else [found]
    calls[:] = [call.get("id") for call in listed if isinstance(call, Mapping)]
    return listed


def _pair(row: Row, given: Given) -> Call:
    """Read a prompt with its completion: a decision that goes on from another where its prompt holds that one."""
    line = _object(row)
    answer = parts_messages(line["completion"][:1])
    if not answer or answer[0]["role"] != "assistant":
        raise WireError("'completion' does not begin with a message of the assistant")
    return Call(
        place=row.place,
        position=row.position,
        agent=agent_name(given, line.get("agent")),
        state=list(map(from_openai, line["prompt"])),
        answer=answer[0],
        after=list(map(from_openai, line["completion"][1:])),
        facts=Facts(tools=offered_tools(line.get("tools"), given)),
    )


def _conversation(
    row: Row, given: Given, messages: Sequence[Message], known: tuple[Sequence[bool], Sequence[Json]]
) -> Conversation:
    learnt, tools = known
    transcript = Transcript()
    for message, counts in zip(messages, learnt, strict=True):
        if message["role"] == "assistant" and counts:
            transcript.answer(message, Facts(tools=tools))
        else:
            transcript.say(message)
    agent = agent_name(given, row.value.get("agent"))
    return Conversation(
        place=row.place,
        position=row.position,
        trajectory_id=content_hash([messages, list(learnt), list(tools)]),
        agent=agent,
        decisions=transcript.decisions,
        after=transcript.after(),
    )


def _object(row: Row) -> Json:
    if not isinstance(row.value, dict):
        raise WireError("it is not a JSON object")
    return row.value


read_fine_tune = each(_fine_tune)
read_sharegpt = each(_sharegpt)
read_pairs = each_call(_pair)
