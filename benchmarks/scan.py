"""Compare the coverage that `imitrace scan` predicts with what a trained clone reaches on held-out tasks.

python benchmarks/scan.py --data ../shared/data          # a table
python benchmarks/scan.py --data ../shared/data --json   # the same as JSON
"""

import gzip
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import torch

from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.curate import Curated, curate
from imitrace_trainer.datasets import write_dataset
from imitrace_trainer.demonstrations import well_ended
from imitrace_trainer.fit import BCConfig, fit
from imitrace_trainer.frames import gather
from imitrace_trainer.policy import same_action
from imitrace_trainer.route import route
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.route_rules import cohort_of
from imitrace_trainer.scan import Scan, ScanConfig, scan
from imitrace_trainer.sources import open_source
from imitrace_trainer.stages import calls_of, demonstrations
from imitrace_trainer.thresholds import thresholds_for
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, versions

PACKAGES = ("imitrace", "polars", "torch")
SETS = {"retail": "tau_retail_oracle.jsonl.gz", "airline": "tau_airline_gpt4o.jsonl.gz"}
PROMISES = (0.9, 0.95, 0.98)
PLANTED = 0.02
CAP = 0.02


@dataclass(frozen=True)
class Size:
    """How much is done."""

    sets: tuple[str, ...] = tuple(SETS)
    lines: int | None = None
    """Trajectories of each set; None: all."""
    epochs: int = BCConfig().epochs
    splits: int = 3


QUICK = Size(("retail",), 20, 2, 1)


def imported(name: str, data: Path, folder: Path, lines: int | None) -> dict[str, pl.DataFrame]:
    """Import a set's trajectories, or its first few, and return their tables."""
    with gzip.open(data / SETS[name], "rt", encoding="utf-8") as file:
        chosen = [line for number, line in enumerate(file) if lines is None or number < lines]
    source = folder / f"{name}.jsonl"
    source.write_text("".join(chosen), encoding="utf-8")
    tools = data / f"tau_{name}_tools.json"
    options = [str(source), "--agent", name, "--tools", str(tools), "--home", str(folder)]
    subprocess.run([sys.executable, "-m", "imitrace", "import", *options], check=True, stdout=sys.stderr)
    return gather(open_source(None, folder).frames())


def compared(name: str, tables: Mapping[str, pl.DataFrame], folder: Path, size: Size) -> Json:
    """Return what is predicted and what is realised for each promise, by the seed of the cohort's split."""
    splits, scanned, trained = {}, 0.0, 0.0
    for seed in range(size.splits):
        cohort = CohortConfig(name=name, agent=name, split=SplitConfig(seed=seed))
        curated = curate({table: frame.lazy() for table, frame in tables.items()}, cohort)
        began = time.monotonic()
        predicted = {promise: scan(curated, ScanConfig(promise=promise, split=cohort.split)) for promise in PROMISES}
        scanned += time.monotonic() - began
        realised, seconds = _realised(cohort, curated, folder, size.epochs)
        trained += seconds
        splits[str(seed)] = {str(promise): _beside(one, realised[promise]) for promise, one in predicted.items()}
    one = next(iter(predicted.values()))
    facts = {"tasks": one.tasks, "decisions": one.decisions, "failures": one.failures}
    each = {"scan_s": round(scanned / size.splits / len(PROMISES), 1), "train_s": round(trained / size.splits, 1)}
    return {**facts, "splits": splits, **each}


def _beside(predicted: Scan, realised: Json) -> Json:
    told = predicted.coverage
    within = told.low <= realised["coverage"] <= told.high
    shown = {"coverage": told.value, "low": told.low, "high": told.high}
    return {"predicted": shown, "realised": realised, "within": within, "blocked": predicted.blocked}


