"""Measure what curating takes as traces get more: time, memory, and the same rules in pandas.

python benchmarks/curation.py            # 10,000, 30,000 and 100,000 trajectories of ten steps, some minutes
python benchmarks/curation.py --quick    # 200 and 600
python benchmarks/curation.py --peers    # makes pandas an environment of its own first (network)
python benchmarks/curation.py --json     # the same as JSON
"""

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from curation_data.traces import write_traces
from overhead.peer_venvs import install, python_of
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, tell, versions

SIZES = (10_000, 30_000, 100_000)
QUICK = (200, 600)
COMPARED = 2
"""How many of the sizes pandas curates as well, the smallest: it takes 0.1 MB a trajectory."""
STEPS = 10
PACKAGES = ("imitrace", "polars", "pyarrow")
HERE = Path(__file__).parent
CURATE = """
import json, re, sys, time
from pathlib import Path
began = time.perf_counter()
from imitrace_trainer.cohort import CohortConfig, cohort_from_config
from imitrace_trainer.curate import curate
from imitrace_trainer.datasets import write_dataset
from imitrace_trainer.sources import open_source
parts = {"imports": time.perf_counter() - began}
cohort = cohort_from_config({"cohort": {"shop": json.loads(sys.argv[1])}}, "shop")
source = open_source(sys.argv[2], Path(sys.argv[3]))
frames = source.frames()
parts["check"] = time.perf_counter() - began - sum(parts.values())
curated = curate(frames, cohort)
parts["judge"] = time.perf_counter() - began - sum(parts.values())
judged = time.perf_counter() - began
manifest = write_dataset(Path(sys.argv[3]), cohort, curated, source.describe()).manifest
parts["write"] = time.perf_counter() - began - sum(parts.values())
kept = {name: manifest["counts"][name] for name in ("trajectories", "steps", "messages", "rejected")}
peak = re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())
print(json.dumps({
    "judged_s": round(judged, 2),
    "parts": {name: round(seconds, 2) for name, seconds in parts.items()},
    "kept": kept,
    "by_rule": manifest["rejected"],
    "peak_mb": int(peak[1]) // 1024,
}))
"""
RULES = {"agent": "shop", "where": ["TaskCompletion >= 0.8", "ToolSelectionAccuracy >= 0.7"], "min_steps": 2}
EVERY_RULE = {
    **RULES,
    "since": "2026-01-01",
    "max_repeats": 3,
    "duplicates": 0.99,
    "quarantine": True,
    "personal_data": ["email", "phone", "card", "iban", "key"],
    "licences": {"forbidden-*": "forbidden"},
    "caps": {"intent": 20_000},
    "balance": "intent",
    "several_steps": 2.0,
    "split": {"near": 0.9},
}


def measure(quick: bool, rounds: int) -> Json:
    """Return what curating takes by the number of trajectories, and beside it what pandas takes of the smaller ones."""
    started = time.monotonic()
    sizes = QUICK if quick else SIZES
    python = python_of("pandas")
    found: dict[str, list[Json]] = {str(size): [] for size in sizes}
    peer: dict[str, list[Json]] = {str(size): [] for size in sizes[:COMPARED]}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            tell(f"writing {size} trajectories")
            write_traces(Path(folder) / str(size), size, STEPS)
        for number in range(rounds):
            tell(f"round {number + 1}")
            for name, runs in found.items():
                runs.append(_curated(_ours(RULES), Path(folder) / name))
            for name, runs in peer.items() if python.exists() else ():
                runs.append(_curated([str(python), "-m", "curation_data.with_pandas"], Path(folder) / name))
        tell("every rule")
        every = _curated(_ours(EVERY_RULE), Path(folder) / str(sizes[-1]))
    best = {size: _best(runs) for size, runs in found.items()}
    for name, run in ((name, run) for name, runs in peer.items() for run in runs):
        assert run["kept"] == best[name]["kept"], f"pandas kept {run['kept']}, we keep {best[name]['kept']}"
    compared = {size: _times(found[size], runs) for size, runs in peer.items() if runs}
    largest = compared.get(str(sizes[COMPARED - 1]), {})
    return {
        "benchmark": "curation",
        "rows": sizes[-1] * STEPS,
        "peak_mb": round(max(run["peak_mb"] for run in found[str(sizes[-1])])),
        "exponent": round(exponent(sizes, [best[str(size)]["cpu_s"] for size in sizes]), 3),
        "exponent_wall": round(exponent(sizes, [min(run["wall_s"] for run in found[str(size)]) for size in sizes]), 3),
        "vs_pandas": largest.get("whole"),
        "vs_pandas_judged": largest.get("judged"),
        "vs_pandas_cpu": largest.get("cpu"),
        "vs_pandas_by_size": compared,
        "all_rules": every,
        "curated": best,
        "pandas": {size: _best(runs) for size, runs in peer.items() if runs},
        "skipped": {} if compared else {"pandas": f"no {python}: make it by --peers"},
        "steps_of_a_trajectory": STEPS,
        "rounds": rounds,
        "versions": versions(PACKAGES),
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/curation.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - started),
        "quick": quick,
    }


