"""Plant loops in recorded trajectories, and what only looks like one, and count which the rule `repetition` rejects."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.repetition import LONGEST_PERIOD, repetitions
from imitrace_trainer.rules import repetition
from overhead.timing import Json

MAX_REPEATS = 2
LOOP = "loop, same results"
KINDS = (LOOP, "something else is seen", "as often as allowed", "results not recorded", "untouched")
"""Only the first is to be rejected."""
_DONE = ("action_kind", "action_name", "action_arguments", "action_message", "observation")

Step = dict[str, Any]  # a row of the steps, as far as a loop shows in it


def planted_loops(steps: pl.DataFrame, seed: int = 0) -> Json:
    """Make each trajectory one of ``KINDS`` by a draw, and return how many of each kind there are and are rejected.

    Args:
        steps: of recorded trajectories, with the columns of ``schema.STEPS``.
        seed: of the draws.
    """
    draw, rows = random.Random(seed), []
    kinds: dict[str, str] = {}
    ordered = steps.sort("trajectory_id", "step_index").select("trajectory_id", *_DONE)
    for trajectory in ordered.partition_by("trajectory_id", maintain_order=True):
        name, done = trajectory["trajectory_id"][0], trajectory.select(_DONE).to_dicts()
        kind = draw.choice(KINDS)
        if spans := _repeatable(done):
            done = planted(done, kind, draw.choice(spans), draw)
            kinds[name] = kind
            rows += [{"trajectory_id": name, "step_index": place, **step} for place, step in enumerate(done)]
    return _counted(kinds, _rejected(pl.DataFrame(rows, infer_schema_length=None)))


def planted(done: Sequence[Step], kind: str, span: tuple[int, int], draw: random.Random) -> list[Step]:
    """Return a trajectory's steps with some of them done again and again as a kind says.

    Args:
        done: its steps.
        kind: of ``KINDS``.
        span: the place of the first step to be repeated, and of the first behind them.
        draw: says how often.
    """
    if kind == "untouched":
        return list(done)
    times = MAX_REPEATS if kind == "as often as allowed" else draw.randint(MAX_REPEATS + 1, MAX_REPEATS + 4)
    begin, end = span
    again: list[Step] = []
    for number in range(times):
        for step in done[begin:end]:
            seen = {"something else is seen": f"{step['observation']} {number}", "results not recorded": None}
            again.append({**step, "observation": seen.get(kind, step["observation"])})
    return [*done[:begin], *again, *done[end:]]


def _repeatable(done: Sequence[Step]) -> list[tuple[int, int]]:
    """Return where one to four calls stand in a row whose results were recorded."""
    call = [step["action_kind"] == "tool_call" and step["observation"] is not None for step in done]
    spans = [(begin, begin + length) for begin in range(len(done)) for length in range(1, LONGEST_PERIOD + 1)]
    return [(begin, end) for begin, end in spans if end <= len(done) and all(call[begin:end])]


def _rejected(steps: pl.DataFrame) -> set[str]:
    cohort = CohortConfig(name="planted", agent="planted", max_repeats=MAX_REPEATS)
    judged = repetition(repetitions(steps.lazy()), cohort).filter(pl.col("repetition_rule").is_not_null())
    return set(judged.collect()["trajectory_id"])


def _counted(kinds: Mapping[str, str], rejected: set[str]) -> Json:
    of = {kind: [name for name, one in kinds.items() if one == kind] for kind in KINDS}
    found = sum(name in rejected for name in of[LOOP])
    return {
        "precision": round(found / len(rejected), 4) if rejected else None,
        "recall": round(found / len(of[LOOP]), 4) if of[LOOP] else None,
        "by_kind": {
            kind: {"trajectories": len(names), "rejected": sum(name in rejected for name in names)}
            for kind, names in of.items()
        },
    }
