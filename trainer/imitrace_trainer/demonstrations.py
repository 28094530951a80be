"""Prepare an expert's decisions for training: learn what to know, then encode every choice that was made."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imitrace.messages import Action
from imitrace_trainer.arguments import (
    Choice,
    Filling,
    Slot,
    fill,
)
from imitrace_trainer.bags import Bags, make_bags
from imitrace_trainer.encoding import (
    MESSAGE,
    FloatArray,
    IntArray,
    StateView,
    Vocabulary,
    description_features,
    view_state,
)
from imitrace_trainer.features import ChoiceEncoder
from imitrace_trainer.knowledge import Knowledge
from imitrace_trainer.options import Options, Trail, gather
from imitrace_trainer.policy import State
from imitrace_trainer.ranking import OptionRows, Ranking
from imitrace_trainer.reading import Reader

_NEGATIVES = 60


@dataclass(frozen=True)
class Demonstration:
    """One decision of an expert: what it saw and what it did."""

    state: State
    action: Action
    task: str
    failed: bool = False
    """Whether its trajectory is known to have failed or to have been given up."""

    @property
    def label(self) -> str:
        """The action's name: the tool, or ``MESSAGE``."""
        return self.action.name or MESSAGE


def well_ended_rows(shown: Sequence[Demonstration]) -> list[int]:
    """Return which decisions a clone is measured on: to agree with what failed is no merit. All, if all failed."""
    return [row for row, one in enumerate(shown) if not one.failed] or list(range(len(shown)))


def well_ended(shown: Sequence[Demonstration]) -> list[Demonstration]:
    """Return the decisions of ``well_ended_rows``."""
    return [shown[row] for row in well_ended_rows(shown)]


@dataclass(frozen=True)
class ChoiceCase:
    """What a decision was made on, before it is known which features are worth a row."""

    features: dict[str, npt.NDArray[np.int32]]
    """Hashed features by group."""
    affordance: FloatArray
    """Shape (actions, AFFORDANCES)."""
    offered: IntArray
    """Shape (actions,): 1 where the action was possible."""
    label: int


@dataclass(frozen=True)
class ChoiceRows:
    """An encoded decision: the state, what each tool's arguments could take, what was offered and what was chosen."""

    bags: Bags
    affordance: FloatArray
    """Shape (actions, AFFORDANCES)."""
    offered: IntArray
    """Shape (actions,): 1 where the action was possible."""
    label: int


@dataclass(frozen=True)
class SlotRows:
    """An encoded argument: the candidates' features and which one the expert took."""

    rows: IntArray
    lengths: IntArray
    gold: int


@dataclass
class Coverage:
    """How often the expert's value was among a slot's candidates."""

    found: int = 0
    missing: int = 0

    @property
    def share(self) -> float:
        """Found over all; 1 when there was nothing to find."""
        total = self.found + self.missing
        return self.found / total if total else 1.0


def read_decisions(demonstrations: Iterable[Demonstration], reader: Reader) -> Iterator[tuple[StateView, Action, str]]:
    """Yield what was seen of each decision, what was done, and of which task it is."""
    for shown in demonstrations:
        yield view_state(shown.state.messages, shown.state.tools, reader), shown.action, shown.task


def read_choices(
    demonstrations: Iterable[Demonstration], knowledge: Knowledge, groups: Sequence[str], reader: Reader
) -> list[ChoiceCase]:
    """Return what each decision was made on; an action that was taken counts as offered."""
    encoder, actions = ChoiceEncoder(knowledge.origins(), groups, knowledge.prompt), knowledge.actions
    cases = []
    for demonstration in demonstrations:
        view = view_state(demonstration.state.messages, demonstration.state.tools, reader)
        features, taken = encoder(view, actions)
        offered = np.array([name == MESSAGE or name in view.tools for name in actions], dtype=np.int64)
        label = actions.index(demonstration.label)
        offered[label] = 1
        found = {group: np.array(part, dtype=np.int32) for group, part in features.items()}
        cases.append(ChoiceCase(found, taken, offered, label))
    return cases


def learn_vocabularies(cases: Iterable[ChoiceCase], knowledge: Knowledge) -> dict[str, Vocabulary]:
    """Return the vocabularies of states and tools."""
    documents = (np.concatenate(list(case.features.values())).tolist() for case in cases)
    described = (description_features(tool) for tool in knowledge.tools.values())
    return {"features": Vocabulary.learn(documents), "descriptions": Vocabulary.learn(described, minimum=1)}


@dataclass(frozen=True)
class SlotCase:
    """What an argument was chosen on, before it is known which features are worth a row; the expert's choice is 0."""

    told: OptionRows
    options: int


def learn_slot_vocabulary(
    demonstrations: Iterable[Demonstration], knowledge: Knowledge, reader: Reader, rng: random.Random
) -> tuple[Vocabulary, list[SlotCase], Coverage]:
    """Return the argument features worth a row, each slot's options, and how many of the expert's values they cover."""
    slots: list[SlotCase] = []
    coverage = Coverage()
    for demonstration in demonstrations:
        tool = next((t for t in demonstration.state.tools if t["name"] == demonstration.action.name), None)
        if tool is None:
            continue
        view = view_state(demonstration.state.messages, demonstration.state.tools, reader)
        ranking, trail = Ranking(view), Trail()

        def choose(slot: Slot, filling: Filling, gold: Any, ranking: Ranking = ranking, trail: Trail = trail) -> Choice:
            table = ranking.table
            options = gather(table, slot, knowledge.slot(slot.path), filling, trail)
            right = options.find(gold, table)
            if right < 0:
                coverage.missing += 1
                group = table.group_of(gold)
                trail.steps.append((slot.path, group))
                return gold if isinstance(gold, (str, int, float, bool)) else str(gold)
            coverage.found += 1
            if len(options) > 1:
                told = ranking.features(slot, options, filling, trail).distinct()
                kept = _sample(options, right, rng)
                slots.append(SlotCase(told.only(kept), len(kept)))
            trail.steps.append((slot.path, int(options.groups[right])))
            return options.value(right, table)

        fill(tool, choose, demonstration.action.arguments)
    return Vocabulary.learn(case.told.ids.tolist() for case in slots), slots, coverage


def _sample(options: Options, right: int, rng: random.Random) -> list[int]:
    others = [row for row in range(len(options)) if row != right]
    return [right, *(others if len(others) <= _NEGATIVES else rng.sample(others, _NEGATIVES))]


def encode_slots(slots: Iterable[SlotCase], vocabulary: Vocabulary) -> list[SlotRows]:
    """Return slots with their options' features as vocabulary rows."""
    encoded = []
    for case in slots:
        rows, known = vocabulary.find(case.told.ids)
        encoded.append(SlotRows(rows, np.bincount(case.told.owners[known], minlength=case.options), 0))
    return encoded


def encode_choices(cases: Iterable[ChoiceCase], vocabulary: Vocabulary, groups: Sequence[str]) -> list[ChoiceRows]:
    """Return decisions as the choice network takes them, made on some groups of features."""
    return [
        ChoiceRows(
            make_bags(case.features, vocabulary, groups),
            case.affordance,
            case.offered,
            case.label,
        )
        for case in cases
    ]
