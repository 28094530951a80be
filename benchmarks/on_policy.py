"""Compare ways to correct a clone where its own steps lead, at the same price in the expert's calls.

Each repetition buys recordings and corrections anew; every clone is tried on the same tasks, as its expert knows them,
in noise (15 % of the steps are something else), and in a changed world. What is finished stands in
``results/on_policy_cells.jsonl``, a line each, and is not made again.

Examples:
  python benchmarks/on_policy.py                       what was measured, as a table
  python benchmarks/on_policy.py --json                the same as one JSON object: world, setting, method
  python benchmarks/on_policy.py --run                 measure what is missing of 8 repetitions; hours on two cores
  python benchmarks/on_policy.py --run --minutes 30    begin nothing new after so long; go on later
  python benchmarks/on_policy.py --quick --json        one small repetition, within a minute
"""

import argparse
import datetime
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from correcting import chain, cycles, page
from correcting.arms import MIXES
from correcting.figures import by_price, by_step, summarised
from overhead.reports import deliver
from overhead.timing import Json, machine, tell, versions

HERE = Path(__file__).parent
RESULT = HERE / "results" / "on_policy.json"
KEPT = HERE / "results" / "on_policy_cells.jsonl"
PACKAGES = ("imitrace", "numpy", "torch")
CALLS = 450
BASELINES = ("bc_guard", "bc_own", "bc_successes", "handover", "oec", "recordings")
"""What the others are compared with, task by task."""
FIRST = ("expert", "bc", "bc_guard", "handover", "handover_all")
OWN = ("bc_own", "bc_own_critic")
ASKED = ("dagger", "oec")
VARIANTS = ("bc_successes", "bc_sampled", "bc_critic", "oec_all", "oec_unmasked")
"""Plain cloning and ``oec`` with a part left out or added."""
CORE = (*FIRST, *OWN, *ASKED, "handover_rounds")
"""What is done before the rest."""
PERFECT = (*FIRST, *OWN, *ASKED, "bc_sampled", "bc_critic", "oec_guard", "oec_unmasked")
"""With an expert who never errs, whose every whole episode succeeds."""
ROUNDS = ("handover_rounds", "bc_rounds")
"""Own tries afterwards, which take longest."""
ARMS = (*PERFECT, *ROUNDS, "bc_successes", "dagger_guard", "handover_50", "handover_90", "oec_all", "oec_rounds")
MIXED = tuple(f"oec_mix_{round(100 * mix)}" for mix in MIXES)
PRICED = ("bc_guard", "handover", "dagger", "oec")
"""Methods that are bought at other prices too."""


@dataclass(frozen=True)
class Plan:
    """What is done in each repetition in one world, at one price."""

    ground: str
    fallible: bool
    arms: tuple[str, ...] = ARMS
    calls: int = CALLS


