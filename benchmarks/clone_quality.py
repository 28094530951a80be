"""Measure how good clones of recorded experts are, on tasks that they never saw, beside the rivals on the same split.

python benchmarks/clone_quality.py --data ../shared/data          # five folds of one set, one of the other; minutes
python benchmarks/clone_quality.py --data ../shared/data --quick  # 36 trajectories and one fold of each set, 1 epoch
python benchmarks/clone_quality.py --peers --json                 # makes scikit-learn an environment first (network)
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from imitrace_trainer.fit import BCConfig
from imitrace_trainer.thresholds import choose_threshold
from overhead.peer_venvs import install, python_of
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, versions
from quality.measures import auroc, by_distance, calibration_error, chance_error, covered, ratio, share
from quality.recorded import FOLDS, FREE_TEXT, SETS, THOUGHTFUL, imported
from quality.thoughts import worth

PROMISES = {"95": 0.05, "99": 0.01}
SURE = 0.9
"""Confidence of the proof of a promise, as the route's default."""
FLOOR, RIVAL = "frequency table", "scikit-learn"
PACKAGES = ("imitrace", "numpy", "torch")
HERE = Path(__file__).parent


def measure(options: argparse.Namespace) -> Json:
    """Return what is measured of the chosen sets."""
    began, data, chosen, quick = time.monotonic(), options.data, options.set or list(SETS), options.quick
    present = [name for name in chosen if (data / SETS[name]).exists()]
    with tempfile.TemporaryDirectory() as folder:
        homes = {name: Path(folder) / name for name in present}
        for name, home in homes.items():
            imported(name, data, home, 36 if quick else None)
        folds = _folds(homes, present, options)
    sets = {name: report_of(name, found) for name, found in folds.items()}
    return {
        "benchmark": "clone_quality",
        "sets": sets,
        "skipped": dict(_skipped(data, chosen)),
        "versions": versions(PACKAGES),
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/clone_quality.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - began),
        "quick": quick,
    }


def _skipped(data: Path, chosen: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield from ((name, f"no {SETS[name]} in {data}") for name in chosen if not (data / SETS[name]).exists())
    if not python_of("sklearn").exists():
        yield RIVAL, f"no {python_of('sklearn')}: make it by --peers"


def _folds(homes: Mapping[str, Path], measured: Sequence[str], options: argparse.Namespace) -> dict[str, list[Json]]:
    """Measure each fold in a process of its own, so that memory is that of one; what is kept is not measured again."""
    epochs = 1 if options.quick else BCConfig().epochs
    jobs = [
        (name, [str(homes[name]), name, str(fold), str(homes[other]) if other else "", str(epochs)])
        for name in measured
        for other in [next((one for one in homes if one != name), "")]
        for fold in (FOLDS[name][:1] if options.quick else FOLDS[name])
    ]
    with ThreadPoolExecutor(options.workers) as pool:
        done = list(pool.map(lambda job: _fold(job[1], options.keep), jobs))
    return {name: [found for (of, _), found in zip(jobs, done, strict=True) if of == name] for name in measured}


def _fold(arguments: Sequence[str], keep: Path | None) -> Json:
    kept = keep / f"{arguments[1]}_{arguments[2]}.json" if keep else None
    if kept and kept.exists():
        text = kept.read_bytes()
    else:
        command = [sys.executable, "-m", "quality.one_fold", *arguments]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=HERE).stdout
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(text)
    found: Json = json.loads(text)
    return found


def report_of(name: str, folds: Sequence[Json]) -> Json:
    """Return the figures of a set; those of the family that ships stand at the top, all stand in ``families``."""
    families = {family: figures(name, family, folds) for family in folds[0]["families"]}
    chosen = [fold["chosen"] for fold in folds]
    shipped = max(families, key=chosen.count)
    held_out = [row for fold in folds for row in fold["families"][shipped]["held_out"]]
    rivals = {}
    for rival in folds[0]["rivals"]:
        guesses = [guess for fold in folds for guess in fold["rivals"][rival]]
        rivals[rival] = share(held_out, [row["label"] == one for row, one in zip(held_out, guesses, strict=True)])
    fit_s = {who: round(sum(fold["fit_s"][who] for fold in folds) / len(folds), 1) for who in folds[0]["fit_s"]}
    return {
        "family": shipped,
        "chosen": chosen,
        **families[shipped],
        "families": families,
        "rivals": rivals,
        "decisions": len(held_out),
        "tasks": len({row["task"] for row in held_out}),
        "folds": len(folds),
        "free_text_tools": FREE_TEXT[name],
        "fit_s": fit_s,
        **({"thoughts": worth(folds)} if name in THOUGHTFUL else {}),
    }


