"""Fit a dataset's critic, write it beside the clone, and read it back: ``critic.safetensors`` and ``critic.json``."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from imitrace.exceptions import CloneError
from imitrace_trainer.calibration import Calibration
from imitrace_trainer.critic import Critic, CriticisedPolicy
from imitrace_trainer.critic_fit import CriticCase, CriticConfig, fit_critic
from imitrace_trainer.datasets import FAILURES, Dataset
from imitrace_trainer.encoding import Vocabulary
from imitrace_trainer.failures import OUTCOMES
from imitrace_trainer.frames import gather
from imitrace_trainer.policy import Policy, State
from imitrace_trainer.reading import Reader
from imitrace_trainer.veto_rules import VetoRule

FORMAT = 1
_WEIGHTS, _RECORD = "critic.safetensors", "critic.json"


def critic_cases(dataset: Dataset, split: str) -> list[CriticCase]:
    """Return the calls of a split that a critic learns from, with how their trajectories ended.

    They are those that a clone learns from, whose outcome is known, and those of the failures that are kept for the
    critic. What is learnt of a failure in hindsight is proven right, so it is none of its faults, and left out.
    """
    trajectories = dataset.tables(split)["trajectories"]
    again = set(trajectories.filter(pl.col("relabelled_by").is_not_null())["trajectory_id"])
    learnt = (one for one in dataset.examples(split) if one.loss_mask and one.trajectory_id not in again)
    return [
        CriticCase(
            state=State(one.state, one.tools, one.tags),
            action=one.action,
            trajectory=one.trajectory_id,
            task=one.task,
            success=one.outcome == "success",
        )
        for one in (*learnt, *dataset.failures(split))
        if one.action.kind == "tool_call" and one.outcome in ("success", *OUTCOMES)
    ]


def critic_tasks(dataset: Dataset) -> set[str]:
    """Return the tasks of the failures that are kept for the critic: the gate may not play them."""
    return set(gather({"tasks": dataset.frame(FAILURES).select("task").unique()})["tasks"]["task"])


def train_critic(dataset: Dataset, config: CriticConfig, reader: Reader | None = None, seed: int = 0) -> Critic | None:
    """Return the critic of a dataset; None where none is wanted."""
    if not config.enabled:
        return None
    train, calibration = (critic_cases(dataset, split) for split in ("train", "calibration"))
    return fit_critic(train, calibration, config, reader, seed)


def write_critic(folder: Path, critic: Critic) -> None:
    """Write a critic into a clone's folder."""
    ids, weights = torch.from_numpy(critic.vocabulary.ids), torch.from_numpy(critic.weights)
    save_file({"ids": ids.contiguous(), "weights": weights.contiguous()}, folder / _WEIGHTS)
    text = json.dumps({"format": FORMAT, **critic.to_json()}, indent=1)
    (folder / _RECORD).write_text(text + "\n", encoding="utf-8")


def read_critic(folder: Path) -> Critic | None:
    """Return what ``write_critic`` wrote; None where a clone has no critic.

    Raises:
        CloneError: a file is missing, damaged, or of a newer format.
    """
    if not (folder / _RECORD).exists() and not (folder / _WEIGHTS).exists():
        return None
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        if record["format"] > FORMAT:
            raise CloneError(
                f"critic {folder} has format {record['format']}, this imitrace reads up to {FORMAT}: update imitrace"
            )
        tensors = load_file(folder / _WEIGHTS)
        ids = tensors["ids"].numpy().astype(np.int64)
        weights = tensors["weights"].numpy().astype(np.float32)
        if weights.shape != (len(ids) + 1,):
            raise ValueError(f"weights are {weights.shape}, expected {(len(ids) + 1,)}")
        return Critic(
            vocabulary=Vocabulary(ids, np.ones(len(ids), dtype=np.float32)),
            weights=weights,
            calibration=Calibration(**record["calibration"]),
            refused=record["refused"],
            threshold=record["threshold"],
            irreversible_threshold=record["irreversible_threshold"],
            rules=tuple(VetoRule(**rule) for rule in record["rules"]),
            report=record["report"],
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CloneError(f"critic {folder} can't be read ({reason}): train the clone again") from error


def criticised(policy: Policy, folder: Path, reader: Reader) -> Policy:
    """Return a clone's policy under the critic that lies beside it, if one does.

    Raises:
        CloneError: the critic can't be read.
    """
    critic = read_critic(folder)
    if critic is None or (critic.refused is not None and not critic.rules):
        return policy
    return CriticisedPolicy(policy, critic, reader)
