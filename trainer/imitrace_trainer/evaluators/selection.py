"""Score each decision's tool calls: against what an expert did in the same place, else by whether they were sound."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imitrace_trainer.episodes import Decided, Episode
from imitrace_trainer.evaluators.calls import Equivalence, argument_problem, difference, overlap, tool_calls
from imitrace_trainer.evaluators.result import Calls, Result, StepResult, Task
from imitrace_trainer.evaluators.trajectories import as_episode, as_task, call_key, calls_of, failed, state_key


@dataclass(frozen=True)
class Reference:
    """What experts did."""

    by_state: Mapping[str, Sequence[tuple[str, Calls]]] = field(default_factory=dict)
    """The trajectory and the decision, by ``state_key``: more than one where experts differed."""
    by_task: Mapping[str, Sequence[tuple[str, Sequence[Calls]]]] = field(default_factory=dict)
    """The trajectory and its decisions, by task."""

    @classmethod
    def of(cls, episodes: Iterable[Episode], roles: Sequence[str] = ("expert", "human")) -> "Reference":
        """Return what these roles did in these episodes."""
        states: dict[str, list[tuple[str, Calls]]] = {}
        tasks: dict[str, list[tuple[str, Sequence[Calls]]]] = {}
        for episode in episodes:
            own = [decided for decided in episode.decisions if decided.taken[0].role in roles]
            for decided in own:
                states.setdefault(state_key(decided), []).append((episode.trajectory_id, _actions(decided)))
            if episode.task and own and len(own) == len(episode.decisions):
                tasks.setdefault(episode.task, []).append((episode.trajectory_id, list(map(_actions, own))))
        return cls(states, tasks)

    def in_state(self, episode: Episode, decided: Decided) -> list[Calls]:
        """Return what experts did in the state of a decision, in other trajectories than its own."""
        if not self.by_state:
            return []
        found = self.by_state.get(state_key(decided), ())
        return [calls for trajectory, calls in found if trajectory != episode.trajectory_id]

    def in_task(self, episode: Episode) -> list[Sequence[Calls]]:
        """Return what experts did in the task of a trajectory, in other trajectories than it."""
        found = self.by_task.get(episode.task or "", ())
        return [calls for trajectory, calls in found if trajectory != episode.trajectory_id]


class ToolSelectionAccuracy:
    """Mean over decisions of how far each called what the expert called in its place; each from 0 to 1.

    A decision's score is the number of its calls that meet one of the expert's, name and arguments, over the larger of
    the two numbers of calls; parallel calls are a set. Silence where the expert called is 0, and so is a call where the
    expert kept silent. What the expert did is known, for each decision, from the same state; if from none, from its
    trajectory of the same task, aligned in order; then a decision of the expert's that has none in its place counts 0,
    at the message that stands there instead, if one does. Of several answers of experts the nearest counts.

    Without either, and then only, it says whether calls were *sound* (label ``soundness``): the tool was offered, the
    arguments fit its schema, the answer was no error, and the call did not repeat one that had brought the same answer.
    A trajectory without calls has no score then.
    """

    name = "ToolSelectionAccuracy"
    version = "1"

    def __init__(self, reference: Reference | None = None, equivalence: Equivalence | None = None) -> None:
        self._reference = reference or Reference()
        self._equivalence = equivalence or Equivalence()
        self._last: tuple[Task, Episode, Result] | None = None

    def evaluate(self, input: Task | str | None, trajectory: Episode | Sequence[Mapping[str, Any]]) -> Result:  # noqa: A002 - as others name it
        """Return the score, with one for each decision that could be judged."""
        task, episode = as_task(input), as_episode(trajectory)
        if self._last is None or self._last[0] is not task or self._last[1] is not episode:
            self._last = (task, episode, self._judge(task, episode))  # an aggregate of steps asks for the same again
        return self._last[2]

    def _judge(self, task: Task, episode: Episode) -> Result:
        if not episode.decisions:
            return Result(None, "no steps")
        steps = self._by_state(episode)
        if steps:
            return _mean(steps, "state")
        known = [task.reference] if task.reference else self._reference.in_task(episode)
        if known:
            aligned = [self._by_order(episode, reference) for reference in known]
            return max(aligned, key=lambda result: result.score or 0.0)
        steps = _sound(episode)
        return _mean(steps, "soundness") if steps else Result(None, "no expert to compare with, and no calls")

    def _by_state(self, episode: Episode) -> list[StepResult]:
        found = ((decided, self._reference.in_state(episode, decided)) for decided in episode.decisions)
        return [self._nearest(decided, wanted) for decided, wanted in found if wanted]

    def _nearest(self, decided: Decided, choices: Sequence[Calls]) -> StepResult:
        made = _actions(decided)
        scores = [overlap(made, wanted, self._equivalence, decided.tools) for wanted in choices]
        best = max(range(len(choices)), key=scores.__getitem__)
        why = difference(made, choices[best], self._equivalence, decided.tools)
        return StepResult(decided.taken[0].index, scores[best], why)

    def _by_order(self, episode: Episode, reference: Sequence[Calls]) -> Result:
        """Compare decisions that call with the reference's, in order; what stands between equal ones meets in turn."""
        made = [decided for decided in episode.decisions if calls_of(decided)]
        wanted = [calls for calls in map(tool_calls, reference) if calls]
        tools = max((decided.tools for decided in episode.decisions), key=len)
        keys = [
            [sorted(self._equivalence.key(action, tools) for action in calls) for calls in group]
            for group in ([_actions(decided) for decided in made], wanted)
        ]
        steps: list[StepResult] = []
        missing, reached = 0, -1
        for ours, theirs in _paired(keys[0], keys[1]):
            if ours is None:
                missing += 1
                silent = _silent_after(episode, reached)
                if silent is not None and theirs is not None and silent.taken[0].index not in {s.index for s in steps}:
                    steps.append(self._nearest(silent, [wanted[theirs]]))
                    missing -= 1
                continue
            reached = made[ours].taken[0].index
            calls = () if theirs is None else wanted[theirs]
            steps.append(self._nearest(made[ours], [calls]))
        if not steps and not missing:
            return Result(1.0, "no call, as the expert", "task")
        steps.sort(key=lambda step: step.index)
        score = sum(step.score for step in steps) / (len(steps) + missing)
        told = f"{_told(steps)}; {missing} of the expert's decisions are missing" if missing else _told(steps)
        return Result(score, told, "task", tuple(steps))


