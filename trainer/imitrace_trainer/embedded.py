"""The embedded family: hashed segment embeddings choose the tool, a copy ranker fills its arguments."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imitrace.messages import Action
from imitrace_trainer.arguments import (
    Choice,
    Filling,
    Slot,
    fill,
)
from imitrace_trainer.bags import Bags, make_bags, pack
from imitrace_trainer.calibration import Calibration
from imitrace_trainer.conformity import conforms
from imitrace_trainer.encoding import (
    MESSAGE,
    IntArray,
    StateView,
    Vocabulary,
    description_features,
    view_state,
)
from imitrace_trainer.family import Parts, Scored, decision
from imitrace_trainer.features import ChoiceEncoder
from imitrace_trainer.knowledge import Knowledge
from imitrace_trainer.neighbours import SKETCH, Neighbours
from imitrace_trainer.network import ArgumentNetwork, ChoiceNetwork, NetworkConfig
from imitrace_trainer.options import Trail, gather
from imitrace_trainer.policy import Decision, State
from imitrace_trainer.ranking import OptionRows, Ranking
from imitrace_trainer.reading import Reader
from imitrace_trainer.schemas import blank, plain_schema

_TINY = 1e-9
_SHARPNESS = 20.0
"""How much more of a new tool goes to the known one most like it than to the next."""
_MOST_DESCRIBED = 2_000
"""Tools, and sets of tools, whose descriptions are kept: an agent may describe its tools anew at each request."""
_VOCABULARIES = ("features", "slots", "descriptions")


class EmbeddedPolicy:
    """Choose a tool and fill its arguments; every answer is valid against the tool's schema."""

    family = "embedded"

    def __init__(self, config: NetworkConfig, knowledge: Knowledge, vocabularies: Mapping[str, Vocabulary]) -> None:
        self.config = config
        self.knowledge = knowledge
        self.features, self.slots, self.descriptions = (
            vocabularies[name] for name in ("features", "slots", "descriptions")
        )
        self.choice = ChoiceNetwork(config)
        self.ranker = ArgumentNetwork(config)
        self.calibration = Calibration()
        self.neighbours = Neighbours(config.features)
        self.reader = Reader()
        self.encoder = ChoiceEncoder(knowledge.origins(), config.groups, knowledge.prompt)
        self._described: dict[tuple[str, ...], IntArray] = {}

    @property
    def tools(self) -> Sequence[dict[str, Any]]:
        """Return the newest definition of every tool that was offered in training."""
        return list(self.knowledge.tools.values())

    def act(self, state: State) -> Decision:
        """Return the decision for a state; the tools offered bound what can be chosen.

        Where nothing in the state makes a valid call of the tool chosen, it is a message of no confidence, which means
        escalate.
        """
        return decision(self, *self._decide(state))

    @torch.inference_mode()
    def act_batch(self, states: Sequence[State]) -> list[Decision]:
        """Return the decision for each state, as ``act`` does; the tool is chosen for all of them at once.

        Where the last bits of a product depend on its size, a share may differ from ``act``'s by some 1e-7.
        """
        views = [self.view(state) for state in states]
        chosen = self._choose_all(views)
        decisions = []
        for view, (probabilities, bags) in zip(views, chosen, strict=True):
            name = max(probabilities, key=lambda action: probabilities[action])
            scored = self.call(view, name, probabilities[name])
            decisions.append(decision(self, scored, probabilities, self.neighbours.distance(bags)))
        return decisions

    def score(self, state: State) -> tuple[Scored, float]:
        """Return the action with its raw probabilities, and the state's distance: what calibration is fitted on."""
        scored, _, distance = self._decide(state)
        return scored, distance

    @torch.inference_mode()
    def _decide(self, state: State) -> tuple[Scored, dict[str, float], float]:
        view = self.view(state)
        probabilities, bags = self._choose(view)
        name = max(probabilities, key=lambda action: probabilities[action])
        scored = self.call(view, name, probabilities[name])
        return scored, probabilities, self.neighbours.distance(bags)

    def view(self, state: State) -> StateView:
        """Read a state."""
        return view_state(state.messages, state.tools, self.reader)

    def bags(self, view: StateView) -> Bags:
        """Return what a choice between known actions is made on."""
        return make_bags(self.encoder(view, self.knowledge.actions)[0], self.features, self.config.groups)

    def _choose(self, view: StateView) -> tuple[dict[str, float], Bags]:
        """Return the share of each action on offer, and what that was decided on."""
        new = [name for name in view.tools if name not in self.knowledge.actions]
        names = [*self.knowledge.actions, *new]
        offered = [name for name in names if name == MESSAGE or name in view.tools]
        groups, taken = self.encoder(view, names)
        bags = make_bags(groups, self.features, self.config.groups)
        descriptions = self._offered([view.tools.get(name) for name in names])
        likeness = self._likeness([view.tools[name] for name in new]) if new else None
        logits, _ = self.choice(pack([bags]), torch.from_numpy(taken).unsqueeze(0), descriptions, likeness)
        index = {name: row for row, name in enumerate(names)}
        shares = torch.softmax(logits[0, [index[name] for name in offered]], dim=0).tolist()
        return dict(zip(offered, shares, strict=True)), bags

    def _choose_all(self, views: Sequence[StateView]) -> list[tuple[dict[str, float], Bags]]:
        """Return what ``_choose`` does for each view: one pass for all that offer tools described in the same way."""
        found: list[tuple[dict[str, float], Bags] | None] = [None] * len(views)
        alike: dict[tuple[bytes, ...], list[int]] = {}
        known = self.knowledge.actions
        for number, view in enumerate(views):
            if view.tools.keys() <= set(known):
                alike.setdefault(self._description_key([view.tools.get(name) for name in known]), []).append(number)
            else:
                found[number] = self._choose(view)
        for numbers in alike.values():
            encoded = [self.encoder(views[number], known) for number in numbers]
            bags = [make_bags(groups, self.features, self.config.groups) for groups, _ in encoded]
            taken = torch.from_numpy(np.stack([affordance for _, affordance in encoded]))
            descriptions = self._offered([views[numbers[0]].tools.get(name) for name in known])
            logits, _ = self.choice(pack(bags), taken, descriptions)
            offered = [[name == MESSAGE or name in views[n].tools for name in known] for n in numbers]
            shares = logits.masked_fill(~torch.tensor(offered), -torch.inf).softmax(dim=1).tolist()
            for row, number in enumerate(numbers):
                taken_by = {name: share for name, share, on in zip(known, shares[row], offered[row], strict=True) if on}
                found[number] = (taken_by, bags[row])
        return [one for one in found if one is not None]

    def _likeness(self, tools: Sequence[Mapping[str, Any]]) -> Tensor:
        """Return how much of each known action a new tool takes over: by the words that describe both."""
        known = [self._word_weights(self.knowledge.tools.get(name)) for name in self.knowledge.actions]
        shares = torch.zeros(len(tools), len(known))
        for row, tool in enumerate(tools):
            own = self._word_weights(tool)
            alike = torch.tensor(
                [sum(weight * other.get(word, 0.0) for word, weight in own.items()) for other in known]
            )
            if float(alike.max()) > 0:
                nearness = torch.softmax(alike * _SHARPNESS, dim=0)
                shares[row] = nearness * alike.max()
        return shares

    def _word_weights(self, tool: Mapping[str, Any] | None) -> dict[int, float]:
        """Return the words of a description, weighed by how rare they are among the tools; of length 1."""
        rows = set(self._description_rows(tool).tolist())
        weights = {row: float(self.descriptions.idf[row]) for row in sorted(rows)}
        norm = math.sqrt(sum(weight**2 for weight in weights.values()))
        return {row: weight / norm for row, weight in weights.items()} if norm else {}

    def describe(self, tools: Sequence[Mapping[str, Any] | None]) -> Tensor:
        """Return the mean description embedding of each tool, zeros for none; shape (tools, hidden)."""
        rows = [self._description_rows(tool) for tool in tools]
        flat = torch.from_numpy(np.concatenate(rows)) if rows else torch.zeros(0, dtype=torch.int64)
        offsets = torch.tensor(np.cumsum([0, *(len(row) for row in rows)])[:-1])
        device = self.choice.describe.weight.device
        return torch.as_tensor(self.choice.describe(flat.to(device), offsets.to(device)))

    def _offered(self, tools: Sequence[Mapping[str, Any] | None]) -> Tensor:
        """Return what ``describe`` does, worked out once: agents offer the same tools again and again."""
        key = self._description_key(tools)
        found = self.choice.described.get(key)
        if found is None:
            if len(self.choice.described) >= _MOST_DESCRIBED:
                self.choice.described.clear()
            found = self.choice.described[key] = self.describe(tools)
        return found

    def _description_key(self, tools: Sequence[Mapping[str, Any] | None]) -> tuple[bytes, ...]:
        return tuple(self._description_rows(tool).tobytes() for tool in tools)

    def _description_rows(self, tool: Mapping[str, Any] | None) -> IntArray:
        if tool is None:
            return np.zeros(0, dtype=np.int64)
        parameters = (tool.get("parameters") or {}).get("properties") or {}
        key = (str(tool["name"]), str(tool.get("description")), *parameters)
        known = self._described.get(key)
        if known is None:  # what another thread found meanwhile stays
            if len(self._described) >= _MOST_DESCRIBED:
                self._described.clear()
            rows = np.array(self.descriptions.rows(description_features(tool)), dtype=np.int64)
            known = self._described.setdefault(key, rows)
        return known

    def call(self, view: StateView, name: str, probability: float) -> Scored:
        """Return a tool's call with its arguments filled, or a message."""
        if name == MESSAGE:
            return Scored(Action("message", message=""), probability, 1.0, 1.0)
        shares: list[float] = []
        ranking, trail = Ranking(view), Trail()

        def choose(slot: Slot, filling: Filling, _: object) -> Choice:
            options = gather(view.table, slot, self.knowledge.slot(slot.path), filling, trail)
            if not len(options):
                shares.append(_TINY)
                trail.steps.append((slot.path, -1))
                nothing: Choice = blank(slot.schema)
                return nothing
            best = 0
            if len(options) > 1:
                rows = ranking.features(slot, options, filling, trail)
                scores = torch.softmax(self.ranker(*rank_rows(rows, len(options), self.slots)), dim=0)
                best = int(scores.argmax())
                shares.append(float(scores[best]))
            trail.steps.append((slot.path, int(options.groups[best])))
            return options.value(best, view.table)

        arguments = fill(view.tools[name], choose)
        if not conforms(plain_schema(view.tools[name].get("parameters")), arguments):
            return Scored(Action("message", message=""), probability, 0.0, 0.0)
        return Scored(Action("tool_call", name, arguments), probability, math.prod(shares), min(shares, default=1.0))

    def evidence(self, scored: Scored) -> list[float]:
        """Return what confidence is calibrated on: log-odds of the tool, log of all arguments, log of the weakest."""
        share = min(max(scored.tool_probability, _TINY), 1 - 1e-6)
        weakest = min(max(scored.weakest, _TINY), 1 - 1e-6)
        return [
            math.log(share / (1 - share)),
            math.log(max(scored.argument_probability, _TINY)),
            math.log(weakest / (1 - weakest)) if scored.action.kind == "tool_call" or scored.weakest < 1 else 6.0,
        ]

    def parts(self) -> Parts:
        """Return the networks, the vocabularies, and what is known besides."""
        tensors = {f"choice.{name}": value for name, value in self.choice.state_dict().items()}
        tensors |= {f"ranker.{name}": value for name, value in self.ranker.state_dict().items()}
        for name in _VOCABULARIES:
            vocabulary: Vocabulary = getattr(self, name)
            tensors[f"vocabulary.{name}.ids"] = torch.from_numpy(vocabulary.ids)
            tensors[f"vocabulary.{name}.idf"] = torch.from_numpy(vocabulary.idf)
        tensors["reference"] = self.neighbours.reference
        return Parts(tensors, {"network": asdict(self.config), "knowledge": asdict(self.knowledge)})

    @classmethod
    def of_parts(cls, parts: Parts, chooses: bool = True) -> "EmbeddedPolicy":
        """Return the policy whose ``parts`` these are; without its choice network where another chooses.

        Raises:
            ValueError: one part does not fit the others.
        """
        tensors = parts.tensors
        vocabularies = {
            name: Vocabulary(
                tensors[f"vocabulary.{name}.ids"].numpy().astype(np.int64),
                tensors[f"vocabulary.{name}.idf"].numpy().astype(np.float32),
            )
            for name in _VOCABULARIES
        }
        network = {**parts.record["network"], "groups": tuple(parts.record["network"]["groups"])}
        policy = cls(NetworkConfig(**network), Knowledge(**parts.record["knowledge"]), vocabularies)
        policy.ranker.load_state_dict(_part(tensors, "ranker."))
        if chooses:
            policy.choice.load_state_dict(_part(tensors, "choice."))
        # a mapped file's alignment would change the last bits
        policy.neighbours = Neighbours(policy.config.features, tensors["reference"].clone())
        policy.choice.eval()
        policy.ranker.eval()
        if mismatch := _mismatch(policy):
            raise ValueError(mismatch)
        return policy


def _mismatch(policy: EmbeddedPolicy) -> str | None:
    """Say which part of a clone does not fit the others, if any."""
    config = policy.config
    pairs: dict[str, tuple[object, object]] = {
        name: (getattr(policy, name).idf.shape, (getattr(config, name),)) for name in _VOCABULARIES
    }
    pairs["actions"] = (len(policy.knowledge.actions), config.actions)
    pairs["reference"] = (tuple(policy.neighbours.reference.shape[1:]), (SKETCH,))
    return next((f"{name} is {got}, expected {due}" for name, (got, due) in pairs.items() if got != due), None)


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def rank_rows(told: OptionRows, options: int, vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    """Return the ranker's rows and offsets for the options of one slot."""
    rows, known = vocabulary.find(told.ids)
    kept = OptionRows(rows, told.owners[known]).distinct()
    sizes = np.bincount(kept.owners, minlength=options)
    return torch.from_numpy(kept.ids), torch.from_numpy(np.cumsum(sizes) - sizes)
