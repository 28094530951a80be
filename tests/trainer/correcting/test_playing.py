"""Episodes at the counter, begun by a student whose every step is known and finished by the clerk."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from imitrace.messages import Action, to_openai
from imitrace_trainer.correcting.config import CorrectConfig
from imitrace_trainer.correcting.corrected_episodes import (
    BY_CLONE,
    IN_FAILURE,
    NO_SWITCH,
    UNLABELLED,
    UNSAFE,
    CorrectedEpisode,
)
from imitrace_trainer.correcting.expert_budget import AskedExpert, Budget, Spent
from imitrace_trainer.correcting.playing import NO_ACTION, Round, play_corrected
from imitrace_trainer.correcting.rewinding import Rewinder
from imitrace_trainer.correcting.switches import ConfidenceSwitch, DivergenceSwitch, RandomSwitch, Switch
from imitrace_trainer.environment import load_object
from imitrace_trainer.policy import Decision, Policy, State

REFUSE = Action("tool_call", "close_ticket", {"resolution": "refused"})
LOST = Action("tool_call", "find_order", {"email": "nobody@mail.test"})


@dataclass
class Student:
    """Do these actions in turn, then the last for ever."""

    actions: Sequence[Action]
    confidence: float = 0.9
    asked: int = field(default=0)

    def act(self, state: State) -> Decision:
        action = self.actions[min(self.asked, len(self.actions) - 1)]
        self.asked += 1
        return Decision(action, self.confidence, 0.0, {action.name or "message": 1.0})


@pytest.fixture
def world(counter: Path) -> Any:  # the Counter of counter_world
    return load_object("counter_world:Counter", counter)()


@pytest.fixture
def clerk(counter: Path, world: Any) -> Any:  # the Clerk of counter_world
    return load_object("counter_world:Clerk", counter)(world)


def delivered(world: Any) -> Any:  # a Ticket whose money is owed
    for task in world.tasks(50, 9, "common"):
        world.reset(task.id)
        if world.status == "delivered":
            return task
    raise AssertionError("no ticket was delivered")


def played(
    world: Any,
    student: Policy,
    expert: Any,
    config: CorrectConfig,
    switch: Switch | None = None,
    *,
    budget: Budget | None = None,
) -> tuple[CorrectedEpisode, Spent]:
    spent = Spent()
    asked = AskedExpert(expert, budget or Budget(), spent)
    drawn = Round(1, student, asked, config, switch or RandomSwitch(1), Random(0))
    return play_corrected(Rewinder(world), delivered(world), drawn), spent


def test_the_clone_begins_and_the_expert_finishes_from_where_it_takes_over(world: Any, clerk: Any) -> None:
    episode, spent = played(world, Student([LOST]), clerk, CorrectConfig(), RandomSwitch(2))
    assert [step.actor for step in episode.steps] == ["clone", "clone", "expert"]
    assert [step.executed.name for step in episode.steps] == ["find_order", "find_order", "close_ticket"]
    assert (episode.switch, episode.success, episode.rejected) == (2, False, "it did not succeed")
    assert (spent.calls, spent.steps, spent.rejected) == (1, 3, 1)


def test_what_succeeds_teaches_the_experts_steps_and_keeps_the_clones_as_context(world: Any, clerk: Any) -> None:
    clerk_first = Student([Action("message", message="One moment.")])
    episode, spent = played(world, clerk_first, clerk, CorrectConfig(), RandomSwitch(1))
    assert (episode.success, episode.rejected, episode.switch) == (True, None, 1)
    assert [(step.actor, step.mask) for step in episode.steps] == [
        ("clone", BY_CLONE),
        ("expert", None),
        ("expert", None),
        ("expert", None),
    ]
    assert [(place, step.label and step.label.name) for place, step in episode.learnt()] == [
        (1, "find_order"),
        (2, "refund_order"),
        (3, "close_ticket"),
    ]
    assert [step.seen for step in episode.steps] == [1, 3, 5, 7]
    assert (spent.calls, spent.steps, spent.rejected) == (3, 4, 0)
    assert CorrectedEpisode.from_json(episode.to_json()) == episode


def test_without_a_mask_the_clones_own_steps_are_learnt_too(world: Any, clerk: Any) -> None:
    student = Student([Action("message", message="One moment.")])
    episode, _ = played(world, student, clerk, CorrectConfig(mask=False), RandomSwitch(1))
    assert [place for place, _ in episode.learnt()] == [0, 1, 2, 3]


def test_a_clone_that_ends_it_before_the_switch_costs_no_call_and_teaches_nothing(world: Any, clerk: Any) -> None:
    episode, spent = played(world, Student([REFUSE]), clerk, CorrectConfig(), RandomSwitch(5))
    assert (episode.rejected, episode.switch, spent.calls, spent.steps) == (NO_SWITCH, None, 0, 1)
    assert list(episode.learnt()) == []
    assert [step.mask for step in episode.steps] == [BY_CLONE]


def test_confidence_takes_over_where_the_clone_is_unsure(world: Any, clerk: Any) -> None:
    sure, _ = played(world, Student([REFUSE], confidence=0.9), clerk, CorrectConfig(), ConfidenceSwitch(0.5))
    unsure, _ = played(world, Student([REFUSE], confidence=0.4), clerk, CorrectConfig(), ConfidenceSwitch(0.5))
    assert (sure.switch, unsure.switch, unsure.success) == (None, 0, True)


def test_divergence_takes_over_at_the_first_other_decision_and_pays_for_every_look(world: Any, clerk: Any) -> None:
    world.reset(delivered(world).id)
    right = Action("tool_call", "find_order", {"email": world.email})
    episode, spent = played(world, Student([right, REFUSE]), clerk, CorrectConfig(), DivergenceSwitch())
    assert (episode.switch, episode.success) == (1, True)
    assert spent.calls == 2 + 2  # looks at steps 0 and 1, then two decisions of its own


def test_dagger_labels_every_step_while_the_clone_acts(world: Any, clerk: Any) -> None:
    student = Student([LOST, REFUSE])
    episode, spent = played(world, student, clerk, CorrectConfig(method="dagger", beta=0.0))
    assert [step.actor for step in episode.steps] == ["clone", "clone"]
    assert [step.label and step.label.name for _, step in episode.learnt()] == ["find_order", "close_ticket"]
    assert (episode.success, episode.rejected, spent.calls) == (False, None, 2)


def test_without_a_reward_dagger_learns_all_its_labels_and_what_needs_success_learns_nothing(
    counter: Path, clerk: Any
) -> None:
    blind, student = load_object("counter_world:Rewardless", counter)(), Student([LOST, REFUSE])
    episode, spent = played(blind, student, clerk, CorrectConfig(method="dagger", beta=0.0))
    assert [step.label and step.label.name for _, step in episode.learnt()] == ["find_order", "close_ticket"]
    assert (episode.success, episode.rejected, spent.rejected) == (False, None, 0)
    oec, spent = played(blind, replace(student, asked=0), clerk, CorrectConfig(), RandomSwitch(0))
    assert (oec.rejected, list(oec.learnt()), spent.rejected) == ("it did not succeed", [], spent.calls)
    trusted, _ = played(blind, replace(student, asked=0), clerk, CorrectConfig(reject=False), RandomSwitch(0))
    assert [place for place, _ in trusted.learnt()] == [0, 1, 2]


def test_with_beta_one_the_expert_acts_itself(world: Any, clerk: Any) -> None:
    episode, _ = played(world, Student([REFUSE]), clerk, CorrectConfig(method="dagger", beta=1.0))
    assert [step.actor for step in episode.steps] == ["expert"] * 3
    assert episode.success


def test_a_stuck_episode_of_dagger_ends_and_its_labels_stay(world: Any, clerk: Any) -> None:
    moment = Student([Action("message", message="One moment.")])
    episode, spent = played(world, moment, clerk, CorrectConfig(method="dagger", repeats=2, beta=0.0))
    assert len(episode.steps) == 4  # the first after another message, then three alike
    assert (spent.calls, len(list(episode.learnt())), episode.rejected) == (4, 4, None)


@pytest.mark.parametrize("action", [Action("message", message="One moment."), LOST], ids=["says", "calls"])
def test_a_repetitive_beginning_is_dropped_before_the_expert_is_paid(world: Any, clerk: Any, action: Action) -> None:
    episode, spent = played(world, Student([action]), clerk, CorrectConfig(repeats=2), RandomSwitch(5))
    assert episode.rejected == "the same decision 3 times in the same state"
    assert (len(episode.steps), spent.calls, episode.failed) == (4, 0, False)


def test_what_policy_forbids_is_never_learnt_however_it_ends(world: Any, clerk: Any) -> None:
    class Forbidding:
        tools = world.tools

        def __getattr__(self, name: str) -> Any:
            return getattr(world, name)

        def step(self, action: Action) -> tuple[list[dict[str, Any]], bool, dict[str, Any]]:
            messages, done, info = world.step(action)
            return messages, done, {**info, "unsafe": action.name == "refund_order"}

    expert = AskedExpert(clerk, Budget(), Spent())
    drawn = Round(1, Student([REFUSE]), expert, CorrectConfig(), RandomSwitch(0), Random(0))
    episode = play_corrected(Rewinder(Forbidding()), delivered(world), drawn)
    assert (episode.success, episode.unsafe, episode.rejected) == (True, True, UNSAFE)


def test_an_episode_in_which_nobody_does_anything_is_none(world: Any) -> None:
    silent = Student([Action("message")])
    episode, _ = played(world, silent, Failing(), CorrectConfig(method="dagger", beta=0.0))
    assert (episode.steps, episode.rejected, episode.failed) == ([], NO_ACTION, False)


def test_the_same_done_again_has_the_same_name(world: Any, clerk: Any) -> None:
    student = Student([Action("message", message="One moment.")])
    first, again = (played(world, replace(student, asked=0), clerk, CorrectConfig())[0] for _ in range(2))
    assert first.name == replace(again, clone="counter:2", at=7, calls=9).name
    assert first.name != replace(again, round=2).name


def test_the_clones_own_successes_are_learnt_and_cost_no_call(world: Any, clerk: Any) -> None:
    task = delivered(world)
    world.reset(task.id)
    steps = [
        Action("tool_call", "find_order", {"email": world.email}),
        Action("tool_call", "refund_order", {"order_id": world.order}),
        Action("tool_call", "close_ticket", {"resolution": "refunded"}),
    ]
    won, spent = played(world, Student(steps), clerk, CorrectConfig(method="own"))
    lost, _ = played(world, Student([REFUSE]), clerk, CorrectConfig(method="own"))
    assert (won.success, len(list(won.learnt())), spent.calls) == (True, 3, 0)
    assert (lost.rejected, list(lost.learnt())) == ("it did not succeed", [])


class Failing:
    """An expert that raises, then has nothing to say."""

    def __init__(self) -> None:
        self.asked = 0
        self.seen: list[str | None] = []

    def act(self, messages: Sequence[Mapping[str, Any]]) -> Action | None:
        self.asked += 1
        if self.asked == 1:
            raise ValueError("no line to the office")
        return None

    def observe(self, action: Action, messages: Sequence[Mapping[str, Any]]) -> None:
        self.seen.append(action.name)


def test_an_expert_that_raises_or_is_silent_is_counted_and_ends_the_episode(world: Any) -> None:
    expert = Failing()
    episode, spent = played(world, Student([LOST]), expert, CorrectConfig(tries=2), RandomSwitch(1))
    assert (episode.rejected, spent.calls, spent.failed, spent.silent) == (NO_ACTION, 2, 1, 1)
    assert spent.errors == {"ValueError": 1}
    assert expert.seen == ["find_order"]  # it was shown what the clone did


def test_steps_without_the_experts_word_are_context(world: Any) -> None:
    episode, spent = played(world, Student([LOST, REFUSE]), Failing(), CorrectConfig(method="dagger", beta=0.0))
    assert [step.mask for step in episode.steps] == [UNLABELLED, UNLABELLED]
    assert (spent.failed, spent.silent) == (1, 1)


def test_the_budget_is_never_exceeded(world: Any, clerk: Any) -> None:
    episode, spent = played(world, Student([LOST]), clerk, CorrectConfig(), RandomSwitch(0), budget=Budget(calls=2))
    assert (spent.calls, episode.rejected) == (2, "2 calls are spent")
    assert spent.rejected == 2


class Slipping:
    """A clerk who errs the first time he is asked in an episode."""

    def __init__(self, clerk: Any) -> None:
        self.clerk = clerk
        self.asked = 0

    def act(self, messages: Sequence[Mapping[str, Any]]) -> Action | None:
        self.asked += 1
        right: Action | None = self.clerk.act(messages)
        return REFUSE if self.asked == 1 else right


def test_a_failed_finish_is_tried_again_from_where_the_expert_took_over(world: Any, clerk: Any) -> None:
    student = Student([Action("message", message="One moment.")])
    once, _ = played(world, student, Slipping(clerk), CorrectConfig(), RandomSwitch(1))
    twice, spent = played(world, replace(student, asked=0), Slipping(clerk), CorrectConfig(tries=2), RandomSwitch(1))
    assert (once.rejected, twice.rejected) == ("it did not succeed", None)
    assert [step.actor for step in twice.steps] == ["clone", "expert", "expert", "expert"]
    assert spent.calls == 1 + 3
    assert spent.steps == 1 + 1 + 1 + 3  # begin, the failed finish, the beginning done again, the good finish


class Torn:
    """Refuse at once, or, where that is not on offer, do what the clerk does."""

    def __init__(self, clerk: Any) -> None:
        self.clerk = clerk

    def act(self, state: State) -> Decision:
        right = self.clerk.act([to_openai(message) for message in state.messages])
        offered = {tool["name"] for tool in state.tools}
        action = REFUSE if "close_ticket" in offered and right.name != "close_ticket" else right
        return Decision(action, 0.9, 0.0, {"close_ticket": 0.5, right.name: 0.5})


def test_what_the_clone_does_badly_alone_it_tries_again_in_another_way(world: Any, clerk: Any) -> None:
    once, _ = played(world, Torn(clerk), clerk, CorrectConfig(method="own"))
    often, spent = played(world, Torn(clerk), clerk, CorrectConfig(method="own", tries=40))
    assert (once.rejected, often.rejected) == ("it did not succeed", None)
    assert [step.executed.name for step in often.steps] == ["find_order", "refund_order", "close_ticket"]
    assert [place for place, _ in often.learnt()] == [0, 1, 2]
    assert (spent.calls, spent.steps) == (0, often.world_steps)
    assert spent.steps > 3  # the tries that failed are counted
    few, spent = played(world, Torn(clerk), clerk, CorrectConfig(method="own", tries=40), budget=Budget(steps=1))
    assert (few.success, spent.steps) == (False, 1)


@dataclass
class Doubtful(Student):
    """Say of each action how sure it is."""

    sure: Sequence[float] = ()

    def act(self, state: State) -> Decision:
        at = min(self.asked, len(self.sure) - 1)
        return replace(super().act(state), confidence=self.sure[at])


def test_in_handover_the_clone_acts_where_it_is_sure_the_expert_elsewhere_and_both_are_learnt(
    world: Any, clerk: Any
) -> None:
    world.reset(delivered(world).id)
    right, moment = Action("tool_call", "find_order", {"email": world.email}), Action("message", message="One moment.")
    student = Doubtful([moment, right, REFUSE], sure=(0.8, 0.7, 0.69, 0.1))
    episode, spent = played(world, student, clerk, CorrectConfig(method="handover", threshold=0.7))
    assert [(step.actor, step.executed.name) for step in episode.steps] == [
        ("clone", None),
        ("clone", "find_order"),
        ("expert", "refund_order"),
        ("expert", "close_ticket"),
    ]
    assert [step.label and step.label.name for _, step in episode.learnt()] == [
        None,
        "find_order",
        "refund_order",
        "close_ticket",
    ]
    assert (episode.success, episode.rejected, episode.switch, spent.calls, spent.steps) == (True, None, 2, 2, 4)
    assert [step.confidence for step in episode.steps] == [0.8, 0.7, 0.69, 0.1]


def test_in_handover_a_clone_that_is_wrong_and_sure_teaches_nothing_and_costs_no_call(world: Any, clerk: Any) -> None:
    episode, spent = played(world, Student([REFUSE]), clerk, CorrectConfig(method="handover"))
    assert (episode.rejected, spent.calls, list(episode.learnt())) == ("it did not succeed", 0, [])
    assert episode.failed


def test_in_handover_a_budget_that_ends_or_an_expert_that_says_nothing_ends_the_episode(world: Any, clerk: Any) -> None:
    doubtful, config = Student([REFUSE], confidence=0.4), CorrectConfig(method="handover")
    short, spent = played(world, doubtful, clerk, config, budget=Budget(calls=1))
    assert short.rejected is not None and "1 calls" in short.rejected
    assert (len(short.steps), spent.calls, spent.rejected) == (1, 1, 1)
    silent, _ = played(world, doubtful, Failing(), config)
    assert silent.rejected == NO_ACTION


def test_in_handover_a_clone_that_goes_in_circles_is_stopped(world: Any, clerk: Any) -> None:
    episode, spent = played(world, Student([LOST]), clerk, CorrectConfig(method="handover", repeats=2))
    assert episode.rejected is not None and "same decision 3 times" in episode.rejected
    assert spent.calls == 0


def test_in_handover_what_fails_teaches_the_experts_steps_alone_where_it_is_kept(world: Any, clerk: Any) -> None:
    student = Doubtful([LOST, LOST], sure=(0.9, 0.2))
    episode, spent = played(world, student, clerk, CorrectConfig(method="handover", reject=False))
    assert (episode.success, episode.rejected, spent.calls, spent.rejected) == (False, None, 1, 0)
    assert [(step.actor, step.mask) for step in episode.steps] == [("clone", IN_FAILURE), ("expert", None)]
    assert [place for place, _ in episode.learnt()] == [1]
