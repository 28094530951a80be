"""Ask the gate about simulated clones: how often one passes that must not, and how often one is caught that is worse.

python benchmarks/gate_power.py          # a table
python benchmarks/gate_power.py --json   # the same as JSON
"""

import sys
import time
from collections.abc import Iterable
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial

import numpy as np

from gates.clones import MARGINS, SIZES, Loss, World, draw
from imitrace_trainer.gate import GateConfig, GateReport, judge
from imitrace_trainer.intervals import clopper_pearson
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, versions

PACKAGES = ("imitrace", "numpy")
WORLDS = {
    "plain": World(),
    "good expert": World(error=0.01, slip=0.005, sizes=0.5),
    "weak expert": World(error=0.4, slip=0.1, sizes=0.5),
    "clone on its own": World(shared=0.0, sizes=0.5),
    "whole courses go wrong": World(total=True, shared=0.9, sizes=0.5),
    "four cases a task": World(per_task=4, alike=0.6, sizes=0.3),
    "three cases, all alike": World(per_task=3, alike=1.0, total=True, sizes=0.3),
    "few tasks": World(sizes=0.2),
}
"""Where clones are exactly at the margin in every cohort."""
REGRESSIONS = {
    "one cohort": ("common", Loss(success=("common", 0.05))),
    "one tool": ("tool_heavy", Loss(tool=0.08)),
    "one refusal category": ("safety", Loss(refusal=0.1)),
}
"""The cohort that must fail, and what is planted: 5 points of its success; a tool that is called in 16 % of decisions
and goes wrong half of the time; giving in to a tenth of the requests of one kind out of eight."""


def gated(world: World, loss: Loss, seed: int, *, noise: bool = True) -> GateReport:
    """Draw a clone and its expert, and ask the gate; without ``noise`` it is not told of the expert against itself."""
    cases, again = draw(world, loss, np.random.default_rng(seed), noise)
    return judge(
        cases,
        GateConfig(),
        method="rollout",
        dataset_hash="-",
        clone="simulated",
        version=1,
        created_at="-",
        again=again,
    )


@dataclass(frozen=True)
class Runs:
    """How gates are asked: how many of each kind, by which processes."""

    count: int
    workers: Executor
    aloud: bool

    def ask(self, world: World, loss: Loss, first: int, count: int, noise: bool = True) -> list[GateReport]:
        """Return the reports of so many gates with seeds from ``first`` on."""
        asked = partial(gated, world, loss, noise=noise)
        return list(self.workers.map(asked, range(first, first + count), chunksize=10))

    def say(self, text: str) -> None:
        """Tell how far it is."""
        if self.aloud:
            print(text, file=sys.stderr, flush=True)


def rate(hits: Iterable[bool]) -> Json:
    """Return a share with its exact 95 % interval."""
    found = list(hits)
    low, high = clopper_pearson(sum(found), len(found))
    return {
        "rate": round(sum(found) / len(found), 4),
        "low": round(low, 4),
        "high": round(high, 4),
        "gates": len(found),
    }


def at_the_margin(runs: Runs) -> Json:
    """Return by world how often a clone at the margin everywhere passes anywhere, and how often one is called worse.

    The gate is not told of the expert's noise, which could only hold clones back.
    """
    found = {}
    for number, (name, world) in enumerate(WORLDS.items()):
        reports = runs.ask(world, Loss(margins=1), 10_000 * number, runs.count, noise=False)
        passed = [[one.cohort for one in report.cohorts if one.verdict == "pass"] for report in reports]
        by_cohort = {cohort: round(sum(cohort in one for one in passed) / runs.count, 4) for cohort in SIZES}
        failed = [any(one.verdict == "fail" and not one.regressions for one in report.cohorts) for report in reports]
        tasks = {one.cohort: one.tasks for one in reports[0].cohorts}
        found[name] = {**rate(map(bool, passed)), "by_cohort": by_cohort, "called_worse": rate(failed), "tasks": tasks}
        runs.say(f"at the margin, {name}: {found[name]['rate']}")
    return found