def _ours(rules: Json) -> list[str]:
    return [sys.executable, "-c", CURATE, json.dumps(rules)]


def _best(runs: Sequence[Json]) -> Json:
    return min(runs, key=lambda run: run["cpu_s"])


def _times(ours: Sequence[Json], peer: Sequence[Json]) -> Json:
    """Return how many times as long pandas takes: the whole run, until all is judged, and by CPU seconds."""
    keys = {"whole": "wall_s", "judged": "judged_s", "cpu": "cpu_s"}
    return {name: _ratio(ours, peer, key) for name, key in keys.items()}


def exponent(sizes: Sequence[int], seconds: Sequence[float]) -> float:
    """Return the power of the number of rows that the time grows with, by least squares over the logarithms."""
    xs, ys = [math.log(size) for size in sizes], [math.log(second) for second in seconds]
    x, y = statistics.fmean(xs), statistics.fmean(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def _curated(command: Sequence[str], source: Path) -> Json:
    """Run a program in a process of its own; return what it kept, its seconds, and the most memory that it held."""
    with tempfile.TemporaryDirectory(dir=source.parent) as target:
        began = time.perf_counter()
        process = subprocess.Popen([*command, str(source), target], stdout=subprocess.PIPE, cwd=HERE)
        assert process.stdout is not None
        said = process.stdout.read()
        process.stdout.close()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
    assert process.returncode == 0, f"{command[0]} ended with {process.returncode}"
    cpu = used.ru_utime + used.ru_stime
    return {
        **json.loads(said),
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu, 2),
    }


def _ratio(ours: Sequence[Json], peer: Sequence[Json], key: str) -> float:
    return round(statistics.median(float(theirs[key] / mine[key]) for mine, theirs in zip(ours, peer, strict=True)), 2)


def table(report: Json) -> str:
    """Return the figures as lines for a terminal."""
    lines = [f"{'trajectories':>12}{'wall s':>10}{'CPU s':>10}{'peak MB':>10}"]
    rows = [*report["curated"].items(), ("every rule", report["all_rules"])]
    rows += [(f"pandas {size}", run) for size, run in report["pandas"].items()]
    lines += [f"{name:>12}{run['wall_s']:>10}{run['cpu_s']:>10}{run['peak_mb']:>10}" for name, run in rows]
    lines.append(f"exponent {report['exponent']}, pandas takes {report['vs_pandas']} times as long")
    lines.append(f"until all is judged {report['vs_pandas_judged']} times, by CPU {report['vs_pandas_cpu']} times")
    return "\n".join([*lines, f"{report['machine']}, {report['date']}, {report['seconds']} s"])


def main() -> None:
    """Measure as the options say, and print it."""
    parser = asking(__doc__, "200 and 600 trajectories: checks that it runs")
    parser.add_argument("--peers", action="store_true", help="make the environment of pandas first (network)")
    parser.add_argument("--rounds", type=int, default=None, help="[default: 3, quick 1]")
    options = parser.parse_args()
    if options.peers:
        install("pandas", ("pandas", "pyarrow"))
    report = measure(options.quick, options.rounds or (1 if options.quick else 3))
    deliver(report, options, table)


if __name__ == "__main__":
    main()
