"""Make every comparison of training and recent traffic, over all trajectories and by cohort."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from imitrace_trainer.drift.asking import Asked, features
from imitrace_trainer.drift.config import DriftConfig
from imitrace_trainer.drift.findings import ALL, Tested
from imitrace_trainer.drift.permutations import Dealings, Floats, deal, holm
from imitrace_trainer.drift.traffic import Traffic
from imitrace_trainer.drift.two_sample import (
    Compared,
    Owners,
    compare_features,
    compare_kinds,
    compare_means,
    compare_ranks,
    compare_shares,
    tell_apart,
)

_Test = Callable[[Dealings], Compared]


@dataclass(frozen=True)
class Rows:
    """Numbers of the steps, or of the trajectories, of both sides."""

    trajectories: npt.NDArray[np.str_]
    """Whose each row is."""
    recent: npt.NDArray[np.bool_]
    values: Floats
    """Shape (rows,) or (rows, columns)."""

    @classmethod
    def of(cls, before: pl.DataFrame, now: pl.DataFrame, values: str) -> "Rows":
        """Return a column of both sides; rows without a value are left out."""
        both = [frame.drop_nulls(values) for frame in (before, now)]
        recent = np.repeat([False, True], [len(frame) for frame in both])
        found = np.concatenate([frame[values].to_numpy() for frame in both])
        return cls(_names([*both[0]["trajectory_id"], *both[1]["trajectory_id"]]), recent, found)

    def where(self, mask: npt.NDArray[np.bool_]) -> "Rows":
        """Return some of the rows."""
        return Rows(self.trajectories[mask], self.recent[mask], self.values[mask])


class Comparison:
    """Compare rows of a group of trajectories; too few trajectories of a side are said, not compared."""

    def __init__(self, config: DriftConfig, group: str) -> None:
        self._config, self._group = config, group

    def ranks(self, name: str, rows: Rows, worse: int = 0) -> Tested:
        """Compare numbers, of which maybe only more (1) or less (-1) matters."""
        values, measured = rows.values.astype(np.float64), ("Cliff's delta", self._config.delta)
        return self._made(name, rows, measured, lambda o, d: compare_ranks(values, o, d, worse))

    def shares(self, name: str, rows: Rows, worse: int) -> Tested:
        """Compare a mean of numbers from -1 to 1, of which only more (1) or less (-1) matters."""
        values, measured = rows.values.astype(np.float64), ("difference", self._config.rate)
        return self._made(name, rows, measured, lambda o, d: compare_shares(values, o, d, worse))

    def kinds(self, name: str, rows: Rows) -> Tested:
        """Compare which kinds there are how often."""
        kinds = np.unique(rows.values.astype(str), return_inverse=True)[1].reshape(-1)
        measured = "Cramer's V", self._config.association
        return self._made(name, rows, measured, lambda o, d: compare_kinds(kinds, o, d))

    def states(self, rows: Rows) -> Iterator[Tested]:
        """Compare which features trajectories hold; one row each."""
        config, order = self._config, np.argsort(rows.trajectories)  # as the dealings have them
        present = rows.values[order]
        yield self._made("states: kernel", rows, ("distance", config.distance), lambda _, d: compare_means(present, d))
        yield self._made(
            "states: features", rows, ("share", config.features), lambda _, d: compare_features(present, d)
        )
        classifier = "AUROC", config.auroc
        yield self._made("states: classifier", rows, classifier, lambda _, d: tell_apart(present, d, config.seed))

    def _made(
        self, name: str, rows: Rows, measured: tuple[str, float], test: Callable[[Owners, Dealings], Compared]
    ) -> Tested:
        names, first, owners = np.unique(rows.trajectories, return_index=True, return_inverse=True)
        recent = rows.recent[first] if len(names) else np.zeros(0, dtype=bool)
        counts = (len(names) - int(recent.sum()), int(recent.sum()))
        (measure, relevant), least = measured, self._config.trajectories
        plain = Tested(name=name, group=self._group, measure=measure, relevant=relevant, trajectories=counts)
        if min(counts) < least:
            return replace(
                plain, lack=f"{counts[0]} trajectories of training and {counts[1]} recent ones, needed: {least}"
            )
        found = test(owners.reshape(-1), deal(recent, self._config.draws, self._config.seed))
        return replace(plain, effect=found.effect, p=found.p, before=found.before, now=found.now)


def compare(sides: tuple[Traffic, Traffic], asked: tuple[Asked, Asked], config: DriftConfig) -> list[Tested]:
    """Return every test, p values not yet corrected.

    Args:
        sides: training and recent traffic.
        asked: what the clone said of each.
        config: what matters.
    """
    names = _names([*asked[0].trajectories, *asked[1].trajectories])
    recent = np.repeat([False, True], [len(one.trajectories) for one in asked])
    cohorts = _names([*asked[0].cohorts, *asked[1].cohorts])
    said = {
        "confidence": np.concatenate([one.confidence for one in asked]),
        "distance": np.concatenate([one.distance for one in asked]),
        "disagreement": np.concatenate([_surprise(one) for one in asked]),
    }
    held, present = features(*asked)
    slices = dict(zip(names.tolist(), cohorts.tolist(), strict=True))
    new = set(asked[1].trajectories)
    states = Rows(_names(held), np.array([one in new for one in held], dtype=bool), present)
    found: list[Tested] = []
    groups = [ALL, *sorted(set(sides[1].trajectories["cohort"]))]
    for group in groups if len(groups) > 2 or set(sides[0].trajectories["cohort"]) - {*groups} else groups[:1]:
        inside = (cohorts == group) | (group == ALL)
        chosen = {name: Rows(names[inside], recent[inside], values[inside]) for name, values in said.items()}
        found += _of_group(Comparison(config, group), [_part(side, group) for side in sides], chosen, group)
        found += Comparison(config, group).states(
            states.where(np.array([group in (ALL, slices[one]) for one in held], dtype=bool))
        )
    return found


def _of_group(compared: Comparison, sides: list[Traffic], said: dict[str, Rows], group: str) -> Iterator[Tested]:
    steps, trajectories = [side.steps for side in sides], [side.trajectories for side in sides]
    yield compared.kinds("tools", Rows.of(steps[0], steps[1], "kind"))
    lengths = [frame.group_by("trajectory_id").agg(pl.col("decision").n_unique().alias("steps")) for frame in steps]
    yield compared.ranks("steps", Rows.of(lengths[0].sort("trajectory_id"), lengths[1].sort("trajectory_id"), "steps"))
    yield compared.ranks("confidence", said["confidence"], worse=-1)
    yield compared.ranks("distance", said["distance"], worse=1)
    doubts = said["disagreement"]
    yield compared.shares("disagreement beyond doubt", doubts.where(~np.isnan(doubts.values)), worse=1)
    if all(frame["outcome"].drop_nulls().len() for frame in trajectories):
        yield compared.kinds("outcomes", Rows.of(trajectories[0], trajectories[1], "outcome"))
    names = set(sides[0].scores["name"]) & set(sides[1].scores["name"])
    for name in sorted(names):
        own = [side.scores.filter(pl.col("name") == name) for side in sides]
        yield compared.ranks(f"score {name}", Rows.of(own[0], own[1], "value"))
    if group == ALL:
        yield from _overall(compared, sides)


def _overall(compared: Comparison, sides: list[Traffic]) -> Iterator[Tested]:
    trajectories = [side.trajectories for side in sides]
    if len(set(trajectories[0]["cohort"]) | set(trajectories[1]["cohort"])) > 1:
        yield compared.kinds("cohorts", Rows.of(trajectories[0], trajectories[1], "cohort"))
    if any(side.refused for side in sides):
        kept = [[1.0] * len(side.trajectories) + [0.0] * side.refused for side in sides]
        recent = np.repeat([False, True], [len(one) for one in kept])
        rows = Rows(np.arange(len(recent)).astype(str), recent, np.concatenate(kept))
        yield compared.shares("good enough", rows, worse=-1)


def corrected(tests: list[Tested], others: list[float]) -> tuple[list[Tested], list[float]]:
    """Return the tests, and other p values of the same check, corrected for all of them together (Holm 1979)."""
    chances = [test.p for test in tests if test.p is not None]
    found = holm([*chances, *others])
    left = iter(found)
    told = [test if test.p is None else replace(test, corrected=next(left)) for test in tests]
    return told, found[len(chances) :]


def _surprise(asked: Asked) -> Floats:
    """Return by how much the expert disagreed more than the clone's confidence said, from -1 to 1."""
    return np.asarray(asked.confidence - asked.agrees, dtype=np.float64)


def _part(side: Traffic, group: str) -> Traffic:
    if group == ALL:
        return side
    return side.only(side.trajectories.filter(pl.col("cohort") == group)["trajectory_id"].to_list())


def _names(values: list[str]) -> npt.NDArray[np.str_]:
    return np.array(values, dtype=np.str_)
