"""Measure what the queue's orders are worth to a clone at equal labels, and what is set apart as harmless.

python benchmarks/queue_labels.py --data ../shared/data          # tables; the better part of an hour
python benchmarks/queue_labels.py --data ../shared/data --json   # the same as JSON
python benchmarks/queue_labels.py --quick                        # few tasks: checks that it runs

Labels: a linear clone of a few tasks chooses decisions of other tasks to be labelled, by uncertainty, by the queue's
rank, or by a draw; it learns from them and chooses again. What it then does on tasks that it never saw is compared with
the draw's, seed by seed. Fitting `embedded` as often would take a day.

Harmless: see `labelling/harmless.py`.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from imitrace_trainer.datasets import Example, open_dataset
from imitrace_trainer.fit import BCConfig, calibrate, prepare
from imitrace_trainer.intervals import clopper_pearson
from imitrace_trainer.linear import LinearPolicy, fit_linear
from imitrace_trainer.stages import demonstrations
from labelling.chosen import STRATEGIES, Hits, Sizes, curves
from labelling.harmless import Disagreement, disagreements
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, tell, versions
from planted.reckless import Desk, make_expert, work
from quality.recorded import SETS, imported

PACKAGES = ("imitrace", "numpy", "torch")
FULL = {
    "retail": Sizes(base=15, calibration=15, batch=60, rounds=2, seeds=10, epochs=3, pool=300, held=200),
    "airline": Sizes(base=4, calibration=4, batch=60, rounds=2, seeds=10, epochs=3, pool=300, held=200),
}
QUICK = {"retail": Sizes(base=6, calibration=6, batch=8, rounds=1, seeds=1, epochs=1, pool=40, held=40)}
LINES = 60
"""Recorded trajectories that a quick run reads."""
FOLDS = 5
_T_95 = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""Student's quantile by degrees of freedom, one less than the seeds."""
_CALIBRATE = 40


