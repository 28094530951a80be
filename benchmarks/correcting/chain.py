"""Walk a chain on which the theory can be seen: one slip costs a cloner the rest of the way, a corrected one a step.

On the way the expert goes on; beside it, it comes back. Now and then (``SLIP``) the world pushes the walker off. Who
never saw the place beside the way does there what it does most, and goes on beside it to the end. Cost is steps off
the way: in expectation of the order of the length squared for behaviour cloning, of the length for DAgger (Ross, Gordon
and Bagnell 2011, theorems 2.1 and 3.2).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import numpy as np

from imitrace.messages import Action, from_openai
from imitrace_trainer.correcting.config import CorrectConfig
from imitrace_trainer.correcting.expert_budget import Budget
from imitrace_trainer.correcting.rounds import World, correct, lessons_of
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.policy import Decision, Policy, State
from imitrace_trainer.rollout import MAX_STEPS

SLIP: Final = 0.03
LENGTHS: Final = (5, 10, 20, 40)
"""No longer than an episode may be."""
_ON, _BACK = Action("tool_call", "on", {}), Action("tool_call", "back", {})
_TRAINED: Final = 40
_TRIED: Final = 300


@dataclass(frozen=True)
class Walk:
    """A task: the id says what is drawn."""

    id: str
    tags: Mapping[str, str]


class Chain:
    """A way of so many steps."""

    def __init__(self, length: int, slip: float) -> None:
        self._length = length
        self._slip = slip
        self.off = 0
        """Steps that were spent beside the way."""

    @property
    def tools(self) -> list[dict[str, Any]]:  # OpenAI tool definitions
        """Return the two steps that there are."""
        parameters = {"type": "object", "properties": {}}
        return [
            {"type": "function", "function": {"name": one, "description": f"Go {one}.", "parameters": parameters}}
            for one in ("on", "back")
        ]

    def tasks(self, count: int, seed: int, cohort: str | None = None) -> list[Walk]:
        """Return walks."""
        return [Walk(f"walk-{seed}-{number}", {}) for number in range(count)]

    def reset(self, task_id: str, seed: int = 0) -> list[dict[str, Any]]:  # OpenAI messages
        """Begin at the beginning."""
        self._draw, self._done, self._beside, self.off = Random(f"{task_id}/{seed}"), 0, False, 0
        return [{"role": "user", "content": "on the way"}]

    def step(self, action: Action) -> tuple[list[dict[str, Any]], bool, dict[str, Any]]:
        """Take a step; who is beside the way stays there until going back."""
        self._done += 1
        if self._beside:
            self.off += 1
            self._beside = action.name != "back"
        elif self._draw.random() < self._slip:
            self._beside = True
        place = "beside the way" if self._beside else "on the way"
        message = {"role": "tool", "tool_call_id": action.call_id, "content": place}
        return [message], self._done >= self._length, {"success": self._done >= self._length}


class Guide:
    """The expert."""

    def act(self, messages: Sequence[Mapping[str, Any]]) -> Action:
        """Return the step back to the way, or on."""
        return _BACK if messages[-1]["content"] == "beside the way" else _ON


class Counting:
    """A clone that does in each place what it saw there most; where it saw nothing, what it saw most of all."""

    def __init__(self, shown: Sequence[Demonstration]) -> None:
        self._seen: dict[str, dict[str, int]] = {}
        for one in shown:
            counts = self._seen.setdefault(_place(one.state), {"on": 0, "back": 0})
            counts[one.action.name or ""] += 1

    def act(self, state: State) -> Decision:
        """Return a decision."""
        counts = self._seen.get(_place(state), {"on": 1, "back": 0})
        action = max((_ON, _BACK), key=lambda one: counts[one.name or ""])
        return Decision(action, 1.0, 0.0, {"on": 0.5, "back": 0.5})


def _place(state: State) -> str:
    part = state.messages[-1]["parts"][0]
    return str(part.get("response", part.get("content")))


def costs(seed: int, lengths: Sequence[int] = LENGTHS, walks: int = _TRIED) -> dict[str, list[float]]:
    """Return the mean steps off the way by method and length.

    ``bc`` learnt from undisturbed recordings alone, ``dagger`` was corrected on its own way as well.
    """
    assert max(lengths) <= MAX_STEPS
    found: dict[str, list[float]] = {"bc": [], "dagger": []}
    for length in lengths:
        calm = Chain(length, 0.0)
        config = CorrectConfig(method="dagger", beta=0.0, repeats=MAX_STEPS, seed=seed)
        undisturbed = World(calm, Guide(), calm.tasks(_TRAINED, seed))
        known = lessons_of(correct(Counting([]), undisturbed, config, Budget()).episodes)
        cloned = Counting(known)
        windy = Chain(length, SLIP)
        corrected = correct(cloned, World(windy, Guide(), windy.tasks(_TRAINED, seed + 1)), config, Budget())
        for name, policy in (("bc", cloned), ("dagger", Counting([*known, *lessons_of(corrected.episodes)]))):
            found[name].append(float(np.mean([_cost(windy, policy, f"try-{seed}-{walk}") for walk in range(walks)])))
    return found


def _cost(chain: Chain, policy: Policy, task: str) -> int:
    messages, done = [from_openai(one) for one in chain.reset(task)], False
    while not done:
        following, done, _ = chain.step(policy.act(State(messages, [])).action)
        messages += [from_openai(one) for one in following]
    return chain.off


def exponents(lengths: Sequence[int], by_seed: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, dict[str, float]]:
    """Return by method the slope of the logarithm of cost on that of length, with a 95 % interval over repetitions."""
    found = {}
    for name in by_seed[0]:
        slopes = [float(np.polyfit(np.log(lengths), np.log(np.maximum(one[name], 1e-9)), 1)[0]) for one in by_seed]
        rng = np.random.default_rng(0)
        means = [float(np.mean(rng.choice(slopes, len(slopes)))) for _ in range(2_000)]
        low, high = np.quantile(means, [0.025, 0.975])
        found[name] = {
            "value": round(float(np.mean(slopes)), 3),
            "low": round(float(low), 3),
            "high": round(float(high), 3),
        }
    return found
