"""The two small networks of an embedded clone: one chooses the action, one ranks an argument's candidates."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imitrace_trainer.affordances import AFFORDANCES
from imitrace_trainer.features import GROUPS


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
    groups: tuple[str, ...] = GROUPS
    """Groups of features that the choice sees."""


class ChoiceNetwork(nn.Module):
    """Score actions: a wide linear path, a small MLP over segment embeddings, and affordances."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.table = nn.EmbeddingBag(config.features, config.actions + config.width, mode="sum")
        self.describe = nn.EmbeddingBag(max(1, config.descriptions), config.hidden, mode="mean")
        self.hidden = nn.Linear(config.width * len(config.groups), config.hidden)
        self.known = nn.Embedding(config.actions, config.hidden)
        self.bias = nn.Parameter(torch.zeros(config.actions))
        self.shared_affordance = nn.Linear(AFFORDANCES, 1, bias=False)
        self.own_affordance = nn.Parameter(torch.zeros(config.actions, AFFORDANCES))
        self.dropout = nn.Dropout(config.dropout)
        nn.init.normal_(self.table.weight, std=0.3)
        nn.init.zeros_(self.table.weight.detach()[:, : config.actions])
        nn.init.normal_(self.known.weight, std=0.05)
        nn.init.normal_(self.describe.weight, std=0.05)
        self.described: dict[tuple[bytes, ...], Tensor] = {}
        """Descriptions that were embedded already; forgotten where the weights may change."""

    def train(self, mode: bool = True) -> "ChoiceNetwork":
        """Begin or end training."""
        self.described.clear()
        return super().train(mode)

    def embed(self, rows: Tensor, weights: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
        """Return wide logits (batch, actions) and hidden states (batch, hidden).

        Args:
            rows: vocabulary rows of all bags, shape (n,).
            weights: one weight a row, shape (n,).
            offsets: where each bag begins, shape (batch * groups,), a state's groups side by side.
        """
        actions, groups = self.config.actions, len(self.config.groups)
        bags = self.table(rows, offsets, per_sample_weights=weights).view(offsets.numel() // groups, groups, -1)
        deep = bags[:, :, actions:].flatten(1)
        return bags[:, :, :actions].sum(dim=1), self.dropout(torch.relu(self.hidden(self.dropout(deep))))

    def forward(
        self,
        bags: tuple[Tensor, Tensor, Tensor],
        affordance: Tensor,
        descriptions: Tensor,
        likeness: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return logits (batch, actions + new) and hidden states; new tools, known by description alone, come last.

        Args:
            bags: rows, weights and offsets as in ``embed``.
            affordance: shape (batch, actions + new, AFFORDANCES).
            descriptions: mean description embedding of every action, shape (actions + new, hidden).
            likeness: how much of each known action a new tool takes over, shape (new, actions), rows sum to 1 at
                most; none: nothing.
        """
        wide, hidden = self.embed(*bags)
        known, new = self.config.actions, descriptions.shape[0] - self.config.actions
        own = self.known.weight
        if self.training:
            own = own * (torch.rand(known, 1, device=own.device) > self.config.dropout * 0.5)
        if not new:
            specific = (affordance * self.own_affordance).sum(dim=-1)
            fitting = self.shared_affordance(affordance).squeeze(-1) + specific
            return wide + hidden @ (own + descriptions).T + self.bias + fitting, hidden
        if likeness is None:
            likeness = own.new_zeros(new, known)
        actions = torch.cat([own, likeness @ own]) + descriptions
        least = self.bias.detach().min() if known else self.bias.new_zeros(())
        bias = torch.cat([self.bias, likeness @ self.bias + (1 - likeness.sum(dim=1)) * least])
        specific = (affordance * torch.cat([self.own_affordance, likeness @ self.own_affordance])).sum(dim=-1)
        fitting = self.shared_affordance(affordance).squeeze(-1) + specific
        return torch.cat([wide, wide @ likeness.T], dim=1) + hidden @ actions.T + bias + fitting, hidden


class ArgumentNetwork(nn.Module):
    """Score candidates of a slot: a linear path and a small MLP over one bag of features each."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(max(1, config.slots), 1 + config.width, mode="sum")
        self.hidden = nn.Linear(config.width, config.width)
        self.out = nn.Linear(config.width, 1)
        nn.init.normal_(self.table.weight, std=0.3)
        nn.init.zeros_(self.table.weight.detach()[:, :1])

    def forward(self, rows: Tensor, offsets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return one score a candidate, shape (candidates,).

        Args:
            rows: vocabulary rows of all candidates, shape (n,).
            offsets: where each candidate's rows begin, shape (candidates,).
            weights: one weight a row, shape (n,); none: 1 each.
        """
        bags = self.table(rows, offsets, per_sample_weights=weights)
        ends = torch.cat([offsets[1:], offsets.new_full((1,), rows.numel())])
        deep = bags[:, 1:] / (ends - offsets).clamp(min=1).unsqueeze(1)
        return torch.as_tensor(bags[:, 0] + self.out(torch.relu(self.hidden(deep))).squeeze(-1))


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