def _realised(cohort: CohortConfig, curated: Curated, folder: Path, epochs: int) -> tuple[dict[float, Json], float]:
    """Train a clone; return by promise the share of the gate's decisions that it acts on, and how many are right.

    Decisions of failures are not counted, as in a scan.
    """
    dataset = write_dataset(folder, cohort, curated, "a benchmark")
    train, calibration, gate = (demonstrations(dataset.examples(part)) for part in ("train", "calibration", "gate"))
    gate = well_ended(gate)
    began = time.monotonic()
    policy, _ = fit(train, calibration, BCConfig(epochs=epochs, device="cpu"))
    decisions = [policy.act(held.state) for held in gate]
    seconds, found = time.monotonic() - began, {}
    proposed = [(made.action, made.confidence) for made in (policy.act(held.state) for held in calibration)]
    calls = calls_of(proposed, calibration)
    for promise in PROMISES:
        thresholds = thresholds_for(calls, RouteConfig(error=1 - promise))
        acted = [
            same_action(decision.action, held.action)
            for decision, held in zip(decisions, gate, strict=True)
            if route(decision, held.state, thresholds, {cohort_of(held.state.tags)}).actor == "clone"
        ]
        agreement = round(sum(acted) / len(acted), 4) if acted else None
        found[promise] = {"coverage": round(len(acted) / len(gate), 4), "agreement": agreement}
    return found, seconds


def planted(name: str, tables: Mapping[str, pl.DataFrame]) -> Json:
    """Give some training steps another step's call, and return how many of them are found, and how many others."""
    steps, draw = tables["steps"], random.Random(0)
    cohort = CohortConfig(name=name, agent=name)
    kept = curate({table: frame.lazy() for table, frame in tables.items()}, cohort).trajectories
    train = set(kept.filter(pl.col("split") == "train")["trajectory_id"])
    keys = list(steps.select("trajectory_id", "step_index", "action_name").iter_rows())
    rows = [row for row, (trajectory, _, action) in enumerate(keys) if trajectory in train and action]
    wrong = set(draw.sample(rows, round(PLANTED * len(rows))))
    taken = list(range(len(keys)))  # whose call each step has
    for row in sorted(wrong):
        taken[row] = draw.choice([other for other in rows if keys[other][2] != keys[row][2]])
    calls = steps.select("action_name", "action_arguments")[taken]
    changed = {**tables, "steps": steps.with_columns(*calls)}
    asked = CohortConfig(name=name, agent=name, label_errors=CAP)
    curated = curate({table: frame.lazy() for table, frame in changed.items()}, asked)
    masked = gather({"steps": curated.steps.filter(pl.col("mask_reason").str.starts_with("label error"))})["steps"]
    found = set(masked.select("trajectory_id", "step_index").iter_rows())
    hits = len(found & {keys[row][:2] for row in wrong})
    return {"planted": len(wrong), "found": hits, "others": len(found) - hits, "calls": len(rows), "cap": CAP}


def measure(data: Path, quick: bool) -> Json:
    """Return everything that is measured."""
    torch.set_num_threads(1)
    size = QUICK if quick else Size()
    began, sets, errors, skipped = time.monotonic(), {}, {}, {}
    for name in size.sets:
        if not (data / SETS[name]).exists():
            skipped[name] = f"no {SETS[name]} in {data}"
            continue
        with tempfile.TemporaryDirectory() as folder:
            tables = imported(name, data, Path(folder), size.lines)
            sets[name] = compared(name, tables, Path(folder), size)
            errors[name] = planted(name, tables)
    return {
        "sets": sets,
        "label_errors": errors,
        "skipped": skipped,
        "machine": machine(),
        "versions": versions(PACKAGES),
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/scan.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - began),
        "quick": quick,
    }


def table(report: Json) -> str:
    """Return the figures as lines for a terminal."""
    lines = [f"{'set':<10}{'split':>6}{'promise':>8}  predicted coverage      realised  agreement"]
    for name, found in report["sets"].items():
        for split, promise, one in ((s, p, one) for s, kept in found["splits"].items() for p, one in kept.items()):
            told = "{coverage:.3f} [{low:.3f}, {high:.3f}]".format(**one["predicted"])
            right = one["realised"]["agreement"]
            said = "-" if right is None else f"{right:.3f}"
            lines.append(f"{name:<10}{split:>6}{promise:>8}  {told}    {one['realised']['coverage']:.3f}     {said}")
    lines += [f"{name:<10}planted errors {found}" for name, found in report["label_errors"].items()]
    lines += [f"{name:<10}{why}" for name, why in report["skipped"].items()]
    return "\n".join([*lines, f"{report['machine']}, {report['date']}, {report['seconds']} s"])


def main() -> None:
    """Measure as the options say, and print it."""
    options = asking(__doc__, "20 trajectories, 2 epochs: checks that it runs", data=True).parse_args()
    report = measure(options.data, options.quick)
    deliver(report, options, table)


if __name__ == "__main__":
    main()
