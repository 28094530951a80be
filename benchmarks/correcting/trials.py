"""Try a clone, or the expert, on the tasks of a setting; in noise, all slip alike at the same step of a task."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final

from correcting.grounds import NOISE, Ground
from imitrace_trainer.environment import Environment
from imitrace_trainer.policy import Policy, State
from imitrace_trainer.rollout import Actor, Turn, clone_actor, expert_actor, play

SEED: Final = 90_000
"""Of the tasks that all are tried on, in every repetition the same."""


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