def labels(name: str, data: Path, sizes: Sizes, lines: int | None, minutes: float) -> Json:
    """Return by round what a clone does with as many labels chosen one way or another, of as many seeds as time is."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / name
        imported(name, data, home, lines)
        examples = open_dataset(home, name).examples()
    runs: list[tuple[Hits, dict[str, list[Hits]]]] = []
    for seed in range(sizes.seeds):
        if runs and time.monotonic() - began > 60 * minutes:
            break
        shown, held = divided(examples, seed % FOLDS)
        runs.append(
            curves(demonstrations(shown), demonstrations(held), sizes, seed, lambda line: tell(f"{name} {line}"))
        )
    rounds = [_round(runs, number, sizes) for number in range(sizes.rounds)]
    before = {measure: _mean([_score(first, measure) for first, _ in runs]) for measure in MEASURES}
    facts = {"base_tasks": sizes.base, "calibration_tasks": sizes.calibration, "pool": sizes.pool, "seeds": len(runs)}
    return {**facts, "held_out": len(runs[0][0].tool), "before": before, "rounds": rounds}


def divided(examples: Sequence[Example], fold: int) -> tuple[list[Example], list[Example]]:
    """Return what may be learnt from, and the successes of every fifth task."""
    shown = [one for one in examples if int(one.task) % FOLDS != fold]
    held = [one for one in examples if int(one.task) % FOLDS == fold and one.outcome == "success"]
    return shown, held


MEASURES = ("tool", "call", "weighed")
"""Right tool; the very call; right tool, each decision as heavy as what it can do."""


def _score(hits: Hits, measure: str) -> float:
    right = hits.call if measure == "call" else hits.tool
    weights = hits.weights if measure == "weighed" else [1.0] * len(right)
    return sum(w for w, hit in zip(weights, right, strict=True) if hit) / sum(weights)


def _round(runs: Sequence[tuple[Hits, dict[str, list[Hits]]]], number: int, sizes: Sizes) -> Json:
    found: Json = {"labels": (number + 1) * sizes.batch}
    for measure in MEASURES:
        scores = {name: [_score(after[name][number], measure) for _, after in runs] for name in STRATEGIES}
        found[measure] = {name: _mean(values) for name, values in scores.items()}
        for name in STRATEGIES:
            if name != "random":
                gains = [one - other for one, other in zip(scores[name], scores["random"], strict=True)]
                found[measure][f"{name}_less_random"] = _interval(gains)
    return found


def _mean(values: Sequence[float]) -> float:
    return round(statistics.fmean(values), 4)


def _interval(gains: Sequence[float]) -> Json:
    """Return the mean of paired differences with its 95 % interval over seeds (Student's t)."""
    told: Json = {"mean": _mean(gains), "seeds_won": sum(gain > 0 for gain in gains), "seeds": len(gains)}
    reach = _T_95.get(len(gains) - 1)
    if reach is None:
        return told
    half = reach * statistics.stdev(gains) / len(gains) ** 0.5
    return told | {"low": round(told["mean"] - half, 4), "high": round(told["mean"] + half, 4)}


def harmless(train: int, tried: int, epochs: int) -> Json:
    """Return how well what the queue sets apart agrees with what the support desk says is harmless."""
    desk = Desk()
    expert = make_expert(desk)
    tell("support desk: a clone")
    shown, kept = (
        work(desk, desk.tasks(count, seed), lambda _, chat: expert.act(chat)).demonstrations(successes_only=True)
        for count, seed in ((train, 1), (_CALIBRATE, 1_001))
    )
    config = BCConfig(epochs=epochs, device="cpu")
    policy: LinearPolicy = fit_linear(prepare(shown, config), config, lambda stage, share: None)
    calibrate(policy, kept)
    tell("support desk: disagreements")
    found = disagreements(policy, desk.tasks(tried, 2_001))
    origins = ("clone", "mistake", "order")
    told = {origin: _separated([one for one in found if one.origin == origin]) for origin in origins}
    return {"train_tasks": train, "tasks": tried, **told, "all": _separated(found)}


def _separated(found: Sequence[Disagreement]) -> Json:
    """Return precision and recall of setting apart, and of what is left to judge."""
    apart = [one for one in found if one.set_apart is not None]
    left = [one for one in found if one.set_apart is None]
    harmful = sum(not one.harmless for one in found)
    return {
        "disagreements": len(found),
        "harmful": harmful,
        "set_apart": len(apart),
        "precision": _share(sum(one.harmless for one in apart), len(apart)),
        "recall_of_harmless": _share(sum(one.harmless for one in apart), len(found) - harmful),
        "recall_of_free": _share(sum(one.free for one in apart), sum(one.free for one in found)),
        "queue_precision_before": _share(harmful, len(found)),
        "queue_precision_after": _share(sum(not one.harmless for one in left), len(left)),
        "queue_recall": _share(sum(not one.harmless for one in left), harmful),
    }


def _share(count: int, of: int) -> Json:
    if not of:
        return {"count": 0, "of": 0}
    low, high = clopper_pearson(count, of)
    return {"count": count, "of": of, "share": round(count / of, 4), "low": round(low, 4), "high": round(high, 4)}


def measure(options: argparse.Namespace) -> Json:
    """Return the whole report."""
    torch.set_num_threads(1)
    began, sets, skipped = time.monotonic(), {}, {}
    for name, sizes in (QUICK if options.quick else FULL).items():
        if options.sets and name not in options.sets.split(","):
            skipped[name] = "left out by --sets"
        elif (options.data / SETS[name]).exists():
            sets[name] = labels(name, options.data, sizes, LINES if options.quick else None, options.minutes)
        else:
            skipped[name] = f"{options.data / SETS[name]} is not there; name the folder with --data"
    return {
        "versions": versions(PACKAGES),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "command": " ".join(["python", *sys.argv]),
        "quick": options.quick,
        "sets": sets,
        "harmless": harmless(*((12, 3, 1) if options.quick else (60, 60, 4))),
        "skipped": skipped,
        "seconds": round(time.monotonic() - began),
    }


def table(report: Json) -> str:
    """Return the report for people."""
    lines = []
    for name, found in report["sets"].items():
        lines.append(f"{name}: {found['base_tasks']} tasks, then labels; before: {found['before']}")
        for one in found["rounds"]:
            for kind in MEASURES:
                shown = "  ".join(f"{how} {value}" for how, value in one[kind].items())
                lines.append(f"  {one['labels']:>4} labels, {kind:<8} {shown}")
    for origin in ("clone", "mistake", "order", "all"):
        found = report["harmless"][origin]
        lines.append(f"harmless, {origin}: " + ", ".join(f"{key} {value}" for key, value in found.items()))
    lines += [f"{name}: {why}" for name, why in report["skipped"].items()]
    return "\n".join([*lines, f"{report['machine']}, {report['date']}"])


def main() -> None:
    """Measure as the options say, and print it."""
    parser = asking(__doc__, "few tasks, one seed: checks that it runs", data=True)
    parser.add_argument("--minutes", type=float, default=60, help="of a set, after which no further seed is begun")
    parser.add_argument("--sets", help="only these recorded sets, with commas between")
    options = parser.parse_args()
    deliver(measure(options), options, table)


if __name__ == "__main__":
    main()
