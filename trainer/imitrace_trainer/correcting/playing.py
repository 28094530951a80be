"""Play one task for what is to be learnt from it: the clone begins and the expert finishes, or labels every step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final, NamedTuple

from imitrace.messages import Message, action_message, from_openai, to_openai, tool_definition
from imitrace_trainer.correcting.config import CorrectConfig
from imitrace_trainer.correcting.corrected_episodes import (
    BY_CLONE,
    FAILED,
    IN_FAILURE,
    NO_SWITCH,
    UNLABELLED,
    UNSAFE,
    UNVERIFIED,
    CorrectedEpisode,
    CorrectedStep,
)
from imitrace_trainer.correcting.expert_budget import AskedExpert, Budget, Spent
from imitrace_trainer.correcting.rewinding import Mark, Messages, Rewinder
from imitrace_trainer.correcting.stuck import Repetition
from imitrace_trainer.correcting.students import SampledPolicy
from imitrace_trainer.correcting.switches import Switch
from imitrace_trainer.environment import Task
from imitrace_trainer.policy import Decision, Policy, State
from imitrace_trainer.rollout import MAX_STEPS

NO_ACTION: Final = "nobody could act"
TOO_LONG: Final = f"not over after {MAX_STEPS} steps"


@dataclass
class _Course:
    """An episode as it goes."""

    world: Rewinder
    task: Task
    repeats: int
    spent: Spent
    steps: list[CorrectedStep] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    chat: Messages = field(default_factory=list)
    info: Mapping[str, Any] = field(default_factory=dict)
    done: bool = False
    unsafe: bool = False
    carried_out: int = 0
    """Actions, those done again included."""

    def __post_init__(self) -> None:
        self.tools = [tool_definition(tool) for tool in self.world.environment.tools]
        self.chat = list(self.world.reset(self.task.id))
        self.messages = [from_openai(message) for message in self.chat]
        self.repetition = Repetition(self.repeats)

    @property
    def over(self) -> bool:
        """Whether no step follows."""
        return self.done or len(self.steps) >= MAX_STEPS

    @property
    def success(self) -> bool:
        """Whether the task is done as it should be."""
        return bool(self.info.get("success"))

    def state(self) -> State:
        """Return what there is to see."""
        return State(list(self.messages), self.tools, self.task.tags)

    @property
    def unfinished(self) -> str | None:
        """Why it did not come to its end, None where it did."""
        return self.repetition.stuck or (None if self.done else TOO_LONG)

    def do_own(self, decision: Decision) -> Sequence[Mapping[str, Any]]:
        """Carry out what the clone decides, to be learnt as it is; return the messages that followed."""
        action = decision.action
        return self.do(CorrectedStep(len(self.messages), action, "clone", action, None, decision.confidence))

    def do(self, step: CorrectedStep) -> Sequence[Mapping[str, Any]]:
        """Carry a decision out; return the messages that followed."""
        action = replace(step.executed, call_id=f"call_{len(self.steps)}")
        self.repetition.add(self.world.state_key(self.messages), action)
        following, self.done, self.info = self.world.step(action)
        self.unsafe = self.unsafe or bool(self.info.get("unsafe"))
        self._charge(1)
        self.steps.append(replace(step, executed=action))
        answer = action_message(action)
        self.messages += [answer, *(from_openai(message) for message in following)]
        self.chat += [to_openai(answer), *following]
        return following

    def moment(self) -> "_Moment":
        """Return where it stands, to go on anew from."""
        return _Moment(self.world.mark(), len(self.steps), len(self.messages), self.repetition.copy(), self.unsafe)

    def back(self, moment: "_Moment") -> None:
        """Go back to a moment; actions that the environment has to be led through again are counted."""
        mark, steps, messages, repetition, self.unsafe = moment
        self.world.back(mark)
        self._charge(0 if mark.snapshot is not None else mark.done)
        del self.steps[steps:], self.messages[messages:], self.chat[messages:]
        self.repetition, self.info, self.done = repetition.copy(), {}, False

    def may_go_back(self, moment: "_Moment", budget: Budget) -> bool:
        """Tell whether what is left of the budget allows for being led there again."""
        needed = 0 if moment.mark.snapshot is not None else moment.mark.done
        return budget.steps is None or self.spent.steps + needed < budget.steps

    def _charge(self, steps: int) -> None:
        self.carried_out += steps
        self.spent.steps += steps


class _Moment(NamedTuple):
    mark: Mark
    steps: int
    messages: int
    repetition: Repetition
    unsafe: bool


@dataclass(frozen=True)
class Round:
    """Who plays in one round, and what is drawn for one of its episodes."""

    number: int
    """From 1."""
    student: Policy
    expert: AskedExpert
    config: CorrectConfig
    switch: Switch
    draw: Random

    @property
    def beta(self) -> float:
        """Share of the steps in which the expert acts itself, of ``dagger``."""
        return self.config.beta**self.number


def play_corrected(world: Rewinder, task: Task, played: Round) -> CorrectedEpisode:
    """Play one task by the configured method and return what came of it; calls and steps are charged as they come."""
    config, expert = played.config, played.expert
    before = expert.spent.calls
    course = _Course(world, task, config.repeats, expert.spent)
    switch, problem = _PLAYED[config.method](course, played)
    rejected = problem or (course.repetition.stuck if config.method != "dagger" else None)
    rejected = rejected or (None if course.steps else NO_ACTION)
    verified = config.method == "own" or (config.method in ("oec", "handover") and config.reject)
    if rejected is None and verified and not course.success:
        rejected = FAILED
    if rejected is None and course.unsafe and config.method != "dagger":
        rejected = UNSAFE
    unproven = IN_FAILURE if config.method == "handover" and not course.success else None
    masks = [step.mask or (unproven if step.actor == "clone" else None) for step in course.steps]
    masks = [mask or UNVERIFIED for mask in masks] if rejected else masks
    calls = expert.spent.calls - before
    expert.spent.rejected += calls if rejected else 0
    return CorrectedEpisode(
        task=task.id,
        tags=dict(task.tags),
        method=config.method,
        round=played.number,
        messages=course.messages,
        tools=course.tools,
        steps=[replace(step, mask=mask) for step, mask in zip(course.steps, masks, strict=True)],
        switch=switch,
        success=course.success,
        unsafe=course.unsafe,
        lost=bool(course.info.get("lost")),
        rejected=rejected,
        calls=calls,
        world_steps=course.carried_out,
    )


_Played = tuple[int | None, str | None]
"""From which step the expert acted, and why nothing is to be learnt; None each where there is nothing to say."""


def _finished_by_expert(course: _Course, played: Round) -> _Played:
    """Let the clone begin and the expert finish; what it finishes badly it may try again."""
    config, expert = played.config, played.expert
    while not course.over and expert.over is None:
        decision = played.student.act(course.state())
        if not _can_act(decision):
            break
        if played.switch.takes_over(len(course.steps), decision, lambda: expert.act(course.chat)):
            break
        label, mask = (None, BY_CLONE) if config.mask else (decision.action, None)
        step = CorrectedStep(len(course.messages), decision.action, "clone", label, mask, decision.confidence)
        expert.observe(decision.action, course.do(step))
        if course.repetition.stuck is not None:
            return None, course.repetition.stuck
    if course.over or expert.over is not None:
        return None, NO_SWITCH if course.over else expert.over
    moment = course.moment()
    for number in range(config.tries):
        if number and not course.may_go_back(moment, expert.budget):
            break
        if number:
            course.back(moment)
        problem = _expert_plays(course, expert)
        if course.success or expert.over:
            break
    return moment.steps, problem


def _expert_plays(course: _Course, expert: AskedExpert) -> str | None:
    while not course.over:
        if expert.over is not None:
            return expert.over
        action = expert.act(course.chat)
        if action is None:
            return NO_ACTION
        course.do(CorrectedStep(len(course.messages), action, "expert", action))
    return None if course.done else TOO_LONG


def _labelled(course: _Course, played: Round) -> _Played:
    """Ask the expert at every step; who acts is drawn. What can't be labelled is context."""
    first, expert = None, played.expert
    while not course.over and course.repetition.stuck is None and expert.over is None:
        decision = played.student.act(course.state())
        label = expert.act(course.chat)
        by_expert = label is not None and (played.draw.random() < played.beta or not _can_act(decision))
        if not by_expert and not _can_act(decision):
            break
        action = label if by_expert and label is not None else decision.action
        mask = UNLABELLED if label is None else None
        actor = "expert" if by_expert else "clone"
        first = len(course.steps) if by_expert and first is None else first
        step = CorrectedStep(len(course.messages), action, actor, label, mask, decision.confidence)
        following = course.do(step)
        if not by_expert:
            expert.observe(action, following)
    return first, None


