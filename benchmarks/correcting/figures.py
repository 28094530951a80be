"""Summarise repetitions: success of each method in each setting, and how far two are apart, with intervals.

The same tasks are tried in every repetition, so a difference is taken task by task; an interval draws repetitions and
tasks anew, both with replacement (the pigeonhole bootstrap, Owen 2007, Annals of Applied Statistics 1), so it holds for
other draws of the training data as well as for other tasks.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Json = dict[str, Any]
Table = npt.NDArray[np.float64]
"""Shape (repetitions, tasks)."""
_DRAWS: Final = 2_000
_EDGES: Final = (0.025, 0.975)
_BOUNDS: Final = ("value", "low", "high")
_FEW: Final = 40


def interval(table: Table, seed: int = 0) -> tuple[float, float, float]:
    """Return the mean of a table, and its 95 % interval over repetitions and tasks."""
    rng = np.random.default_rng(seed)
    rows, columns = table.shape
    by_row = rng.multinomial(rows, np.full(rows, 1 / rows), size=_DRAWS) / rows
    by_column = rng.multinomial(columns, np.full(columns, 1 / columns), size=_DRAWS) / columns
    drawn = np.einsum("dr,rc,dc->d", by_row, table, by_column)
    low, high = np.quantile(drawn, _EDGES)
    return float(table.mean()), float(low), float(high)


def summarised(lines: Sequence[Mapping[str, Any]], baselines: Sequence[str]) -> Json:
    """Return by world, setting and method success, interval and price, and each method's lead over the baselines.

    ``env_steps`` is None where it was not counted; ``critic_off`` is in how many repetitions a critic proved nothing,
    and the clone was as without it.
    """
    found: Json = {}
    for world in sorted({_world(line) for line in lines}):
        of_world = [line for line in lines if _world(line) == world]
        found[world] = {}
        for setting in of_world[0]["success"]:
            tables = {arm: _table(of_world, arm, setting) for arm in sorted({line["arm"] for line in of_world})}
            found[world][setting] = {
                arm: _row(of_world, arm, table, tables, baselines) for arm, table in tables.items()
            }
    return found


def by_step(lines: Sequence[Mapping[str, Any]]) -> Json:
    """Return by world, method and way how often clone and expert differ at each step, with intervals over repetitions.

    Steps to which fewer than ``_FEW`` episodes came are left out.
    """
    found: Json = {}
    for line in (one for one in lines if "disagreement" in one):
        for way, counts in line["disagreement"].items():
            found.setdefault(_world(line), {}).setdefault(line["arm"], {}).setdefault(way, []).append(counts)
    return {
        world: {arm: {way: _steps(np.array(counts)) for way, counts in ways.items()} for arm, ways in arms.items()}
        for world, arms in found.items()
    }


def _steps(counts: npt.NDArray[np.int64]) -> list[Json]:
    """Return a row a step, of counts of shape (repetitions, steps, 2)."""
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=_DRAWS)
    rows = []
    for step, (asked, other) in enumerate(counts.sum(axis=0).tolist()):
        if asked >= _FEW:
            sums = drawn @ counts[:, step, :]
            low, high = np.quantile(sums[:, 1] / np.maximum(1, sums[:, 0]), _EDGES)
            shares = (other / asked, float(low), float(high))
            rows.append({"step": step, "asked": asked, **dict(zip(_BOUNDS, map(_short, shares), strict=True))})
    return rows


def by_price(lines: Sequence[Mapping[str, Any]], arms: Sequence[str]) -> Json:
    """Return by method and calls of the fallible expert at the desk success in distribution, with its interval.

    ``gain`` is its lead over the first method at the same price, for each 100 calls, in the repetitions that both have.
    """
    found: Json = {arm: {} for arm in arms}
    for line in lines:
        if line["ground"] == "desk" and line["fallible"] and line["arm"] in found:
            found[line["arm"]].setdefault(line["calls"], {})[line["seed"]] = line["success"]["in_distribution"]
    base = found[arms[0]]
    return {
        arm: [
            {"calls": calls, "seeds": len(rows), **_bounds(rows), "gain": _gain(rows, base.get(calls, {}), calls)}
            for calls, rows in sorted(prices.items())
        ]
        for arm, prices in found.items()
    }


def _gain(rows: Mapping[int, list[int]], base: Mapping[int, list[int]], calls: int) -> Json | None:
    if rows is base or not rows.keys() & base.keys():
        return None
    return _bounds({seed: [100 / calls * lead for lead in leads] for seed, leads in _leads(rows, base).items()})


def _leads(rows: Mapping[int, list[int]], base: Mapping[int, list[int]]) -> dict[int, list[float]]:
    """Return by repetition that both have the difference in each task."""
    both = sorted(rows.keys() & base.keys())
    return {seed: [float(one - other) for one, other in zip(rows[seed], base[seed], strict=True)] for seed in both}


def _bounds(rows: Mapping[int, Sequence[float]]) -> Json:
    return dict(zip(_BOUNDS, map(_short, interval(np.array(list(rows.values()), dtype=np.float64))), strict=True))


def _world(line: Mapping[str, Any]) -> str:
    return f"{line['ground']}_{'fallible' if line['fallible'] else 'perfect'}"


def _table(lines: Sequence[Mapping[str, Any]], arm: str, setting: str) -> dict[int, list[int]]:
    return {line["seed"]: line["success"][setting] for line in lines if line["arm"] == arm}


def _row(
    lines: Sequence[Mapping[str, Any]],
    arm: str,
    table: Mapping[int, list[int]],
    tables: Mapping[str, Mapping[int, list[int]]],
    baselines: Sequence[str],
) -> Json:
    bounds = _bounds({seed: table[seed] for seed in sorted(table)})
    of_arm = [line for line in lines if line["arm"] == arm]
    row: Json = {"success": bounds["value"], "low": bounds["low"], "high": bounds["high"], "seeds": len(table)}
    bought = of_arm[0].keys() & {"expert_calls"}  # the expert itself is not bought
    row |= dict.fromkeys(("expert_calls", "env_steps"), None if bought else 0)
    for name in ("expert_calls", "env_steps", "rejected_calls", "decisions"):
        if name in of_arm[0]:
            row[name] = round(float(np.mean([line[name] for line in of_arm])))
    if arm.endswith("_critic"):
        row["critic_off"] = sum(bool(line["note"]) for line in of_arm)
    for other in baselines:
        if other != arm and table.keys() & tables.get(other, {}).keys():
            row[f"over_{other}"] = _bounds(_leads(table, tables[other]))
    return row


def _short(value: float) -> float:
    return round(value, 4)
