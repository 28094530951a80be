"""Measure what tracing costs an agent: a decorated step of imitrace, and those of other SDKs, against a plain span.

Every figure is the median of interleaved rounds with its tenth and ninetieth percentile, as a ratio to a span of
OpenTelemetry's SDK (batch processor, exporter that does nothing) with two JSON attributes, timed in the same process.

Examples:
  python benchmarks/sdk_overhead.py                    ten minutes, prints a table
  python benchmarks/sdk_overhead.py --quick            under a minute, rough
  python benchmarks/sdk_overhead.py --peers --json     installs the other SDKs under .benchmarks/ first (network)
  python benchmarks/sdk_overhead.py --json --output benchmarks/results/sdk_overhead.json
"""

import argparse
import datetime
import importlib.metadata
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from overhead import imports, peer_venvs
from overhead.collectors import collector, nobody
from overhead.config import clean_environment
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, mean_interval, tell

HERE = Path(__file__).parent
PACKAGES = ("imitrace", "opentelemetry-sdk", "openai")
_SETTLED = {"collector": 0.25, "collector_absent": 0.5}
"""Share of the steps after which memory should be flat; without a collector its queue, 8192 records, fills up first."""


class Size(NamedTuple):
    steps: int
    rounds: int
    collected: tuple[int, int]
    """Steps a round, and rounds."""
    agents: int
    runs: int
    seconds: dict[str, float]
    """How long the agents of a run take, with a collector and without."""
    imports: int


FULL = Size(1500, 25, (4000, 4), 1000, 5, {"collector": 45.0, "collector_absent": 10.0}, 10)
QUICK = Size(150, 3, (300, 2), 100, 1, {"collector": 2.0, "collector_absent": 1.0}, 1)
_STEPS_EACH = 20


def main() -> None:
    options = _options()
    size = QUICK if options.quick else FULL
    if options.peers:
        for name in peer_venvs.REQUIREMENTS:
            tell(f"installing {name}")
            peer_venvs.install(name, (*peer_venvs.REQUIREMENTS[name], "opentelemetry-sdk"))
    report = measure(size)
    report["quick"] = options.quick
    deliver(report, options, table)


def measure(size: Size) -> Json:
    """Return the report: the headline ratios by name, then everything in detail."""
    started = time.monotonic()
    steps = _program("decorated_steps", size.steps, size.rounds)
    tell("a real collector")
    collected = _program("collected_steps", *size.collected)
    peers: dict[str, Json | str] = {}
    for name in peer_venvs.REQUIREMENTS:
        tell(f"peer {name}")
        peers[name] = peer_venvs.measure(name, size.steps // 2, size.rounds)
    tell("imports")
    loading = imports.measure(size.imports)
    memory = {kind: _memory(kind, size) for kind in _SETTLED}
    return {
        "benchmark": "sdk_overhead",
        "enabled_vs_bare_span": steps["enabled"]["new_state"]["ratio"]["median"],
        "disabled_vs_noop_span": steps["disabled"]["ratio"]["median"],
        **{name: None if isinstance(found, str) else found["ratio"]["median"] for name, found in peers.items()},
        "skipped": {name: found for name, found in peers.items() if isinstance(found, str)},
        "enabled": steps["enabled"],
        "disabled": steps["disabled"],
        "peers": {name: found for name, found in peers.items() if not isinstance(found, str)},
        "collected": collected,
        "memory": memory,
        "loading": loading,
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/sdk_overhead.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - started),
    }


def _program(name: str, *arguments: object) -> Json:
    """Run a part of this benchmark in a process of its own, where nothing is configured yet."""
    command = [sys.executable, "-m", f"overhead.{name}", *map(str, arguments)]
    out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=HERE, env=clean_environment())
    found: Json = json.loads(out.stdout)
    return found


def _memory(kind: str, size: Size) -> Json:
    """Run the agents several times; the slope is by least squares, its interval over the runs."""
    runs = []
    for number in range(size.runs):
        tell(f"{size.agents} agents at once, {kind.replace('_', ' ')}, run {number + 1} of {size.runs}")
        with (collector if kind == "collector" else nobody)() as url:
            runs.append(_program("many_agents", size.agents, _STEPS_EACH, size.seconds[kind], url))
    report: Json = {"agents": size.agents, "steps": size.agents * _STEPS_EACH, "settled_after": _SETTLED[kind]}
    if not runs[0]["samples"]:
        return {**report, "skipped": "this system has no /proc to read the memory from"}
    slopes = [_slope([s for s in run["samples"] if s[0] >= _SETTLED[kind] * report["steps"]]) for run in runs]
    return {
        **report,
        "mb_after_steps": {
            str(run[0]): round(run[1], 1) for run in (runs[0]["samples"][n - 1] for n in (5, 10, 15, 20))
        },
        "mb_per_1000_steps": mean_interval(slopes),
        "mb_per_1000_steps_by_run": [round(slope, 3) for slope in slopes],
        "records": [run["records"] for run in runs],
        "exported": [run["exported"] for run in runs],
        "dropped": [run["dropped"] for run in runs],
        "pending": [run["pending"] for run in runs],
    }


def _slope(samples: list[tuple[int, float]]) -> float:
    """Return megabytes per 1,000 steps."""
    steps = [count / 1000 for count, _ in samples]
    middle = sum(steps) / len(steps)
    rise = sum((step - middle) * megabytes for step, (_, megabytes) in zip(steps, samples, strict=True))
    return rise / sum((step - middle) ** 2 for step in steps)


def table(report: Json) -> str:
    """Return the report for people."""
    rows = [("imitrace, " + name.replace("_", " "), found) for name, found in report["enabled"].items() if found]
    rows += [(f"{name} {found['version']}", found) for name, found in report["peers"].items()]
    lines = [f"{'a step, tracing on':40} {'x plain span':>18} {'microseconds':>20}"]
    for name, found in rows:
        if "ratio" in found:
            lines.append(f"{name:40} {_range(found['ratio']):>18} {_range(found['microseconds']):>20}")
    lines += [f"{name:40} {why}" for name, why in report["skipped"].items()]
    off = report["disabled"]
    lines.append(f"{'tracing off, x no-op span':40} {_range(off['ratio']):>18} {_range(off['added_microseconds']):>20}")
    for name, found in report["collected"].items():
        lines.append(f"{name + ', CPU s per 10k steps, collected':40} {_range(found['cpu_seconds_per_10k_steps']):>18}")
    for name, found in report["memory"].items():
        slope = found.get("mb_per_1000_steps")
        shown = found.get("skipped") if slope is None else f"{slope['mean']} [{slope['low']}, {slope['high']}]"
        lines.append(f"{name + ', MB per 1,000 steps':40} {shown}")
    lines += [f"{name:40} {_range(found):>18}" for name, found in report["loading"].items()]
    return "\n".join([*lines, f"{report['machine']}, {report['date']}, {report['seconds']} s"])


def _range(spread: Json) -> str:
    return f"{spread['median']:.3g} [{spread['p10']:.3g}, {spread['p90']:.3g}]"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _options() -> argparse.Namespace:
    parser = asking(__doc__, "few rounds: checks that it runs, the figures are rough")
    parser.add_argument("--peers", action="store_true", help="install the other SDKs, or bring them up to date, first")
    return parser.parse_args()


if __name__ == "__main__":
    main()