def _handed_over(course: _Course, played: Round) -> _Played:
    """Let the clone act where it is sure, and the expert where it is not: a call is spent only on what is in doubt."""
    first, expert = None, played.expert
    while not course.over and course.repetition.stuck is None:
        if expert.over is not None:
            return first, expert.over
        decision = played.student.act(course.state())
        if _can_act(decision) and decision.confidence >= played.config.threshold:
            expert.observe(decision.action, course.do_own(decision))
            continue
        action = expert.act(course.chat)
        if action is None:
            return first, NO_ACTION
        first = len(course.steps) if first is None else first
        course.do(CorrectedStep(len(course.messages), action, "expert", action, None, decision.confidence))
    return first, course.unfinished


def _alone(course: _Course, played: Round) -> _Played:
    """Let the clone play alone; what it does badly it tries again by draws, in the hope of another way."""
    beginning = course.moment()
    for number in range(played.config.tries):
        if number and not course.may_go_back(beginning, played.expert.budget):
            break
        if number:
            course.back(beginning)
        problem = _clone_plays(course, SampledPolicy(played.student, played.draw) if number else played.student, played)
        if (problem is None and course.success and not course.unsafe) or played.expert.over is not None:
            break
    return None, problem


def _clone_plays(course: _Course, student: Policy, played: Round) -> str | None:
    while not course.over and course.repetition.stuck is None:
        decision = student.act(course.state())
        if not _can_act(decision) or played.expert.over is not None:
            return played.expert.over or NO_ACTION
        course.do_own(decision)
    return course.unfinished


_PLAYED: Final[Mapping[str, Callable[[_Course, Round], _Played]]] = {
    "oec": _finished_by_expert,
    "dagger": _labelled,
    "handover": _handed_over,
    "own": _alone,
}


def _can_act(decision: Decision) -> bool:
    return decision.action.kind == "tool_call" or bool(decision.action.message)
