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
    """Return by world, setting and method success, interval and price, and each method's lead over the baselines."""
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
    value, low, high = interval(np.array([table[seed] for seed in sorted(table)], dtype=np.float64))
    of_arm = [line for line in lines if line["arm"] == arm]
    row: Json = {"success": _short(value), "low": _short(low), "high": _short(high), "seeds": len(table)}
    for name in ("expert_calls", "env_steps", "rejected_calls", "decisions"):
        if name in of_arm[0]:
            row[name] = round(float(np.mean([line[name] for line in of_arm])))
    for other in baselines:
        both = sorted(set(table) & set(tables.get(other, {})))
        if other != arm and both:
            pairs = np.array([table[seed] for seed in both], dtype=np.float64)
            pairs -= np.array([tables[other][seed] for seed in both], dtype=np.float64)
            row[f"over_{other}"] = dict(zip(("value", "low", "high"), map(_short, interval(pairs)), strict=True))
    return row


def _short(value: float) -> float:
    return round(value, 4)
