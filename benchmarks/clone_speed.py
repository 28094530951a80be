"""Measure how long a clone takes to fit, to load and to decide, beside the rivals in the same run.

python benchmarks/clone_speed.py --peers --json      # makes the rivals' environments first (network)
python benchmarks/clone_speed.py --quick             # 30 trajectories, 2 epochs
python benchmarks/clone_speed.py --cuda              # the same fit on the CPU and on CUDA, and their ratio, alone
"""

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from imitrace_trainer.clone_files import CloneCard, write_clone
from imitrace_trainer.datasets import open_dataset
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.embedded import EmbeddedPolicy
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.fit import BCConfig, FitReport, calibrate, fit, fit_embedded, prepare
from overhead.peer_venvs import VENVS, install, python_of
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, tell, versions
from quality.one_fold import by_sklearn
from quality.recorded import SETS, Division, divided, imported
from speed.dense_steps import COLUMNS, compared

SET, FOLD = "retail", 0
HERE = Path(__file__).parent
PACKAGES = ("imitrace", "numpy", "torch")
PROMISED = ("p50_ms", "p95_ms", "batch_speedup", "fit_vs_linear", "vs_imitation_steps_per_s")
DETAILS = ("fit", "growth_exponent", "load_s", "model_bytes")
_HALVINGS = 2


def measure(options: argparse.Namespace) -> Json:
    """Return what is measured."""
    began = time.monotonic()
    torch.set_num_threads(1)
    found: Json = {"skipped": dict[str, str]()} | dict.fromkeys((*PROMISED, *DETAILS))
    if (options.data / SETS[SET]).exists():
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder) / SET
            imported(SET, options.data, home, 30 if options.quick else None)
            parts = divided(open_dataset(home, SET).examples(), FOLD)
            found |= on_cuda(parts) if options.cuda else on_cpu(parts, home, options.quick, found["skipped"])
    else:
        why = f"no {SETS[SET]} in {options.data}"
        found["skipped"] |= dict.fromkeys((SET, "scikit-learn", "imitation"), why)
    return {
        "benchmark": "clone_speed",
        **found,
        "versions": versions(PACKAGES),
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/clone_speed.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - began),
        "quick": options.quick,
    }


def on_cpu(parts: Division, home: Path, quick: bool, skipped: dict[str, str]) -> Json:
    """Return the figures of one CPU thread."""
    config = BCConfig(device="cpu", epochs=2) if quick else BCConfig(device="cpu")
    fit(parts.train[:20], [], replace(config, epochs=1))  # torch imports what an optimiser needs when there is one
    seconds = []
    sizes = list(
        zip(*(_sizes(part, 1 if quick else _HALVINGS) for part in (parts.train, parts.calibration)), strict=True)
    )
    for train, calibration in sizes:
        began = time.process_time()
        lesson = prepare(train, config, calibration=calibration)
        policy = fit_embedded(lesson, config)
        seconds.append(time.process_time() - began)
        tell(f"fitted to {len(train)} decisions in {seconds[-1]:.1f} s")
    report = lesson.report(policy)
    began = time.process_time()
    calibrate(policy, parts.calibration)
    calibrated = time.process_time() - began
    began = time.process_time()
    whole, both = _fitted_again(policy, parts, config)
    again = time.process_time() - began
    tell(f"fitted again to {len(both)} decisions in {again:.1f} s")
    rows = [len(train) for train, _ in sizes]
    found: Json = {
        "fit": {
            "decisions": rows,
            "cpu_seconds": [round(one, 2) for one in seconds],
            "calibration_cpu_s": round(calibrated, 2),
            "again_decisions": len(both),
            "again_cpu_s": round(again, 2),
            "epochs": len(report.choice_loss),
            "kept_epoch": report.kept_epoch,
        },
        "growth_exponent": round(float(np.polyfit(np.log(rows), np.log(seconds), 1)[0]), 3),
        **beside_sklearn(whole, both, parts.held_out, seconds[-1] + again, skipped),
        **decided(whole, home, 60 if quick else 10_000),
    }
    if python_of("imitation").exists():
        tell("gradient steps, beside imitation")
        states, labels = dense(policy, parts.train)
        steps = compared(states, labels, 5 if quick else 20, 1 if quick else 5)
        found |= {"vs_imitation_steps_per_s": steps["ratio"]["median"], "steps": steps}
    else:
        skipped["imitation"] = f"no {python_of('imitation')}: make it by --peers"
    return found


def _sizes(shown: Sequence[Demonstration], halvings: int) -> list[list[Demonstration]]:
    """Return the decisions of a quarter, half and all of the tasks, say."""
    tasks = sorted({one.task for one in shown})
    parts = [set(tasks[:: 2**halving]) for halving in range(halvings, -1, -1)]
    return [[one for one in shown if one.task in part] for part in parts]


