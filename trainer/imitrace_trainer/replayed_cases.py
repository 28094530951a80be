"""Let a clone answer recorded states, as cases for the gate and as figures of how far it is from the expert."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from imitrace.messages import Action
from imitrace_trainer.courses import Paths, worse_words
from imitrace_trainer.datasets import Example
from imitrace_trainer.evaluators.calls import Equivalence, overlap, tool_calls
from imitrace_trainer.gate_report import Figure
from imitrace_trainer.gate_rules import SAFETY, TOOL_SELECTION, TRAJECTORY_SCORE, GateConfig
from imitrace_trainer.live_tools import dead_tool
from imitrace_trainer.paired_cases import REFUSAL, PairedCase
from imitrace_trainer.played_cases import Gathered
from imitrace_trainer.policy import State, same_action
from imitrace_trainer.progress import Progress
from imitrace_trainer.refusals import Refusals
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.route_rules import cohort_of
from imitrace_trainer.stages import LoadedClone
from imitrace_trainer.task_draws import TaskDraws


@dataclass(frozen=True)
class Answer:
    """What the clone would do in a recorded state."""

    example: Example
    made: Action
    acts: bool
    """It is sure enough to do it."""

    @property
    def right(self) -> bool:
        """Tell whether it is what the expert did."""
        return same_action(self.made, self.example.action)

    @property
    def done(self) -> Action:
        """Return what would be done: its own action where it acts, else the expert's."""
        return self.made if self.acts else self.example.action


@dataclass(frozen=True)
class Look:
    """How answers are looked at."""

    refusals: Refusals = field(default_factory=Refusals)
    refusal_tag: str = GateConfig.refusal_tag
    equivalence: Equivalence = field(default_factory=Equivalence)
    paths: Paths = field(default_factory=Paths)


def answers(loaded: LoadedClone, examples: Sequence[Example], config: RouteConfig, progress: Progress) -> list[Answer]:
    """Return the clone's answer to each recorded state that may be learnt from."""
    found = []
    for number, example in enumerate(examples):
        if example.loss_mask:
            clone = loaded.routed((cohort_of(example.tags),), config)
            decision, routed = clone.decide(State(example.state, example.tools, example.tags))
            found.append(Answer(example, decision.action, routed.actor == "clone"))
        progress("replay", (number + 1) / len(examples))
    return found


def replayed_cases(
    loaded: LoadedClone,
    examples: Sequence[Example],
    answered: Sequence[Answer],
    look: Look | None = None,
) -> Gathered:
    """Return one case a trajectory: a success where every decision that the clone is sure of was the expert's.

    The expert is perfect by this measure, so its own noise is how often it did otherwise in another trajectory that
    came to a state in which the clone would act.
    """
    look = look or Look()
    by_trajectory: dict[str, list[Answer]] = {example.trajectory_id: [] for example in examples}
    courses: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        courses[example.trajectory_id].append(example)
    for answer in answered:
        by_trajectory[answer.example.trajectory_id].append(answer)
    gathered = Gathered(
        cases=[_case(courses[name], own, look, loaded) for name, own in by_trajectory.items()],
        again=_again(examples, by_trajectory.values(), look),
    )
    measured = {case.cohort for case in gathered.again}
    for case in gathered.cases:
        if case.cohort not in measured:
            gathered.unmeasured[case.cohort] = (
                "no other trajectory of the expert comes to a state in which the clone would act"
            )
    return gathered


def agreement(answered: Sequence[Answer]) -> dict[str, tuple[Figure, Figure]]:
    """Return by cohort the share of decisions that the clone would take which are the expert's, and its residual."""
    by_cohort: dict[str, list[Answer]] = defaultdict(list)
    for answer in answered:
        by_cohort[cohort_of(answer.example.tags)].append(answer)
    found = {}
    for cohort, own in by_cohort.items():
        draws = TaskDraws([answer.example.task for answer in own])
        right = [answer.right for answer in own]
        taken = draws.share(right, [answer.acts for answer in own])
        residual = draws.share([not hit for hit in right])
        found[cohort] = (
            Figure(value=taken.value, low=taken.low, high=taken.high, decisions=taken.decisions),
            Figure(value=residual.value, low=residual.low, high=residual.high, decisions=residual.decisions),
        )
    return found


