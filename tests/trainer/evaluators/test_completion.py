import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imitrace.messages import Action
from imitrace_trainer.episodes import Episode
from imitrace_trainer.evaluators.agreement import agreement
from imitrace_trainer.evaluators.completion import TaskCompletion, TerminalSigns
from imitrace_trainer.evaluators.result import Task
from imitrace_trainer.evaluators.trajectories import episode_of

Make = Callable[..., Episode]
FOUND = ("find", {"id": "A1"}, "{}")
PAID = ("pay", {"id": "A1", "amount": 5}, "ok")
BROKEN = ("pay", {"id": "A1", "amount": 5}, "Error: declined")


@pytest.mark.parametrize("value", [0.0, 0.8, 0.9, 1.0])
def test_a_declared_reward_is_kept_exactly(episode: Make, value: float) -> None:
    result = TaskCompletion().evaluate(Task(declared={"reward": value}), episode([FOUND], "done", outcome="failure"))
    assert (result.score, result.label) == (value, "declared")


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1, 1.1, None])
def test_a_declared_reward_that_is_no_share_is_rejected_with_a_reason(episode: Make, value: float | None) -> None:
    result = TaskCompletion().evaluate(Task(declared={"reward": value}), episode([FOUND], "done", outcome="success"))
    assert result.score is None
    assert result.reason.startswith("rejected: reward ")


def test_which_scores_declare_may_be_chosen(episode: Make) -> None:
    task = Task(declared={"reward": 0.0, "unit_tests": 0.75})
    assert TaskCompletion(["unit_tests", "reward"]).evaluate(task, episode("done")).score == 0.75


@pytest.mark.parametrize(("outcome", "score"), [("success", 1.0), ("failure", 0.0), ("abandoned", 0.0)])
def test_the_outcome_decides_where_nothing_else_is_declared(episode: Make, outcome: str, score: float) -> None:
    result = TaskCompletion().evaluate("pay back", episode([FOUND], "done", outcome=outcome))
    assert (result.score, result.label) == (score, "outcome")


@pytest.mark.parametrize(
    ("turns", "score"),
    [
        (([FOUND], [PAID], "Done."), 1.0),
        (([FOUND], [("pay", {"amount": 5.0, "id": "A1"}, "ok")], " done. "), 1.0),
        (([FOUND], [PAID], "It is done."), 0.5),
        (([FOUND], [BROKEN], "Done."), 0.5),
        (([FOUND], [("pay", {"id": "A2", "amount": 5}, "ok")], "No."), 0.0),
        (([FOUND], [("pay", {"id": "A1", "amount": 5}, None)], "No."), 0.0),
    ],
)
def test_a_goal_is_met_by_calls_that_succeeded_and_by_the_last_message(
    episode: Make, turns: tuple[Any, ...], score: float
) -> None:
    goal = [Action("tool_call", "pay", {"id": "A1", "amount": 5})]
    result = TaskCompletion().evaluate(Task(goal=goal, expected="Done."), episode(*turns, outcome="success"))
    assert (result.score, result.label) == (score, "goal")


def test_a_good_trajectory_without_any_expected_result_passes_the_usual_filter(episode: Make) -> None:
    result = TaskCompletion().evaluate("pay back", episode([FOUND], [PAID], "Done."))
    assert result.score is not None
    assert result.score >= 0.8
    assert result.label == "signs"


@pytest.mark.parametrize(
    ("turns", "sign"),
    [
        (([FOUND], [("pay", {"id": "A1", "amount": 5}, None)]), "ends in a call without an answer"),
        (([FOUND], [BROKEN]), "ends in an error"),
        (([FOUND], [BROKEN], "Done."), "a failed tool never succeeded after"),
        (([FOUND], [FOUND], "Done."), "the same call brought the same answer twice"),
        (("I can't help.",), "no tool was called although some were offered"),
    ],
)
def test_each_bad_sign_takes_a_trajectory_below_the_usual_filter(
    episode: Make, turns: tuple[Any, ...], sign: str
) -> None:
    score, reason = TerminalSigns().evaluate(None, episode(*turns))
    assert sign in reason
    assert score is not None
    assert score < 0.8


def test_a_failure_that_was_mended_is_no_bad_sign(episode: Make) -> None:
    assert TerminalSigns().evaluate(None, episode([FOUND], [BROKEN], [PAID], "Done.")).score == 0.9


def test_the_same_call_with_another_answer_is_no_repetition(episode: Make) -> None:
    forward = [("look", {"id": "x"}, "room 1")], [("look", {"id": "x"}, "room 2")]
    assert TerminalSigns().evaluate(None, episode(*forward, "There.")).score == 0.9


def test_chat_messages_are_taken_as_they_are() -> None:
    told = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    assert TaskCompletion().evaluate("greet", told).score == 0.9


def test_a_trajectory_without_steps_has_no_score(episode: Make) -> None:
    assert TaskCompletion().evaluate(None, episode()).score is None


def test_signs_agree_with_real_rewards_no_better_than_the_docs_say(recorded: Path) -> None:
    tools = json.loads((recorded / "tau_airline_tools.json").read_text())
    with gzip.open(recorded / "tau_airline_gpt4o.jsonl.gz", "rt") as file:
        lines = [json.loads(line) for line in file]
    scores = [TerminalSigns().evaluate(None, episode_of(line["messages"], tools)).score or 0.0 for line in lines]
    found = agreement(scores, [line["reward"] for line in lines], [str(line["task_id"]) for line in lines])
    assert (found.n, found.labelled_good, round(found.accuracy, 2)) == (160, 59, 0.5)
    assert found.kappa == pytest.approx(0.12, abs=0.005)
