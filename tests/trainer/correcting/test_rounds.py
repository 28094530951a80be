"""Rounds of correction at the counter."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imitrace.exceptions import CloneError
from imitrace.messages import Action, to_openai
from imitrace_trainer.correcting.config import CorrectConfig
from imitrace_trainer.correcting.expert_budget import Budget
from imitrace_trainer.correcting.findings import find
from imitrace_trainer.correcting.rounds import World, correct, last_not_worse, lessons_of, mixed
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.environment import load_object
from imitrace_trainer.policy import Decision, Policy, State

REFUSE = Action("tool_call", "close_ticket", {"resolution": "refused"})


class Refusing:
    """Refuse everybody."""

    def act(self, state: State) -> Decision:
        return Decision(REFUSE, 0.9, 0.0, {"close_ticket": 1.0})


class Knowing:
    """Do what an expert does."""

    def __init__(self, expert: Any) -> None:
        self.expert = expert

    def act(self, state: State) -> Decision:
        action = self.expert.act([to_openai(message) for message in state.messages])
        return Decision(action, 0.9, 0.0, {action.name: 1.0})


@pytest.fixture
def world(counter: Path) -> Any:  # the Counter of counter_world
    return load_object("counter_world:Counter", counter)()


@pytest.fixture
def place(counter: Path, world: Any) -> World:
    clerk = load_object("counter_world:Clerk", counter)(world)
    return World(world, clerk, world.tasks(12, 5), world.tasks(40, 6))


def test_a_budget_ends_a_round_and_is_charged_in_full(place: World) -> None:
    config = CorrectConfig(method="dagger", beta=0.0)
    made = correct(Refusing(), place, config, Budget(calls=5))
    (one,) = made.rounds
    assert (made.spent.calls, one.episodes, one.learnt, one.over) == (5, 5, 5, "5 calls are spent")
    assert made.kept == 1
    steps = correct(Refusing(), place, CorrectConfig(horizon=0), Budget(steps=4))
    assert (steps.spent.steps, steps.rounds[0].over) == (4, "4 steps are spent")


def test_the_same_seed_corrects_alike(place: World) -> None:
    first, again = (correct(Refusing(), place, CorrectConfig(), Budget(calls=20)) for _ in range(2))
    other = correct(Refusing(), place, CorrectConfig(seed=3), Budget(calls=20))
    assert [one.to_json() for one in first.episodes] == [one.to_json() for one in again.episodes]
    assert [one.switch for one in first.episodes] != [one.switch for one in other.episodes]


def test_rounds_learn_from_all_that_came_before_and_none_is_kept_that_is_proven_worse(place: World) -> None:
    sizes: list[int] = []

    def learn(shown: Sequence[Demonstration]) -> Policy:
        sizes.append(len(shown))
        return Knowing(place.expert) if len(sizes) == 2 else Refusing()

    made = correct(Refusing(), place, CorrectConfig(method="dagger", rounds=3, beta=0.0), Budget(), learn=learn)
    assert [one.episodes for one in made.rounds] == [4, 4, 4]
    assert sizes == sorted(set(sizes))  # each learns from more
    assert [one.success for one in made.rounds] == [made.before, 1.0, made.before]
    assert (made.kept, {episode.round for episode in made.episodes}) == (2, {1, 2})


def test_a_round_that_makes_it_worse_is_not_kept(place: World) -> None:
    config = CorrectConfig(method="dagger", rounds=2)
    made = correct(Knowing(place.expert), place, config, Budget(calls=8), learn=lambda shown: Refusing())
    assert (made.kept, made.episodes) == (0, [])


def test_the_last_round_is_kept_unless_the_others_chance_is_ruled_out() -> None:
    four, five, none = [True] * 4 + [False] * 8, [True] * 5 + [False] * 7, [False] * 12
    assert last_not_worse([none, four, none]) == 2  # four of four may be chance: one time in sixteen
    assert last_not_worse([none, five, none]) == 1  # five of five is one time in thirty-two
    assert last_not_worse([five, none, none]) == 0
    assert last_not_worse([five, five]) == 1


def test_several_rounds_need_a_way_to_fit(place: World) -> None:
    with pytest.raises(CloneError, match="2 rounds need a way to fit and tasks to judge by"):
        correct(Refusing(), place, CorrectConfig(rounds=2), Budget(calls=5))


def test_corrections_count_as_often_as_their_share_asks(place: World) -> None:
    made = correct(Refusing(), place, CorrectConfig(method="dagger"), Budget(calls=10))
    lessons = lessons_of(made.episodes)
    assert len(lessons) == 10
    assert len(list(mixed(lessons, 40, 0.5))) == 40
    assert len(list(mixed(lessons, 40, 0.0))) == 10


def test_findings_tell_where_the_clone_leaves_the_expert_and_what_looks_wrong(place: World) -> None:
    dagger = correct(Refusing(), place, CorrectConfig(method="dagger", beta=0.0), Budget())
    found = find(dagger.episodes, dagger.rounds)
    assert found.disagreement[0] == (12, 12)  # the clerk looks the order up first, always
    assert found.disagreement[1] == (0, 0)
    assert found.signs == ()
    oec = correct(Refusing(), place, CorrectConfig(horizon=200), Budget())
    assert any("came to a correction" in sign for sign in find(oec.episodes, oec.rounds).signs)


@pytest.mark.parametrize("method", ["dagger", "oec", "handover"])
def test_rounds_that_have_come_to_rest_are_told_by_any_method(place: World, method: str) -> None:
    config = CorrectConfig(method=method, rounds=2, threshold=0.99, beta=0.0)
    still = correct(Knowing(place.expert), place, config, Budget(), learn=lambda shown: Knowing(place.expert))
    assert [(one.otherwise, one.success) for one in still.rounds] == [(0, 1.0), (0, 1.0)]
    (sign,) = [one for one in find(still.episodes, still.rounds).signs if "further rounds" in one]
    learnt = still.rounds[-1].learnt
    assert f"round 2 succeeds in 100.0% of the held-out tasks, the one before in 100.0%, and of {learnt} " in sign


def test_rounds_that_still_learn_or_succeed_more_have_not_come_to_rest(place: World) -> None:
    config = CorrectConfig(method="dagger", rounds=2, beta=0.0)
    learning = correct(Refusing(), place, config, Budget(), learn=lambda shown: Refusing())
    assert [one.otherwise for one in learning.rounds] == [6, 6]  # the clerk always looks the order up first
    better = correct(Refusing(), place, config, Budget(), learn=lambda shown: Knowing(place.expert))
    assert [one.otherwise for one in better.rounds] == [6, 0]
    first, last = better.rounds
    rising = [replace(first, success=0.5), replace(last, success=0.6)]
    once = correct(Refusing(), place, replace(config, rounds=1), Budget()).rounds
    assert once[0].otherwise is None
    for episodes, rounds in ((learning.episodes, learning.rounds), (better.episodes, rising), ([], once)):
        assert not any("further rounds" in sign for sign in find(episodes, rounds).signs)


def test_what_comes_of_few_tasks_is_told_and_how_much_it_counts(place: World) -> None:
    config = CorrectConfig(method="dagger", beta=1.0)
    few, many = (correct(Refusing(), place, replace(config, tasks=0), Budget(calls=calls)) for calls in (9, 200))
    found = find(few.episodes, few.rounds, weight=2.5)
    assert (found.effective_rows, found.tasks) == (2.5 * 9, len(few.episodes))
    assert any(f"9 decisions, comes of {found.tasks} tasks alone, fewer than 10" in sign for sign in found.signs)
    assert f"effective rows: 22, of {found.tasks} tasks" in found.lines()
    broad = find(many.episodes, many.rounds)
    assert broad.tasks == 12
    assert not any("tasks alone" in sign for sign in broad.signs)


def test_the_price_of_a_decision_is_told_and_what_as_many_again_would_cost(place: World) -> None:
    made = correct(Refusing(), place, CorrectConfig(method="dagger"), Budget(calls=10))
    found = find(made.episodes, made.rounds)
    assert (found.calls_a_decision, found.calls_for_as_many) == (1.0, 10)
    (told,) = [line for line in found.lines() if "as many" in line]
    assert told.startswith("1.00 calls of the expert a decision to learn from; as many decisions again would cost some")
    (one,) = made.rounds
    dearer = [one, replace(one, number=2, learnt=5, spent=replace(one.spent, calls=15))]
    assert find([], dearer).calls_for_as_many == 45  # fifteen decisions, each for the last round's three calls
    assert find([], [replace(one, learnt=0)]).calls_for_as_many is None
    own = find([], [replace(one, spent=replace(one.spent, calls=0))])
    assert not any("calls" in line for line in own.lines())
