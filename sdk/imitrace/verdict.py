"""Hold what a clone says of a state: what it would do, and whether it may."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from imitrace.messages import Action

LOADING: Final = "the clone is still loading"
"""The reason of a verdict given before the clone was loaded."""


@dataclass(frozen=True)
class Verdict:
    """What a clone would do in a state, and whether it may."""

    action: Action | None
    """What it would do; None when it could not be asked."""
    trusted: bool
    """Whether the route lets it act; else the expert decides."""
    reason: str
    """``trusted``, or why not."""
    clone: str | None = None
    version: str | None = None
    """For instance ``v3``."""
    confidence: float | None = None
    """Calibrated probability, 0 to 1, that the expert would do exactly this."""
    ood: float | None = None
    """Distance from the training states; above 1 the state is out of distribution."""
    propensity: float | None = None
    """Where the route trusted it: with which probability the one who acts was drawn; the rest is audited."""

    def shadow(self) -> dict[str, Any]:
        """Return this as the JSON object that ``semconv.STEP_SHADOW`` describes."""
        action = self.action
        says = {"message": action.message} if action and action.message else {}
        return {
            "clone": self.clone,
            "version": self.version,
            "action": action and {"kind": action.kind, "name": action.name, "arguments": action.arguments} | says,
            "confidence": self.confidence,
            "ood": self.ood,
            "trusted": self.trusted,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Standing:
    """Where a clone may act at all, told without asking it anything."""

    cohorts: tuple[str, ...] = ()
    """Those that its gate lets it act in."""
    reason: str = LOADING
    """Why it may act nowhere; empty where it may somewhere."""
    clone: str | None = None
    version: str | None = None
    """For instance ``v3``."""
    agent: str | None = None
    """Whose clone it is."""
    stepped_back: Mapping[str, str] = field(default_factory=dict)
    """Why it acts no more in cohorts in which its gate passed."""
