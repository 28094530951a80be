"""Make clones by each method at the same price in the expert's calls, and say what each did cost.

A method is bought with ``calls`` of the expert: those that learn from recordings alone spend all on whole tasks that
the expert plays; those that correct spend a third on that, and the rest in three rounds on their own way. What a clone
tries alone costs no call.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final

from correcting.grounds import Ground
from imitrace.messages import decisions, tool_definition
from imitrace_trainer.correcting.config import CorrectConfig
from imitrace_trainer.correcting.expert_budget import Budget, Spent
from imitrace_trainer.correcting.rounds import World, correct, lessons_of, mixed
from imitrace_trainer.correcting.students import GuardedPolicy, RerankedPolicy, SampledPolicy
from imitrace_trainer.critic import CriticisedPolicy
from imitrace_trainer.critic_fit import CriticCase, CriticConfig, fit_critic
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.environment import Environment, Expert, Task
from imitrace_trainer.family import Clone
from imitrace_trainer.fit import BCConfig
from imitrace_trainer.ladder import climb
from imitrace_trainer.policy import Policy, State
from imitrace_trainer.rollout import Actor, clone_actor, expert_actor, play

FAMILY: Final = "linear"
ROUNDS: Final = 3
OWN: Final = 60
"""Tasks that a clone plays alone to learn what it does well, or to teach a critic; in rounds, six times as many."""
MIXES: Final = (0.25, 0.5, 0.75)
"""Shares of what is learnt that corrections are made to be."""
_RANKING: Final = CriticConfig(veto=0.5, irreversible_veto=0.5)
"""Of a critic that only chooses among calls: nothing needs to be proven of what it would veto."""


@dataclass(frozen=True)
class Seed:
    """What everything in one repetition is drawn by."""

    number: int

    def tasks(self, part: str) -> int:
        """Return the seed of the tasks of a part; no two parts have the same."""
        return 10_000 + 100 * self.number + ("expert", "corrected", "held out", "own", "critic").index(part)


@dataclass
class Shop:
    """One repetition: what was bought, each thing once."""

    ground: Ground
    fallible: bool
    seed: Seed
    calls: int
    epochs: int
    held_out: int
    """Tasks that rounds are judged on."""
    bought: dict[int, "Bought"] = field(default_factory=dict)
    made: dict[str, "Made"] = field(default_factory=dict)

    def once(self, name: str) -> "Made":
        """Return what a method makes; it is made the first time."""
        if name not in self.made:
            self.made[name] = ARMS[name](self)
        return self.made[name]

    def environment(self) -> Environment:
        """Return the world as the expert knows it."""
        return self.ground.make("in_distribution")

    def recorded(self, calls: int) -> "Bought":
        """Return what the expert does on whole tasks, until so many calls are spent."""
        if calls not in self.bought:
            environment = self.environment()
            expert = self.ground.expert(environment, self.fallible)
            tasks = self.ground.tasks(environment, "in_distribution", calls, self.seed.tasks("expert"))
            self.bought[calls] = recorded(environment, expert, tasks, calls)
        return self.bought[calls]

    def learn(self, shown: Sequence[Demonstration]) -> Policy:
        """Fit a clone."""
        return self._fit(shown)

    def _fit(self, shown: Sequence[Demonstration], calibration: Sequence[Demonstration] = ()) -> Clone:
        config = BCConfig(device="cpu", epochs=self.epochs, seed=self.seed.number, replies=False, refit=False)
        return climb((shown, calibration), FAMILY, config).clone

    def learn_doubt(self, shown: Sequence[Demonstration]) -> Policy:
        """Fit a clone that knows how sure it is: by one that was fitted to three tasks in four, on the fourth."""
        apart = {task for place, task in enumerate(sorted({one.task for one in shown})) if place % 4 == 0}
        parts = [one for one in shown if one.task not in apart], [one for one in shown if one.task in apart]
        clone = self._fit(shown)
        clone.calibration = self._fit(*parts).calibration
        return clone

    def fitted(self, shown: Sequence[Demonstration], spent: Spent) -> "Made":
        """Return a clone fitted to these, at a price."""
        return Made(self.learn(shown), spent, shown)

    def world(self, part: str, held_out: int = 0, count: int = 360) -> World:
        """Return where corrections are made."""
        environment = self.environment()
        tasks = self.ground.tasks(environment, "in_distribution", count, self.seed.tasks(part))
        judged = self.ground.tasks(environment, "in_distribution", held_out, self.seed.tasks("held out"))
        return World(environment, self.ground.expert(environment, self.fallible), tasks, judged)


@dataclass(frozen=True)
class Bought:
    """Whole episodes of the expert's."""

    episodes: Sequence[tuple[Sequence[Demonstration], bool]]
    """The decisions of each, and whether it succeeded."""
    spent: Spent

    def demonstrations(self, only_successes: bool = False) -> list[Demonstration]:
        """Return the decisions."""
        return [one for shown, success in self.episodes for one in shown if success or not only_successes]