def figures(name: str, family: str, folds: Sequence[Json]) -> Json:
    """Return the figures of one family over the held-out decisions of all folds."""
    parts = [fold["families"][family] for fold in folds]
    rows = [row for part in parts for row in part["held_out"]]
    hits = [row["guess"] == row["label"] for row in rows]
    found: Json = {"next_action": share(rows, hits)}
    for key, rival in (("vs_frequency", FLOOR), ("vs_linear", RIVAL)):
        guesses = [guess for fold in folds for guess in fold["rivals"].get(rival, [])]
        theirs = [row["label"] == guess for row, guess in zip(rows, guesses, strict=False)]
        found[key] = ratio(rows, hits, theirs) if theirs else None
    calls = [row for row in rows if row["guess"] == row["label"] != "<message>"]
    composed = [row for row in calls if row["label"] not in FREE_TEXT[name]]
    found["call_exact"] = share(composed, [row["exact"] for row in composed])
    found["call_exact_all"] = share(calls, [row["exact"] for row in calls])
    found["exact"] = share(rows, [row["exact"] for row in rows])
    found |= {"ece": calibration_error(rows), "ece_by_chance": chance_error(rows)}
    for promise, error in PROMISES.items():
        found |= {f"{key}_at_{promise}": value for key, value in _promised(parts, error, calls=False).items()}
    acted = _promised(parts, PROMISES["95"], calls=True)
    found |= {"acted_at_95": acted["coverage"], "acted_right_at_95": acted["realised"]}
    strange = [auroc([row["distance"] for row in p["held_out"]], p["strangers"]) for p in parts if p["strangers"]]
    found["by_distance"] = by_distance(rows)
    found["ood_auroc"] = round(sum(strange) / len(strange), 4) if strange else None
    return found


def is_call(row: Json) -> bool:
    """Tell whether a row's guess is a tool call, which is all that a clone may do by itself."""
    return bool(row["guess"] != "<message>")


def _promised(parts: Sequence[Json], error: float, calls: bool) -> Json:
    """Return what is covered by thresholds chosen on each fold's calibration tasks, of all decisions or of calls."""
    folds = []
    for part in parts:
        rows = [row for row in part["calibration"] if not calls or is_call(row)]
        confidences, right = [row["confidence"] for row in rows], [row["exact"] for row in rows]
        threshold = choose_threshold(confidences, right, error, SURE, [row["task"] for row in rows])
        held_out = part["held_out"]
        if calls:  # a message is never acted on, whatever its confidence
            held_out = [row if is_call(row) else {**row, "confidence": -1.0} for row in held_out]
        folds.append((threshold, held_out))
    return covered(folds)


def table(report: Json) -> str:
    """Return the figures as lines for a terminal."""
    lines = []
    for name, found in report["sets"].items():
        lines.append(f"{name}: {found['decisions']} decisions of {found['tasks']} tasks, {found['folds']} folds")
        for family, one in found["families"].items():
            lines += [f"  {family:<10}{key:<18}{_told(value)}" for key, value in one.items()]
        lines += [f"  {rival:<28}{_told(value)}" for rival, value in found["rivals"].items()]
        if "thoughts" in found:
            lines += [
                f"  {family:<10}{key:<20}{_told(value)}"
                for family, one in found["thoughts"]["families"].items()
                for key, value in one.items()
            ]
        lines.append(f"  seconds to fit {found['fit_s']}")
    lines += [f"{name}: {why}" for name, why in report["skipped"].items()]
    return "\n".join([*lines, f"{report['machine']}, {report['date']}, {report['seconds']} s"])


def _told(value: Json | list[Json] | float | None) -> str:
    if isinstance(value, list):
        return "; ".join(f"{one['ood']} {_told(one['next_action'])}" for one in value)
    return "{value:.3f} [{low:.3f}, {high:.3f}]".format(**value) if isinstance(value, dict) else str(value)


def main() -> None:
    """Measure as the options say, and print it."""
    parser = asking(__doc__, "36 trajectories and one fold of each set, 1 epoch: checks it", data=True)
    parser.add_argument("--set", action="append", choices=sorted(SETS), help="measure this set only [default: all]")
    parser.add_argument("--workers", type=int, default=1, help="folds measured at once [default: 1]")
    parser.add_argument("--keep", type=Path, help="keep each fold's decisions in this folder, and take what is there")
    parser.add_argument("--peers", action="store_true", help="make scikit-learn's environment first (network)")
    options = parser.parse_args()
    if options.peers:
        install("sklearn", ("scikit-learn",))
    deliver(measure(options), options, table)


if __name__ == "__main__":
    main()
