"""Say what a clone was made of: code, seeds, rows, masks, whose decisions by which licence, and tools."""

import hashlib
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

import polars as pl

import imitrace
from imitrace.canonical import content_hash
from imitrace_trainer.cohort import SPLITS, CohortConfig
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.datasets import Dataset
from imitrace_trainer.frames import gather
from imitrace_trainer.seal import RECORD, file_hash, read_record
from imitrace_trainer.tool_ledger import ToolRules

_PROMISES = ("error", "irreversible_error", "confidence", "irreversible", "second_key")
"""Settings of the route that training heeds."""
_PACKAGES = ("torch", "numpy", "polars", "safetensors")


def passport(dataset: Dataset, clone: CloneConfig, rules: ToolRules, fitted: Sequence[str]) -> dict[str, Any]:  # JSON
    """Return what a clone that is trained on some splits of a dataset now is made of, as JSON values."""
    return {
        "code": {
            "imitrace": installed_version("imitrace"),
            "sources": sources_hash(),
            "python": platform.python_version(),
            "packages": {name: installed_version(name) for name in _PACKAGES},
        },
        "recipe": recipe(dataset, clone, rules),
        "seeds": {"train": clone.train.seed, "split": clone.cohort.split.seed},
        "dataset": {
            "name": dataset.name,
            "version": dataset.version,
            "hash": dataset.hash,
            "tables": dataset.manifest["content"],
        },
        "masks": mask_report(dataset),
        "learned_from": learned_from(dataset, clone.cohort, fitted),
        "tools": {"ledger_of_dataset": dataset.manifest["tools"]["ledger"], "ledger_of_training": rules.hash},
    }


def recipe(dataset: Dataset, clone: CloneConfig, rules: ToolRules) -> str:
    """Return a hash of all that a clone follows from: code, rows, settings, and what is decided about tools.

    Who trains by the same recipe again gets nothing new.
    """
    promised = {key: value for key, value in clone.route.to_json().items() if key in _PROMISES}
    asked = {"family": clone.family, "train": asdict(clone.train), "critic": asdict(clone.critic), "route": promised}
    tools = {"rules": rules.hash, "irreversible": sorted(rules.irreversible)}
    return content_hash({"sources": sources_hash(), "dataset": dataset.hash, "asked": asked, "tools": tools})


def mask_report(dataset: Dataset) -> dict[str, dict[str, Any]]:  # JSON
    """Return for each split how many steps count and, by reason, how many are context only."""
    steps = dataset.frame("steps").group_by("split", "loss_mask", "mask_reason").len()
    counted = gather({"masks": steps})["masks"].sort("split", "mask_reason")
    report: dict[str, dict[str, Any]] = {split: {"counted": 0, "masked": {}} for split in SPLITS}
    for split, mask, reason, count in counted.iter_rows():
        if mask:
            report[split]["counted"] += count
        else:
            report[split]["masked"][reason or "no reason given"] = count
    return report


def learned_from(dataset: Dataset, cohort: CohortConfig, fitted: Sequence[str]) -> list[dict[str, Any]]:  # JSON
    """Return whose decisions are trained on, how many of each, and what the cohort says of the licence."""
    who = ["policy_role", "policy_name", "policy_version"]
    steps = dataset.frame("steps").filter(pl.col("loss_mask") & pl.col("split").is_in(fitted)).group_by(who).len()
    return [
        {"role": role, "policy": name, "version": version, "steps": count, "licence": _licence(name, cohort)}
        for role, name, version, count in gather({"steps": steps})["steps"].sort(*who, nulls_last=True).iter_rows()
    ]


def write_passport(folder: Path, told: dict[str, Any]) -> None:  # JSON
    """Put a passport into the ``clone.json`` of a folder."""
    path = folder / RECORD
    path.write_text(json.dumps(read_record(folder) | {"passport": told}, indent=1) + "\n", encoding="utf-8")


def sources_hash() -> str:
    """Return one hash over the sources that train: every module of the trainer and of the SDK below it."""
    lines = []
    for root in (Path(imitrace.__file__).parent, Path(__file__).parent):
        paths = sorted(path for path in root.rglob("*.py") if "examples" not in path.relative_to(root).parts)
        lines += [f"{root.name}/{path.relative_to(root).as_posix()} {file_hash(path)}\n" for path in paths]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _licence(policy: str | None, cohort: CohortConfig) -> dict[str, str] | None:
    """Return the first pattern of the cohort that fits, and its verdict; None where none does: nobody decided."""
    found = ((pattern, said) for pattern, said in cohort.licences.items() if fnmatchcase(policy or "", pattern))
    return next(({"pattern": pattern, "verdict": said} for pattern, said in found), None)
