"""The two small networks of an embedded clone: one chooses the action, one ranks an argument's candidates."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imitrace_trainer.encoding import SEGMENTS

AFFORDANCES = 12
"""Features that say what a tool's arguments could take (see ``embedded.affordances``)."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Sizes of the networks."""

    features: int
    """Rows of the choice vocabulary."""
    descriptions: int
    """Rows of the description vocabulary."""
    slots: int
    """Rows of the argument vocabulary."""
    actions: int
    """Actions known from training, ``message`` among them."""
    width: int = 32
    """Columns of each segment's embedding."""
    hidden: int = 96
    """Width of the hidden layer."""
    dropout: float = 0.3
    """Share of hidden units, and of known action embeddings, left out in training."""


class ChoiceNetwork(nn.Module):
    """Score actions: a wide linear path, a small MLP over segment embeddings, and affordances."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.wide = nn.EmbeddingBag(config.features, config.actions, mode="sum")
        self.deep = nn.EmbeddingBag(config.features, config.width, mode="sum")
        self.describe = nn.EmbeddingBag(max(1, config.descriptions), config.hidden, mode="mean")
        self.hidden = nn.Linear(config.width * len(SEGMENTS), config.hidden)
        self.known = nn.Embedding(config.actions, config.hidden)
        self.bias = nn.Parameter(torch.zeros(config.actions))
        self.shared_affordance = nn.Linear(AFFORDANCES, 1, bias=False)
        self.own_affordance = nn.Parameter(torch.zeros(config.actions, AFFORDANCES))
        self.dropout = nn.Dropout(config.dropout)
        nn.init.zeros_(self.wide.weight)
        nn.init.normal_(self.deep.weight, std=0.3)
        nn.init.normal_(self.known.weight, std=0.05)
        nn.init.normal_(self.describe.weight, std=0.05)

    def embed(self, rows: Tensor, weights: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Return wide logits (batch, actions) and hidden states (batch, hidden).

        Args:
            rows: vocabulary rows of all bags, shape (n,).
            weights: one weight a row, shape (n,).
            offsets: where each bag begins, shape (batch * segments,), a state's segments side by side.
        """
        batch = offsets.numel() // len(SEGMENTS)
        wide = self.wide(rows, offsets, per_sample_weights=weights).view(batch, len(SEGMENTS), -1).sum(dim=1)
        bags = self.deep(rows, offsets, per_sample_weights=weights).view(batch, -1)
        return wide, self.dropout(torch.relu(self.hidden(self.dropout(bags))))

    def forward(
        self, bags: tuple[Tensor, Tensor, Tensor], affordance: Tensor, descriptions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return logits (batch, actions + new) and hidden states; new tools, known by description alone, come last.

        Args:
            bags: rows, weights and offsets as in ``embed``.
            affordance: shape (batch, actions + new, AFFORDANCES).
            descriptions: mean description embedding of every action, shape (actions + new, hidden).
        """
        wide, hidden = self.embed(*bags)
        known, new = self.config.actions, descriptions.shape[0] - self.config.actions
        own = self.known.weight
        if self.training:
            own = own * (torch.rand(known, 1, device=own.device) > self.config.dropout * 0.5)
        pad = (0, 0, 0, new)
        actions = nn.functional.pad(own, pad) + descriptions
        bias = nn.functional.pad(self.bias, (0, new), value=float(self.bias.detach().min()) if known else 0.0)
        specific = (affordance * nn.functional.pad(self.own_affordance, pad)).sum(dim=-1)
        fitting = self.shared_affordance(affordance).squeeze(-1) + specific
        return nn.functional.pad(wide, (0, new)) + hidden @ actions.T + bias + fitting, hidden


class ArgumentNetwork(nn.Module):
    """Score candidates of a slot: a linear path and a small MLP over one bag of features each."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.linear = nn.EmbeddingBag(max(1, config.slots), 1, mode="sum")
        self.deep = nn.EmbeddingBag(max(1, config.slots), config.width, mode="mean")
        self.hidden = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.normal_(self.deep.weight, std=0.3)

    def forward(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """Return one score a candidate, shape (candidates,).

        Args:
            rows: vocabulary rows of all candidates, shape (n,).
            offsets: where each candidate's rows begin, shape (candidates,).
        """
        linear = self.linear(rows, offsets).squeeze(-1)
        hidden = torch.relu(self.hidden(self.deep(rows, offsets)))
        return torch.as_tensor(linear + self.out(hidden).squeeze(-1))


def group_log_softmax(scores: Tensor, groups: Tensor, count: int) -> Tensor:
    """Return log-probabilities within each group of candidates.

    Args:
        scores: shape (candidates,).
        groups: group number of each candidate, shape (candidates,).
        count: how many groups there are.
    """
    top = torch.full((count,), float("-inf"), device=scores.device).scatter_reduce(0, groups, scores, "amax")
    shifted = scores - top.detach()[groups]
    total = torch.zeros(count, device=scores.device).index_add(0, groups, shifted.exp())
    return shifted - total.log()[groups]
