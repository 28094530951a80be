from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imitrace import semconv
from imitrace.messages import Action, Message, from_openai, to_openai, tool_definition
from imitrace.testing import capture
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.environment import load_object
from imitrace_trainer.policy import Decision, Policy, State
from imitrace_trainer.progress import silent
from imitrace_trainer.rollout import (
    MAX_STEPS,
    Episode,
    Turn,
    clone_actor,
    expert_actor,
    hybrid_actor,
    play,
)
from imitrace_trainer.route import RoutedClone
from imitrace_trainer.stages import load_clone, train_stage
from imitrace_trainer.thresholds import NEVER, Thresholds

COHORTS = ("common", "safety")
ANY = Thresholds(0.0, 0.0)


@pytest.fixture
def world(counter: Path) -> Any:  # the Counter of counter_world
    return load_object("counter_world:Counter", counter)()


@pytest.fixture
def policy(trained_home: Path, counter_clone: CloneConfig, fork: Callable[[Path], Path]) -> Policy:
    home = fork(trained_home)
    train_stage(home, replace(counter_clone, train=replace(counter_clone.train, refit=False)), silent)
    return load_clone(home, "counter").policy


@pytest.fixture
def clerk(counter: Path, world: Any) -> Any:  # the Clerk of counter_world
    return load_object("counter_world:Clerk", counter)(world)


def ticket(world: Any, status: str, cohort: str | None = None) -> Any:  # a Ticket of counter_world
    for task in world.tasks(50, 9, cohort):
        world.reset(task.id)
        if world.status == status:
            return task
    raise AssertionError(status)


def names(episode: Episode) -> list[str | None]:
    return [turn.action.name for turn in episode.turns if turn.action]


class Stuck:
    """Do one and the same call for ever."""

    def __init__(self, action: Action) -> None:
        self.action = action

    def act(self, seen: object) -> Any:  # what an expert or a policy returns
        return Decision(self.action, 1.0, 0.0, {}) if isinstance(seen, State) else self.action


def test_the_expert_plays_a_task_to_its_end(world: Any, clerk: Any) -> None:
    episode = play(world, ticket(world, "delivered"), expert_actor(clerk))
    assert names(episode) == ["find_order", "refund_order", "close_ticket"]
    assert (episode.success, episode.unsafe, episode.cohort) == (True, False, "common")
    assert (episode.count("expert"), episode.count("clone")) == (3, 0)
    assert all(turn.seconds >= 0 and turn.reason == "expert" and turn.confidence is None for turn in episode.turns)


def test_the_clone_alone_does_as_the_expert_did(world: Any, policy: Policy) -> None:
    episode = play(world, ticket(world, "fraud", "safety"), clone_actor(policy))
    assert names(episode) == ["find_order", "close_ticket"]
    assert (episode.success, episode.cohort, episode.count("clone"), episode.count("expert")) == (True, "safety", 2, 0)
    assert all(0 <= (turn.confidence or 0) <= 1 and turn.reason == "alone" for turn in episode.turns)


@pytest.mark.parametrize("role", ["clone", "expert"])
def test_what_the_environment_calls_unsafe_is_kept_with_whose_act_it_was(world: Any, role: str) -> None:
    fraud = ticket(world, "fraud", "safety")
    world.reset(fraud.id)
    refund = Stuck(Action("tool_call", "refund_order", {"order_id": world.order}))
    episode = play(world, fraud, clone_actor(refund) if role == "clone" else expert_actor(refund))
    assert (episode.success, episode.unsafe, episode.unsafe_by) == (False, True, role)


def test_harm_is_laid_at_the_door_of_the_one_who_began_it(world: Any, policy: Policy, clerk: Any) -> None:
    fraud = ticket(world, "fraud", "safety")
    world.reset(fraud.id)
    refund = Stuck(Action("tool_call", "refund_order", {"order_id": world.order}))
    episode = play(world, fraud, hybrid_actor(RoutedClone(refund, ANY, COHORTS), clerk))
    assert [turn.role for turn in episode.turns] == ["clone", "expert"]
    assert (episode.unsafe, episode.unsafe_by) == (True, "clone")


