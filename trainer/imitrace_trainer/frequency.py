"""The frequency family, the floor of the ladder: what usually followed the last action."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from imitrace.messages import Message, message_actions
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.encoding import MESSAGE

_START = "<start>"


class FrequencyTable:
    """Count which action followed which: P(action | previous action), the maximum-likelihood table."""

    def __init__(self, demonstrations: Iterable[Demonstration]) -> None:
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        for demonstration in demonstrations:
            self._counts[previous_action(demonstration.state.messages)][demonstration.label] += 1

    def predict(self, messages: Sequence[Message]) -> tuple[str | None, float]:
        """Return the likeliest next action's name and its share; None and 0 after an action never seen."""
        counted = self._counts.get(previous_action(messages))
        if not counted:
            return None, 0.0
        name, count = counted.most_common(1)[0]
        return name, count / counted.total()


def previous_action(messages: Sequence[Message]) -> str:
    """Return the name of the last thing the agent did: a tool, ``MESSAGE``, or ``<start>``."""
    for message in reversed(messages):
        if message["role"] == "assistant":
            return message_actions(message)[-1].name or MESSAGE
    return _START
