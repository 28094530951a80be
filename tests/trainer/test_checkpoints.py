"""Checkpoints: whole or none, of this fit or none; and a training that is killed with -9 ends as if it never was."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from imitrace.config import child_environment
from imitrace.exceptions import BudgetError
from imitrace_trainer.checkpoints import NOTHING_KEPT, Checkpoint, Checkpoints, fingerprint, unfinished
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.curation import curate_stage
from imitrace_trainer.registry import Registry
from imitrace_trainer.stages import train_stage

STOOD = Checkpoint({"weights.a": torch.tensor([1.5, float("nan")]), "step": torch.tensor(3)}, {"losses": [0.1, 1 / 3]})

TRAIN = """
import os, sys
from pathlib import Path
from imitrace.config import read_config
from imitrace_trainer.config import clone_from_config
from imitrace_trainer.stages import train_stage

def progress(stage, share):
    if stage == sys.argv[3] and share >= 0.5:
        print(stage, share, flush=True)
        sys.stdin.read()

counter = Path(sys.argv[1])
train_stage(Path(sys.argv[2]), clone_from_config(read_config(counter / "imitrace.toml"), "counter", counter), progress)
"""


def test_what_was_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "fits" / "shop")
    kept.write("choose", "key", Checkpoint({}, {}))
    kept.write("choose", "key", STOOD)
    found = kept.read("choose", "key")
    assert found is not None and found.record == STOOD.record
    assert all(torch.equal(found.tensors[n].nan_to_num(7), STOOD.tensors[n].nan_to_num(7)) for n in STOOD.tensors)
    assert [path.name for path in (tmp_path / "fits" / "shop").iterdir()] == ["choose.safetensors"]


def test_nothing_is_found_of_another_fit_another_stage_or_without_a_folder(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.write("choose", "key", STOOD)
    NOTHING_KEPT.write("choose", "key", STOOD)
    assert kept.read("choose", "other") is kept.read("arguments", "key") is NOTHING_KEPT.read("choose", "key") is None


def test_a_part_has_stages_of_its_own_and_is_forgotten_with_the_whole(tmp_path: Path) -> None:
    whole = Checkpoints(tmp_path / "fits" / "shop")
    whole.part("replies").write("choose", "key", STOOD)
    assert whole.read("choose", "key") is None
    assert whole.part("replies").read("choose", "key") is not None
    whole.discard()
    assert list(tmp_path.iterdir()) == []
    assert NOTHING_KEPT.part("replies") is NOTHING_KEPT


@pytest.mark.parametrize("damage", [lambda whole: whole[:-3], lambda whole: b"", lambda whole: b"\xff" * len(whole)])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    kept = Checkpoints(tmp_path)
    kept.write("choose", "key", STOOD)
    path = tmp_path / "choose.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    assert kept.read("choose", "key") is None


@pytest.mark.parametrize(
    ("error", "stays"), [(None, False), (ValueError, False), (KeyboardInterrupt, True), (BudgetError, True)]
)
def test_only_a_fit_that_was_interrupted_or_stopped_leaves_something(
    tmp_path: Path, error: type[BaseException] | None, stays: bool
) -> None:
    folder = tmp_path / "fits" / "shop"
    try:
        with unfinished(folder) as kept:
            kept.write("choose", "key", STOOD)
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt, BudgetError):
        pass
    assert (folder.exists(), folder.parent.exists()) == (stays, stays)


def test_a_fingerprint_follows_every_value_shape_and_setting() -> None:
    arrays: list[npt.NDArray[Any]] = [
        np.arange(6),
        np.arange(6).reshape(2, 3),
        np.arange(6, dtype=np.int32),
        np.arange(1, 7),
    ]
    assert len({fingerprint({}, [array]) for array in arrays} | {fingerprint({"a": 1}, arrays[:1])}) == 5


@pytest.mark.parametrize("stage", ["arguments", "choose"])
def test_a_training_that_was_killed_ends_with_the_very_clone(
    counter: Path, counter_clone: CloneConfig, trained_home: Path, tmp_path: Path, stage: str
) -> None:
    curate_stage(tmp_path, counter_clone.cohort, str(counter / "snapshot"))
    process = subprocess.Popen(
        [sys.executable, "-c", TRAIN, counter, tmp_path, stage],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment({}),
    )
    assert process.stdout is not None
    with process:
        assert process.stdout.readline().startswith(stage)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
    folder = tmp_path / "fits" / "counter"
    assert f"{stage}.safetensors" in {path.name for path in folder.iterdir()}
    assert Registry(tmp_path).versions("counter") == []
    told: list[tuple[str, float]] = []
    train_stage(tmp_path, counter_clone, lambda name, share: told.append((name, share)))
    assert min(share for name, share in told if name == stage) > 0.25  # not begun anew
    ours, theirs = (Registry(home).resolve("counter:1").path / "model.safetensors" for home in (tmp_path, trained_home))
    assert ours.read_bytes() == theirs.read_bytes()
    assert not folder.parent.exists()
