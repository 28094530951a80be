from collections.abc import Sequence
from typing import Any

import pytest

from imitrace.semconv import TOOL_CALL_RESULT
from imitrace_collector.imports import chat_datasets, request_logs, tensorzero
from imitrace_collector.imports.conversation_spans import conversation_spans
from imitrace_collector.imports.conversations import Broken, Conversation, Given, Reader, Row

Json = dict[str, Any]  # a JSON object


def read(reader: Reader, values: Sequence[Any]) -> tuple[list[Conversation], list[str]]:
    rows = [Row(f"line {number + 1}", number, value) for number, value in enumerate(values)]
    found = list(reader(rows, Given(agent="desk")))
    conversations = [told for told in found if isinstance(told, Conversation)]
    return conversations, [str(told) for told in found if isinstance(told, Broken)]


def pair(texts: Sequence[str], answer: str, at: int, **more: Any) -> Json:
    roles = ("user", "assistant")
    messages = [{"role": roles[number % 2], "content": text} for number, text in enumerate(texts)]
    choice = {"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}
    return {"timestamp": at, "request": {"messages": messages}, "response": {"choices": [choice]}, **more}


def test_requests_are_put_together_by_what_they_go_on_from_in_the_order_of_their_times() -> None:
    found, broken = read(
        request_logs.read_pairs,
        [
            pair(["a", "A", "b"], "B", 1_700_000_002),
            pair(["x"], "X", 1_700_000_001),
            pair(["a"], "A", 1_700_000_000),
            pair(["a", "A", "b", "B", "c"], "C", 1_700_000_003),
        ],
    )
    assert broken == []
    told = [[decision.actions[0].message for decision in conversation.decisions] for conversation in found]
    assert sorted(told, key=str) == [["A", "B", "C"], ["X"]]


def test_requests_that_say_the_same_at_other_times_are_two_conversations() -> None:
    found, _ = read(request_logs.read_pairs, [pair(["a"], "A", 1_700_000_000), pair(["a"], "A", 1_700_000_009)])
    assert len({conversation.trajectory_id for conversation in found}) == 2


def test_an_id_of_the_conversation_counts_more_than_what_was_said() -> None:
    rows = [pair([text], text.upper(), 1_700_000_000 + number, session_id="s1") for number, text in enumerate("ab")]
    (found,), _ = read(request_logs.read_pairs, rows)
    assert (found.trajectory_id, len(found.decisions)) == ("s1", 2)
    assert found.decisions[1].offset == 0


def test_workloads_are_agents_of_their_own() -> None:
    rows = [pair(["a"], "A", 1_700_000_000, workload_id=name, client_id="acme") for name in ("router", "writer")]
    read_rows = [Row(f"line {number + 1}", number, row) for number, row in enumerate(rows)]
    found = [told for told in request_logs.read_pairs(read_rows, Given()) if isinstance(told, Conversation)]
    assert [(told.agent, dict(told.tags)) for told in found] == [
        ("router", {"client_id": "acme"}),
        ("writer", {"client_id": "acme"}),
    ]


def test_anthropic_conversations_and_batches_stand_in_one_log() -> None:
    use = {"type": "tool_use", "id": "c1", "name": "look", "input": {"at": 1}}
    result = {"type": "tool_result", "tool_use_id": "c1", "content": "seen", "is_error": False}
    messages = [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, use]},
        {"role": "user", "content": [result, {"type": "text", "text": "and?"}]},
        {"role": "assistant", "content": "done"},
    ]
    answer = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "hi"}], "model": "claude"}
    batch = {
        "custom_id": "b1",
        "params": {"system": "be brief", "messages": [{"role": "user", "content": "hello"}]},
        "result": {"type": "succeeded", "message": answer},
    }
    found, broken = read(request_logs.read_anthropic, [{"id": "t1", "system": "desk", "messages": messages}, batch])
    assert broken == []
    first, second = found
    assert [action.name or action.message for decision in first.decisions for action in decision.actions] == [
        "look",
        "done",
    ]
    assert [message["role"] for message in first.decisions[1].messages] == ["assistant", "tool", "user"]
    assert [message["role"] for message in second.decisions[0].messages] == ["system", "user"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"request": {"messages": []}}, "it has no objects 'request' and 'response'"),
        ({"request": {"messages": []}, "response": {"error": "x"}}, "expected a model's answer"),
        ({"request": {"messages": [{"role": "user", "content": 3}]}, "response": {"content": "x"}}, "content is 3"),
    ],
)
def test_a_request_that_cant_be_read_is_named(row: Json, reason: str) -> None:
    _, (told,) = read(request_logs.read_pairs, [row])
    assert told.startswith("line 1: ")
    assert reason in told


def test_functions_of_one_episode_are_trajectories_of_their_own() -> None:
    def inference(function: str, text: str, second: int) -> Json:
        return {
            "id": f"i{second}",
            "episode_id": "e1",
            "function_name": function,
            "input": {"messages": [{"role": "user", "content": [{"type": "text", "value": text}]}]},
            "output": [{"type": "text", "text": text.upper()}],
            "timestamp": f"2026-05-01T10:00:0{second}Z",
        }

    values = [inference("write", "a", 2), inference("plan", "b", 1)]
    rows = [Row(f"line {number + 1}", number, value) for number, value in enumerate(values)]
    found = [told for told in tensorzero.read(rows, Given()) if isinstance(told, Conversation)]
    assert [(told.trajectory_id, told.agent) for told in found] == [("e1", "plan"), ("e1/write", "write")]


def test_an_answer_of_weight_0_is_context_and_no_decision() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "no", "weight": 0},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "yes", "weight": 1},
    ]
    (found,), _ = read(chat_datasets.read_fine_tune, [{"messages": messages}])
    (decision,) = found.decisions
    assert (decision.actions[0].message, len(decision.messages)) == ("yes", 3)


def test_parallel_calls_of_sharegpt_get_their_results_by_order() -> None:
    turns = [
        {"from": "human", "value": "go"},
        {"from": "function_call", "value": '[{"name": "a", "arguments": {}}, {"name": "b", "arguments": {}}]'},
        {"from": "observation", "value": "got a"},
        {"from": "observation", "value": "got b"},
    ]
    (found,), broken = read(chat_datasets.read_sharegpt, [{"conversations": turns}])
    assert broken == []
    assert [action.name for action in found.decisions[0].actions] == ["a", "b"]
    steps = conversation_spans(found, "sharegpt").spans.scope_spans[0].spans[1:]
    results = [pair.value.string_value for step in steps for pair in step.attributes if pair.key == TOOL_CALL_RESULT]
    assert results == ["got a", "got b"]