@dataclass(frozen=True)
class Made:
    """A clone, and its price."""

    policy: Policy
    spent: Spent
    shown: Sequence[Demonstration]
    """What it learnt from."""
    note: str = ""
    """What is to be known of it, such as why its critic is off."""


def recorded(environment: Environment, expert: Expert, tasks: Sequence[Task], calls: int) -> Bought:
    """Let an expert play whole tasks until so many calls are spent; the last episode may be cut short."""
    left, episodes = calls, []
    for shown, success in _played(expert_actor(expert), environment, tasks):
        episodes.append((shown[:left], success))
        left -= len(episodes[-1][0])
        if not left:
            break
    return Bought(episodes, Spent(calls=calls - left, steps=calls - left))


def _played(
    actor: Actor, environment: Environment, tasks: Sequence[Task]
) -> Iterator[tuple[list[Demonstration], bool]]:
    """Yield what is decided in each task, and whether it succeeds."""
    tools = [tool_definition(tool) for tool in environment.tools]
    for task in tasks:
        episode = play(environment, task, actor)
        shown = [
            Demonstration(
                State(episode.messages[: one.position], tools, task.tags),
                replace(one.actions[0], call_id=None),
                task.id,
            )
            for one in decisions(episode.messages)
        ]
        yield shown, episode.success


def _bc(shop: Shop) -> Made:
    bought = shop.recorded(shop.calls)
    return shop.fitted(bought.demonstrations(), bought.spent)


def _bc_successes(shop: Shop) -> Made:
    bought = shop.recorded(shop.calls)
    return shop.fitted(bought.demonstrations(only_successes=True), bought.spent)


def _guarded(name: str) -> Callable[[Shop], Made]:
    def guarded(shop: Shop) -> Made:
        made = shop.once(name)
        return replace(made, policy=GuardedPolicy(made.policy))

    return guarded


def _bc_sampled(shop: Shop) -> Made:
    made = shop.once("bc")
    return replace(made, policy=SampledPolicy(made.policy, Random(shop.seed.number)))


def _bc_own(shop: Shop) -> Made:
    made = shop.once("bc")
    own = correct(made.policy, shop.world("own", count=OWN), CorrectConfig(method="own"), Budget())
    return shop.fitted([*made.shown, *lessons_of(own.episodes)], _sum(made.spent, own.spent))


def _in_rounds(name: str) -> Callable[[Shop], Made]:
    """Return a way to let a clone try alone, up to three times a task, in three rounds, and learn what it did well."""

    def make(shop: Shop) -> Made:
        made = shop.once(name)
        own = correct(
            made.policy,
            shop.world("own", shop.held_out, ROUNDS * 2 * OWN),
            CorrectConfig(method="own", rounds=ROUNDS, tries=3, seed=shop.seed.number),
            Budget(),
            known=made.shown,
            learn=shop.learn,
        )
        return shop.fitted([*made.shown, *lessons_of(own.episodes)], _sum(made.spent, own.spent))

    return make


