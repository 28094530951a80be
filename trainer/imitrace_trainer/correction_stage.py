"""Correct a registered clone in its environment and make the next version of its dataset of what came of it."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from imitrace.exceptions import CloneError, ConfigError
from imitrace_trainer.clues import allowed
from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.config import CloneConfig, RolloutConfig
from imitrace_trainer.correcting.corrected_episodes import CorrectedEpisode
from imitrace_trainer.correcting.expert_budget import Budget
from imitrace_trainer.correcting.findings import Findings, find
from imitrace_trainer.correcting.rounds import Corrections, World, correct
from imitrace_trainer.correction_rows import (
    SOURCE,
    judging_tasks,
    keep,
    kept,
    with_corrections,
    without_corrections,
)
from imitrace_trainer.critic_files import critic_tasks
from imitrace_trainer.dataset_changes import curated_of
from imitrace_trainer.datasets import Dataset, open_dataset, write_version
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.drift.visited_states import StatesCompared, compare_states, states_by_task
from imitrace_trainer.environment import Environment, Task
from imitrace_trainer.judged_rows import SOURCE as QUEUE
from imitrace_trainer.ladder import climb
from imitrace_trainer.policy import Policy, State
from imitrace_trainer.progress import Progress, silent
from imitrace_trainer.reading import Reader
from imitrace_trainer.stages import demonstrations, load_clone, make_world
from imitrace_trainer.tool_ledger import read_ledger

_PLAIN = CohortConfig(name="", agent="")
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
    states: StatesCompared
    """Whether the states that the clone came to can be told from those that it was trained on."""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        made = self.corrections
        return {
            "clone": self.clone,
            "dataset": {"name": self.dataset.name, "version": self.dataset.version, "path": str(self.dataset.path)},
            "corrected": self.dataset.manifest.get("corrected", {}),
            "rounds": [one.to_json() for one in made.rounds],
            "kept": made.kept,
            "before": made.before,
            "spent": asdict(made.spent),
            "findings": self.findings.to_json(),
            "states": self.states.to_json(),
        }

    def render(self) -> str:
        """Return this for a terminal."""
        made, told = self.corrections, self.dataset.manifest.get("corrected", {})
        lines = []
        for one in made.rounds:
            out = "; ".join(f"{count} {why}" for why, count in sorted(one.rejected.items()))
            success = "" if one.success is None else f", then succeeds in {one.success:.1%} of the held-out tasks"
            tokens = f", {one.spent.tokens} tokens" if one.spent.tokens else ""
            lines.append(
                f"round {one.number}: {one.episodes} episodes, {one.learnt} decisions to learn from, "
                f"{one.spent.calls} calls of the expert, {one.spent.steps} steps{tokens}{success}"
            )
            lines += [f"  ended early: {one.over}"] if one.over else []
            lines += [f"  left out: {out}"] if out else []
        if made.before is not None:
            kept = f"round {made.kept}" if made.kept else "none of the rounds"
            lines.append(f"before: {made.before:.1%} of the held-out tasks; kept: {kept}")
        if made.spent.silent or made.spent.failed:
            kinds = ", ".join(f"{count} {kind}" for kind, count in made.spent.errors.items())
            lines.append(f"the expert said nothing {made.spent.silent} times, failed {made.spent.failed} times {kinds}")
        if self.states.auroc is not None:
            word = "can" if self.states.differ else "can't"
            lines.append(
                f"states that the clone came to {word} be told from those that it was trained on: a classifier's "
                f"AUROC {self.states.auroc:.3f}, p {self.states.p:.2g}"
            )
        lines += self.findings.lines()
        lines.append(
            f"{self.dataset.name} v{self.dataset.version}: {told.get('learnt', 0)} steps of corrections to learn from, "
            f"{told.get('context', 0)} as context, {told.get('failures', 0)} failures for the critic"
        )
        left_out = "; ".join(f"{count} {why}" for why, count in told.get("left_out", {}).items())
        lines += [f"  episodes left out: {left_out}"] if left_out else []
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
        ConfigError: nothing of it would, or may, be learnt.
        DatasetError: the cohort was never curated.
    """
    if clone.rollout is None:
        raise CloneError(
            f"clone {clone.name} has no environment: name it by --env and --expert, or in [clone.{clone.name}.rollout]"
        )
    _check(clone)
    loaded = load_clone(home, reference)
    environment, make_expert = make_world(clone, clone.rollout)
    expert = make_expert()
    if budget.tokens is not None and not hasattr(expert, "tokens"):
        raise ConfigError(f"budget has {budget.tokens} tokens, but {clone.rollout.expert} counts none in 'tokens'")
    dataset = open_dataset(home, clone.cohort.name)
    config, before = clone.correct, kept(home, clone.cohort.name)
    out = judging_tasks(curated_of(dataset)) | {episode.task for episode in before}
    known = out | dataset.tasks() | critic_tasks(dataset)
    world = World(
        environment,
        expert,
        _tasks(environment, clone, config.tasks, config.seed, out),
        _tasks(environment, clone, config.held_out, config.seed + 1, known) if config.rounds > 1 else (),
    )
    train, calibration = (demonstrations(dataset.examples(part)) for part in ("train", "calibration"))

    def learn(shown: Sequence[Demonstration]) -> Policy:
        return climb((shown, calibration), clone.family, replace(clone.train, refit=False), progress).clone

    name = f"{clone.name}:{loaded.version.version}"
    played: list[CorrectedEpisode] = []
    try:
        made = correct(
            loaded.policy,
            world,
            config,
            budget,
            known=train,
            learn=learn,
            horizon=_horizon(dataset),
            mix=clone.cohort.mix,
            into=played,
            progress=progress,
        )
    except BaseException:
        keep(home, clone.cohort.name, _stamped(played, name, clone.rollout.expert))
        raise
    keep(home, clone.cohort.name, _stamped(made.episodes, name, clone.rollout.expert))
    compared = compare_states(states_by_task(train), _came_to(made.episodes), Reader())
    version = version_with(home, clone, dataset)
    return Corrected(name, version, made, find(made.episodes, made.rounds, _weight(version)), compared)


