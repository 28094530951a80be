"""Spend labels on decisions of a pool, chosen one way or another, and see what a clone learns from them."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.fit import BCConfig, calibrate, prepare
from imitrace_trainer.linear import LinearPolicy, fit_linear
from imitrace_trainer.policy import same_action
from imitrace_trainer.progress import silent
from imitrace_trainer.queue_items import Item
from imitrace_trainer.queue_ranking import RISKS, rank
from imitrace_trainer.reading import Reader

STRATEGIES = ("uncertainty", "rank", "random")
"""The queue's orders that are compared."""
READS = ("get_", "find_", "search_", "list_", "calculate", "think")
"""How the names of the sets' tools that only read begin; a user of the queue says so in the tool ledger."""


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    base: int
    """Tasks that the first clone learns from."""
    calibration: int
    batch: int
    """Labels a round."""
    rounds: int
    seeds: int
    epochs: int
    pool: int
    """Decisions of the pool, of tasks that are drawn, at most."""
    held: int
    """Held-out decisions that are drawn, at most."""


@dataclass(frozen=True)
class Hits:
    """What a clone did on held-out decisions."""

    tool: list[bool]
    """Whether it chose the expert's tool, or a message like the expert."""
    call: list[bool]
    """Whether it did exactly what the expert did."""
    weights: list[float]
    """What the expert's action can do: the queue's weight of its risk class."""
    tasks: list[str]


def risk_of(_: str, tool: str) -> str:
    """Return the class of a tool of the sets."""
    return "read" if tool.startswith(READS) else "irreversible"


class Bench:
    """The decisions of one set, divided by task for one seed."""

    def __init__(self, shown: Sequence[Demonstration], held: Sequence[Demonstration], sizes: Sizes, seed: int) -> None:
        """Draw base and calibration tasks; what is left is the pool.

        Args:
            shown: decisions that may be learnt from.
            held: decisions of other tasks.
            sizes: how many tasks.
            seed: draws them.
        """
        tasks = sorted({one.task for one in shown})
        random.Random(f"tasks {seed}").shuffle(tasks)
        base, calibration = set(tasks[: sizes.base]), set(tasks[sizes.base : sizes.base + sizes.calibration])
        self.base = [one for one in shown if one.task in base]
        self.calibration = [one for one in shown if one.task in calibration]
        places = {task: place for place, task in enumerate(tasks)}
        others = [one for one in shown if one.task not in base | calibration]
        self.pool = sorted(others, key=lambda one: places[one.task])[: sizes.pool]
        self.held = random.Random(f"held {seed}").sample(list(held), min(sizes.held, len(held)))
        self.sizes, self.seed, self.reader = sizes, seed, Reader()

    def clone(self, labelled: Sequence[Demonstration]) -> LinearPolicy:
        """Return a clone of the base tasks' decisions and those that were labelled since."""
        config = BCConfig(epochs=self.sizes.epochs, seed=self.seed, device="cpu")
        lesson = prepare([*self.base, *labelled], config, silent, self.calibration, reader=self.reader)
        policy = fit_linear(lesson, config, silent)
        calibrate(policy, self.calibration)
        return policy

    def judged(self, policy: LinearPolicy) -> Hits:
        """Return what a clone does on the held-out decisions."""
        made = [policy.act(one.state).action for one in self.held]
        return Hits(
            tool=[(a.kind, a.name) == (b.action.kind, b.action.name) for a, b in zip(made, self.held, strict=True)],
            call=[same_action(a, b.action) for a, b in zip(made, self.held, strict=True)],
            weights=[RISKS["reversible" if b.action.name is None else risk_of("", b.action.name)] for b in self.held],
            tasks=[one.task for one in self.held],
        )

    def labelled(self, strategy: str, first: LinearPolicy) -> list[Hits]:
        """Return what clones do after each round of labels that a strategy chose."""
        judged: list[Item] = []
        policy, found = first, []
        for _ in range(self.sizes.rounds):
            known = {item.id for item in judged}
            left = [place for place in range(len(self.pool)) if _name(place) not in known]
            if strategy == "random":  # which no clone needs to look at
                drawn = random.Random(f"draw {self.seed} {len(judged)}").sample(left, min(self.sizes.batch, len(left)))
                judged += [self._item(place, None) for place in drawn]
            else:
                items = [self._item(place, policy) for place in left]
                judged += [one.item for one in rank(items, judged, risk_of, strategy)[: self.sizes.batch]]
            policy = self.clone([self.pool[int(item.id)] for item in judged])
            found.append(self.judged(policy))
        return found

    def _item(self, place: int, policy: LinearPolicy | None) -> Item:
        """Return a decision of the pool as the queue has what a clone did: what the expert would do is not known."""
        state = self.pool[place].state
        decision = None if policy is None else policy.act(state)
        return Item(
            id=_name(place),
            agent="",
            kind="low_confidence",
            state=tuple(state.messages),
            tools=tuple(map(dict, state.tools)),
            tags=dict(state.tags),
            expert=None,
            expert_name=None,
            clone=None if decision is None else decision.action,
            clone_name=None,
            confidence=None if decision is None else decision.confidence,
            ood=None if decision is None else decision.ood,
        )


def _name(place: int) -> str:
    return f"{place:06d}"


def curves(
    shown: Sequence[Demonstration],
    held: Sequence[Demonstration],
    sizes: Sizes,
    seed: int,
    tell: Callable[[str], None],
) -> tuple[Hits, dict[str, list[Hits]]]:
    """Return what the first clone does, and by strategy what those do that had more labels."""
    torch.set_num_threads(1)
    bench = Bench(shown, held, sizes, seed)
    first = bench.clone([])
    before = bench.judged(first)
    found = {}
    for strategy in STRATEGIES:
        tell(f"seed {seed}: {strategy}")
        found[strategy] = bench.labelled(strategy, first)
    return before, found
