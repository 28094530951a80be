"""Compare what a route promises with what it delivers, on tasks that its clone never saw, as recorded and shifted.

python benchmarks/promise.py --data ../shared/data --json     # five folds of one set, one of the other; some 5 minutes
python benchmarks/promise.py --data ../shared/data --quick    # 20 trajectories of each set, one measured, 2 epochs
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from imitrace_trainer.fit import BCConfig
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, versions
from quality.measures import share
from quality.recorded import FOLDS, SETS, imported

PACKAGES = ("imitrace", "numpy", "torch")
HERE = Path(__file__).parent


def measure(options: argparse.Namespace) -> Json:
    """Return coverage and error by set, shift and promise."""
    began = time.monotonic()
    present = [name for name in SETS if (options.data / SETS[name]).exists()]
    sets: Json = {}
    with tempfile.TemporaryDirectory() as folder:
        homes = {name: Path(folder) / name for name in present}
        for name, home in homes.items():
            imported(name, options.data, home, 20 if options.quick else None)
        for name, home in list(homes.items())[: 1 if options.quick else None]:
            other = str(next((one for one in homes.values() if one != home), ""))
            epochs = str(2 if options.quick else BCConfig().epochs)
            chosen = FOLDS[name][:1] if options.quick else FOLDS[name]
            sets[name] = summed([_fold([str(home), name, str(fold), other, epochs]) for fold in chosen])
    return {
        "benchmark": "promise",
        "sets": sets,
        "skipped": {name: f"no {SETS[name]} in {options.data}" for name in SETS if name not in present},
        "versions": versions(PACKAGES),
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/promise.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - began),
        "quick": options.quick,
    }


def _fold(arguments: Sequence[str]) -> Json:
    command = [sys.executable, "-m", "quality.one_promise", *arguments]
    found: Json = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=HERE).stdout)
    return found


def summed(folds: Sequence[Json]) -> Json:
    """Return a set's figures over all folds: what the clone would act on, and how often otherwise than the expert."""
    shifts: Json = {}
    for shift, by_promise in folds[0]["shifts"].items():
        shifts[shift] = {}
        for promise in by_promise:
            rows = [row for fold in folds for row in fold["shifts"][shift][promise]]
            told = [dict(zip(("task", "acts", "right", "right_tool"), row, strict=True)) for row in rows]
            acted = [row for row in told if row["acts"]]
            shifts[shift][promise] = {
                "coverage": share(told, [row["acts"] for row in told]),
                "error": share(acted, [not row["right"] for row in acted]) if acted else None,
                "wrong_tool": share(acted, [not row["right_tool"] for row in acted]) if acted else None,
                "decisions": len(told),
                "refused_folds": sum(float(promise) in fold["refused"] for fold in folds),
            }
    return {"families": [fold["family"] for fold in folds], "folds": len(folds), "shifts": shifts}


def table(report: Json) -> str:
    """Return the figures as lines for a terminal."""
    lines = []
    for name, found in report["sets"].items():
        lines.append(f"{name}: {found['folds']} folds, {', '.join(found['families'])}")
        for shift, by_promise in found["shifts"].items():
            for promise, told in by_promise.items():
                coverage, error, tool = (_told(told[key]) for key in ("coverage", "error", "wrong_tool"))
                refused = f", refused in {told['refused_folds']} folds" if told["refused_folds"] else ""
                wrong = f"wrong {error}, in the tool {tool}{refused}"
                lines.append(f"  {shift:<16} promised {promise:<5} acts on {coverage}, {wrong}")
    lines += [f"{name}: {why}" for name, why in report["skipped"].items()]
    return "\n".join([*lines, f"{report['machine']}, {report['date']}, {report['seconds']} s"])


def _told(found: Json | None) -> str:
    return "-" if found is None else "{value:.3f} [{low:.3f}, {high:.3f}]".format(**found)


def main() -> None:
    """Measure as the options say, and print it."""
    options = asking(__doc__, "20 trajectories, one fold of one set, 2 epochs: checks it", data=True).parse_args()
    deliver(measure(options), options, table)


if __name__ == "__main__":
    main()
