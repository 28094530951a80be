"""Keep how far a fit has come, so that one that was killed is taken up again where its last epoch ended.

    fits/NAME/[PART/]STAGE.safetensors     weights, the optimiser's moments, the best weights; a record in its header

A file is renamed into place whole. What can't be read, or belongs to other data, is as good as none.
"""

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from imitrace.exceptions import BudgetError

_KEY, _RECORD = "key", "record"


@dataclass(frozen=True)
class Checkpoint:
    """Where a stage of a fit stood after an epoch."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]
    """JSON values."""


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one clone's fit, a file a stage."""

    folder: Path | None = None
    """None: nothing is kept."""

    def read(self, stage: str, key: str) -> Checkpoint | None:
        """Return where a stage stood, None when there is nothing, nothing readable, or something of another fit."""
        if self.folder is None:
            return None
        try:
            with safe_open(self._path(self.folder, stage), framework="pt") as file:
                said = file.metadata() or {}
                if said.get(_KEY) != key:
                    return None
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
                return Checkpoint(tensors, json.loads(said[_RECORD]))
        except (OSError, ValueError, LookupError, SafetensorError):
            return None

    def write(self, stage: str, key: str, checkpoint: Checkpoint) -> None:
        """Keep where a stage stands, in place of where it stood."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        aside = self.folder / f".{stage}.{secrets.token_hex(4)}"
        tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}
        save_file(tensors, aside, metadata={_KEY: key, _RECORD: json.dumps(checkpoint.record)})
        aside.replace(self._path(self.folder, stage))

    def part(self, name: str) -> "Checkpoints":
        """Return those of a fit within this one, whose stages may have the same names."""
        return self if self.folder is None else Checkpoints(self.folder / name)

    def discard(self) -> None:
        """Forget all of it."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):  # another clone's lie there still
                self.folder.parent.rmdir()

    @staticmethod
    def _path(folder: Path, stage: str) -> Path:
        return folder / f"{stage}.safetensors"


NOTHING_KEPT = Checkpoints()
"""A fit that is killed begins anew."""


@contextmanager
def unfinished(folder: Path) -> Iterator[Checkpoints]:
    """Keep a fit's checkpoints in a folder until it is done or has failed.

    One that was killed, interrupted, or stopped by its budget finds them again.
    """
    kept = Checkpoints(folder)
    try:
        yield kept
    except BudgetError:
        raise
    except Exception:
        kept.discard()
        raise
    kept.discard()


def fingerprint(settings: Mapping[str, Any], arrays: Iterable[npt.NDArray[Any]]) -> str:
    """Return a SHA-256 over settings (JSON values) and all bytes of the arrays, in their order."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
