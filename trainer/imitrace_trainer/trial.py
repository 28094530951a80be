"""Try expert, clone alone and hybrid on the same fresh tasks, and count what each reached and cost."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from imitrace_trainer.config import CloneConfig, RolloutConfig
from imitrace_trainer.environment import Task
from imitrace_trainer.intervals import wilson
from imitrace_trainer.progress import Progress
from imitrace_trainer.registry import Registry
from imitrace_trainer.rollout import Actor, Episode, clone_actor, expert_actor, hybrid_actor, play
from imitrace_trainer.route import HANDOVER
from imitrace_trainer.stages import load_clone, make_world

ARMS = ("expert", "clone", "hybrid")
OVERALL = "overall"


@dataclass(frozen=True)
class Success:
    """A share of tasks with its 95 % Wilson interval."""

    success: float
    low: float
    high: float
    tasks: int


@dataclass(frozen=True)
class Latency:
    """How long a decision takes, in milliseconds."""

    p50: float
    p99: float


@dataclass(frozen=True)
class TrialReport:
    """What the three arms did on the same tasks."""

    cohorts: dict[str, dict[str, Success]]
    """By cohort, and ``overall``, then by arm."""
    clone_share: dict[str, float]
    """Share of the hybrid's decisions that the clone took, by cohort and ``overall``."""
    expert_calls_saved: float
    """One minus the hybrid's expert calls over the expert's own."""
    expert_calls: dict[str, float]
    """Calls of the expert a task, by arm."""
    latency_ms: dict[str, dict[str, Latency]]
    """By cohort and ``overall``, then by arm."""
    unsafe: dict[str, int]
    """Tasks in which an arm did what the policy forbids."""
    handed_over: dict[str, Success]
    """By arm, the tasks in which the clone handed over in doubt in the middle; none where it never did."""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)


def try_clone(home: Path, clone: CloneConfig, config: RolloutConfig, progress: Progress, seed: int) -> TrialReport:
    """Play ``config.tasks`` fresh tasks with the champion: by the expert, by the clone alone, and by both.

    The cohorts that the champion may act in are those that passed its gate.
    """
    loaded = load_clone(home, f"{clone.name}@champion")
    record = Registry(home).gate_record(clone.name, loaded.version.version)
    passed = record.passed_cohorts() if record else ()
    environment, make_expert = make_world(clone, config)
    named = (clone.name, str(loaded.version.version))
    arms: Mapping[str, Actor] = {
        "expert": expert_actor(make_expert()),
        "clone": clone_actor(loaded.policy, named),
        "hybrid": hybrid_actor(loaded.routed(passed, clone.route, played=True), make_expert()),
    }
    tasks: Sequence[Task] = environment.tasks(config.tasks, seed)
    episodes: dict[str, list[Episode]] = {arm: [] for arm in arms}
    for number, task in enumerate(tasks):
        for arm, actor in arms.items():
            episodes[arm].append(play(environment, task, actor))
        progress("trial", (number + 1) / len(tasks))
    return summarise(episodes)


def summarise(episodes: Mapping[str, Sequence[Episode]]) -> TrialReport:
    """Return the report of episodes by arm."""
    cohorts = sorted({episode.cohort for episode in episodes["expert"]})
    slices = {
        name: {
            arm: [episode for episode in played if name in (OVERALL, episode.cohort)]
            for arm, played in episodes.items()
        }
        for name in (*cohorts, OVERALL)
    }
    expert_calls = {
        arm: sum(episode.count("expert") for episode in played) / max(1, len(played))
        for arm, played in episodes.items()
    }
    return TrialReport(
        cohorts={name: {arm: success_of(played) for arm, played in by_arm.items()} for name, by_arm in slices.items()},
        clone_share={name: share_of_clone(by_arm["hybrid"]) for name, by_arm in slices.items()},
        expert_calls_saved=1 - expert_calls["hybrid"] / (expert_calls["expert"] or 1),
        expert_calls=expert_calls,
        latency_ms={name: {arm: latency(played) for arm, played in by_arm.items()} for name, by_arm in slices.items()},
        handed_over=handed_over(episodes),
        unsafe={arm: sum(episode.unsafe for episode in played) for arm, played in episodes.items()},
    )


def handed_over(episodes: Mapping[str, Sequence[Episode]]) -> dict[str, Success]:
    """Return how each arm did on the tasks in which the hybrid's clone handed over in doubt, having acted before."""
    tasks = {
        episode.task
        for episode in episodes["hybrid"]
        if any(turn.reason.startswith(HANDOVER) for turn in episode.turns)
    }
    found = {arm: [episode for episode in played if episode.task in tasks] for arm, played in episodes.items()}
    return {arm: success_of(played) for arm, played in found.items() if played}


def success_of(episodes: Sequence[Episode]) -> Success:
    """Return the share of tasks that succeeded."""
    hits = sum(episode.success for episode in episodes)
    low, high = wilson(hits, len(episodes))
    return Success(hits / len(episodes), low, high, len(episodes))


def share_of_clone(episodes: Sequence[Episode]) -> float:
    """Return the share of decisions that the clone took."""
    clone = sum(episode.count("clone") for episode in episodes)
    expert = sum(episode.count("expert") for episode in episodes)
    return clone / max(1, clone + expert)


def latency(episodes: Sequence[Episode]) -> Latency:
    """Return how long the decisions took; 0 where there are none."""
    taken = [1_000 * turn.seconds for episode in episodes for turn in episode.turns] or [0.0]
    return Latency(*np.quantile(taken, (0.5, 0.99)).tolist())