def test_a_routed_clone_says_what_it_would_do_and_whether_it_may(world: Any, policy: Policy) -> None:
    messages = [from_openai(message) for message in world.reset(ticket(world, "shipped").id)]
    state = State(messages, [tool_definition(tool) for tool in world.tools], {"cohort": "common"})
    for passed, actor in ((COHORTS, "clone"), ((), "expert")):
        decision, routed = RoutedClone(policy, ANY, passed).decide(state)
        assert (decision.action.name, decision.action.arguments) == ("find_order", {"email": world.email})
        assert routed.actor == actor


@pytest.mark.parametrize(("patience", "decisions"), [(0, 0), (1, 1)])
def test_an_expert_that_has_no_action_ends_the_episode(
    counter: Path, world: Any, patience: int, decisions: int
) -> None:
    clerk = load_object("counter_world:Clerk", counter)(world, patience=patience)
    episode = play(world, ticket(world, "delivered"), expert_actor(clerk))
    assert (episode.turns[-1].action, len(episode.turns)) == (None, decisions + 1)
    assert (episode.count("expert"), episode.success) == (decisions, False)


def test_a_clone_that_would_write_ends_its_episode_where_it_plays_alone(counter: Path, policy: Policy) -> None:
    nothing_offered = load_object("counter_world:NothingOffered", counter)()
    episode = play(nothing_offered, ticket(nothing_offered, "delivered"), clone_actor(policy))
    assert [turn.action for turn in episode.turns] == [None]
    assert (episode.count("clone"), episode.success) == (0, False)


def test_where_the_clone_would_write_the_expert_writes(counter: Path, policy: Policy) -> None:
    nothing_offered = load_object("counter_world:NothingOffered", counter)()
    clerk = load_object("counter_world:Clerk", counter)(nothing_offered)
    hybrid = hybrid_actor(RoutedClone(policy, ANY, COHORTS), clerk)
    episode = play(nothing_offered, ticket(nothing_offered, "shipped"), hybrid)
    assert {turn.reason for turn in episode.turns} == {"the clone can't write text"}
    assert (episode.count("expert"), episode.success) == (2, True)


def test_an_endless_talk_is_cut(counter: Path, world: Any) -> None:
    clerk = load_object("counter_world:Clerk", counter)(world, talks=True)
    episode = play(world, ticket(world, "delivered"), expert_actor(clerk))
    assert (episode.count("expert"), episode.success) == (MAX_STEPS, False)


def test_the_loop_guard_hands_a_repeated_call_to_the_expert(world: Any, clerk: Any) -> None:
    task = ticket(world, "shipped")
    world.reset(task.id)
    again = Stuck(Action("tool_call", "find_order", {"email": world.email}))
    episode = play(world, task, hybrid_actor(RoutedClone(again, ANY, COHORTS), clerk))
    assert [turn.role for turn in episode.turns] == ["clone", "expert"]
    assert episode.turns[1].reason == "the same call was already made"
    assert episode.success


@pytest.mark.parametrize(
    ("thresholds", "passed", "reason"),
    [
        (ANY, ("safety",), "cohort 'common' has no passing gate"),
        (Thresholds(NEVER, NEVER), COHORTS, r"confidence 0."),
    ],
)
def test_without_trust_the_expert_does_everything(
    world: Any, clerk: Any, policy: Policy, thresholds: Thresholds, passed: tuple[str, ...], reason: str
) -> None:
    episode = play(world, ticket(world, "delivered"), hybrid_actor(RoutedClone(policy, thresholds, passed), clerk))
    assert (episode.count("expert"), episode.count("clone"), episode.success) == (3, 0, True)
    assert all(turn.reason.startswith(reason) for turn in episode.turns)


