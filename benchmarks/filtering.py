"""Measure what loose and strict filters cost, what failures are worth in hindsight, and which planted loops are found.

python benchmarks/filtering.py --data ../shared/data          # a table
python benchmarks/filtering.py --data ../shared/data --json   # the same as JSON
"""

import random
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import torch

from imitrace.canonical import content_hash
from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.curate import curate
from imitrace_trainer.effect import Effect, effect
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.hindsight import points
from imitrace_trainer.intervals import paired_mean_difference
from imitrace_trainer.out_of_fold import fit_folds, fold_of, guesses
from imitrace_trainer.sketched_steps import SketchedStep, sketched
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, versions
from planted.loops import planted_loops
from scan import SETS, imported

PACKAGES = ("imitrace", "polars", "torch")
PLANTED = (0.1, 0.3)
ERRORS = {0.0: 0.5, 0.3: 0.2, 0.8: 0.3}
"""Of a sweep: how often a call is given another tool, and in which share of the trajectories."""
NOISES = (0.1, 0.4)
"""Standard deviations of a planted score about the share of right calls."""
LEAST = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Scores from which a trajectory is kept."""
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


def state_names(tables: Mapping[str, pl.DataFrame]) -> dict[tuple[str, int], str]:
    """Return by trajectory and place what names the state before a step: equal messages have equal names."""
    rows = tables["steps"].select("trajectory_id", "step_index", "state").iter_rows()
    return {(trajectory, index): content_hash(state) for trajectory, index, state in rows}


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


def sweep(steps: Sequence[SketchedStep], states: Mapping[tuple[str, int], str], quick: bool) -> Json:
    """Return what is kept and learnt from each score on, where a score is the share of right calls, and noise.

    Guesses are judged in all tasks, by what was done there before any call was given another tool, so that a filter
    pays for what it leaves out, too.

    Args:
        steps: all right.
        states: by trajectory and place, what names the state before a step.
        quick: of one noise and two thresholds.
    """
    draw = random.Random(1)
    names = sorted({step.action for step in steps} - {MESSAGE})
    rates = {
        name: draw.choices(list(ERRORS), list(ERRORS.values()))[0]
        for name in sorted({step.trajectory_id for step in steps})
    }
    made = [
        replace(step, action=draw.choice([name for name in names if name != step.action]))
        if step.action != MESSAGE and draw.random() < rates[step.trajectory_id]
        else step
        for step in steps
    ]
    right = [one.action == step.action for one, step in zip(made, steps, strict=True)]
    calls: dict[str, list[bool]] = {name: [] for name in rates}
    for step, well in zip(steps, right, strict=True):
        calls[step.trajectory_id] += [] if step.action == MESSAGE else [well]
    found: Json = {}
    for noise in NOISES[:1] if quick else NOISES:
        shares = {name: sum(done) / len(done) if done else 1.0 for name, done in calls.items()}
        scores = {name: min(1.0, max(0.0, share + draw.gauss(0, noise))) for name, share in shares.items()}
        arms = {
            least: [place for place, step in enumerate(steps) if scores[step.trajectory_id] >= least]
            for least in (LEAST[::4] if quick else LEAST)
        }
        hits = {least: guessed_by_task(steps, made, kept) for least, kept in arms.items()}
        found[str(noise)] = {
            str(least): {
                **diversity([made[place] for place in kept if right[place]], states),
                "trajectories": len({steps[place].trajectory_id for place in kept}),
                "right": round(sum(right[place] for place in kept) / max(1, len(kept)), 4),
                "agreement": round(float(np.mean(hits[least])), 4),
                **beside(hits[least], hits[LEAST[0]]),
            }
            for least, kept in arms.items()
        }
    return found


def diversity(right: Sequence[SketchedStep], states: Mapping[tuple[str, int], str]) -> Json:
    """Return how many different things the right steps that are kept show."""
    return {
        "steps": len(right),
        "tasks": len({step.task for step in right}),
        "tools": len({step.action for step in right} - {MESSAGE}),
        "states": len({states[step.trajectory_id, step.step_index] for step in right}),
    }


def guessed_by_task(steps: Sequence[SketchedStep], made: Sequence[SketchedStep], kept: Sequence[int]) -> list[float]:
    """Return for each task how often models of the kept steps of other tasks guess what was rightly done in it."""
    tasks = [step.task for step in steps]
    place = {name: number for number, name in enumerate(sorted({step.action for step in (*steps, *made)}))}
    truth = np.array([place[step.action] for step in steps], dtype=np.int64)
    labels = np.array([place[made[row].action] for row in kept], dtype=np.int64)
    folds = fold_of(tasks)
    models = fit_folds([made[row].sketch for row in kept], labels, folds[list(kept)])
    hits = guesses(models, [step.sketch for step in steps], folds).argmax(axis=1) == truth
    order = np.array(tasks)
    return [float(hits[order == task].mean()) for task in sorted(set(tasks))]


def beside(hits: Sequence[float], loosest: Sequence[float]) -> Json:
    """Return what a filter changes in agreement with the loosest, with its 95 % interval over the tasks."""
    found = paired_mean_difference([after - before for after, before in zip(hits, loosest, strict=True)])
    return {key: round(value, 4) for key, value in zip(("difference", "low", "high"), found, strict=True)}


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
            if quick or rewards.min():
                found[name]["sweep"] = sweep(steps, state_names(tables), quick)
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
    columns = ("agreement", "right", "trajectories", "steps", "tasks", "tools", "states")
    for name, found in report["sets"].items():
        for noise, by_least in found.get("sweep", {}).items():
            lines.append(f"{name}, noise of scores {noise}, kept from: " + " ".join(f"{one:>12}" for one in columns))
            for least, one in by_least.items():
                cells = (f"{one[key]:>12.1%}" if key in columns[:2] else f"{one[key]:>12}" for key in columns)
                lines.append(f"{least:>40} " + " ".join(cells))
    lines += [f"skipped {name}: {why}" for name, why in report["skipped"].items()]
    return "\n".join([*lines, f"{report['machine']}, {report['date']}, {report['seconds']} s"])


def _loops(name: str, found: Json) -> str:
    kinds = ", ".join(f"{one['rejected']} of {one['trajectories']} {kind}" for kind, one in found["by_kind"].items())
    return f"{name:<10}loops: precision {found['precision']:.1%}, recall {found['recall']:.1%}; rejected: {kinds}"


def main() -> None:
    """Measure as the options say, and print it."""
    options = asking(__doc__, "40 trajectories of airline: checks that it runs", data=True).parse_args()
    deliver(measure(options.data, options.quick), options, table)


if __name__ == "__main__":
    main()
