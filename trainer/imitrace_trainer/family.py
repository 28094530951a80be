"""Say what a family of clones is: something that learns from a lesson, decides, and can be written down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from imitrace.messages import Action
from imitrace_trainer.calibration import Calibration
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.policy import Decision, Policy, State
from imitrace_trainer.reading import Reader

OWN_ODDS = 2
"""Pieces of a clone's evidence that its own word stands in, the first: log-odds of the tool, log of all arguments."""


@dataclass(frozen=True)
class Scored:
    """An action with its probabilities, before calibration."""

    action: Action
    tool_probability: float
    argument_probability: float
    weakest: float
    """The least probable single argument; 0: nothing in the state makes a valid call."""


@dataclass(frozen=True)
class Parts:
    """A clone as it is kept: weights for safetensors, all else for JSON."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]
    """JSON values."""


class Clone(Policy, Protocol):
    """A fitted policy of some family."""

    calibration: Calibration

    @property
    def family(self) -> str:
        """Name the family."""
        ...

    @property
    def reader(self) -> Reader:
        """Reads messages, each once."""
        ...

    @property
    def tools(self) -> Sequence[dict[str, Any]]:
        """Return the newest definition of every tool that was offered in training."""
        ...

    def score(self, state: State) -> tuple[Scored, float]:
        """Return the action with its raw probabilities, and the state's distance: what calibration is fitted on."""
        ...

    def evidence(self, scored: Scored) -> list[float]:
        """Return what confidence is calibrated on, a number a piece."""
        ...

    def parts(self) -> Parts:
        """Return what is to be kept, but for the calibration."""
        ...


@runtime_checkable
class Batching(Protocol):
    """A clone that decides on several states quicker than on one after the other."""

    def act_batch(self, states: Sequence[State]) -> list[Decision]:
        """Return the decision for each state, as ``act`` does; shares may differ by some 1e-7."""
        ...


def act_on_all(clone: Policy, states: Sequence[State]) -> list[Decision]:
    """Return a clone's decision for each state, made at once where its family can."""
    return clone.act_batch(states) if isinstance(clone, Batching) else [clone.act(state) for state in states]


def decision(clone: Clone, scored: Scored, shares: Mapping[str, float], distance: float) -> Decision:
    """Return what a clone says of a state; where nothing in it makes a valid call, with no confidence."""
    tools = {("message" if name == MESSAGE else name): share for name, share in shares.items()}
    return Decision(scored.action, sureness(clone, scored), clone.calibration.relative_distance(distance), tools)


def sureness(clone: Clone, scored: Scored) -> float:
    """Return how sure a clone is of an action, by its calibration."""
    return clone.calibration.confidence(clone.evidence(scored)) if scored.weakest else 0.0
