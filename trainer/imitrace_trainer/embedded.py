"""The embedded family: hashed segment embeddings choose the tool, a copy ranker fills its arguments."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from imitrace.messages import Action
from imitrace_trainer.arguments import (
    Candidate,
    Choice,
    Filling,
    Slot,
    SlotContext,
    SlotKnowledge,
    candidate_features,
    candidates,
    fill,
)
from imitrace_trainer.calibration import Calibration
from imitrace_trainer.encoding import (
    MESSAGE,
    SEGMENTS,
    FloatArray,
    IntArray,
    StateView,
    Vocabulary,
    description_features,
    state_features,
    view_state,
)
from imitrace_trainer.network import AFFORDANCES, ArgumentNetwork, ChoiceNetwork, NetworkConfig
from imitrace_trainer.policy import Decision, State
from imitrace_trainer.reading import Reader, Scalar, value_shape
from imitrace_trainer.schemas import blank, plain_schema, schema_type

_NEIGHBOURS = 5
_TINY = 1e-9


@dataclass
class Knowledge:
    """What an embedded clone knows besides weights; learned from training data alone, kept as JSON."""

    actions: list[str]
    """Tools seen in training and ``message``, in the order of the networks' columns."""
    vocabulary: dict[str, list[Scalar]] = field(default_factory=dict)
    """Values the expert used again and again for a slot, over several tasks."""
    sources: dict[str, list[str]] = field(default_factory=dict)
    """Where the expert's values for a slot were seen."""
    shapes: dict[str, list[str]] = field(default_factory=dict)
    """Outlines of the expert's values, for slots where a few outlines make up nearly all of them."""
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The newest definition of every tool that was offered in training."""

    def slot(self, path: str) -> SlotKnowledge:
        """Return what is known of a slot."""
        return SlotKnowledge(self.vocabulary.get(path, ()), frozenset(self.sources.get(path, ())))


@dataclass(frozen=True)
class Bags:
    """A state's features as the networks take them."""

    rows: IntArray
    weights: FloatArray
    lengths: list[int]
    """Rows of each segment."""
    unknown: float
    """Share of features never seen in training."""


