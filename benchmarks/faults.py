"""Break the collector's surroundings while it takes spans: is everything acknowledged there, once, and is it still up?

Everything runs against a real `imitrace collect` by its doors alone: OTLP over HTTP and gRPC, the read API, its files.
The exit code is 1 when something acknowledged was lost or stored twice; `broken_promises` lists what else went wrong.

Examples:
  python benchmarks/faults.py                  ten minutes, prints a table
  python benchmarks/faults.py --quick          under a minute: kills, overload and power, all short
  python benchmarks/faults.py --only kills     one experiment; may be given again
  python benchmarks/faults.py --json --output benchmarks/results/faults.json
"""

import argparse
import datetime
import json
import sys
import time
from collections.abc import Callable, Collection
from typing import NamedTuple

from fault_trials import clock, disk, hostile, kills, overload, power
from fault_trials.stored import Outcome
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, tell, versions

PACKAGES = ("imitrace", "duckdb", "grpcio", "opentelemetry-sdk", "protobuf", "starlette", "uvicorn")


class Size(NamedTuple):
    kills: kills.Size
    overload: overload.Size
    disk: disk.Size
    clock: tuple[str, ...]
    hostile: hostile.Size
    power_requests: int


FULL = Size(kills.Size(50, 0.0), overload.Size(160, 60.0, 10.0, True), disk.Size(96, 5.0), clock.FULL, hostile.FULL, 20)
QUICK = Size(
    kills.Size(2, 0.4), overload.Size(16, 1.0, 0.5, False), disk.Size(16, 0.5, disk.FEW), clock.QUICK, hostile.QUICK, 3
)


_QUICK = ("kills", "overload", "power")
"""The experiments of a quick run, if it names none."""


def experiments(size: Size) -> dict[str, Callable[[], Outcome | str]]:
    """Return each experiment by name; one that can't run here returns why."""
    return {
        "kills": lambda: kills.run(size.kills),
        "overload": lambda: overload.run(size.overload),
        "disk": lambda: disk.run(size.disk),
        "clock": lambda: clock.run(size.clock),
        "hostile": lambda: hostile.run(size.hostile),
        "power": lambda: power.run(size.power_requests),
    }


def measure(size: Size, only: Collection[str]) -> Json:
    """Return the report: the headline counts over all experiments, then everything in detail."""
    started = time.monotonic()
    outcomes: dict[str, Outcome] = {}
    skipped: dict[str, str] = {}
    for name, run in experiments(size).items():
        if only and name not in only:
            skipped[name] = "left out: name it by --only, or run without --quick and --only"
            continue
        tell(name)
        began = time.monotonic()
        found = run()
        if isinstance(found, str):
            skipped[name] = found
        else:
            outcomes[name] = found
            found.report["took_seconds"] = round(time.monotonic() - began, 1)
        tell(f"{name}: {time.monotonic() - began:.0f} s")
    return {
        "benchmark": "faults",
        "kills": outcomes["kills"].report["kills"] if "kills" in outcomes else 0,
        "acknowledged": sum(outcome.acknowledged for outcome in outcomes.values()),
        "lost": sum(outcome.lost for outcome in outcomes.values()),
        "duplicated": sum(outcome.duplicated for outcome in outcomes.values()),
        "overload_peak_mb": outcomes["overload"].report["peak_mb"] if "overload" in outcomes else None,
        "broken_promises": [promise for outcome in outcomes.values() for promise in outcome.broken],
        "experiments": {name: outcome.report for name, outcome in outcomes.items()},
        "skipped": skipped,
        "versions": versions(PACKAGES),
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/faults.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - started),
    }


def table(report: Json) -> str:
    """Return the report for people."""
    lines = [
        f"{name:18} {report[name]}" for name in ("kills", "acknowledged", "lost", "duplicated", "overload_peak_mb")
    ]
    for name, found in report["experiments"].items():
        lines.append(f"\n{name}")
        lines += [f"  {key:28} {json.dumps(value)}" for key, value in found.items()]
    lines += [f"\nskipped {name}: {why}" for name, why in report["skipped"].items()]
    lines += [f"\nbroken promise: {promise}" for promise in report["broken_promises"]]
    return "\n".join([*lines, f"\n{report['machine']}, {report['date']}, {report['seconds']} s"])


def main() -> int:
    options = _options()
    report = measure(QUICK if options.quick else FULL, options.only or (_QUICK if options.quick else ()))
    report["quick"] = options.quick
    deliver(report, options, table)
    return 1 if report["lost"] or report["duplicated"] else 0


def _options() -> argparse.Namespace:
    parser = asking(__doc__, "small and short: checks that it runs")
    parser.add_argument("--only", action="append", default=[], choices=list(experiments(QUICK)), help="one experiment")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
