"""Cook in TextWorld: small houses to learn in, larger ones as the changed world."""

from collections.abc import Sequence
from random import Random
from typing import Final

from correcting.grounds import MISREAD, Chat, Ground
from imitrace.messages import Action
from imitrace_trainer.environment import Environment, Expert, Task
from imitrace_trainer.worlds.textworld_cooking import CookingWorld, make_expert

_SIZES: Final = {"changed": "plain"}
"""By setting, the size of the houses; else small."""


def make(setting: str) -> Environment:
    """Return a house."""
    return CookingWorld(sizes=(_SIZES.get(setting, "small"),))


def expert(environment: Environment, fallible: bool) -> Expert:
    """Return the expert, who misreads some recipes where fallible."""
    assert isinstance(environment, CookingWorld)
    return make_expert(environment, misread=MISREAD if fallible else 0.0)


def wrong(environment: Environment, action: Action, messages: Chat, draw: Random) -> Action:
    """Return something else that can be done now."""
    assert isinstance(environment, CookingWorld)
    others = [one for one in environment.actions() if (one.name, one.arguments) != (action.name, action.arguments)]
    return draw.choice(others) if others else action


def tasks(environment: Environment, setting: str, count: int, seed: int) -> Sequence[Task]:
    """Return so many games of a seed."""
    return environment.tasks(count, seed)


GROUND: Final = Ground("cooking", make, expert, wrong, 11, tasks)
