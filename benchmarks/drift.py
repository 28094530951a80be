"""Count false alarms of the check for drift on traffic without drift, and how soon it finds planted shifts.

python benchmarks/drift.py --data ../shared/data --json       # both recorded sets, some 15 minutes
python benchmarks/drift.py --data ../shared/data --quick      # one stream of three checks
python benchmarks/drift.py --peers                            # the same streams to evidently, frouros and alibi-detect
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from drifting.peers import PEERS, against_peers
from drifting.populations import Population, population
from drifting.streams import SHIFTS, Size, played, shifted_seed, shifts
from imitrace_trainer.fit import BCConfig
from imitrace_trainer.intervals import clopper_pearson
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, tell, versions
from quality.recorded import SETS, imported

PACKAGES = ("imitrace", "numpy", "torch")
HERE = Path(__file__).parent
FULL = Size(streams=8, shifted=3, checks=30, after=12, a_day=20, reference=120, draws=300)
QUICK = Size(streams=1, shifted=1, checks=2, after=2, a_day=6, reference=40, draws=200)


def measure(options: argparse.Namespace) -> Json:
    """Return false alarms, power and delay by set, and what a check of 100,000 steps costs."""
    began = time.monotonic()
    size = QUICK if options.quick else FULL
    present = [name for name in SETS if (options.data / SETS[name]).exists()]
    sets: Json = {}
    peers: Json = {}
    skipped = {name: f"no {SETS[name]} in {options.data}" for name in SETS if name not in present}
    cost = None
    with tempfile.TemporaryDirectory() as folder:
        for name in present[:1] if options.quick else present:
            home = Path(folder) / name
            imported(name, options.data, home, 40 if options.quick else None)
            found = population(name, home, 2 if options.quick else BCConfig().epochs)
            sets[name] = of_set(found, size, options.quick)
            peers[name] = against_peers(found, size, skipped, install=options.peers, quick=options.quick)
        if not options.quick and "retail" in present:
            cost = _cost(Path(folder) / "retail", 100_000)
    return {
        "benchmark": "drift",
        "sets": sets,
        "false_alarms_per_30_checks": {name: found["false_alarms_per_30_checks"] for name, found in sets.items()},
        "power": {name: found["power"] for name, found in sets.items()},
        "delay_checks": {name: found["delay_checks"] for name, found in sets.items()},
        "peers": peers,
        "check_of_100000_steps": cost,
        "size": vars(size),
        "skipped": skipped,
        "versions": versions(PACKAGES),
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/drift.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - began),
        "quick": options.quick,
    }


def of_set(found: Population, size: Size, quick: bool) -> Json:
    """Return a set's figures."""
    looks = []
    for number in range(size.streams):
        tell(f"without drift: stream {number + 1} of {size.streams}")
        looks.append(played(found, size, number, None, size.checks))
    alarmed = [sum(map(bool, one)) for one, _ in looks]
    any_alarm = sum(map(bool, alarmed))
    power, delay = {}, {}
    for shift in shifts(quick=quick):
        tell(f"shift: {shift}")
        seeds = map(shifted_seed, range(size.shifted))
        runs = [played(found, size, seed, SHIFTS[shift], size.after)[0] for seed in seeds]
        within = [len(run) for run in runs if run[-1]]
        power[shift] = _share(len(within), len(runs)) | {"tests": _first([run[-1] for run in runs if run[-1]])}
        delay[shift] = {"median": median(within), "most": max(within)} if within else None
    return {
        "false_alarms_per_30_checks": {
            "mean": round(30 * sum(alarmed) / (size.streams * size.checks), 3),
            "streams_with_one": _share(any_alarm, size.streams),
            "checks": size.streams * size.checks,
            "tests": _first([tests for one, _ in looks for tests in one if tests]),
        },
        "power": power,
        "delay_checks": delay,
        "seconds_a_check": round(median(seconds for _, seconds in looks), 2),
    }


def _share(hits: int, of: int) -> Json:
    low, high = clopper_pearson(hits, of)
    return {"value": round(hits / of, 3), "low": round(low, 3), "high": round(high, 3), "of": of}


def _first(alarms: list[list[str]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for tests in alarms:
        for test in tests:
            found[test] = found.get(test, 0) + 1
    return dict(sorted(found.items(), key=lambda one: -one[1]))


def _cost(home: Path, steps: int) -> Json:
    command = [sys.executable, "-m", "drifting.one_check", str(home), str(steps)]
    found: Json = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=HERE).stdout)
    return found


def table(report: Json) -> str:
    """Return the figures as lines for a terminal."""
    lines = []
    for name, found in report["sets"].items():
        false = found["false_alarms_per_30_checks"]
        any_of = "{value:.3f} [{low:.3f}, {high:.3f}]".format(**false["streams_with_one"])
        lines.append(f"{name}: {false['mean']} false alarms in 30 checks, {any_of} of the streams have one")
        for shift, power in found["power"].items():
            delay = found["delay_checks"][shift]
            told = f"after {delay['median']:g} checks, at most {delay['most']}" if delay else "never"
            lines.append(f"  {shift:<16} found in {{value:.2f}} [{{low:.2f}}, {{high:.2f}}], {told}".format(**power))
    for name, found in report["peers"].items():
        for peer, told in found.items():
            lines.append(f"{name}, {peer} {told['version']}: {told['false_alarms_per_30_checks']} false alarms in 30")
    if report["check_of_100000_steps"]:
        cost = report["check_of_100000_steps"]
        lines.append(f"a check of {cost['steps']:,} steps: {cost['seconds']} s, {cost['peak_mb']} MB")
    lines += [f"{name}: {why}" for name, why in report["skipped"].items()]
    return "\n".join([*lines, f"{report['machine']}, {report['date']}, {report['seconds']} s"])


def main() -> None:
    """Measure as the options say, and print it."""
    parser = asking(__doc__, "one stream of two checks of one set: checks that it runs", data=True)
    parser.add_argument("--peers", action="store_true", help=f"install {', '.join(PEERS)} first (network)")
    options = parser.parse_args()
    deliver(measure(options), options, table)


if __name__ == "__main__":
    main()