def _weight(dataset: Dataset) -> float:
    """Return how often each corrected decision counts in a version, beside one of the recordings."""
    return float(dataset.manifest.get("corrected", {}).get("weight", 1.0))


def _came_to(episodes: Sequence[CorrectedEpisode]) -> dict[str, list[State]]:
    """Return the states in which the clone acted, by task."""
    return {
        one.task: [State(one.messages[: step.seen], one.tools, one.tags) for step in one.steps if step.actor == "clone"]
        for one in episodes
        if any(step.actor == "clone" for step in one.steps)
    }


def _check(clone: CloneConfig) -> None:
    """Refuse what would be paid for and then not be learnt, or never may be.

    Raises:
        ConfigError: says what.
    """
    cohort, rollout = clone.cohort, clone.rollout
    where, problem = f"clone.{clone.name}.correct", None
    if not clone.correct.mask:
        problem = f"{where}.mask is false: a clone would learn its own mistakes; see benchmarks/on_policy.py"
    elif not cohort.corrected:
        problem = f"cohort.{cohort.name}.corrected is false, so nothing of it would be learnt; set it to true"
    elif clone.correct.method != "own" and "expert" not in cohort.roles:
        problem = f"cohort.{cohort.name}.roles lacks 'expert', so nothing of it would be learnt"
    elif cohort.split.near is not None:
        problem = f"cohort.{cohort.name}.split.near keeps new tasks out, which could be like one that is judged on"
    elif rollout is not None and not allowed(rollout.expert, cohort.licences):
        problem = f"cohort.{cohort.name}.licences forbids to learn from {rollout.expert}"
    elif rollout is not None and rollout.seed in (clone.correct.seed, clone.correct.seed + 1):
        problem = f"{where}.seed is {clone.correct.seed}: its tasks, or those after, are the gate's; take another"
    if problem is not None:
        raise ConfigError(problem)


def _stamped(episodes: Sequence[CorrectedEpisode], name: str, expert: str) -> list[CorrectedEpisode]:
    now = time.time_ns()
    return [replace(one, clone=name, expert=expert, at=now + place) for place, one in enumerate(episodes)]


def version_with(home: Path, clone: CloneConfig, dataset: Dataset) -> Dataset:
    """Return the next version of a dataset, with all corrected episodes that are kept for its cohort."""
    episodes: list[CorrectedEpisode] = kept(home, clone.cohort.name)
    rules = read_ledger(home).rules(clone.cohort.agent)
    curated = with_corrections(without_corrections(curated_of(dataset)), episodes, clone.cohort, rules)
    said = {key: dataset.manifest[key] for key in ("cohort", "spec", "source")}
    asked = {"corrected": clone.cohort.corrected, "mix": clone.cohort.mix}
    spec = {key: value for key, value in asked.items() if value != getattr(_PLAIN, key)}
    before = {key: value for key, value in said["spec"].items() if key not in asked}
    said |= {"cohort": said["cohort"] | asked, "spec": before | spec}
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


def _tasks(environment: Environment, clone: CloneConfig, count: int, seed: int, out: set[str]) -> Sequence[Task]:
    wanted = clone.cohort.tags.items()
    drawn = environment.tasks(count, seed, clone.correct.cohort or None)
    return [task for task in drawn if task.id not in out and all(task.tags.get(tag) == one for tag, one in wanted)]


def _horizon(dataset: Dataset) -> int:
    """Return how many steps nine in ten of the trajectories have at most."""
    recorded = dataset.tables("train")["trajectories"].filter(~pl.col("source").is_in([SOURCE, QUEUE]))
    lengths = recorded.select(pl.col("step_count").quantile(_LONG, "higher"))
    return int(lengths.item() or 1)
