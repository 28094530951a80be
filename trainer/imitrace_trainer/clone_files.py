"""Write a clone to a folder and read it back: weights in safetensors, all else in JSON, nothing that runs code."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from imitrace.exceptions import CloneError
from imitrace_trainer.calibration import Calibration
from imitrace_trainer.families import FAMILIES
from imitrace_trainer.family import Clone, Parts
from imitrace_trainer.reply_writer import restored

FORMAT = 7

_WEIGHTS = "model.safetensors"
_SECOND_WEIGHTS = "second.safetensors"


@dataclass(frozen=True)
class CloneCard:
    """What a clone's ``clone.json`` says besides the policy itself."""

    name: str
    dataset: str
    dataset_version: int
    dataset_hash: str
    created_at: str
    imitrace: str
    training: dict[str, Any]
    """The configuration that it was trained with, and what the fit reached."""
    route: dict[str, Any]
    """The thresholds chosen on the calibration tasks."""
    agent: str | None = None
    """Whose clone it is; None where the file does not say."""
    relied: dict[str, Any] = field(default_factory=dict)
    """The tools that its cohorts were learnt with, see ``relied_tools``."""

    @property
    def fitted(self) -> tuple[str, ...]:
        """The splits that its weights were fitted to."""
        return ("train", "calibration") if self.training.get("refit") else ("train",)


def write_clone(folder: Path, clone: Clone, card: CloneCard, second: Clone | None = None) -> None:
    """Write ``model.safetensors`` and ``clone.json``, and those of a second key beside them if there is one."""
    for kept, weights, name in ((clone, _WEIGHTS, "clone.json"), (second, _SECOND_WEIGHTS, "second.json")):
        if kept is None:
            continue
        parts = kept.parts()
        save_file({name: value.contiguous() for name, value in parts.tensors.items()}, folder / weights)
        told = {"format": FORMAT, "family": kept.family, **(asdict(card) if kept is clone else {})}
        record = {**told, **parts.record, "calibration": kept.calibration.to_json()}
        (folder / name).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_clone(folder: Path) -> tuple[Clone, CloneCard]:
    """Return the clone and the card that ``write_clone`` wrote.

    Raises:
        CloneError: a file is missing, damaged, or of another format, or the family is unknown.
    """
    with _readable(folder):
        clone, record = _read(folder, _WEIGHTS, "clone.json")
        return clone, CloneCard(**{name: record[name] for name in CloneCard.__dataclass_fields__})


def read_second(folder: Path) -> Clone | None:
    """Return the second key that ``write_clone`` wrote, None where there is none.

    Raises:
        CloneError: it is damaged, or of another format.
    """
    if not (folder / "second.json").exists():
        return None
    with _readable(folder):
        return _read(folder, _SECOND_WEIGHTS, "second.json")[0]


def _read(folder: Path, weights: str, name: str) -> tuple[Clone, dict[str, Any]]:
    record = json.loads((folder / name).read_text(encoding="utf-8"))
    if record["format"] > FORMAT:
        raise CloneError(
            f"clone {folder} has format {record['format']}, this imitrace reads up to {FORMAT}: update imitrace"
        )
    if record["format"] < FORMAT:
        raise CloneError(f"clone {folder} has format {record['format']}, this imitrace reads {FORMAT}: train it again")
    parts = Parts(load_file(folder / weights), record)
    clone = FAMILIES[record["family"]].read(parts)
    clone.calibration = Calibration(**record["calibration"])
    return restored(clone, parts), record


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CloneError(f"clone {folder} can't be read ({reason}): train it again") from error
