from typing import Any

from imitrace_collector.rendering import render_detail, render_list

TRAJECTORY: dict[str, Any] = {
    "trajectory_id": "t1",
    "agent": "desk",
    "task": None,
    "step_count": 1,
    "outcome": None,
    "source": "imitrace",
    "incomplete_reason": "still running",
}


def test_a_list_stands_in_columns() -> None:
    assert render_list([TRAJECTORY]).splitlines() == [
        "TRAJECTORY  AGENT  TASK  STEPS  OUTCOME  STATE",
        "t1          desk   -     1      -        still running",
    ]


def test_a_step_shows_what_was_new_and_what_is_wrong() -> None:
    step = {
        "step_index": 0,
        "policy_role": "clone",
        "policy_name": "desk-bc",
        "policy_version": "3",
        "error_type": "answer_cut",
        "complete": False,
        "incomplete_reason": "no digest",
        "state": ["m"],
        "action_kind": "message",
        "action_message": "word " * 100,
        "observation": None,
    }
    message = {"role": "user", "parts": ["odd\ud83d", {"type": "tool_call", "name": "f", "arguments": {"a": 1}}]}
    score = {"name": "s", "step_index": 0, "value": None, "label": "bad", "evaluator": None}
    shown = render_detail({"trajectory": TRAJECTORY, "steps": [step], "scores": [score], "messages": {"m": message}})
    assert "step 0  clone desk-bc 3  doubtful: answer_cut  INCOMPLETE: no digest" in shown
    assert '  user: odd\\ud83d f {"a": 1}' in shown
    assert "score s of step 0: bad  (evaluator unknown)" in shown
    assert max(map(len, shown.splitlines())) <= 120
