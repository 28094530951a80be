"""Prepare an expert's decisions for training: learn what to know, then encode every choice that was made."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
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
from imitrace_trainer.embedded import Knowledge
from imitrace_trainer.encoding import (
    MESSAGE,
    FloatArray,
    IntArray,
    Vocabulary,
    description_features,
    view_state,
)
from imitrace_trainer.features import ChoiceEncoder
from imitrace_trainer.options import Options, Trail, gather
from imitrace_trainer.policy import State
from imitrace_trainer.ranking import OptionRows, Ranking
from imitrace_trainer.reading import Reader, Scalar, argument_values, value_class, value_key, value_shape

_CLOSED_VALUES = 40
_CLOSED_SHARE = 0.7
_SHAPES = 6
_SHAPE_SHARE = 0.95
_SOURCE_SHARE = 0.02
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


def learn_knowledge(demonstrations: Iterable[Demonstration], reader: Reader) -> Knowledge:
    """Return what the training data teaches before any weight is fitted."""
    actions = {MESSAGE}
    values: dict[str, dict[Scalar, set[str]]] = defaultdict(lambda: defaultdict(set))
    sources: dict[str, Counter[str]] = defaultdict(Counter)
    tools: dict[str, dict[str, Any]] = {}
    for demonstration in demonstrations:
        view = view_state(demonstration.state.messages, demonstration.state.tools, reader)
        actions.add(demonstration.label)
        tools.update((name, dict(tool)) for name, tool in view.tools.items())
        for slot, value in argument_values(demonstration.label, demonstration.action.arguments):
            values[slot][value].add(demonstration.task)
            sources[slot].update({seen.source for _, seen in view.places.get(value_key(value), ())})
    return Knowledge(
        actions=sorted(actions | tools.keys()),
        vocabulary={slot: _closed(counted) for slot, counted in values.items()},
        sources={slot: _frequent(counted) for slot, counted in sources.items()},
        shapes={slot: _outlines(map(value_shape, counted)) for slot, counted in values.items()},
        classes={slot: _outlines(map(value_class, counted)) for slot, counted in values.items()},
        tools=tools,
    )


def read_choices(
    demonstrations: Iterable[Demonstration], knowledge: Knowledge, groups: Sequence[str], reader: Reader
) -> list[ChoiceCase]:
    """Return what each decision was made on; an action that was taken counts as offered."""
    encoder, actions = ChoiceEncoder(knowledge.origins(), groups), knowledge.actions
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


def _closed(counted: dict[Scalar, set[str]]) -> list[Scalar]:
    """Return a slot's repeated values when they make up most of what the expert gave it, else none."""
    repeated = [value for value, tasks in counted.items() if len(tasks) >= 2 and len(str(value)) <= 60]
    kept = sorted(repeated, key=lambda value: (-len(counted[value]), str(value)))[:_CLOSED_VALUES]
    covered = sum(len(counted[value]) for value in kept)
    return kept if covered >= _CLOSED_SHARE * sum(map(len, counted.values())) else []


def _outlines(found: Iterable[str]) -> list[str]:
    """Return the outlines of a slot's values when a few make up nearly all of them, else none: any value may do."""
    outlines = Counter(found)
    common = outlines.most_common(_SHAPES)
    return sorted(name for name, _ in common) if sum(n for _, n in common) >= _SHAPE_SHARE * outlines.total() else []


def _frequent(counted: Counter[str]) -> list[str]:
    total = max(counted.values(), default=0)
    return sorted(source for source, count in counted.items() if count >= _SOURCE_SHARE * total)


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


def encode_choices(cases: Iterable[ChoiceCase], vocabulary: Vocabulary) -> list[ChoiceRows]:
    """Return decisions as the choice network takes them."""
    return [
        ChoiceRows(
            make_bags(case.features, vocabulary),
            case.affordance,
            case.offered,
            case.label,
        )
        for case in cases
    ]
