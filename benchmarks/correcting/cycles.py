"""Live through ten refreshes of a clone at a desk that slowly drifts: tools get other names, requests become others.

Every refresh learns from all that came before and from what was bought since: nothing (``frozen``), recordings of the
desk as it is now, the expert's word on the clone's own way (``corrections``), what both do well where the expert acts
in doubt (``handovers``), what the clone did well alone (``own``), or recordings and own successes together.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from random import Random
from typing import Any, Final

from correcting.arms import HANDOVER, Seed, Shop, recorded
from correcting.desks import NAMES, RenamedDesk, desk_expert
from correcting.grounds import Ground
from correcting.trials import SEED, try_clone, try_expert
from imitrace.messages import Action
from imitrace_trainer.correcting.config import CorrectConfig
from imitrace_trainer.correcting.expert_budget import Budget
from imitrace_trainer.correcting.rounds import World, correct, lessons_of
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.environment import Environment, Task
from imitrace_trainer.policy import Policy

NAME: Final = "drifting"
CYCLES: Final = 10
CALLS: Final = 100
"""Of the expert, at each refresh."""
_OWN: Final = 60
_HANDOVERS: Final = "handovers"
_OTHERS: Final = "long_tail"
"""Requests that are none of the tasks in the first cycle, and half of them in the last."""


def _ground(cycle: int) -> Ground:
    """Return the desk of a cycle, from 0."""

    def desk(setting: str) -> Environment:
        return RenamedDesk(len(NAMES) * cycle // CYCLES)

    def tasks(environment: Environment, setting: str, count: int, seed: int) -> Sequence[Task]:
        assert isinstance(environment, RenamedDesk)
        usual, others = (iter(environment.tasks(count, seed, one)) for one in ("multi_turn_refunds", _OTHERS))
        draw = Random(f"{seed}/{SEED}")
        return [next(others if draw.random() < 0.5 * cycle / CYCLES else usual) for _ in range(count)]

    def wrong(environment: Environment, action: Action, messages: Any, draw: Random) -> Action:
        return action

    return Ground(NAME, desk, desk_expert, wrong, 8, tasks)


def lived(way: str, asked: dict[str, Any]) -> dict[str, Any]:  # JSON
    """Return what becomes of a clone that is refreshed in one way: by cycle, in which tasks it succeeds."""
    success: dict[str, list[int]] = {}
    decisions = calls = 0
    life = _Life(asked, doubts=way == _HANDOVERS)
    for cycle in range(CYCLES + 1):
        ground = _ground(cycle)
        if way == "expert":
            tried = try_expert(ground, life.fallible, ("in_distribution",), asked["tasks"])
        else:
            policy = life.begin() if cycle == 0 else life.refresh(way, ground, cycle)
            calls, decisions = life.calls, len(life.shown)
            tried = try_clone(ground, policy, ("in_distribution",), asked["tasks"])
        success[f"cycle_{cycle}"] = tried["in_distribution"]
    return {"success": success, **({} if way == "expert" else {"expert_calls": calls, "decisions": decisions})}


class _Life:
    """What one clone learnt so far."""

    def __init__(self, asked: dict[str, Any], *, doubts: bool) -> None:
        self.fallible, self._first = bool(asked["fallible"]), int(asked["calls"])
        self._seed, self._epochs = int(asked["seed"]), int(asked["epochs"])
        self.shown: list[Demonstration] = []
        self.calls = 0
        self._policy: Policy | None = None
        self._doubts = doubts
        """Whether the clone must know how sure it is."""

    def begin(self) -> Policy:
        """Learn from recordings of the desk as it is in the beginning."""
        self._record(_ground(0), 0, self._first)
        return self._fit()

    def refresh(self, way: str, ground: Ground, cycle: int) -> Policy:
        """Learn anew at a desk, in one way."""
        for step in _WAYS[way]:
            step(self, ground, cycle)
        return self._fit() if _WAYS[way] or self._policy is None else self._policy

    def _fit(self) -> Policy:
        shop = Shop(_ground(0), self.fallible, Seed(self._seed), self._first, self._epochs, 0)
        self._policy = (shop.learn_doubt if self._doubts else shop.learn)(self.shown)
        return self._policy

    def _record(self, ground: Ground, cycle: int, calls: int = CALLS) -> None:
        world = self._world(ground, cycle, calls)
        bought = recorded(world.environment, world.expert, world.tasks, calls)
        self.shown += bought.demonstrations(only_successes=True)
        self.calls += bought.spent.calls

    def _correct(self, ground: Ground, cycle: int) -> None:
        self._learn_from(ground, cycle, CorrectConfig(method="dagger", seed=cycle), Budget(calls=CALLS))

    def _hand_over(self, ground: Ground, cycle: int) -> None:
        self._learn_from(ground, cycle, replace(HANDOVER, rounds=1, seed=cycle), Budget(calls=CALLS), 5 * CALLS)

    def _try(self, ground: Ground, cycle: int) -> None:
        self._learn_from(ground, cycle, CorrectConfig(method="own", tries=3, seed=cycle), Budget(), _OWN)

    def _learn_from(
        self, ground: Ground, cycle: int, config: CorrectConfig, budget: Budget, tasks: int = CALLS
    ) -> None:
        assert self._policy is not None
        made = correct(self._policy, self._world(ground, cycle, tasks), config, budget, horizon=ground.horizon)
        self.shown += lessons_of(made.episodes)
        self.calls += made.spent.calls

    def _world(self, ground: Ground, cycle: int, tasks: int) -> World:
        environment = ground.make("in_distribution")
        drawn = ground.tasks(environment, "in_distribution", tasks, 20_000 + 100 * self._seed + cycle)
        return World(environment, ground.expert(environment, self.fallible), list(islice(drawn, tasks)))


_WAYS: Final[dict[str, tuple[Callable[[_Life, Ground, int], None], ...]]] = {
    "frozen": (),
    "recordings": (_Life._record,),
    "corrections": (_Life._correct,),
    _HANDOVERS: (_Life._hand_over,),
    "own": (_Life._try,),
    "recordings_own": (_Life._record, _Life._try),
}
WAYS: Final = ("expert", *_WAYS)
"""By name, what each refresh buys."""