def _sum(one: Spent, other: Spent) -> Spent:
    return Spent(calls=one.calls + other.calls, steps=one.steps + other.steps, rejected=one.rejected + other.rejected)


def _corrected(config: CorrectConfig, mix: float = 0.0) -> Callable[[Shop], Made]:
    """Return a way to buy a third as recordings and the rest as corrections, of which some are to be a share."""

    def make(shop: Shop) -> Made:
        bought = shop.recorded(shop.calls // 3)
        known = bought.demonstrations()
        learn = shop.learn_doubt if config.method == "handover" else shop.learn
        made = correct(
            learn(known),
            shop.world("corrected", shop.held_out if config.rounds > 1 else 0),
            replace(config, seed=shop.seed.number),
            Budget(calls=shop.calls - bought.spent.calls),
            known=known,
            learn=learn,
            horizon=shop.ground.horizon,
            mix=mix,
        )
        shown = [*known, *mixed(lessons_of(made.episodes), len(known), mix)]
        return shop.fitted(shown, _sum(bought.spent, made.spent))

    return make


def _with_critic(name: str) -> Callable[[Shop], Made]:
    """Return a way that lets a critic choose among the clone's likeliest calls; it learnt from the clone's tries."""

    def judged(shop: Shop) -> Made:
        made, environment = shop.once(name), shop.environment()
        played = list(_played(clone_actor(made.policy), environment, shop.world("critic").tasks[: 2 * OWN]))
        critic = fit_critic(_cases(played[::2]), _cases(played[1::2]), _RANKING, None, shop.seed.number)
        reader = made.policy.reader  # type: ignore[attr-defined]  # a fitted clone has one
        policy = RerankedPolicy(CriticisedPolicy(made.policy, critic, reader))
        steps = Spent(steps=sum(len(shown) for shown, _ in played))
        return replace(made, policy=policy, spent=_sum(made.spent, steps), note=critic.refused or "")

    return judged


def _cases(played: Sequence[tuple[Sequence[Demonstration], bool]]) -> list[CriticCase]:
    return [
        CriticCase(one.state, one.action, one.task, one.task, success)
        for shown, success in played
        for one in shown
        if one.action.kind == "tool_call"
    ]


_OEC = CorrectConfig(method="oec", rounds=ROUNDS)
HANDOVER: Final = replace(_OEC, method="handover", threshold=0.7)
ARMS: Final[dict[str, Callable[[Shop], Made]]] = {
    "bc": _bc,
    "bc_successes": _bc_successes,
    "bc_guard": _guarded("bc"),
    "bc_sampled": _bc_sampled,
    "bc_own": _bc_own,
    "bc_rounds": _in_rounds("bc"),
    "dagger": _corrected(CorrectConfig(method="dagger", rounds=ROUNDS)),
    "oec": _corrected(_OEC),
    "handover": _corrected(HANDOVER),
    "handover_50": _corrected(replace(HANDOVER, threshold=0.5)),
    "handover_90": _corrected(replace(HANDOVER, threshold=0.9)),
    "handover_all": _corrected(replace(HANDOVER, reject=False)),
    "handover_rounds": _in_rounds("handover"),
    "oec_guard": _guarded("oec"),
    "dagger_guard": _guarded("dagger"),
    "oec_rounds": _in_rounds("oec"),
    "oec_all": _corrected(replace(_OEC, reject=False)),
    "oec_unmasked": _corrected(replace(_OEC, mask=False)),
    **{f"oec_mix_{round(100 * mix)}": _corrected(_OEC, mix) for mix in MIXES},
    "bc_critic": _with_critic("bc"),
    "bc_own_critic": _with_critic("bc_own"),
}
"""By name; what each is stands in ``benchmarks/README.md``."""