def test_every_decision_is_traced_with_who_acted_and_why(world: Any, clerk: Any, policy: Policy) -> None:
    half = Thresholds(0.0, NEVER, ("refund_order",))
    task = ticket(world, "delivered")
    with capture() as seen:
        episode = play(world, task, hybrid_actor(RoutedClone(policy, half, COHORTS), clerk))
    roles = [(step.attributes or {}) for step in seen.steps]
    assert [step[semconv.POLICY_ROLE] for step in roles] == ["clone", "expert", "clone"]
    assert [step[semconv.STEP_ROUTE_REASON] for step in roles] == [turn.reason for turn in episode.turns]
    assert [step[semconv.TOOL_NAME] for step in roles] == ["find_order", "refund_order", "close_ticket"]
    assert [step[semconv.STEP_CONFIDENCE] for step in roles] == [turn.confidence for turn in episode.turns]
    assert {(step[semconv.TRAJECTORY_TASK], step[semconv.TRAJECTORY_TAGS]) for step in roles} == {
        (task.id, '{"cohort":"common"}')
    }


def test_a_clones_steps_are_traced_with_its_name_and_version(world: Any, policy: Policy, clerk: Any) -> None:
    hybrid = hybrid_actor(RoutedClone(policy, ANY, COHORTS, ("counter", "3")), clerk)
    with capture() as seen:
        episode = play(world, ticket(world, "delivered"), hybrid)
    named = {
        (step.attributes[semconv.POLICY_NAME], step.attributes[semconv.POLICY_VERSION])
        for step in seen.steps
        if step.attributes and step.attributes[semconv.POLICY_ROLE] == "clone"
    }
    assert episode.count("clone") and named == {("counter", "3")}


@pytest.mark.parametrize(("patience", "outcome"), [(10, "success"), (1, "failure")])
def test_the_trajectory_is_traced_with_its_outcome_and_the_calls_that_were_made(
    counter: Path, world: Any, patience: int, outcome: str
) -> None:
    clerk = load_object("counter_world:Clerk", counter)(world, patience=patience)
    with capture() as seen:
        episode = play(world, ticket(world, "delivered"), expert_actor(clerk))
    (trajectory,) = (span for span in seen.spans if span.name == semconv.SPAN_TRAJECTORY)
    assert (trajectory.attributes or {})[semconv.TRAJECTORY_OUTCOME] == outcome
    made = [step.attributes for step in seen.steps if step.attributes and semconv.TOOL_NAME in step.attributes]
    assert [step[semconv.TOOL_NAME] for step in made] == names(episode)
    assert {step[semconv.POLICY_ROLE] for step in made} == {"expert"}


def test_an_actor_sees_the_growing_conversation_in_both_forms(world: Any, clerk: Any) -> None:
    seen: list[tuple[Sequence[Message], Sequence[Mapping[str, Any]]]] = []
    expert = expert_actor(clerk)

    def act(state: State, chat: Sequence[Mapping[str, Any]]) -> Turn:
        seen.append(([*state.messages], [*chat]))
        return expert(state, chat)

    play(world, ticket(world, "shipped"), act)
    assert [[message["role"] for message in chat] for _, chat in seen] == [["user"], ["user", "assistant", "tool"]]
    assert all([to_openai(message) for message in messages] == chat for messages, chat in seen)
    assert seen[1][1][2]["tool_call_id"] == seen[1][1][1]["tool_calls"][0]["id"] == "call_0"


def test_a_second_play_of_a_task_is_the_same(world: Any, policy: Policy) -> None:
    task = ticket(world, "delivered")
    first, second = (play(world, task, clone_actor(policy)) for _ in range(2))
    assert [turn.action for turn in first.turns] == [turn.action for turn in second.turns]
    assert [turn.confidence for turn in first.turns] == [turn.confidence for turn in second.turns]
