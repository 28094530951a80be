"""Correct a clone in rounds: play, let the expert say what is right, learn from it together with what was known, judge.

Which round is kept is said by tasks that none of them was corrected on (Ross, Gordon and Bagnell 2011: the best of all
rounds, not the last). Which is best on a few tasks is chance, and an earlier round knows less of what was paid for: so
the last is kept unless an earlier one is proven better. A round's share of the budget is what is left, divided by the
rounds that are left.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from random import Random
from statistics import fmean
from typing import Any

from imitrace.canonical import text_hash
from imitrace.exceptions import CloneError
from imitrace_trainer.correcting.config import CorrectConfig
from imitrace_trainer.correcting.corrected_episodes import CorrectedEpisode, CorrectedStep
from imitrace_trainer.correcting.expert_budget import AskedExpert, Budget, Spent
from imitrace_trainer.correcting.mixing import weight_of
from imitrace_trainer.correcting.playing import Round, play_corrected
from imitrace_trainer.correcting.rewinding import Rewinder
from imitrace_trainer.correcting.switches import make_switch
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.environment import Environment, Expert, Task
from imitrace_trainer.intervals import rate_at_most
from imitrace_trainer.policy import Policy, State, same_action
from imitrace_trainer.progress import Progress, silent
from imitrace_trainer.rollout import clone_actor, play

Learn = Callable[[Sequence[Demonstration]], Policy]
"""Fit a clone to decisions."""


@dataclass(frozen=True)
class World:
    """Where corrections are made."""

    environment: Environment
    expert: Expert
    tasks: Sequence[Task]
    """To be corrected on, in this order."""
    held_out: Sequence[Task] = ()
    """To choose the best of several rounds by."""


@dataclass(frozen=True)
class RoundReport:
    """What one round did."""

    number: int
    episodes: int
    rejected: dict[str, int]
    """Episodes of which nothing is learnt, by why."""
    learnt: int
    """Decisions to learn from."""
    spent: Spent
    """In this round alone."""
    over: str | None
    """What was used up; None: the tasks were."""
    success: float | None = None
    """Share of the held-out tasks in which the clone that was fitted afterwards succeeds alone; None: not asked."""
    otherwise: int | None = None
    """Of ``learnt``, how many the clone that played would have decided otherwise; None: not asked."""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)


@dataclass
class Corrections:
    """What all rounds together gave."""

    episodes: list[CorrectedEpisode] = field(default_factory=list)
    """Of the rounds up to the one that is kept."""
    rounds: list[RoundReport] = field(default_factory=list)
    kept: int = 0
    """Number of the round that is kept; 0: what there was before is proven better than all."""
    before: float | None = None
    """Share of the held-out tasks in which the clone succeeded before."""
    spent: Spent = field(default_factory=Spent)


def correct(  # noqa: PLR0913 - what corrections are made of, each named at the call
    student: Policy,
    world: World,
    config: CorrectConfig,
    budget: Budget,
    *,
    known: Sequence[Demonstration] = (),
    learn: Learn | None = None,
    horizon: int = 8,
    mix: float = 0.0,
    into: list[CorrectedEpisode] | None = None,
    progress: Progress = silent,
) -> Corrections:
    """Correct a clone and return what is to be learnt.

    Args:
        student: the clone.
        world: where, by whom, and on which tasks.
        config: how.
        budget: what it may cost in all rounds.
        known: the decisions that the clone learnt from; several rounds learn from these and from corrections.
        learn: fits a clone; needed for several rounds.
        horizon: the longest beginning that is drawn where the configuration names none.
        mix: share of what is learnt that corrections are to be; 0: each counts as any other decision.
        into: where every episode is put as it ends, so that what was paid is not lost with an error.
        progress: told how far it is.

    Raises:
        CloneError: there is no task to be corrected on, several rounds are asked for and nothing is there to fit or to
            judge by, or the environment is not deterministic.
    """
    if not world.tasks:
        raise CloneError("there is no task to be corrected on, needed: 1 or more")
    if config.rounds > 1 and (learn is None or not world.held_out):
        raise CloneError(f"{config.rounds} rounds need a way to fit and tasks to judge by; ask for one")
    found = Corrections()
    judged = [succeeds(student, world)] if config.rounds > 1 else []
    found.before = fmean(judged[0]) if judged else None
    all_episodes: list[CorrectedEpisode] = [] if into is None else into
    tasks = iter(world.tasks)
    for number in range(1, config.rounds + 1):
        limit = _share_of(budget, found.spent, config.rounds - number + 1)
        report = _round(number, student, tasks, world, config, limit, horizon, progress, all_episodes)
        _add(found.spent, report.spent)
        if config.rounds > 1 and learn is not None:
            lessons = lessons_of(all_episodes)
            student = learn([*known, *mixed(lessons, len(known), mix)])
            judged.append(succeeds(student, world))
            report = replace(report, success=fmean(judged[-1]))
        found.rounds.append(report)
    found.kept = last_not_worse(judged) if judged else 1
    found.episodes = [episode for episode in all_episodes if episode.round <= found.kept]
    return found


def succeeds(policy: Policy, world: World) -> list[bool]:
    """Return for each held-out task whether a policy succeeds alone."""
    actor = clone_actor(policy)
    return [play(world.environment, task, actor).success for task in world.held_out]


def last_not_worse(judged: Sequence[Sequence[bool]]) -> int:
    """Return the place of the last that none before it is proven better than, by the sign test on the same tasks.

    Args:
        judged: of each, whether it succeeds in each task.
    """
    for place in range(len(judged) - 1, 0, -1):
        if not any(_proven_better(earlier, judged[place]) for earlier in judged[:place]):
            return place
    return 0


def _proven_better(one: Sequence[bool], other: Sequence[bool]) -> bool:
    lost = sum(right < wrong for right, wrong in zip(one, other, strict=True))
    differ = sum(right != wrong for right, wrong in zip(one, other, strict=True))
    return differ > 0 and rate_at_most(lost, differ, 0.5)


def lessons_of(episodes: Sequence[CorrectedEpisode]) -> list[Demonstration]:
    """Return what is to be learnt of episodes."""
    return [
        Demonstration(_seen(one, step), step.label, one.task)
        for one in episodes
        for _, step in one.learnt()
        if step.label is not None
    ]


def _seen(episode: CorrectedEpisode, step: CorrectedStep) -> State:
    return State(episode.messages[: step.seen], episode.tools, episode.tags)


def mixed(lessons: Sequence[Demonstration], known: int, mix: float) -> Iterator[Demonstration]:
    """Yield corrections as often as makes them the share ``mix`` of all that is learnt; once each where it is 0."""
    times = weight_of(len(lessons), known, mix)
    for place, lesson in enumerate(lessons):
        draw = int(text_hash(f"{lesson.task}:{place}")[:8], 16) / 2**32
        for _ in range(int(times) + (draw < times % 1)):
            yield lesson


def _round(  # noqa: PLR0913 - one call, from above
    number: int,
    student: Policy,
    tasks: Iterator[Task],
    world: World,
    config: CorrectConfig,
    limit: Budget,
    horizon: int,
    progress: Progress,
    into: list[CorrectedEpisode],
) -> RoundReport:
    spent = Spent()
    expert, rewinder = AskedExpert(world.expert, limit, spent), Rewinder(world.environment)
    most = -(-len(world.tasks) // config.rounds)
    begun = len(into)
    for task in tasks:
        draw = Random(f"{config.seed}/{number}/{task.id}")
        switch = make_switch(config.switch, config.threshold, config.horizon or horizon, draw)
        into.append(play_corrected(rewinder, task, Round(number, student, expert, config, switch, draw)))
        done = len(into) - begun
        progress(f"round {number}", max(done / most, _used(spent, limit)))
        if expert.over is not None or done >= most:
            break
    episodes = into[begun:]
    rejected = Counter(episode.rejected for episode in episodes if episode.rejected)
    learnt = sum(len(list(episode.learnt())) for episode in episodes)
    other = otherwise(student, episodes) if config.rounds > 1 else None
    return RoundReport(number, len(episodes), dict(rejected), learnt, spent, expert.over, otherwise=other)


def otherwise(student: Policy, episodes: Sequence[CorrectedEpisode]) -> int:
    """Return of how many decisions to learn a clone would do otherwise; where it acted, it is not asked again."""
    return sum(
        not same_action(done, step.label)
        for one in episodes
        for _, step in one.learnt()
        if step.label is not None
        for done in [step.executed if step.actor == "clone" else student.act(_seen(one, step)).action]
    )


def _share_of(budget: Budget, spent: Spent, rounds: int) -> Budget:
    """Return what one round may cost: what is left, divided by the rounds that are left."""
    left = {
        name: None if (limit := getattr(budget, name)) is None else max(0, limit - getattr(spent, name)) // rounds
        for name in ("calls", "steps", "tokens")
    }
    return Budget(**left)


def _used(spent: Spent, limit: Budget) -> float:
    shares = [
        getattr(spent, name) / max(1, most)
        for name in ("calls", "steps", "tokens")
        if (most := getattr(limit, name)) is not None
    ]
    return min(1.0, max(shares, default=0.0))


def _add(total: Spent, more: Spent) -> None:
    for name in ("calls", "steps", "tokens", "silent", "failed", "rejected"):
        setattr(total, name, getattr(total, name) + getattr(more, name))
    for kind, count in more.errors.items():
        total.errors[kind] = total.errors.get(kind, 0) + count
