"""Say what corrections show: where on its own way the clone leaves the expert, and what speaks against correcting."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Final

from imitrace_trainer.correcting.corrected_episodes import CorrectedEpisode
from imitrace_trainer.correcting.rounds import RoundReport
from imitrace_trainer.policy import same_action

_FEW: Final = 0.05
"""Share of the labelled steps in which the clone would do otherwise, under which little is to be learnt."""
_SPARSE: Final = 0.1
"""Share of the episodes that came to a correction."""
_WASTED: Final = 0.7
"""Share of the expert's calls whose answers are thrown away."""
_NARROW: Final = 10
"""Tasks under which what is learnt may be theirs alone."""
_STEPS: Final = 20


@dataclass(frozen=True)
class Findings:
    """What corrections show."""

    disagreement: tuple[tuple[int, int], ...]
    """By step, on the clone's own way: of how many there is the expert's word, and in how many it is another."""
    switches: dict[int, int]
    """How often the expert took over at each step."""
    calls_a_decision: float | None
    """Calls of the expert for each decision to learn from; None: there is none."""
    calls_for_as_many: int | None
    """Calls for as many decisions again, at the price of the last round that gave any; None: there is no price."""
    effective_rows: float
    """Decisions to learn from, each as often as it counts in the dataset."""
    tasks: int
    """Tasks that they come from."""
    signs: tuple[str, ...]
    """What looks wrong, in words."""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return this for a terminal."""
        lines = []
        if self.tasks:
            lines.append(f"effective rows: {self.effective_rows:.0f}, of {self.tasks} tasks")
        if self.calls_a_decision and self.calls_for_as_many:
            lines.append(
                f"{self.calls_a_decision:.2f} calls of the expert a decision to learn from; as many decisions again "
                f"would cost some {self.calls_for_as_many} calls more"
            )
        return [*lines, *(f"! {sign}" for sign in self.signs)]


def find(episodes: Sequence[CorrectedEpisode], rounds: Sequence[RoundReport], weight: float = 1.0) -> Findings:
    """Return what episodes show, and the rounds that they came of.

    Args:
        episodes: of the rounds that are kept.
        rounds: all of them.
        weight: how often each decision counts in the dataset.
    """
    by_step = [(0, 0)] * _STEPS
    for episode in episodes:
        for place, step in enumerate(episode.steps[:_STEPS]):
            if step.actor == "clone" and step.label is not None and episode.method == "dagger":
                known, other = by_step[place]
                by_step[place] = (known + 1, other + (not same_action(step.executed, step.label)))
    calls = sum(one.spent.calls for one in rounds)
    learnt = sum(one.learnt for one in rounds)
    last = next((one for one in reversed(rounds) if one.learnt), None)
    per_task = _learnt_by_task(episodes)
    return Findings(
        disagreement=tuple(by_step),
        switches=dict(sorted(Counter(one.switch for one in episodes if one.switch is not None).items())),
        calls_a_decision=calls / learnt if learnt else None,
        calls_for_as_many=None if last is None else ceil(last.spent.calls / last.learnt * learnt),
        effective_rows=weight * per_task.total(),
        tasks=len(per_task),
        signs=tuple(_signs(episodes, rounds, by_step)),
    )


def _signs(
    episodes: Sequence[CorrectedEpisode], rounds: Sequence[RoundReport], by_step: Sequence[tuple[int, int]]
) -> list[str]:
    signs = []
    known, other = (sum(one[place] for one in by_step) for place in (0, 1))
    if known and other / known < _FEW:
        signs.append(
            f"the expert would do otherwise in {other} of {known} steps only: corrections will change little; "
            "look for other tasks, or add noise"
        )
    corrected = sum(one.switch is not None or one.method != "oec" for one in episodes)
    if episodes and corrected / len(episodes) < _SPARSE:
        signs.append(
            f"{corrected} of {len(episodes)} episodes came to a correction: the clone's own states stay unseen; "
            "lower the horizon, or raise the threshold"
        )
    signs += _plateau(rounds) + _narrow(episodes)
    calls, wasted = sum(one.spent.calls for one in rounds), sum(one.spent.rejected for one in rounds)
    if calls and wasted / calls > _WASTED:
        signs.append(
            f"{wasted} of {calls} calls of the expert are thrown away: what is kept may be the easy tasks alone; "
            "raise tries, or let the expert take over earlier"
        )
    return signs


def _plateau(rounds: Sequence[RoundReport]) -> list[str]:
    """Return the word that rounds have come to rest, where they have: no more success, and hardly a new label."""
    if len(rounds) < 2:
        return []
    before, last = rounds[-2:]
    if before.success is None or last.success is None or last.otherwise is None or last.success > before.success:
        return []
    if last.otherwise > _FEW * last.learnt:
        return []
    return [
        f"round {last.number} succeeds in {last.success:.1%} of the held-out tasks, the one before in "
        f"{before.success:.1%}, and of {last.learnt} decisions to learn from the clone would do {last.otherwise} "
        "otherwise: further rounds will change little; take other tasks, raise the threshold, or keep more by reject "
        "= false or tries"
    ]


def _narrow(episodes: Sequence[CorrectedEpisode]) -> list[str]:
    """Return the word that what is learnt is of few tasks, where it is."""
    tasks = _learnt_by_task(episodes)
    if not 0 < len(tasks) < _NARROW:
        return []
    return [
        f"what is learnt, {tasks.total()} decisions, comes of {len(tasks)} tasks alone, fewer than {_NARROW}: it may "
        "be right for these and no others; raise the budget, or keep more by tries or reject = false"
    ]


def _learnt_by_task(episodes: Sequence[CorrectedEpisode]) -> Counter[str]:
    return Counter(one.task for one in episodes for _ in one.learnt())