@dataclass(frozen=True)
class Scored:
    """An action with its probabilities, before calibration."""

    action: Action
    tool_probability: float
    argument_probability: float
    weakest: float
    """The least probable single argument."""


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
        self.reference = torch.zeros(0, config.hidden)
        self.reader = Reader()
        self._sources = {slot: frozenset(sources) for slot, sources in knowledge.sources.items()}
        self._described: dict[tuple[str, ...], IntArray] = {}
        self._slots: dict[str, tuple[Mapping[str, Any], list[str]]] = {}

    def act(self, state: State) -> Decision:
        """Return the decision for a state; the tools offered bound what can be chosen."""
        scored, probabilities, distance = self._decide(state)
        tools = {("message" if action == MESSAGE else action): share for action, share in probabilities.items()}
        confidence = self.calibration.confidence(self.evidence(scored))
        return Decision(scored.action, confidence, self.calibration.relative_distance(distance), tools)

    def score(self, state: State) -> tuple[Scored, float]:
        """Return the action with its raw probabilities, and the state's distance: what calibration is fitted on."""
        scored, _, distance = self._decide(state)
        return scored, distance

    @torch.inference_mode()
    def _decide(self, state: State) -> tuple[Scored, dict[str, float], float]:
        view = self.view(state)
        bags = self.bags(view)
        probabilities, hidden = self._choose(view, bags)
        name = max(probabilities, key=lambda action: probabilities[action])
        scored = self._score(view, name, probabilities[name])
        return scored, probabilities, self.distance(hidden, bags.unknown)

    def view(self, state: State) -> StateView:
        """Read a state."""
        return view_state(state.messages, state.tools, self.reader)

    def bags(self, view: StateView) -> Bags:
        """Return a state's features as vocabulary rows with weights, L2-normalised by segment."""
        return make_bags(state_features(view), self.features)

    def _choose(self, view: StateView, bags: Bags) -> tuple[dict[str, float], Tensor]:
        names = [*self.knowledge.actions, *(name for name in view.tools if name not in self.knowledge.actions)]
        offered = [name for name in names if name == MESSAGE or name in view.tools]
        packed = pack([bags])
        affordance = torch.from_numpy(np.stack([self.affordances(view, name) for name in names])).unsqueeze(0)
        descriptions = self.describe([view.tools.get(name) for name in names])
        logits, hidden = self.choice(packed, affordance, descriptions)
        index = {name: row for row, name in enumerate(names)}
        shares = torch.softmax(logits[0, [index[name] for name in offered]], dim=0).tolist()
        return dict(zip(offered, shares, strict=True)), hidden[0]

    def describe(self, tools: Sequence[Mapping[str, Any] | None]) -> Tensor:
        """Return the mean description embedding of each tool, zeros for none; shape (tools, hidden)."""
        rows = [self._description_rows(tool) for tool in tools]
        flat = torch.from_numpy(np.concatenate(rows)) if rows else torch.zeros(0, dtype=torch.int64)
        offsets = torch.tensor(np.cumsum([0, *(len(row) for row in rows)])[:-1])
        device = self.choice.describe.weight.device
        return torch.as_tensor(self.choice.describe(flat.to(device), offsets.to(device)))

    def _description_rows(self, tool: Mapping[str, Any] | None) -> IntArray:
        if tool is None:
            return np.zeros(0, dtype=np.int64)
        parameters = (tool.get("parameters") or {}).get("properties") or {}
        key = (str(tool["name"]), str(tool.get("description")), *parameters)
        if key not in self._described:
            self._described[key] = np.array(self.descriptions.rows(description_features(tool)), dtype=np.int64)
        return self._described[key]

    def affordances(self, view: StateView, name: str) -> FloatArray:
        """Return what a tool's arguments could take now: shape (AFFORDANCES,)."""
        result = np.zeros(AFFORDANCES, dtype=np.float32)
        tool = view.tools.get(name)
        if tool is None:
            return result
        called = view.actions.count(name)
        result[3] = min(called, 3) / 3
        result[4] = bool(view.actions) and view.actions[-1] == name
        result[7] = bool(view.calls) and view.calls[-1].error and view.calls[-1].name == name
        slots = self._slots_of(name, tool)
        if not slots:
            return result
        available = [self._available(view, slot) for slot in slots]
        unused = [values - view.used.get(slot, set()) for slot, values in zip(slots, available, strict=True)]
        result[0] = all(available)
        result[1] = bool(unused[0])
        result[2] = min(len(unused[0]), 4) / 4
        result[5] = bool(available[0]) and not unused[0]
        result[6] = 1.0
        shared = [view.overlaps.get(value, 0) for value in unused[0]]
        best = shared.count(max(shared)) if shared else 0
        result[8] = bool(shared) and max(shared) > 0
        result[9] = best == 1
        result[10] = best > 1
        result[11] = len(unused[0]) == 1
        return result

    def _slots_of(self, name: str, tool: Mapping[str, Any]) -> list[str]:
        known = self._slots.get(name)
        if known is None or known[0] is not tool:
            known = self._slots[name] = (tool, _open_slots(tool))
        return known[1]

    def _available(self, view: StateView, slot: str) -> set[Scalar]:
        sources = self._sources.get(slot, frozenset())
        values = set().union(*(view.by_source.get(source, ()) for source in sources))
        shapes = self.knowledge.shapes.get(slot)
        return {value for value in values if value_shape(value) in shapes} if shapes else values

    def _score(self, view: StateView, name: str, probability: float) -> Scored:
        if name == MESSAGE:
            return Scored(Action("message", message=""), probability, 1.0, 1.0)
        shares: list[float] = []

        def choose(slot: Slot, filling: Filling, _: object) -> Choice:
            options = candidates(view, slot, self.knowledge.slot(slot.path), filling)
            if not options:
                shares.append(_TINY)
                nothing: Choice = blank(slot.schema)
                return nothing
            scores = torch.softmax(self.ranker(*self.rank_rows(view, slot, filling, options)), dim=0)
            best = int(scores.argmax())
            shares.append(float(scores[best]))
            filling.note(options[best])
            return options[best].value

        arguments = fill(view.tools[name], choose)
        return Scored(Action("tool_call", name, arguments), probability, math.prod(shares), min(shares, default=1.0))

    def rank_rows(
        self, view: StateView, slot: Slot, filling: Filling, options: Sequence[Candidate]
    ) -> tuple[Tensor, Tensor]:
        """Return the ranker's rows and offsets for the candidates of one slot."""
        context = SlotContext.make(view, slot, filling, options)
        rows = [self.slots.rows(candidate_features(context, option)) for option in options]
        offsets = np.cumsum([0, *(len(row) for row in rows)])[:-1]
        flat = [row for part in rows for row in part]
        return torch.tensor(flat, dtype=torch.int64), torch.from_numpy(offsets)

    def evidence(self, scored: Scored) -> list[float]:
        """Return what confidence is calibrated on: log-odds of the tool, log of all arguments, log of the weakest."""
        share = min(max(scored.tool_probability, _TINY), 1 - 1e-6)
        weakest = min(max(scored.weakest, _TINY), 1 - 1e-6)
        return [
            math.log(share / (1 - share)),
            math.log(max(scored.argument_probability, _TINY)),
            math.log(weakest / (1 - weakest)) if scored.action.kind == "tool_call" else 6.0,
        ]

    def distance(self, hidden: Tensor, unknown: float) -> float:
        """Return a state's distance from the training states.

        It is one minus the mean cosine with the nearest ones in embedding space, plus the share of unknown features.
        """
        if not len(self.reference):
            return unknown
        unit = torch.nn.functional.normalize(hidden, dim=0)
        nearest = (self.reference @ unit).topk(min(_NEIGHBOURS, len(self.reference))).values
        return float(1 - nearest.mean()) + unknown


