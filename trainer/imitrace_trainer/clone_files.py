"""Write a clone to a folder and read it back: weights in safetensors, all else in JSON, nothing that runs code."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from imitrace.exceptions import CloneError
from imitrace_trainer.calibration import Calibration
from imitrace_trainer.embedded import EmbeddedPolicy, Knowledge
from imitrace_trainer.encoding import Vocabulary
from imitrace_trainer.network import NetworkConfig

FORMAT = 2
_VOCABULARIES = ("features", "slots", "descriptions")


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


def write_clone(folder: Path, policy: EmbeddedPolicy, card: CloneCard) -> None:
    """Write ``model.safetensors`` and ``clone.json``."""
    tensors = {f"choice.{name}": value for name, value in policy.choice.state_dict().items()}
    tensors |= {f"ranker.{name}": value for name, value in policy.ranker.state_dict().items()}
    for name in _VOCABULARIES:
        vocabulary: Vocabulary = getattr(policy, name)
        tensors[f"vocabulary.{name}.ids"] = torch.from_numpy(vocabulary.ids)
        tensors[f"vocabulary.{name}.idf"] = torch.from_numpy(vocabulary.idf)
    tensors["reference"] = policy.reference
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "model.safetensors")
    record = {
        "format": FORMAT,
        "family": policy.family,
        **asdict(card),
        "network": asdict(policy.config),
        "knowledge": asdict(policy.knowledge),
        "calibration": policy.calibration.to_json(),
    }
    (folder / "clone.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_clone(folder: Path) -> tuple[EmbeddedPolicy, CloneCard]:
    """Return the policy and the card that ``write_clone`` wrote.

    Raises:
        CloneError: a file is missing, damaged, or of another format.
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
        network = {**record["network"], "groups": tuple(record["network"]["groups"])}
        policy = EmbeddedPolicy(NetworkConfig(**network), Knowledge(**record["knowledge"]), _vocabularies(tensors))
        policy.choice.load_state_dict(_part(tensors, "choice."))
        policy.ranker.load_state_dict(_part(tensors, "ranker."))
        policy.reference = tensors["reference"].clone()  # a mapped file's alignment would change the last bits
        policy.calibration = Calibration(**record["calibration"])
        record.setdefault("agent", None)
        card = CloneCard(**{name: record[name] for name in CloneCard.__dataclass_fields__})
        mismatch = _mismatch(policy, record["family"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CloneError(f"clone {folder} can't be read ({reason}): train it again") from error
    if mismatch:
        raise CloneError(f"clone {folder} can't be read ({mismatch}): train it again")
    policy.choice.eval()
    policy.ranker.eval()
    return policy, card


def _mismatch(policy: EmbeddedPolicy, family: str) -> str | None:
    """Say which part of a clone does not fit the others, if any."""
    config = policy.config
    pairs: dict[str, tuple[object, object]] = {
        name: (getattr(policy, name).idf.shape, (getattr(config, name),)) for name in _VOCABULARIES
    }
    pairs["family"] = (family, policy.family)
    pairs["actions"] = (len(policy.knowledge.actions), config.actions)
    pairs["reference"] = (tuple(policy.reference.shape[1:]), (config.hidden,))
    return next((f"{name} is {got}, expected {due}" for name, (got, due) in pairs.items() if got != due), None)


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _vocabularies(tensors: dict[str, torch.Tensor]) -> dict[str, Vocabulary]:
    return {
        name: Vocabulary(
            tensors[f"vocabulary.{name}.ids"].numpy().astype(np.int64),
            tensors[f"vocabulary.{name}.idf"].numpy().astype(np.float32),
        )
        for name in _VOCABULARIES
    }
