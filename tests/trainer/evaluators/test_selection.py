import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from imitrace.messages import Action
from imitrace_trainer.episodes import Episode
from imitrace_trainer.evaluators.calls import Equivalence
from imitrace_trainer.evaluators.result import Task
from imitrace_trainer.evaluators.selection import Reference, ToolSelectionAccuracy

Make = Callable[..., Episode]
FIND = ("find", {"id": "A1"}, "{}")
LOOK = ("look", {"id": "A1"}, "{}")
PAY = ("pay", {"id": "A1", "amount": 5}, "ok")


def against(expert: Episode, other: Episode, equivalence: Equivalence | None = None, named: str = "") -> list[float]:
    reference = Reference.of([dataclasses.replace(expert, trajectory_id="expert", task=named or None)])
    judged = dataclasses.replace(other, trajectory_id="other", task=named or None)
    return [step.score for step in ToolSelectionAccuracy(reference, equivalence).evaluate(None, judged).steps]


@pytest.mark.parametrize(
    ("made", "score"),
    [
        ([FIND], 1.0),
        ([LOOK], 0.0),
        ([("find", {"id": "A2"}, "{}")], 0.0),
        ("Which order?", 0.0),  # silence where the expert called
        ([FIND, LOOK], 0.5),
    ],
)
def test_a_decision_is_compared_with_the_experts_in_the_same_state(episode: Make, made: Any, score: float) -> None:
    assert against(episode([FIND], "Done."), episode(made))[0] == score


@pytest.mark.parametrize(
    ("made", "score"),
    [([FIND, LOOK], 1.0), ([LOOK, FIND], 1.0), ([FIND], 0.5), ([FIND, FIND], 0.5), ([FIND, LOOK, PAY], 2 / 3)],
)
def test_parallel_calls_are_a_set(episode: Make, made: Any, score: float) -> None:
    assert against(episode([FIND, LOOK]), episode(made)) == [score]


def test_a_call_where_the_expert_kept_silent_is_wrong_and_silence_there_is_right(episode: Make) -> None:
    assert against(episode("Done."), episode([FIND])) == [0.0]
    assert against(episode("Done."), episode("It is done.")) == [1.0]


@pytest.mark.parametrize(
    ("arguments", "score"),
    [
        ({"amount": 5.0, "id": "A1"}, 1.0),
        ({"amount": 5, "id": "A1", "fast": False}, 1.0),  # the schema's default
        ({"amount": 5, "id": "A1", "fast": None}, 1.0),
        ({"amount": 5, "id": "A1", "fast": True}, 0.0),
        ({"amount": "5", "id": "A1"}, 0.0),
    ],
)
def test_arguments_are_compared_as_what_they_mean(episode: Make, arguments: Any, score: float) -> None:
    assert against(episode([PAY]), episode([("pay", arguments, "ok")])) == [score]


def test_declared_equivalents_and_ignored_arguments_count_as_the_same(episode: Make) -> None:
    same = Equivalence.of([["find", "look"]], {"pay": ["amount"]})
    assert against(episode([FIND]), episode([LOOK]), same) == [1.0]
    assert against(episode([PAY]), episode([("pay", {"id": "A1", "amount": 9}, "ok")]), same) == [1.0]


def test_of_several_experts_the_nearest_counts(episode: Make) -> None:
    experts = [dataclasses.replace(episode([call]), trajectory_id=name) for name, call in (("a", FIND), ("b", LOOK))]
    judged = ToolSelectionAccuracy(Reference.of(experts)).evaluate(None, episode([LOOK]))
    assert (judged.score, judged.label) == (1.0, "state")


def test_a_trajectory_is_never_its_own_reference(episode: Make) -> None:
    own = episode([FIND], "Done.")
    assert ToolSelectionAccuracy(Reference.of([own])).evaluate(None, own).label == "soundness"


def test_a_clones_decisions_are_no_reference(episode: Make) -> None:
    clone = episode([LOOK])
    taken = tuple(dataclasses.replace(taken, role="clone") for taken in clone.decisions[0].taken)
    decided = [dataclasses.replace(clone.decisions[0], taken=taken)]
    assert Reference.of([dataclasses.replace(clone, decisions=decided, task="t")]) == Reference()


@pytest.mark.parametrize(
    ("turns", "score"),
    [
        (([FIND], [LOOK], [PAY], "Done."), 1.0),
        (("Which one?", "user: A1", [FIND], [LOOK], [PAY], "Done."), 1.0),
        (([FIND], [PAY], "Done."), 2 / 3),
        (([FIND], [LOOK], [FIND], [PAY], "Done."), 3 / 4),
        (([FIND], [LOOK], [("pay", {"id": "A9", "amount": 5}, "ok")], "Done."), 2 / 3),
        (("I refuse.",), 0.0),
    ],
)
def test_without_the_same_states_a_reference_trajectory_is_aligned_in_order(
    episode: Make, turns: tuple[Any, ...], score: float
) -> None:
    calls = [Action("tool_call", name, arguments) for name, arguments, _ in (FIND, LOOK, PAY)]
    task = Task(reference=[*((call,) for call in calls), (Action("message", message="Done."),)])
    result = ToolSelectionAccuracy().evaluate(task, episode(*turns))
    assert result.label == "task"
    assert result.score == pytest.approx(score)


def test_the_reference_of_the_same_task_is_found_by_its_name(episode: Make) -> None:
    expert = dataclasses.replace(episode("Hello.", "user: go", [FIND]), trajectory_id="expert", task="t")
    judged = dataclasses.replace(episode("Hi.", "user: go on", [LOOK]), task="t")
    assert ToolSelectionAccuracy(Reference.of([expert])).evaluate(None, judged).label == "state"
    other = dataclasses.replace(episode("user: please", [FIND]), task="t")
    result = ToolSelectionAccuracy(Reference.of([expert])).evaluate(None, other)
    assert (result.score, result.label) == (1.0, "task")


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (("sell", {}, "ok"), "sell was not offered"),
        (("pay", {"id": "A1"}, "ok"), "pay lacks amount"),
        (("pay", {"id": "A1", "amount": "much"}, "ok"), "pay.amount is no number"),
        (("pay", {"id": ["A1"], "amount": 5}, "ok"), "pay.id is no string"),
        (("pay", {"id": "A1", "amount": 5}, '{"error": "declined"}'), "pay failed"),
    ],
)
def test_without_any_reference_it_says_whether_calls_were_sound(episode: Make, call: Any, problem: str) -> None:
    result = ToolSelectionAccuracy().evaluate(None, episode([FIND], [call], "Done."))
    assert (result.score, result.label) == (0.5, "soundness")
    assert problem in result.reason


def test_a_trajectory_without_calls_has_no_score_rather_than_a_full_one(episode: Make) -> None:
    assert ToolSelectionAccuracy().evaluate(None, episode("I refuse.")).score is None


def test_a_good_trajectory_without_reference_passes_the_usual_filter(episode: Make) -> None:
    score, _ = ToolSelectionAccuracy().evaluate(None, episode([FIND], [LOOK, PAY], "Done."))
    assert score == 1.0
