"""Take an environment back to where it was: by its own snapshot, else by doing everything again, with equal answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imitrace.canonical import canonical_json, content_hash
from imitrace.exceptions import CloneError
from imitrace.messages import Action
from imitrace_trainer.correcting.stuck import without_ids
from imitrace_trainer.environment import Environment

Messages = list[dict[str, Any]]
"""In OpenAI's form."""


@dataclass(frozen=True)
class Mark:
    """A moment of an episode."""

    done: int
    """Actions carried out until then."""
    snapshot: object


class Rewinder:
    """One episode at a time of an environment, that can go on anew from an earlier moment."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self._begun: tuple[str, int] = ("", 0)
        self._opening: Messages = []
        self._done: list[tuple[Action, Messages]] = []

    def reset(self, task: str, seed: int = 0) -> Messages:
        """Begin a task and return its opening messages."""
        self._begun, self._done = (task, seed), []
        self._opening = list(self.environment.reset(task, seed))
        return self._opening

    def step(self, action: Action) -> tuple[Messages, bool, Mapping[str, Any]]:
        """Carry an action out; return the messages that follow, whether it is over, and what is known of it."""
        messages, done, info = self.environment.step(action)
        self._done.append((action, messages))
        return messages, done, info

    def mark(self) -> Mark:
        """Return this moment, to come back to."""
        take = getattr(self.environment, "snapshot", None)
        return Mark(len(self._done), None if take is None else take())

    def back(self, mark: Mark) -> None:
        """Go back to a moment of this episode.

        Raises:
            CloneError: the environment has no snapshots, and done again it does not answer as it did.
        """
        again, self._done = self._done[: mark.done], self._done[: mark.done]
        if mark.snapshot is not None:
            self.environment.restore(mark.snapshot)  # type: ignore[attr-defined]  # whoever has snapshot() has it
            return
        task, seed = self._begun
        _compare(task, 0, self._opening, list(self.environment.reset(task, seed)))
        for number, (action, answered) in enumerate(again, 1):
            _compare(task, number, answered, self.environment.step(action)[0])

    def state_key(self, messages: Sequence[Any]) -> str:
        """Return what names the state: the environment's own word, else what was said last."""
        own = getattr(self.environment, "state_key", None)
        return own() if own is not None else content_hash(without_ids(messages[-1]) if messages else None)


def _compare(task: str, number: int, before: Messages, now: Messages) -> None:
    if canonical_json(before) != canonical_json(now):
        raise CloneError(
            f"environment is not deterministic: task {task!r} answers otherwise after {number} equal actions; give it "
            "snapshot() and restore(), or let reset(task_id, seed) decide all that comes"
        )
