"""Write a clone to a folder and read it back: weights in safetensors, all else in JSON, nothing that runs code."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from imitrace.exceptions import CloneError
from imitrace_trainer.calibration import Calibration
from imitrace_trainer.families import FAMILIES
from imitrace_trainer.family import Clone, Parts
from imitrace_trainer.reply_writer import restored

FORMAT = 3


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


def write_clone(folder: Path, clone: Clone, card: CloneCard) -> None:
    """Write ``model.safetensors`` and ``clone.json``."""
    parts = clone.parts()
    save_file({name: value.contiguous() for name, value in parts.tensors.items()}, folder / "model.safetensors")
    record = {
        "format": FORMAT,
        "family": clone.family,
        **asdict(card),
        **parts.record,
        "calibration": clone.calibration.to_json(),
    }
    (folder / "clone.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_clone(folder: Path) -> tuple[Clone, CloneCard]:
    """Return the clone and the card that ``write_clone`` wrote.

    Raises:
        CloneError: a file is missing, damaged, or of another format, or the family is unknown.
    """
    try:
        record = json.loads((folder / "clone.json").read_text(encoding="utf-8"))
        if record["format"] > FORMAT:
            raise CloneError(
                f"clone {folder} has format {record['format']}, this imitrace reads up to {FORMAT}: update imitrace"
            )
        if record["format"] < FORMAT:
            raise CloneError(
                f"clone {folder} has format {record['format']}, this imitrace reads {FORMAT}: train it again"
            )
        tensors = load_file(folder / "model.safetensors")
        parts = Parts(tensors, record)
        clone = FAMILIES[record["family"]].read(parts)
        clone.calibration = Calibration(**record["calibration"])
        clone = restored(clone, parts)
        record.setdefault("agent", None)
        card = CloneCard(**{name: record[name] for name in CloneCard.__dataclass_fields__})
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CloneError(f"clone {folder} can't be read ({reason}): train it again") from error
    return clone, card
