"""Correct a registered clone in its environment and make the next version of its dataset of what came of it."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from imitrace.exceptions import CloneError, ConfigError
from imitrace_trainer.config import CloneConfig, RolloutConfig
from imitrace_trainer.correcting.config import CorrectConfig
from imitrace_trainer.correcting.corrected_episodes import CorrectedEpisode
from imitrace_trainer.correcting.expert_budget import Budget
from imitrace_trainer.correcting.findings import Findings, find
from imitrace_trainer.correcting.rounds import Corrections, World, correct
from imitrace_trainer.correction_rows import keep, kept, with_corrections, without_corrections
from imitrace_trainer.dataset_changes import curated_of
from imitrace_trainer.datasets import Dataset, open_dataset, write_version
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.environment import Environment, Task, check_environment
from imitrace_trainer.ladder import climb
from imitrace_trainer.policy import Policy
from imitrace_trainer.progress import Progress, silent
from imitrace_trainer.stages import demonstrations, load_clone, make_world
from imitrace_trainer.tool_ledger import read_ledger

_LONG = 0.9
"""Share of the trajectories that are at most as long as the longest beginning."""


@dataclass(frozen=True)
class Corrected:
    """What correcting a clone gave."""

    clone: str
    dataset: Dataset
    """The version that has the corrections; the one before where nothing came of them."""
    corrections: Corrections
    findings: Findings

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        made = self.corrections
        return {
            "clone": self.clone,
            "dataset": {"name": self.dataset.name, "version": self.dataset.version, "path": str(self.dataset.path)},
            "corrected": self.dataset.manifest.get("corrected", {}),
            "rounds": [one.to_json() for one in made.rounds],
            "best": made.best,
            "before": made.before,
            "spent": asdict(made.spent),
            "findings": self.findings.to_json(),
        }

    def render(self) -> str:
        """Return this for a terminal."""
        made, told = self.corrections, self.dataset.manifest.get("corrected", {})
        lines = []
        for one in made.rounds:
            out = "; ".join(f"{count} {why}" for why, count in sorted(one.rejected.items()))
            success = "" if one.success is None else f", then succeeds in {one.success:.1%} of the held-out tasks"
            lines.append(
                f"round {one.number}: {one.episodes} episodes, {one.learnt} decisions to learn from, "
                f"{one.spent.calls} calls of the expert, {one.spent.steps} steps{success}"
            )
            lines += [f"  left out: {out}"] if out else []
        if made.before is not None:
            lines.append(f"before: {made.before:.1%} of the held-out tasks; best round: {made.best or 'none'}")
        if made.spent.silent or made.spent.failed:
            kinds = ", ".join(f"{count} {kind}" for kind, count in made.spent.errors.items())
            lines.append(f"the expert said nothing {made.spent.silent} times, failed {made.spent.failed} times {kinds}")
        lines += [f"! {sign}" for sign in self.findings.signs]
        lines.append(
            f"{self.dataset.name} v{self.dataset.version}: {told.get('learnt', 0)} steps of corrections to learn from, "
            f"{told.get('context', 0)} as context, {told.get('failures', 0)} failures for the critic"
        )
        return "\n".join([*lines, str(self.dataset.path)])


def correct_stage(
    home: Path, clone: CloneConfig, reference: str, budget: Budget, progress: Progress = silent
) -> Corrected:
    """Correct a clone as its ``correct`` table says, keep what came of it, and make a dataset version with it.

    Args:
        home: the workspace.
        clone: its configuration; ``rollout`` names the environment and the expert.
        reference: which version begins the episodes.
        budget: what it may cost.
        progress: told how far it is.

    Raises:
        CloneError: there is no environment, it can't be reset, is not deterministic, or has no tasks but those that
            clones are judged by.
        ConfigError: the clone's own unverified steps are to be learnt.
        DatasetError: the cohort was never curated.
    """
    if clone.rollout is None:
        raise CloneError(
            f"clone {clone.name} has no environment: name it by --env and --expert, or in [clone.{clone.name}.rollout]"
        )
    if not clone.correct.mask:
        raise ConfigError(
            f"clone.{clone.name}.correct.mask is false: a clone would learn its own mistakes; "
            "that is for measurements, see benchmarks/on_policy.py"
        )
    loaded = load_clone(home, reference)
    environment, make_expert = make_world(clone, clone.rollout)
    check_environment(environment)
    dataset = open_dataset(home, clone.cohort.name)
    config = clone.correct
    world = World(
        environment,
        make_expert(),
        _tasks(environment, dataset, config, config.tasks, config.seed),
        _tasks(environment, dataset, config, config.held_out, config.seed + 1) if config.rounds > 1 else (),
    )
    train, calibration = (demonstrations(dataset.examples(part)) for part in ("train", "calibration"))

    def learn(shown: Sequence[Demonstration]) -> Policy:
        return climb((shown, calibration), clone.family, clone.train, progress).clone

    made = correct(
        loaded.policy,
        world,
        config,
        budget,
        known=train,
        learn=learn,
        horizon=_horizon(dataset),
        mix=clone.cohort.mix,
        progress=progress,
    )
    now, name = time.time_ns(), f"{clone.name}:{loaded.version.version}"
    episodes = [replace(one, clone=name, at=now + place) for place, one in enumerate(made.episodes)]
    keep(home, clone.cohort.name, episodes)
    return Corrected(name, version_with(home, clone, dataset), made, find(episodes, made.rounds))


def version_with(home: Path, clone: CloneConfig, dataset: Dataset) -> Dataset:
    """Return the next version of a dataset, with all corrected episodes that are kept for its cohort."""
    episodes: list[CorrectedEpisode] = kept(home, clone.cohort.name)
    rules = read_ledger(home).rules(clone.cohort.agent)
    curated = with_corrections(without_corrections(curated_of(dataset)), episodes, clone.cohort, rules)
    said = {key: dataset.manifest[key] for key in ("cohort", "spec", "source")}
    return write_version(home, dataset.name, curated, said)


def with_world(clone: CloneConfig, environment: str | None, expert: str | None) -> CloneConfig:
    """Return a clone's configuration with another environment or expert, where one is named.

    Raises:
        ConfigError: one is named and the other known from nowhere.
    """
    if environment is None and expert is None:
        return clone
    known = clone.rollout
    env, who = environment or (known and known.environment), expert or (known and known.expert)
    if not env or not who:
        raise ConfigError(f"clone {clone.name} needs both --env and --expert, or [clone.{clone.name}.rollout]")
    base = known or RolloutConfig(environment=env, expert=who)
    options = base.expert_options if expert is None else {}
    return replace(clone, rollout=replace(base, environment=env, expert=who, expert_options=options))


def _tasks(environment: Environment, dataset: Dataset, config: CorrectConfig, count: int, seed: int) -> Sequence[Task]:
    judged = dataset.tasks("calibration") | dataset.tasks("gate")
    return [task for task in environment.tasks(count, seed, config.cohort or None) if task.id not in judged]


def _horizon(dataset: Dataset) -> int:
    """Return how many steps nine in ten of the trajectories have at most."""
    lengths = dataset.tables("train")["trajectories"].select(pl.col("step_count").quantile(_LONG, "higher"))
    return int(lengths.item() or 1)
