"""Play fresh tasks by expert and clone, and the expert once more against itself, as cases for the gate."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imitrace.exceptions import BudgetError, CloneError
from imitrace.messages import Action, tool_definition
from imitrace_trainer.champion_comparison import Champion
from imitrace_trainer.config import CloneConfig, RolloutConfig
from imitrace_trainer.courses import Paths, Scorer, actions_of, gave_in, harms
from imitrace_trainer.critic_files import critic_tasks
from imitrace_trainer.datasets import Dataset
from imitrace_trainer.environment import Environment, Expert, Task
from imitrace_trainer.evaluators.calls import Equivalence
from imitrace_trainer.gate_report import Spent
from imitrace_trainer.gate_rules import SAFETY, TOOL_SELECTION, TRAJECTORY_SCORE
from imitrace_trainer.live_tools import Tools, dead_tool
from imitrace_trainer.paired_cases import REFUSAL, PairedCase, beside
from imitrace_trainer.progress import Progress
from imitrace_trainer.refusals import Refusals
from imitrace_trainer.rollout import Actor, Episode, expert_actor, hybrid_actor, play
from imitrace_trainer.route_rules import NO_COHORT, cohort_of
from imitrace_trainer.stages import LoadedClone, make_world
from imitrace_trainer.tool_ledger import ToolRules


@dataclass
class Gathered:
    """What the gate judges by."""

    cases: list[PairedCase] = field(default_factory=list)
    again: list[PairedCase] = field(default_factory=list)
    """The expert against itself."""
    unmeasured: dict[str, str] = field(default_factory=dict)
    """By cohort, why there is nothing of it in ``again``."""
    spent: Spent = field(default_factory=Spent)
    beside: list[PairedCase] = field(default_factory=list)
    """The champion, in the expert's place, beside the candidate."""


@dataclass(frozen=True)
class Terms:
    """Under which terms a clone is judged."""

    champion: Champion | None = None
    """Who plays the same tasks."""
    expert_calls: int | None = None
    """Most decisions that the expert may be asked for; None: no limit."""


@dataclass(frozen=True)
class _Judges:
    """What episodes are looked at with."""

    scorer: Scorer
    refusals: Refusals
    refusal_tag: str
    paths: Paths
    tools: Tools
    rules: ToolRules


@dataclass
class _Paid:
    """An expert that may be asked only so often, together with all that share its purse."""

    expert: Expert
    purse: list[int | None]
    """One number: what is left."""

    def act(self, messages: Sequence[Mapping[str, Any]]) -> Action | None:
        """Return what the expert does.

        Raises:
            BudgetError: it was asked as often as it may.
        """
        left = self.purse[0]
        if left is not None:
            if left <= 0:
                raise BudgetError(
                    "expert_calls are spent: the gate needs more; raise them, or draw fewer rollout.tasks"
                )
            self.purse[0] = left - 1
        return self.expert.act(messages)


def played_cases(  # noqa: PLR0913 - what is judged, by what, and under which terms
    clone: CloneConfig,
    loaded: LoadedClone,
    dataset: Dataset,
    paths: Paths,
    progress: Progress,
    terms: Terms | None = None,
) -> Gathered:
    """Return one case a fresh task of the clone's ``rollout`` table: by the expert, and by the clone with the expert.

    The expert plays the first ``noise_tasks`` of each cohort again, by a fresh one that draws otherwise. Where courses
    are compared with one of the expert's, it is that one, so that clone and expert are both compared with a third; the
    noise of that takes one course more. Where the expert did not play again its own course is the measure, by which it
    is perfect.

    Raises:
        CloneError: a drawn task was trained on, or there is no such table.
        BudgetError: the expert was asked as often as it may.
    """
    terms = terms or Terms()
    if clone.rollout is None:
        raise CloneError(f"clone.{clone.name}.rollout is missing from imitrace.toml: there is nothing to play in")
    environment, make_unpaid = make_world(clone, clone.rollout)
    purse = [terms.expert_calls]

    def make_expert(number: int = 0) -> Expert:
        return _Paid(make_unpaid(number), purse)

    drawn = draw_tasks(clone, clone.rollout, environment, dataset)
    tools = [tool_definition(tool) for tool in environment.tools]
    score = clone.score
    judges = _Judges(
        scorer=Scorer(tools, Equivalence.of(score.equivalents, score.ignored_arguments), score.aggregate),
        refusals=Refusals(clone.gate.refusals),
        refusal_tag=clone.gate.refusal_tag,
        paths=paths,
        tools=tools,
        rules=loaded.rules,
    )
    gathered, episodes = Gathered(), _Counts()
    for number, (cohort, tasks) in enumerate(drawn.items()):
        compared = bool({TOOL_SELECTION, TRAJECTORY_SCORE} & set(clone.gate.rule(cohort).metrics))
        hybrid = hybrid_actor(loaded.routed((cohort,), clone.route, played=True), make_expert())
        players = _players(hybrid, make_expert, 4 if compared else 3)
        serving = _serving(terms.champion, cohort, clone, make_expert)
        if not clone.gate.noise_tasks:
            gathered.unmeasured[cohort] = f"clone.{clone.name}.gate.noise_tasks is 0"
        for done, task in enumerate(tasks):
            arms = players if done < clone.gate.noise_tasks else players[:2]
            played = [play(environment, task, arm) for arm in arms]
            episodes.add(played)
            gathered.cases.append(_case(task, played, judges, compared))
            if serving is not None:
                served = [played[0], play(environment, task, serving), *played[2:]]
                episodes.beside(served[1])
                gathered.beside.append(beside(_case(task, served, judges, compared), gathered.cases[-1]))
            if len(played) > 2:
                gathered.again.append(_again(played, judges, compared))
            progress("rollout", (number + (done + 1) / len(tasks)) / len(drawn))
    gathered.spent = episodes.spent()
    return gathered


