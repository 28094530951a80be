"""Gather all that a choice is made on, by groups that can be left out to see what each is worth."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from imitrace_trainer.affordances import AFFORDANCES, Affordances, Origins, SlotOrigin, open_slots
from imitrace_trainer.encoding import SEGMENTS, FloatArray, StateView, feature_id, state_features
from imitrace_trainer.subjects import match_features, reply_features, subject_features

GROUPS = (*SEGMENTS, "subject", "matches", "reply", "affordances")
"""Groups of features: the state's segments, what it is about, and what the tools' arguments could take."""


class ChoiceEncoder:
    """Gather the features of states for one clone; what a tool's slots are is worked out once."""

    def __init__(self, origins: Mapping[str, SlotOrigin], groups: Sequence[str]) -> None:
        self._origins = Origins(origins)
        self._groups = groups
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
        taken = np.zeros((len(names), AFFORDANCES), dtype=np.float32)
        if "affordances" in self._groups:
            for row, name in enumerate(names):
                if name in view.tools:
                    taken[row] = possible.of(view.tools[name])
        texts = {
            "subject": subject_features(view, possible.subject),
            "matches": match_features(view),
            "reply": reply_features(view),
            "affordances": _affordance_texts(taken, names),
        }
        features = state_features(view)
        features |= {group: [feature_id(f"{group}|{text}") for text in found] for group, found in texts.items()}
        return {group: features[group] for group in self._groups}, taken

    def _slots_of(self, name: str, tool: Mapping[str, Any]) -> list[str]:
        """Return a tool's open slots, one that training never saw under its parameter's name alone."""
        known = self._slots.get(name)
        if known is None or known[0] is not tool:
            slots = [slot if slot in self._origins else "." + slot.rsplit(".", 1)[-1] for slot in open_slots(tool)]
            known = self._slots[name] = (tool, slots)
        return known[1]


def _affordance_texts(taken: FloatArray, names: Sequence[str]) -> list[str]:
    rows, columns = np.nonzero(taken)
    return [
        f"{names[row]}|{column}|{taken[row, column]:.2f}"
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
    ]
