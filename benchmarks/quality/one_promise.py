"""Fit a clone to one fold of a recorded set and print what its route lets it do under each promise and each shift.

python -m quality.one_promise WORKSPACE SET FOLD OTHER_WORKSPACE EPOCHS
"""

import json
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from imitrace_trainer.datasets import open_dataset
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.family import sureness
from imitrace_trainer.fit import BCConfig
from imitrace_trainer.ladder import climb
from imitrace_trainer.policy import same_action
from imitrace_trainer.route import RoutedClone
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.route_rules import cohort_of
from imitrace_trainer.stages import calls_of, demonstrations
from imitrace_trainer.thresholds import thresholds_for
from overhead.timing import Json, tell
from quality.recorded import divided

FAMILY = "linear"
"""The quickest to fit of those that do well: what is measured is the route, not the family."""
PROMISES = (0.01, 0.02, 0.05, 0.1)
STRANGERS = 400
TYPOS = 0.05


def typed_badly(text: str, draw: random.Random) -> str:
    """Return a text in which one letter in twenty has changed places with the next."""
    letters = list(text)
    for place in range(len(letters) - 1):
        if letters[place].isalpha() and letters[place + 1].isalpha() and draw.random() < TYPOS:
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return "".join(letters)


def reworded(shown: Demonstration, write: Callable[[str], str]) -> Demonstration:
    """Return a decision whose user's words are written otherwise; what the expert did stays."""

    def message(one: Any) -> Any:
        if one["role"] != "user":
            return one
        parts = [{**part, "content": write(part["content"])} if "content" in part else part for part in one["parts"]]
        return {**one, "parts": parts}

    return replace(shown, state=replace(shown.state, messages=[message(one) for one in shown.state.messages]))


def renamed(shown: Demonstration) -> Demonstration:
    """Return a decision in which every tool that the clone could call has another name."""
    tools = [{**tool, "name": f"{tool['name']}_v2"} for tool in shown.state.tools]
    name = shown.action.name and f"{shown.action.name}_v2"
    return replace(shown, state=replace(shown.state, tools=tools), action=replace(shown.action, name=name))


def shifts(held_out: Sequence[Demonstration], strangers: Sequence[Demonstration]) -> dict[str, list[Demonstration]]:
    """Return the held-out decisions as they were recorded, and as each shift makes them."""
    draw = random.Random(0)
    return {
        "as recorded": list(held_out),
        "typing errors": [reworded(one, lambda text: typed_badly(text, draw)) for one in held_out],
        "capital letters": [reworded(one, str.upper) for one in held_out],
        "renamed tools": [renamed(one) for one in held_out],
        "another desk": list(strangers),
    }


def fold_of(home: Path, name: str, fold: int, other: Path | None, epochs: int) -> Json:
    """Return by shift and promise a row a decision: task, whether the clone acts, whether call and tool are right."""
    torch.set_num_threads(1)  # small tensors: two threads wait for each other more than they work
    parts = divided(open_dataset(home, name).examples(), fold)
    others = demonstrations(open_dataset(other, other.name).examples()) if other else []
    strangers = others[:: max(1, len(others) // STRANGERS)][:STRANGERS]
    tell(f"{name}, fold {fold}: fitting to {len(parts.train)} decisions")
    climbed = climb((parts.train, parts.calibration), FAMILY, BCConfig(epochs=epochs, device="cpu"))
    clone = climbed.clone
    calls = calls_of([(one.action, sureness(clone, one)) for one in climbed.scored], parts.calibration)
    thresholds = {promise: thresholds_for(calls, RouteConfig(error=promise)) for promise in PROMISES}
    found: Json = {}
    for shift, shown in shifts(parts.held_out, strangers).items():
        tell(f"{name}, fold {fold}: {shift}")
        decisions = [clone.act(one.state) for one in shown]
        found[shift] = {
            str(promise): [
                [
                    one.task,
                    RoutedClone(clone, chosen, (cohort_of(one.state.tags),)).judge(decision, one.state).actor
                    == "clone",
                    same_action(decision.action, one.action),
                    (decision.action.kind, decision.action.name) == (one.action.kind, one.action.name),
                ]
                for decision, one in zip(decisions, shown, strict=True)
            ]
            for promise, chosen in thresholds.items()
        }
    refused = [promise for promise, chosen in thresholds.items() if chosen.reversible > 1]
    return {"shifts": found, "refused": refused, "family": clone.family}


if __name__ == "__main__":
    home, name, fold, other, epochs = sys.argv[1:]
    told = fold_of(Path(home), name, int(fold), Path(other) if other else None, int(epochs))
    sys.stdout.write(json.dumps(told))