@dataclass(frozen=True)
class Size:
    """How much is done."""

    plans: tuple[Plan, ...] = (
        Plan("cooking", True, FIRST),
        Plan("desk", True, FIRST),
        Plan("desk", True, OWN),
        Plan("cooking", True, OWN),
        Plan("cooking", True, ASKED),
        Plan("desk", True, CORE),
        Plan("desk", False, FIRST),
        Plan(cycles.NAME, True, cycles.WAYS),
        Plan("desk", True, ("handover_50", "handover_90")),
        Plan("desk", True),
        Plan("desk", True, MIXED),
        Plan("desk", True, PRICED, CALLS // 3),
        Plan("cooking", True, VARIANTS),
        Plan("desk", True, PRICED, CALLS * 3),
        Plan("cooking", False, FIRST),
        Plan("desk", False, PERFECT),
        Plan("cooking", False, PERFECT),
        Plan("desk", False, (*PERFECT, *ROUNDS)),
        Plan("cooking", True),
        Plan("cooking", False, (*PERFECT, *ROUNDS)),
    )
    seeds: int = 8
    tasks: int = 60
    epochs: int = 8
    lives: int = 4
    """Repetitions of the ten refreshes."""


QUICK = Size((Plan("desk", True, ("expert", "bc", "bc_guard", "dagger", "oec"), 45),), 1, 6, 2, 0)


def cells(size: Size) -> Iterator[Json]:
    """Yield what is to be done, plan by plan, so that what is finished can be told apart from what is not."""
    for plan in size.plans:
        for seed in range(size.lives if plan.ground == cycles.NAME else size.seeds):
            yield {
                "ground": plan.ground,
                "fallible": plan.fallible,
                "seed": seed,
                "calls": plan.calls,
                "tasks": size.tasks,
                "epochs": size.epochs,
                "arms": plan.arms,
            }


def run(size: Size, kept: Path | None, minutes: float | None) -> list[Json]:
    """Do what is not done yet, two at a time, until time is up; return all that there is."""
    done = _read(kept) if kept is not None else []
    until = None if minutes is None else time.monotonic() + 60 * minutes

    def one(cell: Json) -> None:
        missing = [arm for arm in cell["arms"] if not any(_same(line, cell, arm) for line in list(done))]
        if missing and (until is None or time.monotonic() < until):
            done.extend(_run_cell({**cell, "arms": missing}, kept, until))

    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(one, cells(size)):
            pass
    return [line for line in done if any(_same(line, cell, line["arm"]) for cell in cells(size))]


def _run_cell(asked: Json, kept: Path | None, until: float | None) -> Iterator[Json]:
    command = [sys.executable, "-m", "correcting.one_cell", json.dumps(asked)]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for text in process.stdout:
            line = json.loads(text)
            tell(f"{line['ground']} {'fallible' if line['fallible'] else 'perfect'} {line['seed']}: {line['arm']}")
            if kept is not None:
                with kept.open("a", encoding="utf-8") as file:
                    file.write(text)
            yield line
            if until is not None and time.monotonic() > until:
                process.kill()
    if process.returncode not in (0, -9):
        raise RuntimeError(f"a repetition failed, run it by hand: {' '.join(command[1:])}")


def _read(kept: Path) -> list[Json]:
    lines = kept.read_text(encoding="utf-8").split("\n")[:-1] if kept.exists() else []
    return [json.loads(line) for line in lines]


def _same(line: Json, cell: Json, arm: str) -> bool:
    return arm in cell["arms"] and line["arm"] == arm and all(cell[key] == line[key] for key in cell.keys() - {"arms"})


def report(lines: Sequence[Json], size: Size, quick: bool, began: float) -> Json:
    """Return all figures: by world, setting and method, and what the chain shows."""
    walked = [chain.costs(seed, walks=40 if quick else 300) for seed in range(2 if quick else 20)]
    places = range(len(chain.LENGTHS))
    price = {plan.ground: plan.calls for plan in reversed(size.plans)}
    at_price = [line for line in lines if line["calls"] == price[line["ground"]]]
    return {
        "benchmark": "on_policy",
        **summarised(at_price, BASELINES),
        "disagreement": by_step(at_price),
        "price": by_price(lines, PRICED),
        "chain": {
            "lengths": list(chain.LENGTHS),
            "cost": {
                name: [round(sum(one[name][at] for one in walked) / len(walked), 3) for at in places]
                for name in walked[0]
            },
            "exponent": chain.exponents(chain.LENGTHS, walked),
        },
        "size": {"calls": price, "tasks": size.tasks, "seeds": size.seeds, "lives": size.lives},
        "versions": versions(PACKAGES),
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/on_policy.py", *sys.argv[1:]]),
        "seconds": round(sum(line["seconds"] for line in lines) + time.monotonic() - began),
        "quick": quick,
    }


def table(found: Json) -> str:
    """Return the figures as lines for a terminal."""
    lines = []
    for world, settings in page.worlds(found).items():
        for setting, rows in settings.items():
            lines.append(f"{world}, {setting}")
            lines += [
                f"  {arm:<14} {_told(row)} {_count(row, 'expert_calls'):>5} calls {_count(row, 'env_steps'):>6} steps"
                f" {row['seeds']} seeds{_lead(row)}"
                for arm, row in sorted(rows.items(), key=lambda one: -one[1]["success"])
            ]
    for name, slope in found["chain"]["exponent"].items():
        lines.append("chain, {}: cost grows as length^{value} [{low}, {high}]".format(name, **slope))
    return "\n".join([*lines, f"{found['machine']}, {found['date']}, {found['seconds']} s"])


def _told(row: Json) -> str:
    return f"{row['success']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _count(row: Json, name: str) -> str:
    return "-" if row[name] is None else str(row[name])


def _lead(row: Json) -> str:
    over = row.get(f"over_{BASELINES[0]}")
    return "" if over is None else "  {value:+.3f} [{low:+.3f}, {high:+.3f}] over bc_guard".format(**over)


def main() -> None:
    """Measure as the options say, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small repetition: checks that it runs")
    parser.add_argument("--run", action="store_true", help="measure what is missing, and write the result file")
    parser.add_argument("--minutes", type=float, help="begin nothing new after so many")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    options.output = RESULT if options.run else None
    began = time.monotonic()
    if options.quick:
        deliver(report(run(QUICK, None, None), QUICK, True, began), options, table)
    elif options.run:
        found = report(run(Size(), KEPT, options.minutes), Size(), False, began)
        deliver(found, options, table)
        RESULT.with_suffix(".html").write_text(page.render(found), encoding="utf-8")
    else:
        deliver(json.loads(RESULT.read_text(encoding="utf-8")), options, table)


if __name__ == "__main__":
    main()