def make_bags(segments: Mapping[str, Sequence[int]], vocabulary: Vocabulary) -> Bags:
    """Weigh a state's hashed features: (1 + log count) * idf, normalised by segment (TF-IDF, Salton & Buckley 1988)."""
    rows: list[IntArray] = []
    weights: list[FloatArray] = []
    total = sum(len(segments[segment]) for segment in SEGMENTS)
    known = 0
    for segment in SEGMENTS:
        found = vocabulary.rows(segments[segment])
        known += len(found)
        unique, counts = np.unique(np.array(found, dtype=np.int64), return_counts=True)
        weight = ((1 + np.log(counts)) * vocabulary.idf[unique]).astype(np.float32)
        norm = float(np.linalg.norm(weight))
        rows.append(unique)
        weights.append(weight / norm if norm else weight)
    unknown = 1 - known / total if total else 0.0
    return Bags(np.concatenate(rows), np.concatenate(weights), [len(part) for part in rows], unknown)


def pack(bags: Sequence[Bags]) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, weights and offsets of several states for ``ChoiceNetwork``."""
    offsets = np.cumsum([0, *(length for bag in bags for length in bag.lengths)])[:-1]
    rows = np.concatenate([bag.rows for bag in bags])
    weights = np.concatenate([bag.weights for bag in bags])
    return torch.from_numpy(rows), torch.from_numpy(weights), torch.from_numpy(offsets)


def _open_slots(tool: Mapping[str, Any]) -> list[str]:
    schema = plain_schema(tool.get("parameters"))
    properties = schema.get("properties") or {}
    return [
        f"{tool['name']}.{name}"
        for name in schema.get("required") or []
        if name in properties
        and schema_type(properties[name]) in ("string", "number", "integer")
        and not properties[name].get("enum")
    ]
