"""Notice when an episode goes round in circles: the same decision in the same state, again and again.

The state is the environment's own ``state_key`` where it has one, so that looking up the same thing twice counts, and
the same call after something changed does not.
"""

from collections import Counter
from typing import Any

from imitrace.canonical import canonical_json
from imitrace.messages import Action


def without_ids(message: Any) -> Any:  # JSON
    """Return a message without the ids of its calls, which are new each time."""
    if isinstance(message, dict):
        return {key: without_ids(value) for key, value in message.items() if key != "id"}
    return [without_ids(one) for one in message] if isinstance(message, list) else message


class Repetition:
    """How often each decision was made in each state of an episode."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: Counter[str] = Counter()

    def copy(self) -> "Repetition":
        """Return the same counts, to be counted on apart."""
        other = Repetition(self._most)
        other._seen = self._seen.copy()
        return other

    def add(self, state: str, action: Action) -> None:
        """Count a decision."""
        self._seen[canonical_json([state, action.kind, action.name, action.arguments, action.message])] += 1

    @property
    def stuck(self) -> str | None:
        """What was done too often in one state; None: nothing was."""
        times = max(self._seen.values(), default=0)
        return f"the same decision {times} times in the same state" if times > self._most else None
