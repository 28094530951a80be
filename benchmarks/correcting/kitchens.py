"""Cook in TextWorld: small houses to learn in, larger ones as the changed world.

A game takes seconds to make, so all repetitions draw from the same: some to be tried on, others to learn from by what
for; no game is in two parts, but those that a clone is corrected on and those that it tries alone are the same.
"""

from collections.abc import Sequence
from random import Random
from typing import Final

from correcting.grounds import MISREAD, Chat, Ground
from imitrace.messages import Action
from imitrace_trainer.environment import Environment, Expert, Task
from imitrace_trainer.worlds.cooking_games import CookingTask
from imitrace_trainer.worlds.textworld_cooking import CookingWorld, make_expert

_SIZES: Final = {"changed": "plain"}
"""By setting, the size of the houses; else small."""
_SEED: Final = 500
_TRIED: Final = range(60)
_CORRECTED: Final = (*range(240, 400), *range(460, 720))
_PARTS: Final[tuple[Sequence[int], ...]] = (range(60, 200), _CORRECTED, range(200, 240), _CORRECTED, range(400, 460))
"""Numbers of the games of each part of ``Seed.tasks``."""


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
    """Return games of a part, at most so many, in an order of the seed's; or, of ``trials.SEED``, those to be tried."""
    learnt = 10_000 <= seed < 20_000
    numbers = list(_PARTS[seed % 100] if learnt else _TRIED)
    if learnt:
        Random(seed).shuffle(numbers)
    return [CookingTask(_SIZES.get(setting, "small"), _SEED, number) for number in numbers[:count]]


GROUND: Final = Ground("cooking", make, expert, wrong, 11, tasks)
