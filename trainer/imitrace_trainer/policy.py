"""Say what a policy is: it sees a state and decides."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from imitrace.canonical import canonical_json, content_hash
from imitrace.messages import Action, Message, from_openai, tool_definition
from imitrace_trainer.argument_fit import numbers_folded


@dataclass(frozen=True)
class State:
    """What an agent sees before a decision."""

    messages: Sequence[Message]
    """In GenAI parts form, oldest first."""
    tools: Sequence[Mapping[str, Any]]
    """Definitions ``{name, description, parameters}`` of the tools offered."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """The trajectory's tags; ``cohort`` names the slice that the gate judged."""
    trajectory: str | None = None
    """The running trajectory it is of; None: nothing is remembered of it."""


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
    """Probability of each tool offered, and of ``message``; they sum to 1, less what a retired tool has."""
    critic: float | None = None
    """Probability that this leads to success, by a critic; None: there is none, or it is off."""
    veto: str | None = None
    """Why a critic forbids it to the clone; None: it does not."""
    veto_irreversible: str | None = None
    """Why a critic forbids it to the clone if it can't be undone, of which more is asked; None: it does not."""


class Policy(Protocol):
    """Anything that decides."""

    def act(self, state: State) -> Decision:
        """Return the decision for a state."""
        ...


@dataclass(frozen=True)
class LivePolicy:
    """A policy that never calls what is retired, also where a stale agent offers it still.

    Where the policy would have, its next choice is at most as sure as the retired call was unlikely.
    """

    policy: Policy
    retired: Collection[str] = ()
    """Names of the tools that nobody may call."""
    superseded: Mapping[str, Collection[str]] = field(default_factory=dict)
    """By tool: the hashes of the definitions under which nobody may call it."""

    def act(self, state: State) -> Decision:
        """Return the decision for a state."""
        decision = self.policy.act(state)
        stale = {tool["name"] for tool in state.tools if self._stale(tool)}
        if not stale:
            return decision
        shares = {name: share for name, share in decision.tools.items() if name not in stale}
        if decision.action.name not in stale:
            return replace(decision, tools=shares)
        live = [tool for tool in state.tools if tool["name"] not in stale]
        second = self.policy.act(replace(state, tools=live))
        doubt = 1 - decision.tools.get(decision.action.name or "", 1.0)
        return replace(second, confidence=min(second.confidence, doubt), tools=shares)

    def _stale(self, tool: Mapping[str, Any]) -> bool:
        hashes = self.superseded.get(tool["name"])
        return tool["name"] in self.retired or bool(hashes and content_hash(dict(tool)) in hashes)


def same_action(made: Action, wanted: Action) -> bool:
    """Tell whether an action is the one wanted: the same tool with equal arguments (3 equals 3.0), or the same text.

    Of texts white space and case don't count. A message made without text leaves to the expert what to write: it is
    right wherever a message is wanted.
    """
    if made.kind != wanted.kind or made.name != wanted.name:
        return False
    if made.kind == "message":
        texts = [" ".join((action.message or "").casefold().split()) for action in (made, wanted)]
        return texts[0] in ("", texts[1])
    return _folded(made.arguments) == _folded(wanted.arguments)


def _folded(arguments: Mapping[str, Any]) -> str:
    return canonical_json(numbers_folded(arguments))
