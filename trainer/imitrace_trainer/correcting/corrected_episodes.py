"""Hold what came of one corrected episode: each step with what was done, by whom, and what is to be learnt of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final

from imitrace.canonical import content_hash
from imitrace.exceptions import DatasetError
from imitrace.messages import Action, Message

PREFIX: Final = "corrected-"
"""How the name of a trajectory begins that is a corrected episode."""
BY_CLONE: Final = "by the clone, before the expert took over"
"""Why a step of the clone's own is context."""
LABELLED: Final = "by the clone: a row of its own says what the expert would have done"
UNLABELLED: Final = "by the clone: the expert said nothing"
UNVERIFIED: Final = "the episode is not kept"
IN_FAILURE: Final = "by the clone, in an episode that did not succeed"
FAILED: Final = "it did not succeed"
"""Why an episode teaches no action: it came to its end, and badly."""
NO_SWITCH: Final = "the clone came to the end before the expert took over"
UNSAFE: Final = "something was done that policy forbids"
_PAID: Final = frozenset({"at", "clone", "calls", "world_steps"})
"""What may differ where the same was done again."""


@dataclass(frozen=True)
class CorrectedStep:
    """One decision."""

    seen: int
    """How many of the episode's messages came before it."""
    executed: Action
    """What was carried out."""
    actor: str
    """``clone`` or ``expert``: who decided that."""
    label: Action | None
    """What the expert did, or would have done; of the clone's own successes, what it did. None: nothing is known."""
    mask: str | None = None
    """Why nothing is learnt of it; None: the label is."""
    confidence: float | None = None
    """The clone's, where it was asked."""


@dataclass(frozen=True)
class CorrectedEpisode:
    """One task played for the sake of what is to be learnt from it."""

    task: str
    tags: Mapping[str, str]
    method: str
    round: int
    messages: Sequence[Message]
    """The whole conversation in GenAI parts form."""
    tools: Sequence[Mapping[str, Any]]  # JSON schemas
    steps: Sequence[CorrectedStep]
    switch: int | None
    """The step from which the expert acted; None: it never did."""
    success: bool
    unsafe: bool = False
    """Something was done that policy forbids."""
    lost: bool = False
    """Success was out of reach before the end."""
    rejected: str | None = None
    """Why nothing is learnt of it; None: something is."""
    calls: int = 0
    """Calls of the expert that it cost, those of tries that failed included."""
    world_steps: int = 0
    """Actions that were carried out for it, those done again included."""
    clone: str = ""
    """Which clone began it, such as ``support:3``."""
    expert: str = ""
    """Who corrected it."""
    at: int = 0
    """When, in nanoseconds since 1970."""

    @cached_property
    def name(self) -> str:
        """Its id, made of what was done: the same done again has the same."""
        done = {key: value for key, value in self.to_json().items() if key not in _PAID}
        return f"{PREFIX}{content_hash(done)[:32]}"

    @property
    def failed(self) -> bool:
        """Whether it came to its end without success, so that a critic may learn from it."""
        return not self.success and self.rejected in (FAILED, NO_SWITCH)

    def learnt(self) -> Iterator[tuple[int, CorrectedStep]]:
        """Yield the steps of which something is learnt, each with its place."""
        if self.rejected is None:
            yield from (
                (place, step) for place, step in enumerate(self.steps) if step.mask is None and step.label is not None
            )

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return {**asdict(self), "messages": list(self.messages), "tools": list(self.tools)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "CorrectedEpisode":
        """Return what ``to_json`` gave.

        Raises:
            DatasetError: it is not of that form.
        """
        try:
            steps = [
                CorrectedStep(
                    **{
                        **one,
                        "executed": Action(**one["executed"]),
                        "label": None if one["label"] is None else Action(**one["label"]),
                    }
                )
                for one in values["steps"]
            ]
            return cls(**{**values, "steps": steps})
        except (TypeError, LookupError, AttributeError) as error:
            raise DatasetError(f"corrected episode can't be read: {type(error).__name__}: {error}") from error
