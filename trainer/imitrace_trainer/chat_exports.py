"""Write an episode as lines for other trainers: OpenAI's fine-tuning, TRL and ShareGPT; each says what it can't hold.

OpenAI: https://platform.openai.com/docs/guides/supervised-fine-tuning. TRL:
https://huggingface.co/docs/trl/dataset_formats. ShareGPT with tools:
https://github.com/hiyouga/LLaMA-Factory/blob/main/data/README.md.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from imitrace.messages import Message, message_text, to_openai
from imitrace_trainer.episodes import Episode, Line, Tools, answers_of, lines_of

Json = dict[str, Any]
"""A JSON object."""

Writer = Callable[[Episode, Counter[str]], Iterator[Json]]
"""An episode in, its lines out; counts by name what the format can't hold."""

LAST_RESULTS = "results of a last decision"
UNLEARNT = "answers that are not to be learnt, which the format can't mark"
REASONING = "parts of reasoning"
BESIDE_CALLS = "texts beside tool calls"

_SPEAKERS = {"user": "human", "assistant": "gpt"}


def openai_lines(episode: Episode, lost: Counter[str]) -> Iterator[Json]:
    """Yield ``messages`` and ``tools``; an answer that is only context has ``weight`` 0.

    The last message has to be the assistant's, so what the last decision brought is left out.
    """
    for line in lines_of(episode):
        messages = [openai_message(message, lost) for message in line.messages]
        for place, message in enumerate(messages):
            if message["role"] == "assistant" and place not in line.learnt:
                message["weight"] = 0
        if not line.learnt:
            continue
        lost[LAST_RESULTS] += len(line.after)
        yield {"messages": messages} | _tools(line.tools)


def trl_lines(episode: Episode, lost: Counter[str]) -> Iterator[Json]:
    """Yield ``messages``, with what the last decision brought, and ``tools``; arguments are objects."""
    for line in lines_of(episode):
        lost[UNLEARNT] += _unlearnt(line)
        yield {"messages": _trl_messages([*line.messages, *line.after], lost)} | _tools(line.tools)


def trl_pairs(episode: Episode, lost: Counter[str]) -> Iterator[Json]:
    """Yield ``prompt``, ``completion`` and ``tools`` of each decision that is to be learnt."""
    for place, (decided, answer) in enumerate(zip(episode.decisions, answers_of(episode), strict=True)):
        if place == len(episode.decisions) - 1:
            lost[LAST_RESULTS] += len(decided.results)
        if decided.trained:
            uncounted: Counter[str] = Counter()  # a prompt says again what an earlier completion said
            pair = {
                "prompt": _trl_messages(decided.state, uncounted),
                "completion": _trl_messages([answer], lost),
            }
            yield pair | _tools(decided.tools)


def sharegpt_lines(episode: Episode, lost: Counter[str]) -> Iterator[Json]:
    """Yield ``conversations``, ``system`` and ``tools``; calls have no ids there, and no text beside them."""
    for line in lines_of(episode):
        lost[UNLEARNT] += _unlearnt(line)
        messages = [*line.messages, *line.after]
        system = [message_text(message) for message in messages[:1] if message["role"] == "system"]
        turns = [turn for message in messages[len(system) :] for turn in _turns(message, lost)]
        found: Json = {"conversations": turns}
        if system:
            found["system"] = system[0]
        if line.tools:
            found["tools"] = json.dumps(list(line.tools), ensure_ascii=False)
        yield found


WRITERS: Mapping[str, Writer] = {
    "openai": openai_lines,
    "trl": trl_lines,
    "trl-prompt-completion": trl_pairs,
    "sharegpt": sharegpt_lines,
}
"""By the format's name."""


def openai_message(message: Message, lost: Counter[str]) -> Json:
    """Return a message in OpenAI's form."""
    lost[REASONING] += sum(part.get("type") == "reasoning" for part in message["parts"])
    return to_openai(message)


def _unlearnt(line: Line) -> int:
    answers = (place for place, message in enumerate(line.messages) if message["role"] == "assistant")
    return sum(place not in line.learnt for place in answers)


def _tools(tools: Tools) -> Json:
    return {"tools": [{"type": "function", "function": dict(tool)} for tool in tools]} if tools else {}


def _trl_messages(messages: Any, lost: Counter[str]) -> list[Json]:
    """Return messages as chat templates take them: arguments as objects, a tool's answer with the tool's name."""
    names: dict[str, str] = {}
    found = []
    for message in messages:
        told = openai_message(message, lost)
        for call in told.get("tool_calls", ()):
            function = call["function"]
            function["arguments"] = json.loads(function["arguments"])
            names[str(call["id"])] = function["name"]
        if told["role"] == "tool" and str(told["tool_call_id"]) in names:
            told["name"] = names[str(told["tool_call_id"])]
        found.append(told)
    return found


def _turns(message: Message, lost: Counter[str]) -> Iterator[Json]:
    told = openai_message(message, lost)
    calls = [call["function"] for call in told.get("tool_calls", ())]
    if told["role"] == "tool":
        yield {"from": "observation", "value": told["content"]}
    elif calls:
        lost[BESIDE_CALLS] += bool(told["content"])
        named = [{"name": call["name"], "arguments": json.loads(call["arguments"])} for call in calls]
        yield {"from": "function_call", "value": json.dumps(named if len(named) > 1 else named[0], ensure_ascii=False)}
    else:
        yield {"from": _SPEAKERS.get(told["role"], told["role"]), "value": message_text(message)}
