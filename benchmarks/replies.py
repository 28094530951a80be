"""Measure how many of an expert's replies a clone reaches with templates, and how often it says the same.

python benchmarks/replies.py --data ../shared/data            # three sets, minutes
python benchmarks/replies.py --data ../shared/data --quick    # the bundled desk only, 2 epochs
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from imitrace_trainer.fit import BCConfig
from imitrace_trainer.thresholds import NEVER, choose_threshold
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, versions
from quality.desk_talk import DESK, TASKS
from quality.measures import share
from quality.recorded import FOLDS, SETS, imported

PACKAGES = ("imitrace", "numpy", "torch")
PROMISES = {"90": 0.1, "95": 0.05, "99": 0.01}
SURE = 0.9
"""Confidence of the proof of a promise, as the route's default."""
HERE = Path(__file__).parent


def measure(options: argparse.Namespace) -> Json:
    """Return what is measured of each set."""
    began = time.monotonic()
    names = [DESK] if options.quick else [DESK, *(name for name in SETS if (options.data / SETS[name]).exists())]
    epochs = 2 if options.quick else BCConfig().epochs
    sets = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            home = Path(folder) / name
            folds = [fold for fold in FOLDS.get(name, (0,)) if fold < options.folds]
            kept = [options.keep / f"{name}_{fold}.json" if options.keep else None for fold in folds]
            if name in SETS and not all(one is not None and one.exists() for one in kept):
                imported(name, options.data, home, None)
            source = str(home) if name in SETS else str(120 if options.quick else TASKS)
            found = [_fold([name, str(f), str(epochs), source], one) for f, one in zip(folds, kept, strict=True)]
            sets[name] = report_of(found)
    return {
        "benchmark": "replies",
        "sets": sets,
        "skipped": {name: f"no {SETS[name]} in {options.data}" for name in SETS if name not in names},
        "machine": machine(),
        "versions": versions(PACKAGES),
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/replies.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - began),
        "quick": options.quick,
    }


def _fold(arguments: Sequence[str], kept: Path | None) -> Json:
    """Measure a fold in a process of its own, or take what is kept of it."""
    if kept is not None and kept.exists():
        text = kept.read_bytes()
    else:
        command = [sys.executable, "-m", "quality.reply_fold", *arguments]
        text = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=HERE).stdout
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(text)
    found: Json = json.loads(text)
    return found


def report_of(folds: Sequence[Json]) -> Json:
    """Return the figures over the held-out decisions of all folds."""
    rows = [row for fold in folds for row in fold["held_out"]]
    replies = [row for row in rows if row["reply"]]
    drafts = [row for row in rows if row["draft"] is not None]
    found: Json = {
        "decisions": len(rows),
        "replies": len(replies),
        "tasks": len({row["task"] for row in rows}),
        "folds": len(folds),
        "templates": [len(fold["templates"]) for fold in folds],
        "with_slots": [sum(slots > 0 for slots in fold["slots"]) for fold in folds],
        "refused": dict(sum((Counter(fold["refused"]) for fold in folds), Counter[str]())),
        "formulaic": share(replies, [row["fits"] for row in replies]),
        "nearly_formulaic": share(replies, [row["nearly"] for row in replies]),
        "reached": share(replies, [row["draft"] is not None for row in replies]),
        "by_default": [fold["lack"] or "it replies" for fold in folds],
        "more_training": _over_fit(folds, "replies"),
        "mining": _over_fit(folds, "mine"),
        "drafts": len(drafts),
        "drafts_where_the_expert_called": sum(not row["reply"] for row in drafts),
    }
    if drafts:
        found["faithful"] = share(drafts, [row["exact"] for row in drafts])
        found["faithful_in_f1"] = share(drafts, [row["near"] for row in drafts])
        same = [row for row in drafts if row["same_template"]]
        found["right_template"] = share(drafts, [row["same_template"] for row in drafts])
        found["faithful_in_right_template"] = share(same, [row["exact"] for row in same]) if same else None
    for promise, error in PROMISES.items():
        found |= {f"{key}_at_{promise}": value for key, value in said(folds, error).items()}
    return found


def _over_fit(folds: Sequence[Json], part: str) -> list[float]:
    return [round(fold["cpu_s"][part] / fold["cpu_s"]["fit"], 3) for fold in folds]


def said(folds: Sequence[Json], error: float) -> Json:
    """Return the share of the replies that a clone may say when a share of errors is promised, and what came of it."""
    spoken: list[Json] = []
    refused = 0
    for fold in folds:
        judged = [row for row in fold["calibration"] if row["draft"] is not None]
        confidences, right = [row["confidence"] for row in judged], [row["exact"] for row in judged]
        threshold = choose_threshold(confidences, right, error, SURE, [row["task"] for row in judged])
        refused += threshold == NEVER
        spoken += [row for row in fold["held_out"] if row["draft"] is not None and row["confidence"] >= threshold]
    replies = [row for fold in folds for row in fold["held_out"] if row["reply"]]
    among = {id(row) for row in spoken}
    came = share(spoken, [row["exact"] for row in spoken]) if spoken else None
    return {"said": share(replies, [id(row) in among for row in replies]), "said_right": came, "refused": refused}


def table(report: Json) -> str:
    """Return the figures as lines for a terminal."""
    lines = []
    for name, found in report["sets"].items():
        lines.append(f"{name}:")
        lines += [f"  {key:<32}{_told(value)}" for key, value in found.items()]
    return "\n".join([*lines, f"{report['machine']}, {report['date']}, {report['seconds']} s"])


def _told(value: Json | float | None) -> str:
    is_share = isinstance(value, dict) and "value" in value
    return "{value:.3f} [{low:.3f}, {high:.3f}]".format(**value) if is_share else str(value)  # type: ignore[arg-type]


def main() -> None:
    """Measure as the options say, and print it."""
    parser = asking(__doc__, "the bundled desk only, 2 epochs: checks that it runs", data=True)
    parser.add_argument("--folds", type=int, default=5, help="folds of a set at most [default: 5]")
    parser.add_argument("--keep", type=Path, help="keep each fold's decisions in this folder, and take what is there")
    options = parser.parse_args()
    deliver(measure(options), options, table)


if __name__ == "__main__":
    main()
