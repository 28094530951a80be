"""Say what corrections show: where on its own way the clone leaves the expert, and what speaks against correcting."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
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
    signs: tuple[str, ...]
    """What looks wrong, in words."""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)


def find(episodes: Sequence[CorrectedEpisode], rounds: Sequence[RoundReport]) -> Findings:
    """Return what episodes show, and the rounds that they came of."""
    by_step = [(0, 0)] * _STEPS
    for episode in episodes:
        for place, step in enumerate(episode.steps[:_STEPS]):
            if step.actor == "clone" and step.label is not None and episode.method == "dagger":
                known, other = by_step[place]
                by_step[place] = (known + 1, other + (not same_action(step.executed, step.label)))
    calls = sum(one.spent.calls for one in rounds)
    learnt = sum(one.learnt for one in rounds)
    return Findings(
        disagreement=tuple(by_step),
        switches=dict(sorted(Counter(one.switch for one in episodes if one.switch is not None).items())),
        calls_a_decision=calls / learnt if learnt else None,
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
    calls, wasted = sum(one.spent.calls for one in rounds), sum(one.spent.rejected for one in rounds)
    if calls and wasted / calls > _WASTED:
        signs.append(
            f"{wasted} of {calls} calls of the expert are thrown away: what is kept may be the easy tasks alone; "
            "raise tries, or let the expert take over earlier"
        )
    return signs
