"""Fit every family to one fold of a recorded set and print what each decides: a process of its own, for its memory.

python -m quality.one_fold WORKSPACE SET FOLD OTHER_WORKSPACE EPOCHS

Prints one JSON object; ``families`` has by family the rows of the calibration tasks and of the held-out ones.
"""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from imitrace_trainer.datasets import open_dataset
from imitrace_trainer.demonstrations import Demonstration, well_ended
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.families import BEST
from imitrace_trainer.family import Clone
from imitrace_trainer.fit import BCConfig
from imitrace_trainer.frequency import FrequencyTable
from imitrace_trainer.ladder import climb
from imitrace_trainer.policy import same_action
from imitrace_trainer.stages import demonstrations
from overhead.peer_venvs import python_of
from overhead.timing import Json, tell
from quality.recorded import THOUGHTFUL, divided, texts
from quality.thoughts import decided_without

STRANGERS = 150
"""States of the other set whose distance is taken."""


def fold_of(home: Path, name: str, fold: int, other: Path | None, epochs: int) -> Json:
    """Return the rows of every family on one fold."""
    parts = divided(open_dataset(home, name).examples(), fold)
    strangers = demonstrations(open_dataset(other, other.name).examples()) if other else []
    strange = strangers[:: max(1, len(strangers) // STRANGERS)][:STRANGERS]
    tell(f"{name}, fold {fold}: fitting to {len(parts.train)} decisions")
    began = time.perf_counter()
    climbed = climb((parts.train, parts.calibration), BEST, BCConfig(epochs=epochs, device="cpu"))
    seconds = {"all families": round(time.perf_counter() - began, 2)}
    families = {
        name: {
            "calibration": decided(climbed.rehearsed[name], well_ended(parts.calibration)),
            "held_out": decided(clone, parts.held_out),
            "strangers": [clone.score(one.state)[1] for one in strange],
        }
        for name, clone in climbed.clones.items()
    }
    learnt = [*parts.train, *parts.calibration]
    floor = FrequencyTable(learnt)
    rivals = {"frequency table": [floor.predict(one.state)[0] for one in parts.held_out]}
    if python_of("sklearn").exists():
        tell(f"{name}, fold {fold}: scikit-learn")
        told = by_sklearn(learnt, parts.held_out)
        rivals["scikit-learn"], seconds["scikit-learn"] = told["guesses"], told["fit_s"]
    found: Json = {"chosen": climbed.chosen, "families": families, "rivals": rivals, "fit_s": seconds}
    if name in THOUGHTFUL:
        tell(f"{name}, fold {fold}: fitting without thoughts")
        found["thoughts"] = decided_without(parts, epochs)
    return found


def decided(policy: Clone, shown: Sequence[Demonstration]) -> list[Json]:
    """Return what a clone would do on each decision, beside what the expert did."""
    rows = []
    for one in shown:
        scored, distance = policy.score(one.state)
        guess = scored.action.name or MESSAGE
        evidence = policy.evidence(scored)
        row = {"task": one.task, "label": one.label, "guess": guess, "exact": same_action(scored.action, one.action)}
        row |= {"confidence": policy.calibration.confidence(evidence), "distance": distance}
        row["ood"] = policy.calibration.relative_distance(distance)
        rows.append(row)
    return rows


def by_sklearn(learnt: Sequence[Demonstration], held_out: Sequence[Demonstration]) -> Json:
    """Return the guesses of scikit-learn's model in its own environment."""
    train = [(texts(one), one.label) for one in learnt]
    asked = json.dumps({"train": train, "held_out": [texts(one) for one in held_out]})
    command = [str(python_of("sklearn")), str(Path(__file__).with_name("with_sklearn.py"))]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True)
    found: Json = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure the fold that the arguments name."""
    home, name, fold, other, epochs = sys.argv[1:]
    torch.set_num_threads(1)
    print(json.dumps(fold_of(Path(home), name, int(fold), Path(other) if other else None, int(epochs))))


if __name__ == "__main__":
    main()
