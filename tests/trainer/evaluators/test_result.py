import math
from typing import Any

import pytest

from imitrace.exceptions import DatasetError
from imitrace_trainer.evaluators.result import Result, StepResult
from imitrace_trainer.evaluators.trajectories import conversation, episode_of, reports_error, request_of


def test_a_result_unpacks_as_score_and_reason() -> None:
    score, reason = Result(0.9, "because")
    assert (score, reason) == (0.9, "because")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_evaluator_can_not_return_what_is_no_number(value: float) -> None:
    with pytest.raises(DatasetError, match="allowed: a finite number"):
        Result(value, "oops")
    with pytest.raises(DatasetError, match="score of step 3 is"):
        StepResult(3, value, "oops")


@pytest.mark.parametrize(
    ("observation", "error"),
    [
        ("Error: no such order", True),
        ('{"error": "no"}', True),
        ('{"error": null, "id": 1}', False),
        ('{"isError": true}', True),
        ("no errors were found", False),
        ("{broken", False),
        (None, False),
    ],
)
def test_an_answer_says_whether_it_is_an_error(observation: str | None, error: bool) -> None:
    assert reports_error(observation) is error


def test_a_conversation_tells_each_message_once_where_it_came_in() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "find", "arguments": "{}"}}
    told: list[dict[str, Any]] = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "one moment", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c", "content": "found"},
        {"role": "assistant", "content": "done"},
    ]
    episode = episode_of(told)
    assert [(index, message["role"]) for index, message in conversation(episode)] == [
        (0, "user"),
        (0, "assistant"),
        (1, "tool"),
        (1, "assistant"),
    ]
    assert request_of(episode) == "hi"
