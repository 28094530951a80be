"""Say when the expert takes over: after a drawn number of steps, where the clone is unsure, or where both differ.

The draw is the default and what the paper does (On-policy expert corrections, arXiv 2512.14895): it needs nothing of
the clone and brings the expert into states that the clone is sure of, too. The others are named alternatives.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from imitrace.messages import Action
from imitrace_trainer.policy import Decision, same_action

AskExpert = Callable[[], Action | None]


class Switch(Protocol):
    """Decides in one episode when the clone has done enough."""

    def takes_over(self, step: int, decision: Decision, ask: AskExpert) -> bool:
        """Tell whether the expert takes this step and all that follow.

        Args:
            step: number of the step, from 0.
            decision: what the clone would do.
            ask: asks the expert what it would do here, at the price of a call.
        """
        ...


@dataclass(frozen=True)
class RandomSwitch:
    """After so many steps."""

    at: int

    def takes_over(self, step: int, decision: Decision, ask: AskExpert) -> bool:
        """Tell whether it is time."""
        return step >= self.at


@dataclass(frozen=True)
class ConfidenceSwitch:
    """Where the clone is not sure."""

    threshold: float

    def takes_over(self, step: int, decision: Decision, ask: AskExpert) -> bool:
        """Tell whether the clone is less sure than the threshold."""
        return decision.confidence < self.threshold


@dataclass(frozen=True)
class DivergenceSwitch:
    """Where the expert would do something else; it costs a call at every step."""

    def takes_over(self, step: int, decision: Decision, ask: AskExpert) -> bool:
        """Tell whether the expert disagrees; where it says nothing it does not."""
        wanted = ask()
        return wanted is not None and not same_action(decision.action, wanted)


def make_switch(kind: str, threshold: float, horizon: int, draw: Random) -> Switch:
    """Return the switch of one episode.

    Args:
        kind: one of ``config.SWITCHES``.
        threshold: of ``confidence``.
        horizon: the longest beginning of ``random``; any from 0 to it is equally likely.
        draw: draws it.
    """
    if kind == "random":
        return RandomSwitch(draw.randint(0, max(0, horizon)))
    return ConfidenceSwitch(threshold) if kind == "confidence" else DivergenceSwitch()
