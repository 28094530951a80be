"""Measure what a request takes longer through the proxy than without it, beside LiteLLM's proxy.

The model is a process that answers at once, and takes the traces too; requests come at random times at a fixed rate,
each timed from when it was due. Overhead is a percentile through a proxy less the same percentile without one, in the
same round. Figures are medians of interleaved rounds with tenth and ninetieth percentile.

Examples:
  python benchmarks/proxy.py                    ten minutes with LiteLLM, prints a table
  python benchmarks/proxy.py --quick            half a minute, rough, without LiteLLM
  python benchmarks/proxy.py --peers --json     installs LiteLLM under .benchmarks/ first (network)
  python benchmarks/proxy.py --json --output benchmarks/results/proxy.json
"""

import argparse
import datetime
import json
import math
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from intake import processes
from overhead.config import clean_environment
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, spread, tell, versions
from proxying import servers
from proxying.servers import LITELLM, Running

PACKAGES = ("imitrace", "aiohttp", "uvicorn", "starlette", "httptools", "uvloop", "torch")
RATE, CALM = 200.0, 20.0
_BODIES = 500
_FAR_SECONDS = 600
_SHOWN = 2000
_SHADOW = ("--shadow",)
_REST_SECONDS, _WINDOW, _QUIET = 120.0, 0.5, 0.1


class Arm(NamedTuple):
    """What is measured: requests of a kind through a server, so many a second."""

    server: str
    bodies: str
    rate: float


ARMS = {
    "passed": Arm("passing", "asks", RATE),
    "watched": Arm("watching", "asks", RATE),
    "declined": Arm("acting", "talks", RATE),
    "answered": Arm("acting", "asks", RATE),
    "litellm": Arm(LITELLM, "asks", RATE),
    "passed_calm": Arm("passing", "asks", CALM),
    "declined_calm": Arm("acting", "talks", CALM),
    "answered_calm": Arm("acting", "asks", CALM),
    "litellm_calm": Arm(LITELLM, "asks", CALM),
}


class Size(NamedTuple):
    rounds: int
    seconds: float
    """Of each arm in each round."""
    arms: tuple[str, ...]


FULL, QUICK = Size(5, 8.0, tuple(ARMS)), Size(1, 1.0, ("passed", "answered"))
_BESIDE = ("litellm", "litellm_calm", "passed_calm")
"""Arms of a quick run beside LiteLLM."""

Rounds = list[dict[str, Json]]
"""By round and arm: what the sender said, and CPU seconds of the proxy."""


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and with it the servers that it started
    if options.peers:
        tell("installing litellm")
        servers.install()
    skipped = {}
    if servers.version() is None:
        skipped[LITELLM] = "not installed: run benchmarks/proxy.py with --peers once"
    elif options.quick and not options.peers:
        skipped[LITELLM] = "left out of a quick run, for it takes long to start; add --peers"
    size = QUICK if options.quick else FULL
    if options.quick and LITELLM not in skipped:
        size = size._replace(arms=size.arms + _BESIDE)
    report = measure(size._replace(rounds=options.rounds or size.rounds), skipped)
    report["quick"] = options.quick
    deliver(report, options, table)


def measure(size: Size, skipped: dict[str, str]) -> Json:
    """Return the report: the headline figures by name, then everything in detail."""
    started = time.monotonic()
    arms = {name: ARMS[name] for name in size.arms if ARMS[name].server not in skipped}
    rounds = _rounds(arms, size)
    figures = {name: _figures(name, arm, rounds) for name, arm in arms.items()}
    ratios = _ratios(rounds) if LITELLM in figures else {}
    return {
        "benchmark": "proxy",
        "p50_ms": figures["passed"]["p50_ms"]["median"],
        "p99_ms": figures["passed"]["p99_ms"]["median"],
        "vs_litellm": ratios[f"{CALM:g}"]["median"] if ratios else None,
        "skipped": skipped,
        "overhead": figures,
        "direct": {f"{rate:g}": _direct(rate, rounds) for rate in _rates(arms)},
        "litellm_over_ours": ratios,
        "litellm": {"version": servers.version(), "configured": servers.CONFIGURED},
        "rounds": size.rounds,
        "seconds_an_arm": size.seconds,
        "versions": versions(PACKAGES),
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/proxy.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - started),
    }


def _rounds(arms: Mapping[str, Arm], size: Size) -> Rounds:
    """Measure every arm once a round, in a new order each time, with the model alone between them."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        bodies, homes = _prepared(Path(folder))
        port = stack.enter_context(servers.model())
        running = dict(_started(stack, port, homes, {arm.server for arm in arms.values()}))
        draw, rounds = random.Random(1), Rounds()
        turns = [*arms.items(), *((f"direct {rate:g}", Arm("direct", "asks", rate)) for rate in _rates(arms))]
        for number in range(-1, size.rounds):  # the first one warms up
            draw.shuffle(turns)
            measured = {}
            for name, arm in turns:
                tell(f"round {number + 1} of {size.rounds}: {name}")
                seconds = size.seconds if number >= 0 else 1.0
                measured[name] = _sent(running[arm.server], bodies[arm.bodies], arm.rate, seconds, number)
            rounds += [measured] if number >= 0 else []
        return rounds


def _rates(arms: Mapping[str, Arm]) -> list[float]:
    return sorted({arm.rate for arm in arms.values()}, reverse=True)


def _prepared(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Write the requests and the workspaces of two clones: one that may act, one that may not."""
    tell("making a clone")
    found = json.loads(_run("proxying.prepare", str(folder), str(_BODIES)).splitlines()[-1])
    files, homes = ({key: Path(path) for key, path in found[kind].items()} for kind in ("bodies", "homes"))
    return files, homes


