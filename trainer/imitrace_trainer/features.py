"""Gather all that a choice is made on, by groups that can be left out to see what each is worth."""

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from imitrace_trainer.affordances import AFFORDANCES, Affordances, Origins, SlotOrigin, open_slots
from imitrace_trainer.encoding import SEGMENTS, FloatArray, StateView, feature_id, state_features
from imitrace_trainer.prompts import prompt_features
from imitrace_trainer.subjects import match_features, reply_features, subject_features

GROUPS = (*SEGMENTS, "system", "subject", "matches", "reply", "affordances")
"""Groups of features: the state's segments, what it is about, and what the tools' arguments could take."""

_NOTHING = [0.0] * AFFORDANCES


class ChoiceEncoder:
    """Gather the features of states for one clone; what a tool's slots are is worked out once."""

    def __init__(
        self, origins: Mapping[str, SlotOrigin], groups: Sequence[str], prompt: Collection[int] | None = None
    ) -> None:
        """Gather some groups, and ``system`` in any case: a prompt that changed is told where nothing is learnt of it.

        Args:
            origins: where each slot's values came from in training.
            groups: some of ``GROUPS``.
            prompt: what every system prompt had in training; None: there was none.
        """
        self._origins = Origins(origins)
        self._groups = tuple(dict.fromkeys((*groups, "system")))
        self._prompt = None if prompt is None else frozenset(prompt)
        self._slots: dict[str, tuple[Mapping[str, Any], list[str]]] = {}

    def __call__(self, view: StateView, names: Sequence[str]) -> tuple[dict[str, list[int]], FloatArray]:
        """Return the hashed features of a state by group, and what each action's arguments could take.

        Args:
            view: the state.
            names: the actions; what is not offered could take nothing.

        Returns:
            The features, and an array of shape (names, AFFORDANCES).
        """
        slots = {name: self._slots_of(name, tool) for name, tool in view.tools.items()}
        possible = Affordances(view, self._origins, slots)
        told = view.tools if "affordances" in self._groups else {}
        taken = [possible.of(told[name]) if name in told else _NOTHING for name in names]
        texts = {
            "subject": subject_features(view, possible.subject),
            "matches": match_features(view),
            "reply": reply_features(view),
        }
        features = state_features(view) | {"system": prompt_features(view, self._prompt)}
        features |= {group: [feature_id(f"{group}|{text}") for text in found] for group, found in texts.items()}
        features["affordances"] = [
            _affordance_id(name, column, value)
            for name, row in zip(names, taken, strict=True)
            for column, value in enumerate(row)
            if value
        ]
        return {group: features[group] for group in self._groups}, np.array(taken, dtype=np.float32)

    def _slots_of(self, name: str, tool: Mapping[str, Any]) -> list[str]:
        """Return a tool's open slots, one that training never saw under its parameter's name alone."""
        known = self._slots.get(name)
        if known is None or known[0] is not tool:
            slots = [slot if slot in self._origins else "." + slot.rsplit(".", 1)[-1] for slot in open_slots(tool)]
            known = self._slots[name] = (tool, slots)
        return known[1]


@lru_cache(maxsize=50_000)
def _affordance_id(name: str, column: int, value: float) -> int:
    return feature_id(f"affordances|{name}|{column}|{value:.2f}")