def _fitted_again(
    tried: EmbeddedPolicy, parts: Division, config: BCConfig
) -> tuple[EmbeddedPolicy, list[Demonstration]]:
    """Fit what ships, as the ladder does: to the calibration tasks, too."""
    both = [*parts.train, *parts.calibration]
    whole = fit_embedded(prepare(both, config, reader=tried.reader), config)
    whole.calibration = tried.calibration
    return whole, both


def beside_sklearn(
    policy: EmbeddedPolicy,
    shown: Sequence[Demonstration],
    held_out: Sequence[Demonstration],
    seconds: float,
    skipped: dict[str, str],
) -> Json:
    """Return the time of both fits over scikit-learn's one, and how often each is right about what comes next."""
    labels = [one.label for one in held_out]
    decisions = policy.act_batch([one.state for one in held_out])
    ours = [made.action.name or MESSAGE for made in decisions]
    found: Json = {"next_action": _share(ours, labels)}
    if not python_of("sklearn").exists():
        skipped["scikit-learn"] = f"no {python_of('sklearn')}: make it by --peers"
        return found
    told = by_sklearn(shown, held_out)
    found |= {"sklearn_next_action": _share(told["guesses"], labels), "sklearn_fit_cpu_s": told["fit_cpu_s"]}
    return found | {"fit_vs_linear": round(seconds / told["fit_cpu_s"], 2)}


def _share(guesses: Sequence[str], held_out: Sequence[str]) -> float:
    return round(float(np.mean([guess == due for guess, due in zip(guesses, held_out, strict=True)])), 4)


def decided(policy: EmbeddedPolicy, home: Path, most: int) -> Json:
    """Return what loading and deciding takes in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        write_clone(Path(folder), policy, CloneCard(SET, SET, 1, "", "", "", {}, {}))
        command = [sys.executable, "-m", "speed.decisions", folder, str(home), SET, str(FOLD), str(most)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=HERE)
    found: Json = json.loads(done.stdout)
    return found


def dense(
    policy: EmbeddedPolicy, shown: Sequence[Demonstration]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return states as dense arrays, their features' weights summed by random signs, and the actions' numbers."""
    signs = np.random.default_rng(0).choice(np.array([-1, 1], dtype=np.float32), (len(policy.features.ids), COLUMNS))
    bags = [policy.bags(policy.view(one.state)) for one in shown]
    states = np.stack([bag.weights @ signs[bag.rows] for bag in bags]).astype(np.float32)
    return states, np.array([policy.knowledge.actions.index(one.label) for one in shown])


def on_cuda(parts: Division) -> Json:
    """Return what the same fit reaches on the CPU and on CUDA, how long each takes, and the ratio."""
    found: Json = {}
    for device in ("cpu", "cuda"):
        fit(parts.train[:20], [], BCConfig(device=device, epochs=1))
        began = time.perf_counter()
        policy, report = fit(parts.train, parts.calibration, BCConfig(device=device))
        found[device] = {"seconds": round(time.perf_counter() - began, 2), **_reached(policy, report, parts)}
    ratio = found["cpu"]["seconds"] / found["cuda"]["seconds"]
    return {"cuda": found, "cpu_vs_cuda": round(ratio, 2)}


def _reached(policy: EmbeddedPolicy, report: FitReport, parts: Division) -> Json:
    decisions = policy.act_batch([one.state for one in parts.held_out])
    return {
        "next_action": _share([made.action.name or MESSAGE for made in decisions], [o.label for o in parts.held_out]),
        "calibration_loss": min(report.judged_loss),
        "argument_loss": report.argument_loss[-1],
        "epochs": len(report.choice_loss),
    }


def table(report: Json) -> str:
    """Return the figures as lines for a terminal."""
    left_out = ("benchmark", "versions", "machine", "date", "command", "seconds", "quick", "skipped")
    lines = [f"{name:<26}{value}" for name, value in report.items() if name not in left_out]
    lines += [f"{name}: {why}" for name, why in report["skipped"].items()]
    return "\n".join([*lines, f"{report['machine']}, {report['date']}, {report['seconds']} s"])


def make_peers() -> None:
    """Make the rivals' environments; imitation's sees the packages of this one, so that both use the same torch."""
    install("sklearn", ("scikit-learn",))
    if not python_of("imitation").exists():
        subprocess.run([sys.executable, "-m", "venv", VENVS / "imitation"], check=True)
        (beside,) = (VENVS / "imitation" / "lib").glob("python*/site-packages")
        (beside / "beside.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    subprocess.run([python_of("imitation"), "-m", "pip", "install", "--quiet", "imitation"], check=True)


def main() -> None:
    """Measure as the options say, and print it."""
    parser = asking(__doc__, "30 trajectories, 2 epochs: checks that it runs", data=True)
    parser.add_argument("--cuda", action="store_true", help="only the fit, on the CPU and on CUDA")
    parser.add_argument("--peers", action="store_true", help="make the rivals' environments first (network)")
    options = parser.parse_args()
    if options.peers:
        make_peers()
    deliver(measure(options), options, table)


if __name__ == "__main__":
    main()