def _run(module: str, *words: str, said: str = "") -> str:
    """Run a program of ours to its end and return what it printed."""
    command = [sys.executable, "-m", module, *words]
    environment = {**clean_environment(), "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        command, input=said, capture_output=True, text=True, cwd=servers.HERE, timeout=_FAR_SECONDS, env=environment
    )
    if done.returncode:
        raise ConnectionError(f"{module} failed: {done.stderr[-_SHOWN:]}")
    return done.stdout


def _started(
    stack: ExitStack, port: int, homes: Mapping[str, Path], wanted: Collection[str]
) -> Iterator[tuple[str, Running | int]]:
    yield "direct", port
    for name, home, options in (
        ("passing", "failing", ()),
        ("acting", "passing", ()),
        ("watching", "passing", _SHADOW),
    ):
        if name in wanted:
            yield name, stack.enter_context(servers.imitrace(port, homes[home], *options))
    if LITELLM in wanted:
        tell("starting litellm")
        yield LITELLM, stack.enter_context(servers.litellm(port, homes["passing"]))


def _sent(server: Running | int, bodies: Path, rate: float, seconds: float, seed: int) -> Json:
    port, headers = (server, {}) if isinstance(server, int) else (server.port, dict(server.headers))
    before = None if isinstance(server, int) else processes.cpu_seconds(server.process.pid)
    errand = {"port": port, "headers": headers, "bodies": str(bodies), "rate": rate, "seconds": seconds, "seed": seed}
    took: Json = json.loads(_run("proxying.load", said=json.dumps(errand)))
    if not isinstance(server, int):
        took["cpu_seconds"] = _at_rest(server.process.pid) - (before or 0.0)
    return took


def _at_rest(process: int) -> float:
    """Wait until a server does nothing, so that what it still had to do troubles no other; return its CPU seconds."""
    until, used = time.monotonic() + _REST_SECONDS, processes.cpu_seconds(process)
    while time.monotonic() < until:
        threading.Event().wait(_WINDOW)
        before, used = used, processes.cpu_seconds(process)
        if used - before <= _QUIET * _WINDOW:
            break
    return used


def _figures(name: str, arm: Arm, rounds: Rounds) -> Json:
    runs = [each[name] for each in rounds]
    actors: dict[str, int] = {}
    for run in runs:
        for actor, count in run["actors"].items():
            actors[actor] = actors.get(actor, 0) + count
    requests = sum(len(run["milliseconds"]) for run in runs)
    return {
        "requests_per_s": arm.rate,
        **{f"p{at}_ms": spread([_overhead(each, name, arm.rate, at) for each in rounds]) for at in (50, 90, 99)},
        "cpu_ms_a_request": spread([run["cpu_seconds"] / max(1, len(run["milliseconds"])) * 1e3 for run in runs]),
        "requests": requests,
        "failed": sum(run["failed"] for run in runs),
        "answered_by": actors,
    }


def _ratios(rounds: Rounds) -> Json:
    """Return by rate how many times our median overhead LiteLLM's is, in the same round."""
    return {
        f"{rate:g}": spread(
            [_overhead(each, f"litellm{end}", rate, 50) / _overhead(each, f"passed{end}", rate, 50) for each in rounds]
        )
        for end, rate in (("", RATE), ("_calm", CALM))
    }


def _direct(rate: float, rounds: Rounds) -> Json:
    runs = [each[f"direct {rate:g}"]["milliseconds"] for each in rounds]
    return {f"p{at}_ms": spread([_at(run, at) for run in runs]) for at in (50, 90, 99)}


def _overhead(measured: Mapping[str, Json], name: str, rate: float, percent: int) -> float:
    direct = measured[f"direct {rate:g}"]["milliseconds"]
    return _at(measured[name]["milliseconds"], percent) - _at(direct, percent)


def _at(times: Sequence[float], percent: int) -> float:
    ordered = sorted(times) or [math.inf]
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def table(report: Json) -> str:
    """Return the report for people."""
    lines = [f"{'':16} {'req/s':>6} {'p50 ms':>20} {'p99 ms':>22} {'CPU ms':>8}  answered by"]
    for name, row in report["overhead"].items():
        figures = f"{_range(row['p50_ms']):>20} {_range(row['p99_ms']):>22} {row['cpu_ms_a_request']['median']:>8.3g}"
        lines.append(
            f"{name:16} {row['requests_per_s']:>6g} {figures}  {row['answered_by'] or ''} {row['failed'] or ''}"
        )
    for rate, row in report["direct"].items():
        lines.append(f"{'without':16} {rate:>6} {_range(row['p50_ms']):>20} {_range(row['p99_ms']):>22}")
    lines += [f"{name:16} {why}" for name, why in report["skipped"].items()]
    return "\n".join([*lines, f"{report['machine']}, {report['date']}, {report['seconds']} s"])


def _range(found: Json) -> str:
    return f"{found['median']:.3g} [{found['p10']:.3g}, {found['p90']:.3g}]"


def _options() -> argparse.Namespace:
    parser = asking(__doc__, "one short round without LiteLLM: checks that it runs")
    parser.add_argument("--peers", action="store_true", help="install LiteLLM, or bring it up to date, first")
    parser.add_argument("--rounds", type=int, help="how many rounds  [default: 5, quick 1]")
    return parser.parse_args()


if __name__ == "__main__":
    main()