def _case(course: Sequence[Example], own: Sequence[Answer], look: Look, loaded: LoadedClone) -> PairedCase:
    first, acted = course[0], [answer for answer in own if answer.acts]
    cohort, refuses = cohort_of(first.tags), look.refusals.holds
    safety = cohort == SAFETY
    harms = [kind for answer in acted for kind in worse_words(answer.made, answer.example.action)]
    refused = [answer for answer in own if safety and refuses(answer.example.action)]
    if any(answer.acts and not refuses(answer.made) for answer in refused):
        harms.append(REFUSAL)
    irreversible = loaded.thresholds.irreversible_tools
    undone = [answer.made.name for answer in acted if answer.made.name != answer.example.action.name]
    return PairedCase(
        task=first.task,
        cohort=cohort,
        expert_success=True,
        clone_success=all(answer.right for answer in acted),
        clone_unsafe=safety and any(name in irreversible for name in undone),
        expert_steps=len(own),
        clone_steps=len(own),
        decisions=len(own),
        clone_decisions=len(acted),
        dead_calls=sum(dead_tool(one.made, one.example.tools, loaded.rules) is not None for one in acted),
        scores=_scores([(answer.done, answer.example) for answer in own], look.equivalence),
        harms=tuple(dict.fromkeys(harms)),
        category=str(first.tags.get(look.refusal_tag, "")),
        expert_refused=bool(refused),
        clone_refused=safety and any(refuses(answer.done) for answer in own),
        rare=look.paths.rare(cohort, (example.action for example in course)),
    )


def _scores(done: Sequence[tuple[Action, Example]], equivalence: Equivalence) -> Mapping[str, tuple[float, float]]:
    """Return how actions compare with the expert's in the same states: the expert has 1."""
    called, all_of_it = [], []
    for action, example in done:
        made, wanted = tool_calls([action]), tool_calls([example.action])
        hit = overlap(made, wanted, equivalence, example.tools)
        all_of_it.append(hit if made or wanted else float(same_action(action, example.action)))
        called += [hit] if made or wanted else []
    if not done:
        return {}
    return {TOOL_SELECTION: (1.0, fmean(called or [1.0])), TRAJECTORY_SCORE: (1.0, fmean(all_of_it))}


def _again(examples: Sequence[Example], courses: Iterable[Sequence[Answer]], look: Look) -> list[PairedCase]:
    """Return a case for each trajectory with a state in which the clone would act and another trajectory was, too."""
    seen: dict[tuple[str, ...], list[Example]] = defaultdict(list)
    for example in examples:
        seen[example.task, *example.message_ids].append(example)
    cases = []
    for own in courses:
        acted = [answer.example for answer in own if answer.acts]
        known = [
            (other, example)
            for example in acted
            if (other := _elsewhere(example, seen[example.task, *example.message_ids])) is not None
        ]
        if known:
            first = known[0][1]
            agree = all(same_action(other, example.action) for other, example in known)
            scores = _scores(known, look.equivalence)
            cases.append(PairedCase(first.task, cohort_of(first.tags), True, agree, scores=scores))
    return cases


def _elsewhere(example: Example, same: Sequence[Example]) -> Action | None:
    """Return what the expert did in the same state in another trajectory, the same if it did that among others."""
    others = [one for one in same if one.trajectory_id != example.trajectory_id]
    beside = [one.action for one in others if one.trajectory_id == others[0].trajectory_id]
    return next((action for action in beside if same_action(action, example.action)), beside[0] if beside else None)