def the_same_twice(runs: Runs) -> Json:
    """Return by world how often an expert, and a clone that is one, shows no difference from itself in any cohort."""
    found = {}
    for number, (name, world) in enumerate(WORLDS.items()):
        reports = runs.ask(world, Loss(), 500_000 + 10_000 * number, runs.count)
        measures = [[measure for one in report.cohorts for measure in one.measures] for report in reports]
        same = [not any(one.noise is not None and one.noise.differs for one in of_one) for of_one in measures]
        worse = [any(one.verdict == "fail" for one in of_one) for of_one in measures]
        whole = [report.verdict == "pass" for report in reports]
        cohorts = [sum(one.verdict == "pass" for one in report.cohorts) / len(report.cohorts) for report in reports]
        share = round(sum(cohorts) / runs.count, 4)
        found[name] = {**rate(same), "called_worse": rate(worse), "passes": rate(whole), "cohorts_passed": share}
        runs.say(f"the same twice, {name}: {found[name]['rate']}")
    return found


def planted(runs: Runs) -> Json:
    """Return by regression how often its cohort fails, and how often it passes all the same."""
    found = {}
    for number, (name, (cohort, loss)) in enumerate(REGRESSIONS.items()):
        reports = runs.ask(World(), loss, 900_000 + 10_000 * number, runs.count, noise=False)
        verdicts = [one.verdict for report in reports for one in report.cohorts if one.cohort == cohort]
        caught = rate(verdict == "fail" for verdict in verdicts)
        passed = rate(verdict == "pass" for verdict in verdicts)
        found[name] = {**caught, "cohort": cohort, "tasks": SIZES[cohort], "passed": passed}
        runs.say(f"planted, {name}: {found[name]['rate']}")
    return found


def measure(quick: bool, jobs: int) -> Json:
    """Return everything that is measured."""
    began, count = time.monotonic(), 5 if quick else 1_000
    with ProcessPoolExecutor(jobs) as workers:
        runs = Runs(count, workers, not quick)
        false, power = at_the_margin(runs), planted(runs)
        same = the_same_twice(replace(runs, count=count if quick else 150))
    return {
        "benchmark": "gate_power",
        "false_pass_rate": max(one["rate"] for one in false.values()),
        "aa_no_difference_rate": min(one["rate"] for one in same.values()),
        "power": min(one["rate"] for one in power.values()),
        "at_the_margin": false,
        "the_same_twice": same,
        "planted": power,
        "margins": MARGINS,
        "confidence": GateConfig().confidence,
        "machine": machine(),
        "versions": versions(PACKAGES),
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/gate_power.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - began),
        "quick": quick,
    }


def table(report: Json) -> str:
    """Return the figures as lines for a terminal."""
    lines = [f"{'clones at the margin':<26}pass anywhere           called worse anywhere"]
    for name, one in report["at_the_margin"].items():
        lines.append(f"{name:<26}{_told(one):<24}{_told(one['called_worse'])}")
    lines += ["", f"{'the same twice':<26}no difference           whole gate passes       cohorts passed"]
    for name, one in report["the_same_twice"].items():
        lines.append(f"{name:<26}{_told(one):<24}{_told(one['passes']):<24}{one['cohorts_passed']:.3f}")
    lines += ["", f"{'planted':<26}caught                  passes all the same"]
    for name, one in report["planted"].items():
        lines.append(f"{name:<26}{_told(one):<24}{_told(one['passed'])}")
    return "\n".join([*lines, f"{report['machine']}, {report['date']}, {report['seconds']} s"])


def _told(one: Json) -> str:
    return f"{one['rate']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


def main() -> None:
    """Measure as the options say, and print it."""
    parser = asking(__doc__, "five gates of each kind: checks that it runs")
    parser.add_argument("--jobs", type=int, default=2, help="processes that ask (default 2)")
    options = parser.parse_args()
    deliver(measure(options.quick, options.jobs), options, table)


if __name__ == "__main__":
    main()
