"""Make a population of recorded trajectories, as they are and shifted, about which a clone was asked once."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from imitrace_trainer.datasets import open_dataset
from imitrace_trainer.drift.asking import Asked, ask
from imitrace_trainer.drift.traffic import Traffic, training_traffic
from imitrace_trainer.fit import BCConfig
from imitrace_trainer.ladder import climb
from imitrace_trainer.stages import demonstrations
from overhead.timing import tell
from quality.one_promise import typed_badly

NOVEL = {"retail": "return_delivered_order_items", "airline": "cancel_reservation"}
"""The tool whose trajectories are the new intent: the clone was not fitted to them, nor are they in the population."""
SWITCHED = {
    "retail": {"find_user_id_by_email": "find_user_id_by_name_zip"},
    "airline": {"search_direct_flight": "search_onestop_flight"},
}
"""What the expert does otherwise after a change of its policy."""
DECISIONS = 6
_ROWS = 16
_FEWER = "fewer"
"""The hash of the tools that are offered once one is retired."""


@dataclass(frozen=True)
class Kind:
    """Trajectories of one kind, and what the clone said of them."""

    traffic: Traffic
    asked: Asked
    places: dict[str, list[int]]
    """Rows of ``asked`` by trajectory."""
    single: dict[str, tuple[pl.DataFrame, pl.DataFrame]]
    """By trajectory: its row, and its steps."""

    @property
    def names(self) -> list[str]:
        """Name its trajectories."""
        return sorted(self.single)


@dataclass(frozen=True)
class Population:
    """All kinds of a set's trajectories."""

    kinds: dict[str, Kind]

    def sample(self, picks: list[tuple[str, str]], side: str) -> tuple[Traffic, Asked]:
        """Return picked trajectories as traffic of a side, in their order; one that is picked twice is two."""
        parts, bags = [], []
        for number, (kind, name) in enumerate(picks):
            found = self.kinds[kind]
            row, steps = found.single[name]
            name_now = f"{side}-{number:06d}"
            new, ended = pl.lit(name_now).alias("trajectory_id"), pl.lit(number, pl.Int64).alias("ended_at")
            parts.append((row.with_columns(new, ended), steps.with_columns(new)))
            bags += [(name_now, found.asked, place) for place in found.places.get(name, [])]
        first = self.kinds["usual"].traffic
        traffic = replace(
            first,
            trajectories=pl.concat([one for one, _ in parts]),
            steps=pl.concat([one for _, one in parts]),
            scores=first.scores.clear(),
            refused=0,
        )
        asked = Asked(
            trajectories=[name for name, _, _ in bags],
            cohorts=["rare"] * len(bags),
            features=[asked.features[place] for _, asked, place in bags],
            confidence=np.array([asked.confidence[place] for _, asked, place in bags]),
            distance=np.array([asked.distance[place] for _, asked, place in bags]),
            agrees=np.array([asked.agrees[place] for _, asked, place in bags]),
            tools=[asked.tools[place] for _, asked, place in bags],
        )
        return traffic, asked


def population(name: str, home: Path, epochs: int) -> Population:
    """Fit a clone to half of a set's tasks, and ask it about the others, as they are and shifted."""
    torch.set_num_threads(1)  # small tensors: two threads on a busy machine are slower than one
    dataset = open_dataset(home, name)
    whole = _with_fewer_tools(training_traffic(dataset, ("train",)), NOVEL[name])
    novel = set(whole.steps.filter(pl.col("kind") == NOVEL[name])["trajectory_id"])
    examples = [one for one in dataset.examples() if one.trajectory_id not in novel]
    tasks = sorted({one.task for one in examples})
    fitted, calibrating = set(tasks[::2]), set(tasks[1::4])
    clone = climb(
        tuple(demonstrations([one for one in examples if one.task in some]) for some in (fitted, calibrating)),  # type: ignore[arg-type]
        "linear",
        BCConfig(epochs=epochs, device="cpu", refit=False),
    ).clone
    usual = whole.only({one.trajectory_id for one in examples if one.task not in fitted})
    kinds = {
        "usual": usual,
        "new intent": whole.only(novel),
        "capital letters": _reworded(usual, str.upper),
        "typing errors": _reworded(usual, _typist()),
        "policy": _switched(usual, SWITCHED[name]),
        "retired tool": replace(usual, steps=usual.steps.with_columns(pl.lit(_FEWER).alias("tools_hash"))),
    }
    found = {}
    for kind, traffic in kinds.items():
        tell(f"{name}: asking about {kind}")
        asked = ask(clone, traffic, DECISIONS, 0, lambda stage, share: None)
        places: dict[str, list[int]] = {}
        for place, trajectory in enumerate(asked.trajectories):
            places.setdefault(trajectory, []).append(place)
        tables = (traffic.trajectories, traffic.steps)
        rows, steps = (table.partition_by("trajectory_id", as_dict=True) for table in tables)
        single = {str(name[0]): (row, steps[name]) for name, row in rows.items() if name in steps}
        found[kind] = Kind(traffic, asked, places, single)
    return Population(found)


def rows(asked: Asked) -> npt.NDArray[np.float64]:
    """Return decisions as rows of numbers, as other detectors take them: features projected, confidence, distance."""
    found = np.zeros((len(asked.trajectories), _ROWS + 2))
    for place, some in enumerate(asked.features):
        ids = np.array(sorted(some), dtype=np.int64)
        signs = np.where(ids >> 8 & 1, 1.0, -1.0)
        np.add.at(found[place], ids % _ROWS, signs / max(1.0, len(ids) ** 0.5))
    found[:, -2], found[:, -1] = asked.confidence, asked.distance
    return found


def _with_fewer_tools(traffic: Traffic, retired: str) -> Traffic:
    """Return traffic that knows a list of tools without one of them."""
    tools = traffic.frames["tools"].collect()
    fewer = tools.filter(pl.col("name") != retired).with_columns(pl.lit(_FEWER).alias("tools_hash"))
    known = pl.concat([tools, fewer.unique("name", maintain_order=True)])
    return replace(traffic, frames={**traffic.frames, "tools": known.lazy()})


def _typist() -> Callable[[str], str]:
    draw = random.Random(0)
    return lambda text: typed_badly(text, draw)


def _reworded(traffic: Traffic, write: Callable[[str], str]) -> Traffic:
    """Return traffic whose users' words are written otherwise."""

    def content(role: str, text: str) -> str:
        if role != "user":
            return text
        message = json.loads(text)
        parts = [{**one, "content": write(one["content"])} if "content" in one else one for one in message["parts"]]
        return json.dumps({**message, "parts": parts})

    messages = traffic.frames["messages"].collect()
    told = [content(role, text) for role, text in messages.select("role", "content").iter_rows()]
    written = messages.with_columns(pl.Series("content", told)).lazy()
    return replace(traffic, frames={**traffic.frames, "messages": written})


def _switched(traffic: Traffic, moves: dict[str, str]) -> Traffic:
    """Return traffic whose expert calls another tool where it called one, in the same states."""
    steps = traffic.frames["steps"].with_columns(pl.col("action_name").replace(moves))
    return replace(
        traffic,
        steps=traffic.steps.with_columns(pl.col("kind").replace(moves)),
        frames={**traffic.frames, "steps": steps},
    )
