"""Measure what a loose filter costs, what failures are worth in hindsight, and which planted loops are found.

python benchmarks/filtering.py --data ../shared/data          # a table
python benchmarks/filtering.py --data ../shared/data --json   # the same as JSON
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import torch

from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.curate import curate
from imitrace_trainer.effect import Effect, effect
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.hindsight import points
from imitrace_trainer.sketched_steps import SketchedStep, sketched
from overhead.reports import deliver
from overhead.timing import Json, machine, versions
from planted.loops import planted_loops
from scan import SETS, imported

PACKAGES = ("imitrace", "polars", "torch")
PLANTED = (0.1, 0.3)
WHOLE = SplitConfig(calibration=0, gate=0)
GOOD = Condition.parse("TaskCompletion >= 1")


def told(found: Effect) -> Json:
    """Return an effect as JSON values."""
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in vars(found).items()}


def all_steps(tables: Mapping[str, pl.DataFrame]) -> list[SketchedStep]:
    """Return every step of a set."""
    tasks = tables["trajectories"].select("trajectory_id", pl.col("task").alias("task_key"))
    steps = tables["steps"].join(tasks, on="trajectory_id", how="inner", maintain_order="left")
    return list(sketched(steps.lazy(), tables["messages"].lazy()))


def planted(steps: Sequence[SketchedStep], share: float) -> Json:
    """Give the calls of some trajectories other tools, and return what learning from these trajectories does."""
    draw = random.Random(0)
    names = sorted({step.action for step in steps} - {MESSAGE})
    trajectories = sorted({step.trajectory_id for step in steps})
    bad = set(draw.sample(trajectories, round(share * len(trajectories))))
    wrong = [
        step if step.action == MESSAGE else replace(step, action=draw.choice([n for n in names if n != step.action]))
        for step in steps
        if step.trajectory_id in bad
    ]
    return told(effect([step for step in steps if step.trajectory_id not in bad], wrong))


def failures(name: str, tables: Mapping[str, pl.DataFrame], steps: Sequence[SketchedStep]) -> Json:
    """Return what learning from failures does: from all of their steps, from the proven ones, and from the others."""
    frames = {table: frame.lazy() for table, frame in tables.items()}
    cohort = CohortConfig(name=name, agent=name, where=(GOOD,), split=WHOLE, hindsight=0.9)
    curated = curate(frames, cohort)
    again = curated.trajectories.filter(pl.col("relabelled_by").is_not_null())
    kept = curated.trajectories.filter(pl.col("relabelled_by").is_null())
    learnt = curated.steps.filter("loss_mask").join(again.lazy().select("trajectory_id"), on="trajectory_id")
    proven = set(learnt.select("trajectory_id", "step_index").collect().iter_rows())
    good = set(kept["trajectory_id"])
    usual = [step for step in steps if step.trajectory_id in good]
    failed = [step for step in steps if step.trajectory_id not in good]
    right = [step for step in failed if (step.trajectory_id, step.step_index) in proven]
    rest = [step for step in failed if (step.trajectory_id, step.step_index) not in proven]
    return {
        "successes": len(good),
        "failures": len({step.trajectory_id for step in failed}),
        "failures_relabelled": len(again),
        "calls_of_failures": sum(step.action != MESSAGE for step in failed),
        **_met(tables, cohort, kept),
        "all": told(effect(usual, failed)),
        "proven": told(effect(usual, right)),
        "not proven": told(effect(usual, rest)),
    }


def _met(tables: Mapping[str, pl.DataFrame], cohort: CohortConfig, kept: pl.DataFrame) -> Json:
    """Return how many calls of failures stood where a success had stood, and how many of them were the same."""
    frames = {table: frame.lazy() for table, frame in tables.items()}
    frames["steps"] = frames["steps"].with_columns(tool_reason=pl.lit(None, pl.String))
    own = kept.select("trajectory_id", "task_key")
    stood, made = set(), set()
    for _, _, before, point in points(frames, cohort, own):
        stood.add(before)
        made.add(point)
    tasks = tables["trajectories"].select("trajectory_id", pl.col("task").alias("task_key"))
    tried = list(points(frames, cohort, tasks.join(own, on="trajectory_id", how="anti")))
    met = [point for _, _, before, point in tried if before in stood]
    return {"calls_where_a_success_stood": len(met), "calls_proven": sum(point in made for point in met)}


def measure(data: Path, quick: bool) -> Json:
    """Return everything that is measured."""
    torch.set_num_threads(1)  # small tensors: two threads wait for each other more than they work
    began, found, skipped = time.monotonic(), {}, {}
    for name in ("airline",) if quick else SETS:
        if not (data / SETS[name]).exists():
            skipped[name] = f"no {SETS[name]} in {data}"
            continue
        with tempfile.TemporaryDirectory() as folder:
            tables = imported(name, data, Path(folder), 40 if quick else None)
            steps = all_steps(tables)
            wrong = {str(share): planted(steps, share) for share in (PLANTED[-1:] if quick else PLANTED)}
            rewards = tables["scores"].filter(pl.col("name") == GOOD.score)["value"]
            found[name] = {"planted": wrong, "loops": planted_loops(tables["steps"])}
            found[name] |= {} if rewards.min() else {"failures": failures(name, tables, steps)}
    return {
        "benchmark": "filtering",
        "sets": found,
        "skipped": skipped,
        "machine": machine(),
        "versions": versions(PACKAGES),
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/filtering.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - began),
        "quick": quick,
    }


def table(report: Json) -> str:
    """Return the figures as lines for a terminal."""
    lines = [f"{'set':<10}{'further steps':<28}{'steps':>7}{'without':>9}{'with':>8}  points [95 %]"]
    for name, found in report["sets"].items():
        rows = {f"{float(share):.0%} wrong tools": one for share, one in found["planted"].items()}
        rows |= {f"failures, {key}": one for key, one in found.get("failures", {}).items() if isinstance(one, dict)}
        for what, one in rows.items():
            points_ = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * one[key] for key in ("difference", "low", "high")))
            lines.append(
                f"{name:<10}{what:<28}{one['further']:>7}{one['without']:>9.1%}{one['along']:>8.1%}  {points_}"
            )
    lines += [_loops(name, found["loops"]) for name, found in report["sets"].items()]
    lines += [f"skipped {name}: {why}" for name, why in report["skipped"].items()]
    return "\n".join([*lines, f"{report['machine']}, {report['date']}, {report['seconds']} s"])


def _loops(name: str, found: Json) -> str:
    kinds = ", ".join(f"{one['rejected']} of {one['trajectories']} {kind}" for kind, one in found["by_kind"].items())
    return f"{name:<10}loops: precision {found['precision']:.1%}, recall {found['recall']:.1%}; rejected: {kinds}"


def main() -> None:
    """Measure as the options say, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the sets")
    parser.add_argument("--quick", action="store_true", help="40 trajectories of airline: checks that it runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--output", type=Path, help="write the JSON object to this file as well")
    options = parser.parse_args()
    deliver(measure(options.data, options.quick), options, table)


if __name__ == "__main__":
    main()
