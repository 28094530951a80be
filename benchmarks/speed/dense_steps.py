"""Time gradient steps of one small network on dense arrays: by imitrace's training, and by another package's.

Seconds are of CPU time in one thread, which other work on the machine moves least.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from imitrace_trainer.checkpoints import NOTHING_KEPT
from imitrace_trainer.progress import silent
from imitrace_trainer.training import Course, train
from overhead.peer_venvs import python_of
from overhead.timing import Json, spread

COLUMNS, HIDDEN, BATCH = 256, 96, 64


def ours(states: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], epochs: int) -> float:
    """Return our gradient steps a second of CPU time."""
    actions = int(labels.max()) + 1
    network = nn.Sequential(nn.Linear(COLUMNS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, actions))
    seen, taken = torch.from_numpy(states), torch.from_numpy(labels)

    def loss(batch: list[int]) -> Tensor:
        rows = torch.tensor(batch)
        return nn.functional.cross_entropy(network(seen[rows]), taken[rows])

    course = Course(
        name="dense",
        network=network,
        size=len(labels),
        loss=loss,
        epochs=epochs,
        batch=BATCH,
        learning_rate=1e-3,
        weight_decay=0.0,
    )
    began = time.process_time()
    train(course, NOTHING_KEPT, silent)
    return epochs * -(-len(labels) // BATCH) / (time.process_time() - began)


def compared(states: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], epochs: int, rounds: int) -> Json:
    """Return both rates in turns, and their ratio of each round."""
    mine, theirs = [], []
    ours(states, labels, 1)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "arrays.npz", states=states, labels=labels)
        for _ in range(rounds):
            mine.append(ours(states, labels, epochs))
            script = Path(__file__).with_name("with_imitation.py")
            command = [str(python_of("imitation")), str(script), str(Path(folder) / "arrays.npz"), str(epochs)]
            done = subprocess.run([*command, str(BATCH), str(HIDDEN)], check=True, capture_output=True, text=True)
            told = json.loads(done.stdout.splitlines()[-1])
            theirs.append(told["steps_per_s"])
    return {
        "ratio": spread([one / other for one, other in zip(mine, theirs, strict=True)]),
        "steps_per_s": spread(mine),
        "imitation_steps_per_s": spread(theirs),
        "imitation_versions": told["versions"],
        "network": f"{COLUMNS}-{HIDDEN}-actions, batches of {BATCH}",
    }
