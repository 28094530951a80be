"""Say what a policy is: it sees a state and decides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from imitrace.canonical import canonical_json
from imitrace.messages import Action, Message, from_openai, tool_definition


@dataclass(frozen=True)
class State:
    """What an agent sees before a decision."""

    messages: Sequence[Message]
    """In GenAI parts form, oldest first."""
    tools: Sequence[Mapping[str, Any]]
    """Definitions ``{name, description, parameters}`` of the tools offered."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """The trajectory's tags; ``cohort`` names the slice that the gate judged."""


def make_state(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], tags: Mapping[str, str] | None = None
) -> State:
    """Return a state from chat messages and tool definitions in OpenAI's or our own form.

    Raises:
        WireError: a message or a tool is of no known shape.
    """
    return State([from_openai(message) for message in messages], [tool_definition(tool) for tool in tools], tags or {})


@dataclass(frozen=True)
class Decision:
    """What a policy would do, and how far it is to be trusted."""

    action: Action
    confidence: float
    """Calibrated probability that the expert would do exactly this, arguments included."""
    ood: float
    """Distance from the training states in units of the accepted limit: above 1 the state is out of distribution."""
    tools: dict[str, float]
    """Probability of each tool offered, and of ``message``; they sum to 1."""


class Policy(Protocol):
    """Anything that decides."""

    def act(self, state: State) -> Decision:
        """Return the decision for a state."""
        ...


def same_action(first: Action, second: Action) -> bool:
    """Tell whether two actions are the same: both messages, or one tool with equal arguments (3 equals 3.0)."""
    if first.kind != second.kind or first.name != second.name:
        return False
    return first.kind == "message" or _folded(first.arguments) == _folded(second.arguments)


def _folded(arguments: Mapping[str, Any]) -> str:
    return canonical_json(_numbers_folded(arguments))


def _numbers_folded(value: Any) -> Any:  # any JSON value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _numbers_folded(item) for key, item in value.items()}
    return [_numbers_folded(item) for item in value] if isinstance(value, list) else value
