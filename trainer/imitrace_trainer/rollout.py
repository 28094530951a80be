"""Play tasks in an environment: by the expert, by the clone alone, or by both as the route decides."""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import imitrace
from imitrace.messages import Action, Message, action_message, from_openai, to_openai, tool_definition
from imitrace_trainer.environment import Environment, Expert, Task
from imitrace_trainer.policy import Policy, State
from imitrace_trainer.route import RoutedClone
from imitrace_trainer.route_rules import cohort_of

MAX_STEPS = 40


@dataclass(frozen=True)
class Turn:
    """One decision of a rollout: what was done, by whom, why, and how long that took to decide."""

    action: Action | None
    """None: nobody could act, and the episode ends."""
    role: str
    reason: str
    seconds: float
    confidence: float | None = None
    policy: tuple[str, str] | None = None
    """Name and version of the clone that acted."""


Actor = Callable[[State, Sequence[Mapping[str, Any]]], Turn]
"""Decides; it is given the state, and the same messages in OpenAI's form for experts."""


@dataclass
class Episode:
    """How one task went."""

    task: str
    cohort: str
    success: bool = False
    unsafe: bool = False
    unsafe_by: str | None = None
    """Whose decision first did what the policy forbids."""
    turns: list[Turn] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    """The whole conversation."""

    def count(self, role: str) -> int:
        """Return how many decisions a role took."""
        return sum(turn.role == role and turn.action is not None for turn in self.turns)


def expert_actor(expert: Expert) -> Actor:
    """Let the expert act on everything."""

    def act(_: State, messages: Sequence[Mapping[str, Any]]) -> Turn:
        start = time.perf_counter()
        action = expert.act(messages)
        return Turn(action, "expert", "expert", time.perf_counter() - start)

    return act


def clone_actor(policy: Policy, named: tuple[str, str] | None = None) -> Actor:
    """Let the clone act on everything; where it has no text to write, the episode ends."""

    def act(state: State, _: Sequence[Mapping[str, Any]]) -> Turn:
        start = time.perf_counter()
        decision = policy.act(state)
        seconds = time.perf_counter() - start
        action = decision.action if decision.action.kind == "tool_call" or decision.action.message else None
        return Turn(action, "clone", "alone", seconds, decision.confidence, named)

    return act


def hybrid_actor(clone: RoutedClone, expert: Expert) -> Actor:
    """Let the clone act where it is trusted, and the expert everywhere else."""

    def act(state: State, messages: Sequence[Mapping[str, Any]]) -> Turn:
        start = time.perf_counter()
        decision, routed = clone.decide(state)
        action, named = (decision.action, clone.named) if routed.actor == "clone" else (expert.act(messages), None)
        return Turn(action, routed.actor, routed.reason, time.perf_counter() - start, decision.confidence, named)

    return act


def play(environment: Environment, task: Task, actor: Actor, seed: int = 0) -> Episode:
    """Play one task to its end, traced as a trajectory where tracing is configured.

    The episode ends when the environment says so, when nobody can act, or after ``MAX_STEPS``.
    """
    tools = [tool_definition(tool) for tool in environment.tools]
    episode = Episode(task.id, cohort_of(task.tags))
    chat: list[dict[str, Any]] = list(environment.reset(task.id, seed))
    messages: list[Message] = [from_openai(message) for message in chat]
    course = uuid.uuid4().hex
    episode.messages = messages
    with imitrace.trajectory(task=task.id, tags=dict(task.tags)):
        for number in range(MAX_STEPS):
            with imitrace.step(messages, tools) as step:
                turn = actor(State(messages, tools, task.tags, course), chat)
                episode.turns.append(turn)
                name, version = turn.policy or (None, None)
                step.policy(role=turn.role, name=name, version=version, confidence=turn.confidence, reason=turn.reason)
                if turn.action is None:
                    # A clone that would write, and can't, made a decision; an expert that has none made no decision.
                    if turn.role == "clone":
                        step.message("")
                    break
                action = replace(turn.action, call_id=f"call_{number}")
                step.act(action)
            following, done, info = environment.step(action)
            answer = action_message(action)
            messages += [answer, *(from_openai(message) for message in following)]
            chat += [to_openai(answer), *following]
            episode.success, episode.unsafe = bool(info.get("success")), bool(info.get("unsafe"))
            if episode.unsafe and episode.unsafe_by is None:
                episode.unsafe_by = turn.role
            if done:
                break
        imitrace.outcome("success" if episode.success else "failure")
    return episode