def _actions(decided: Decided) -> Calls:
    return tool_calls(taken.action for taken in decided.taken)


def _silent_after(episode: Episode, index: int) -> Decided | None:
    """Return the message that stands where a call is missing: the first after a step, before the next call."""
    after = (decided for decided in episode.decisions if decided.taken[0].index > index)
    following = next(after, None)
    return following if following is not None and not calls_of(following) else None


def _sound(episode: Episode) -> list[StepResult]:
    steps: list[StepResult] = []
    known: set[tuple[str, str | None]] = set()
    for decided in episode.decisions:
        problems: list[str] = []
        calls = calls_of(decided)
        for taken in calls:
            problem = argument_problem(taken.action, decided.tools)
            what = (call_key(taken.action), taken.observation)
            if problem is None and failed(taken):
                problem = f"{taken.action.name} failed"
            elif problem is None and taken.observation and what in known:
                problem = f"{taken.action.name} repeated what had brought the same answer"
            known.add(what)
            problems += [problem] if problem else []
        if calls:
            told = "; ".join(problems) or "sound"
            steps.append(StepResult(decided.taken[0].index, 1 - len(problems) / len(calls), told))
    return steps


def _mean(steps: Sequence[StepResult], label: str) -> Result:
    return Result(sum(step.score for step in steps) / len(steps), _told(steps), label, tuple(steps))


def _told(steps: Sequence[StepResult]) -> str:
    wrong = [f"step {step.index}: {step.reason}" for step in steps if step.score < 1]
    right = len(steps) - len(wrong)
    return f"{right} of {len(steps)} decisions right" + (f"; {'; '.join(wrong[:3])}" if wrong else "")


def _paired(made: Sequence[object], wanted: Sequence[object]) -> list[tuple[int | None, int | None]]:
    """Pair two sequences: along a longest common subsequence, and in turn between its members."""
    pairs: list[tuple[int | None, int | None]] = []
    start = (0, 0)
    for ours, theirs in [*_common(made, wanted), (len(made), len(wanted))]:
        left, right = range(start[0], ours), range(start[1], theirs)
        for place in range(max(len(left), len(right))):
            pairs.append(
                (
                    left[place] if place < len(left) else None,
                    right[place] if place < len(right) else None,
                )
            )
        if (ours, theirs) != (len(made), len(wanted)):
            pairs.append((ours, theirs))
        start = (ours + 1, theirs + 1)
    return pairs


def _common(made: Sequence[object], wanted: Sequence[object]) -> list[tuple[int, int]]:
    """Return a longest common subsequence as pairs of places."""
    longest = [[0] * (len(wanted) + 1) for _ in range(len(made) + 1)]
    for ours in reversed(range(len(made))):
        for theirs in reversed(range(len(wanted))):
            if made[ours] == wanted[theirs]:
                longest[ours][theirs] = longest[ours + 1][theirs + 1] + 1
            else:
                longest[ours][theirs] = max(longest[ours + 1][theirs], longest[ours][theirs + 1])
    found: list[tuple[int, int]] = []
    ours = theirs = 0
    while ours < len(made) and theirs < len(wanted):
        if made[ours] == wanted[theirs]:
            found.append((ours, theirs))
            ours, theirs = ours + 1, theirs + 1
        elif longest[ours + 1][theirs] >= longest[ours][theirs + 1]:
            ours += 1
        else:
            theirs += 1
    return found
