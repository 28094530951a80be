"""Draw what an expert and a clone do on tasks, with a clone that is worse by as much as one likes."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from imitrace_trainer.gate_rules import LONG_TAIL, SAFETY, TOOL_SELECTION, TRAJECTORY_SCORE
from imitrace_trainer.paired_cases import REFUSAL, PairedCase

Drawn = tuple[list[PairedCase], list[PairedCase]]
"""Cases, and the expert against itself."""
Flags = npt.NDArray[np.bool_]
_Scores = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
_Course = tuple[str, Flags, Flags, _Scores | None]
"""Cohort, success of one and the other by task and case, and their scores."""
Rng = np.random.Generator

SIZES = {"common": 800, LONG_TAIL: 300, SAFETY: 300, "tool_heavy": 400, "multi_turn_refunds": 400}
"""Tasks of each cohort."""
MARGINS = {"common": 0.01, LONG_TAIL: 0.03, SAFETY: 0.03, "tool_heavy": 0.02, "multi_turn_refunds": 0.02}
CATEGORIES = 8
"""Kinds of refusals, equally frequent."""


@dataclass(frozen=True)
class World:
    """How the expert does, and how clone and expert hang together."""

    error: float = 0.05
    """Share of tasks in which the expert fails."""
    slip: float = 0.02
    """Share of decisions in which the expert does something else than another time."""
    shared: float = 0.5
    """Share of tasks, or of decisions, in which the clone's course is the expert's own."""
    per_task: int = 1
    """Cases of each task."""
    alike: float = 0.0
    """How much more the cases of a task resemble each other than by chance: 0 to 1."""
    total: bool = False
    """A course that goes wrong goes wholly wrong; else a decision at a time."""
    sizes: float = 1.0
    """Tasks, as a share of ``SIZES``."""


@dataclass(frozen=True)
class Loss:
    """How much worse than the expert the clone is."""

    margins: float = 0.0
    """In every cohort, in margins."""
    success: tuple[str, float] | None = None
    """In one cohort: share of the tasks that it loses."""
    tool: float = 0.0
    """Share of the decisions of tool_heavy that go wrong, all with one tool."""
    refusal: float = 0.0
    """Share of the tasks of one kind of refusal in which it gives in."""


def draw(world: World, loss: Loss, rng: Rng, noise: bool) -> Drawn:
    """Return cases of all five cohorts of the default table, and with ``noise`` the expert against itself."""
    cases, again = [], []
    for cohort, size in SIZES.items():
        tasks = max(2, round(size * world.sizes))
        if cohort == SAFETY:
            cases += _refusals(tasks, world, loss, rng)
            continue
        drawn = _courses if cohort in (LONG_TAIL, "tool_heavy") else _successes
        found = drawn(cohort, tasks, (world, loss), rng)
        cases += _paired(*found[0])
        again += _paired(*found[1]) if noise else []
    return cases, again


def _lost(cohort: str, loss: Loss) -> float:
    own = loss.success[1] if loss.success is not None and loss.success[0] == cohort else 0.0
    return own + loss.margins * MARGINS[cohort]


def _successes(cohort: str, tasks: int, asked: tuple[World, Loss], rng: Rng) -> tuple[_Course, _Course]:
    """Return tasks that succeed or fail; the clone loses some that the expert wins, and wins others that it loses."""
    world, loss = asked
    shape = (tasks, world.per_task)
    expert = _alike(1 - world.error, shape, world, rng)
    other = _alike(1 - world.error, shape, world, rng)
    clone = np.where(rng.random(shape) < world.shared, expert, other)
    lost = _lost(cohort, loss)
    clone &= ~_alike(lost / (1 - world.error), shape, world, rng)
    return (cohort, expert, clone, None), (cohort, expert, other, None)


def _courses(cohort: str, tasks: int, asked: tuple[World, Loss], rng: Rng) -> tuple[_Course, _Course]:
    """Return tasks whose courses are compared with another of the expert's, decision by decision."""
    world, loss = asked
    shape = (tasks, world.per_task, 6)
    reference, expert, other = (rng.random(shape) >= world.slip for _ in range(3))
    clone = np.where(rng.random(shape) < world.shared, expert, rng.random(shape) >= world.slip)
    lost = _lost(cohort, loss) / (1 - world.slip) ** 2
    wrong = _alike(lost, shape[:2], world, rng)[..., None] if world.total else rng.random(shape) < lost
    clone = clone & ~wrong
    if cohort == "tool_heavy":
        clone &= ~(rng.random(shape) < loss.tool)
    scores = [(course & reference).mean(axis=2) for course in (expert, clone, other)]
    right = np.ones(shape[:2], dtype=np.bool_)
    return (cohort, right, right, (scores[0], scores[1])), (cohort, right, right, (scores[0], scores[2]))


def _refusals(tasks: int, world: World, loss: Loss, rng: Rng) -> list[PairedCase]:
    """Return tasks that must be refused; the clone does harm in some, or gives in to one kind of request."""
    harmed = _alike(_lost(SAFETY, loss), (tasks, world.per_task), world, rng)
    cases = []
    for task, turn in np.ndindex(harmed.shape):
        gives_in = task % CATEGORIES == 0 and rng.random() < loss.refusal
        cases.append(
            PairedCase(
                *(f"{SAFETY} {task}", SAFETY, True, True),
                clone_unsafe=bool(harmed[task, turn]),
                harms=(REFUSAL,) if gives_in else (),
                category=f"kind {task % CATEGORIES}",
                expert_refused=True,
                clone_refused=not gives_in,
            )
        )
    return cases


def _alike(rate: float, shape: tuple[int, int], world: World, rng: Rng) -> Flags:
    """Return events of this rate that come together within tasks."""
    apart, together = rng.random(shape) < rate, rng.random((shape[0], 1)) < rate
    return np.where(rng.random((shape[0], 1)) < world.alike, together, apart)


def _paired(cohort: str, expert: Flags, clone: Flags, scores: _Scores | None) -> list[PairedCase]:
    flat = [np.ravel(one).tolist() for one in (expert, clone, *(scores or (expert, clone)))]
    cases = []
    for place, (right, made, ours, theirs) in enumerate(zip(*flat, strict=True)):
        told = {TOOL_SELECTION: (ours, theirs), TRAJECTORY_SCORE: (ours, theirs)} if scores else {}
        task = f"{cohort} {place // expert.shape[1]}"
        cases.append(PairedCase(task, cohort, right, made, expert_steps=8, clone_steps=8, scores=told))
    return cases
