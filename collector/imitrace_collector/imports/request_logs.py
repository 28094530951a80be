"""Read logs of requests to a model with its responses, and conversations as Anthropic's client keeps them.

A pair is ``request`` and ``response`` as the client's API has them, OpenAI's chat completions and responses or
Anthropic's messages (https://docs.anthropic.com/en/api/messages); a line of Anthropic's batches has ``params`` and
``result`` (https://docs.anthropic.com/en/docs/build-with-claude/batch-processing). NVIDIA's data flywheel adds
``workload_id``, ``client_id`` and ``timestamp`` (https://github.com/NVIDIA-AI-Blueprints/data-flywheel, README, "Log
schema"): its workload is the agent here.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from imitrace.canonical import content_hash
from imitrace.exceptions import WireError
from imitrace.faults import Faults
from imitrace.messages import Message, action_message, message_actions
from imitrace.shapes.answers import UNKNOWN_ANSWER, Answer, read_answer
from imitrace.shapes.chat_shapes import message_list, parts_messages, system_message
from imitrace.shapes.plain import short
from imitrace.shapes.tool_shapes import tool_definitions
from imitrace_collector.chat_jsonl import whole_conversation
from imitrace_collector.imports.calls import Call, each_call
from imitrace_collector.imports.conversations import (
    Conversation,
    Facts,
    Found,
    Given,
    Json,
    Reader,
    Row,
    agent_name,
    each,
    text,
    time_of,
    under,
)

_REQUESTS, _RESPONSES = ("request", "params", "request_body"), ("response", "result", "response_body")
_TIMES = ("timestamp", "created_at", "time")
_CONVERSATIONS = ("conversation_id", "session_id", "thread_id", "trajectory_id")
_FAULTS = Faults()
"""Takes what the shapes' readers count; here each such answer is refused and named instead."""


def pair_of(row: Json) -> tuple[Json, Json] | None:
    """Return a row's request and response; None where it has not both."""
    request = next((row[key] for key in _REQUESTS if isinstance(row.get(key), Mapping)), None)
    response = next((row[key] for key in _RESPONSES if isinstance(row.get(key), Mapping)), None)
    if request is None or response is None:
        return None
    inner = response.get("message") if response.get("type") == "succeeded" else response.get("body")
    body = request.get("body")
    return (body if isinstance(body, Mapping) else request), (inner if isinstance(inner, Mapping) else response)


def is_anthropic(row: Json) -> bool:
    """Return whether a row is one of Anthropic's pairs, or a conversation with its blocks."""
    pair = pair_of(row)
    if pair is not None:
        return pair[1].get("type") == "message" and pair[1].get("role") == "assistant"
    messages = row.get("messages")
    return isinstance(messages, list) and ("system" in row or any(map(_has_blocks, messages)))


def _has_blocks(message: Any) -> bool:
    content = message.get("content") if isinstance(message, Mapping) else None
    blocks = content if isinstance(content, list) else []
    return any(isinstance(block, Mapping) and block.get("type") in ("tool_use", "tool_result") for block in blocks)


def _call(row: Row, given: Given) -> Call:
    if not isinstance(row.value, dict):
        raise WireError("it is not a JSON object")
    line: Json = row.value
    pair = pair_of(line)
    if pair is None:
        raise WireError("it has no objects 'request' and 'response'")
    request, response = pair
    answer = model_answer(response)
    tools = request.get("tools") or request.get("functions")
    at = next((found for key in _TIMES if (found := time_of(line.get(key))) is not None), None)
    return Call(
        place=row.place,
        position=row.position,
        agent=agent_name(given, line.get("workload_id"), line.get("agent")),
        conversation=next((text(line[key]) for key in _CONVERSATIONS if line.get(key)), None),
        state=request_state(request),
        answer=answer_message(response),
        facts=Facts(
            model=answer.model or text(request.get("model")),
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            tools=tool_definitions(tools, _FAULTS) if isinstance(tools, list) else given.tools,
            at=time_of(response.get("created")) if at is None else at,
            error_type=answer.error_type,
        ),
        tags={"client_id": text(line["client_id"]) or ""} if line.get("client_id") else {},
        content=[line.get("id"), line.get("custom_id"), response.get("id"), at],
    )


def model_answer(response: Any) -> Answer:  # in any client's form
    """Return what a response says that it did, which model it was and what it cost.

    Raises:
        WireError: it is of no known shape.
    """
    answer = read_answer(response, _FAULTS)
    if answer.error_type == UNKNOWN_ANSWER:
        raise WireError(f"response is {short(response)}, expected a model's answer")
    return answer


def answer_message(response: Any) -> Message:  # in any client's form
    """Return a response as the message that stands in the next request, with what it says beside its calls.

    Raises:
        WireError: it is of no known shape.
    """
    actions = model_answer(response).actions
    for items in _said_in(response):
        said = parts_messages(items)
        if len(said) == 1 and message_actions({**said[0], "role": "assistant"}) == actions:
            return {**said[0], "role": "assistant"}
    parts = [part for action in actions for part in action_message(action)["parts"]]
    return {"role": "assistant", "parts": parts}


def _said_in(response: Any) -> Iterator[list[Any]]:
    """Yield where a response's message may stand."""
    if not isinstance(response, Mapping):
        return
    if isinstance(response.get("choices"), list):
        message = under(response["choices"][0], "message")
        yield [{"role": "assistant", **message}]
    elif isinstance(response.get("output"), list):
        yield response["output"]
    elif "content" in response or "tool_calls" in response:
        yield [response if "type" in response and "role" not in response else {"role": "assistant", **response}]


def request_state(request: Json) -> list[Message]:
    """Return the messages that a request held, the system prompt that stands beside them first.

    Raises:
        WireError: they are of no known shape.
    """
    listed = request.get("messages", request.get("input"))
    messages = parts_messages(message_list(listed))
    system = request.get("system") or request.get("instructions")
    return [system_message(system), *messages] if system else messages


def _listed(row: Row, given: Given) -> Iterator[Conversation]:
    """Read one of Anthropic's conversations: ``messages``, and ``system`` and ``tools`` beside them."""
    if not isinstance(row.value, dict):
        raise WireError("it is not a JSON object")
    line: Json = row.value
    if not isinstance(line.get("messages"), list) or not line["messages"]:
        raise WireError("'messages' is missing or empty, expected a list of messages")
    tools = line.get("tools")
    facts = Facts(
        model=text(line.get("model")),
        tools=tool_definitions(tools, _FAULTS) if isinstance(tools, list) else given.tools,
    )
    messages = request_state(line)
    transcript = whole_conversation(iter(messages), facts)
    name = line.get("id") if isinstance(line.get("id"), str | int) else None
    yield Conversation(
        place=row.place,
        position=row.position,
        trajectory_id=text(name if isinstance(name, str | int) and name != "" else None)
        or content_hash([messages, tools]),
        agent=agent_name(given, line.get("agent")),
        decisions=transcript.decisions,
        after=transcript.after(),
        task=text(line.get("task_id")),
    )


read_pairs: Reader = each_call(_call)
_read_listed: Reader = each(_listed)


def read_anthropic(rows: Iterable[Row], given: Given) -> Iterator[Found]:
    """Read Anthropic's logs: conversations one by one, pairs together at the end."""
    pairs: list[Row] = []

    def others() -> Iterator[Row]:
        for row in rows:
            if isinstance(row.value, dict) and pair_of(row.value) is not None:
                pairs.append(row)
            else:
                yield row

    yield from _read_listed(others(), given)
    yield from read_pairs(pairs, given)
