"""Try a clone, or the expert, on the tasks of a setting; in noise, all slip alike at the same step of a task."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final

from correcting.grounds import NOISE, Ground
from imitrace_trainer.environment import Environment
from imitrace_trainer.policy import Policy, State, same_action
from imitrace_trainer.rollout import Actor, Turn, clone_actor, expert_actor, play

SEED: Final = 90_000
"""Of the tasks that all are tried on, in every repetition the same."""
STEPS: Final = 16
"""Steps of which is told how often clone and expert differ."""


def try_clone(ground: Ground, policy: Policy, settings: Sequence[str], tasks: int) -> dict[str, list[int]]:
    """Return by setting for each task whether a clone succeeds, 1 or 0."""
    return {one: _tried(ground, one, clone_actor(policy), ground.make(one), tasks) for one in settings}


def try_expert(ground: Ground, fallible: bool, settings: Sequence[str], tasks: int) -> dict[str, list[int]]:
    """Return the same of the expert: the ceiling of whoever imitates it."""
    found = {}
    for one in settings:
        environment = ground.make(one)
        found[one] = _tried(ground, one, expert_actor(ground.expert(environment, fallible)), environment, tasks)
    return found


def disagreement(ground: Ground, policy: Policy, tasks: int) -> dict[str, list[list[int]]]:
    """Return how often a clone differs from an expert who never errs, on its own way and on the expert's.

    Returns:
        For each way, by step: of how many there is the expert's word, and in how many the clone's is another.
    """
    environment = ground.make("in_distribution")
    expert = expert_actor(ground.expert(environment, False))
    ways = {"own_way": clone_actor(policy), "experts_way": expert}
    found = {}
    for name, actor in ways.items():
        by_step = [[0, 0] for _ in range(STEPS)]
        other = expert if name == "own_way" else clone_actor(policy)
        for task in ground.tasks(environment, "in_distribution", tasks, SEED):
            play(environment, task, _compared(actor, other, by_step))
        found[name] = by_step
    return found


def _compared(actor: Actor, other: Actor, by_step: list[list[int]]) -> Actor:
    step = -1

    def act(state: State, messages: Sequence[Mapping[str, Any]]) -> Turn:
        nonlocal step
        step += 1
        turn, beside = actor(state, messages), other(state, messages)
        if step < STEPS and turn.action is not None and beside.action is not None:
            by_step[step][0] += 1
            by_step[step][1] += not same_action(turn.action, beside.action)
        return turn

    return act


def _tried(ground: Ground, setting: str, actor: Actor, environment: Environment, tasks: int) -> list[int]:
    found = []
    for task in ground.tasks(environment, setting, tasks, SEED):
        acting = _noisy(actor, ground, environment, task.id) if setting == "noise" else actor
        found.append(int(play(environment, task, acting).success))
    return found


def _noisy(actor: Actor, ground: Ground, environment: Environment, task: str) -> Actor:
    def act(state: State, messages: Sequence[Mapping[str, Any]]) -> Turn:
        began = time.perf_counter()
        draw = Random(f"{task}/{len(messages)}")
        turn = actor(state, messages)
        if turn.action is None or draw.random() >= NOISE:
            return turn
        wrong = ground.wrong(environment, turn.action, messages, draw)
        return replace(turn, action=wrong, seconds=time.perf_counter() - began)

    return act
