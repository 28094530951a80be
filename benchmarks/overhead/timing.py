"""Time several ways of doing one thing in turns, so that a noisy machine troubles all of them alike."""

import gc
import importlib.metadata
import math
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]  # a JSON object

_NEEDED = 2
_T_95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}


class Way(NamedTuple):
    """One way: what runs all steps, and what waits until its queue thread has done its part."""

    run: Callable[[], object]
    settle: Callable[[], object] = lambda: None


class Cost(NamedTuple):
    """Microseconds that a step takes."""

    wall: float
    """Of the caller's time."""
    cpu: float
    """Of the process, the queue's thread included."""


def in_turns(ways: Mapping[str, Way], steps: int, rounds: int) -> dict[str, list[Cost]]:
    """Run every way once a round, in a new order each time; the first round only warms up."""
    order, draw = list(ways), random.Random(1)
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        draw.shuffle(order)
        for name in order:
            cost = _timed(ways[name], steps)
            if number:
                costs[name].append(cost)
    return costs


def _timed(way: Way, steps: int) -> Cost:
    gc.collect()
    cpu, wall = time.process_time_ns(), time.perf_counter_ns()
    way.run()
    wall = time.perf_counter_ns() - wall
    way.settle()
    return Cost(wall / steps / 1e3, (time.process_time_ns() - cpu) / steps / 1e3)


def ratios(costs: Sequence[Cost], to: Sequence[Cost]) -> Json:
    """Return the spread of the caller's time, and of the process's, as ratios to another way of the same round."""
    return {
        "ratio": spread([mine.wall / theirs.wall for mine, theirs in zip(costs, to, strict=True)]),
        "cpu_ratio": spread([mine.cpu / theirs.cpu for mine, theirs in zip(costs, to, strict=True)]),
        "microseconds": spread([cost.wall for cost in costs]),
    }


def spread(values: Sequence[float]) -> Json:
    """Return median, tenth and ninetieth percentile."""
    tenths = statistics.quantiles(values, n=10, method="inclusive") if len(values) >= _NEEDED else [*values] * 9
    return {"median": _short(statistics.median(values)), "p10": _short(tenths[0]), "p90": _short(tenths[8])}


def mean_interval(values: Sequence[float]) -> Json:
    """Return the mean and its 95 % interval by Student's t."""
    mean = statistics.fmean(values)
    free = len(values) - 1
    half = _T_95.get(free, 1.96) * statistics.stdev(values) / math.sqrt(len(values)) if free else 0.0
    return {"mean": _short(mean), "low": _short(mean - half), "high": _short(mean + half), "runs": len(values)}


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def tell(line: str) -> None:
    """Say how far it is."""
    print(line, file=sys.stderr, flush=True)


def machine() -> str:
    """Say what the figures were measured on."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    processor = names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores ({processor}), {platform.system()}, Python {platform.python_version()}"


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Return which version of each installed package the figures were measured with."""
    return {name: importlib.metadata.version(name) for name in packages}