def draw_tasks(
    clone: CloneConfig, config: RolloutConfig, environment: Environment, dataset: Dataset
) -> Mapping[str, Sequence[Task]]:
    """Return the tasks to be played by cohort, none of which was trained on.

    Raises:
        CloneError: one was.
    """
    cohorts = sorted(cohorts_of(dataset))
    known = dataset.tasks() | critic_tasks(dataset)
    drawn = {}
    for cohort in cohorts:
        count = config.tasks_in.get(cohort, config.tasks)
        tasks = environment.tasks(count, config.seed, None if cohort == NO_COHORT else cohort)
        leaked = sorted(known & {task.id for task in tasks})
        if leaked:
            raise CloneError(
                f"task {leaked[0]!r} of the gate is in the dataset: set another clone.{clone.name}.rollout.seed"
            )
        drawn[cohort] = tasks
    return drawn


def cohorts_of(dataset: Dataset, split: str | None = None) -> set[str]:
    """Return the cohorts that a dataset, or one split of it, has trajectories of."""
    return {cohort_of(json.loads(tags)) for tags in dataset.tables(split)["trajectories"]["tags"].unique()}


def dead_calls(episode: Episode, tools: Tools, rules: ToolRules) -> int:
    """Return how many of a clone's decisions in an episode called a tool that is not there."""
    made = (turn.action for turn in episode.turns if turn.role == "clone" and turn.action is not None)
    return sum(dead_tool(action, tools, rules) is not None for action in made)


def _players(hybrid: Actor, make_expert: Callable[..., Expert], count: int) -> list[Actor]:
    """Return who plays: the expert, the clone with the expert, and fresh experts that draw otherwise."""
    others = [expert_actor(make_expert(number)) for number in range(1, count - 1)]
    return [expert_actor(make_expert()), hybrid, *others]


def _serving(
    champion: Champion | None, cohort: str, clone: CloneConfig, make_expert: Callable[..., Expert]
) -> Actor | None:
    """Return the champion with the expert, None where it may not act."""
    if champion is None or cohort not in champion.cohorts:
        return None
    return hybrid_actor(champion.loaded.routed((cohort,), clone.route, played=True), make_expert())


def _case(task: Task, played: Sequence[Episode], judges: _Judges, compared: bool) -> PairedCase:
    expert, clone = played[:2]
    scores: dict[str, tuple[float, float]] = {}
    if compared:
        ours, theirs = judges.scorer.scores(played[2] if len(played) > 2 else expert, [expert, clone])
        scores = {name: (ours[name], theirs[name]) for name in ours.keys() & theirs.keys()}
    done, made = actions_of(expert), actions_of(clone)
    refused = judges.refusals.any(done), judges.refusals.any(made)
    safety = expert.cohort == SAFETY
    worse = harms(expert, clone, safety)
    if safety and refused[0] and not refused[1] and gave_in(expert, clone):
        worse.append(REFUSAL)
    return PairedCase(
        task=expert.task,
        cohort=expert.cohort,
        expert_success=expert.success,
        clone_success=clone.success,
        expert_unsafe=expert.unsafe,
        clone_unsafe=clone.unsafe_by == "clone",
        expert_steps=len(expert.turns),
        clone_steps=len(clone.turns),
        decisions=len(clone.turns),
        clone_decisions=clone.count("clone"),
        dead_calls=dead_calls(clone, judges.tools, judges.rules),
        scores=scores,
        harms=tuple(worse),
        category=str(task.tags.get(judges.refusal_tag, "")),
        expert_refused=safety and refused[0],
        clone_refused=safety and refused[1],
        rare=judges.paths.rare(expert.cohort, done),
    )


def _again(played: Sequence[Episode], judges: _Judges, compared: bool) -> PairedCase:
    """Return the expert beside itself."""
    expert, again = played[0], played[2]
    scores: dict[str, tuple[float, float]] = {}
    if compared:
        first, other = judges.scorer.scores(again, [expert, played[3]])
        scores = {name: (first[name], other[name]) for name in first.keys() & other.keys()}
    return PairedCase(
        task=expert.task,
        cohort=expert.cohort,
        expert_success=expert.success,
        clone_success=again.success,
        expert_unsafe=expert.unsafe,
        clone_unsafe=again.unsafe,
        expert_steps=len(expert.turns),
        clone_steps=len(again.turns),
        scores=scores,
    )


class _Counts:
    """How many decisions were asked for."""

    def __init__(self) -> None:
        self._expert = self._again = self._beside = self._clone = 0

    def add(self, played: Sequence[Episode]) -> None:
        """Count the episodes of one task."""
        expert, clone, *again = played
        self._expert += expert.count("expert")
        self._beside += clone.count("expert")
        self._clone += clone.count("clone")
        self._again += sum(episode.count("expert") for episode in again)

    def beside(self, episode: Episode) -> None:
        """Count what the champion's course of a task took of the expert."""
        self._beside += episode.count("expert")

    def spent(self) -> Spent:
        """Return the counts."""
        return Spent(expert=self._expert, again=self._again, beside=self._beside, clone=self._clone)
