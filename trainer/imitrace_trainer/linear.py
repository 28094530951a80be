"""The linear family: multinomial logistic regression over TF-IDF features chooses the tool, the copy ranker fills it.

It is fitted to its optimum by L-BFGS (Liu & Nocedal 1989), so neither a seed nor a number of epochs bears on it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from imitrace_trainer.bags import Bags
from imitrace_trainer.calibration import Calibration
from imitrace_trainer.embedded import EmbeddedPolicy
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.family import Parts, Scored, decision
from imitrace_trainer.fit import BCConfig, Lesson
from imitrace_trainer.policy import Decision, State
from imitrace_trainer.progress import Progress
from imitrace_trainer.reading import Reader

RIDGE = 0.1
"""Weight of half the squared weights against the sum of the losses: the inverse of scikit-learn's ``C``."""
_STEPS = 60


class LinearPolicy:
    """Choose a tool by one weight a feature and tool; what it shares with ``embedded`` fills the arguments."""

    family = "linear"

    def __init__(self, caller: EmbeddedPolicy, weights: Tensor) -> None:
        self.caller = caller
        self.weights = weights
        """Shape (features + 1, actions), the bias last."""
        self.calibration = Calibration()

    @property
    def reader(self) -> Reader:
        """Reads messages, each once."""
        return self.caller.reader

    @property
    def tools(self) -> Sequence[dict[str, Any]]:
        """Return the newest definition of every tool that was offered in training."""
        return self.caller.tools

    def act(self, state: State) -> Decision:
        """Return the decision for a state; the tools offered bound what can be chosen."""
        return decision(self, *self._decide(state))

    def act_batch(self, states: Sequence[State]) -> list[Decision]:
        """Return the decision for each state, as ``act`` does; the weights of all of them are summed at once."""
        return [decision(self, *decided) for decided in self._decide_all(states)]

    def score(self, state: State) -> tuple[Scored, float]:
        """Return the action with its raw probabilities, and the state's distance: what calibration is fitted on."""
        scored, _, distance = self._decide(state)
        return scored, distance

    def evidence(self, scored: Scored) -> list[float]:
        """Return what confidence is calibrated on: the same as of ``embedded``."""
        return self.caller.evidence(scored)

    def parts(self) -> Parts:
        """Return the weights, and the caller's parts but for its own choice of tools."""
        kept = self.caller.parts()
        tensors = {name: tensor for name, tensor in kept.tensors.items() if not name.startswith("choice.")}
        return Parts(tensors | {"linear": self.weights}, kept.record)

    @classmethod
    def of_parts(cls, parts: Parts) -> "LinearPolicy":
        """Return the policy whose ``parts`` these are."""
        caller = EmbeddedPolicy.of_parts(parts, chooses=False)
        weights = parts.tensors["linear"]
        due = (len(caller.features.ids) + 1, len(caller.knowledge.actions))
        if tuple(weights.shape) != due:
            raise ValueError(f"linear is {tuple(weights.shape)}, expected {due}")
        return cls(caller, weights)

    def _decide(self, state: State) -> tuple[Scored, dict[str, float], float]:
        return self._decide_all([state])[0]

    @torch.inference_mode()
    def _decide_all(self, states: Sequence[State]) -> list[tuple[Scored, dict[str, float], float]]:
        """Return of each state the action, the share of each on offer, and the distance."""
        if not states:
            return []
        views = [self.caller.view(state) for state in states]
        bags = [self.caller.bags(view) for view in views]
        decided = []
        for view, bag, logits in zip(views, bags, _logits(self.weights, _packed(bags)).tolist(), strict=True):
            known = dict(zip(self.caller.knowledge.actions, logits, strict=True))
            least = min(known.values())  # of a tool never seen, whatever its description says
            names = [name for name in {**known, **view.tools} if name == MESSAGE or name in view.tools]
            shares = torch.softmax(torch.tensor([known.get(name, least) for name in names]), dim=0).tolist()
            name = names[int(np.argmax(shares))]
            scored = self.caller.call(view, name, max(shares))
            decided.append((scored, dict(zip(names, shares, strict=True)), self.caller.neighbours.distance(bag)))
        return decided


def fit_linear(lesson: Lesson, config: BCConfig, progress: Progress) -> LinearPolicy:
    """Fit the weights by penalised maximum likelihood."""
    packed = _packed([row.bags for row in lesson.choices])
    labels = torch.tensor([row.label for row in lesson.choices])
    weights = torch.zeros(len(lesson.caller.features.ids) + 1, len(lesson.caller.knowledge.actions), requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=_STEPS, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        fit = nn.functional.cross_entropy(_logits(weights, packed), labels)
        penalised = fit + RIDGE / 2 / len(labels) * weights[:-1].square().sum()
        penalised.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        return penalised

    optimiser.step(loss)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    progress("linear", 1.0)
    return LinearPolicy(lesson.caller, weights.detach())


def _packed(bags: Sequence[Bags]) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, weights and offsets of several states, each one bag of all groups."""
    rows = torch.from_numpy(np.concatenate([bag.rows for bag in bags]))
    weights = torch.from_numpy(np.concatenate([bag.weights for bag in bags])) / len(bags[0].lengths) ** 0.5
    lengths = [len(bag.rows) for bag in bags]
    return rows, weights, torch.tensor(np.cumsum([0, *lengths])[:-1])


def _logits(weights: Tensor, packed: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    rows, counts, offsets = packed
    summed = nn.functional.embedding_bag(rows, weights[:-1], offsets, mode="sum", per_sample_weights=counts)
    return torch.as_tensor(summed + weights[-1])
