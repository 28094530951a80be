"""Let a clone act otherwise than it would: by draws, never the same twice in one state, or as a critic prefers."""

import math
from dataclasses import dataclass, replace
from random import Random

from imitrace.canonical import canonical_json
from imitrace.messages import Action, message_actions
from imitrace_trainer.correcting.stuck import without_ids
from imitrace_trainer.critic import CriticisedPolicy
from imitrace_trainer.policy import Decision, Policy, State, same_action

_MESSAGE = "message"
_NEVER = 1e-6


@dataclass(frozen=True)
class SampledPolicy:
    """Draws which tool it calls by the clone's own probabilities; the arguments are the clone's."""

    policy: Policy
    draw: Random

    def act(self, state: State) -> Decision:
        """Return a drawn decision."""
        decision = self.policy.act(state)
        if not sum(decision.tools.values()):
            return decision
        (chosen,) = self.draw.choices(list(decision.tools), list(decision.tools.values()))
        return with_tool(self.policy, state, chosen, decision)


@dataclass(frozen=True)
class GuardedPolicy:
    """Does nothing a second time in the same state; states that end in the same message are the same to it."""

    policy: Policy

    def act(self, state: State) -> Decision:
        """Return the likeliest decision that is no repetition; where all are, what the clone would do."""
        decision = self.policy.act(state)
        if not repeated(state, decision.action):
            return decision
        for name in by_share(decision):
            other = with_tool(self.policy, state, name, decision)
            if not repeated(state, other.action):
                return other
        return decision


@dataclass(frozen=True)
class RerankedPolicy:
    """Takes, of the likeliest calls, the one that the clone's probability and a critic's word together say most for.

    Nothing that serves is set to it: benchmarks/on_policy.py alone measures what it is worth. In service a
    critic only vetoes.
    """

    judged: CriticisedPolicy
    weight: float = 1.0
    """Of the critic's log-odds of success, beside the logarithm of the clone's probability."""
    most: int = 3
    """How many of the likeliest are looked at."""
    least: float = 0.02
    """Probability under which a tool is not looked at."""

    def act(self, state: State) -> Decision:
        """Return the decision that comes out best."""
        decision = self.judged.act(state)
        if self.judged.critic.refused is not None or decision.action.kind != "tool_call":
            return decision
        names = [name for name in by_share(decision)[: self.most] if decision.tools[name] >= self.least]
        options = [with_tool(self.judged, state, name, decision) for name in names if name != _MESSAGE]
        return max(options, key=self._worth, default=decision)

    def _worth(self, option: Decision) -> float:
        share = max(_NEVER, option.tools.get(option.action.name or _MESSAGE, 0.0))
        value = min(1 - _NEVER, max(_NEVER, 0.5 if option.critic is None else option.critic))
        return math.log(share) + self.weight * math.log(value / (1 - value))


def with_tool(policy: Policy, state: State, name: str, decision: Decision) -> Decision:
    """Return what a policy does where this tool alone is offered, beside the probabilities that it had for all.

    Where the tool is what it would call, or no call is to be had with it, the decision stays.
    """
    if name in (decision.action.name or _MESSAGE, _MESSAGE):
        return decision
    only = [tool for tool in state.tools if tool["name"] == name]
    found = policy.act(replace(state, tools=only)) if only else decision
    return replace(found, tools=decision.tools) if found.action.name == name else decision


def by_share(decision: Decision) -> list[str]:
    """Return the tools that a decision was made among, the likeliest first."""
    return sorted(decision.tools, key=lambda name: (-decision.tools[name], name))


def repeated(state: State, action: Action) -> bool:
    """Tell whether the same was done before after the same message."""
    if not state.messages:
        return False
    now = canonical_json(without_ids(state.messages[-1]))
    return any(
        canonical_json(without_ids(before)) == now
        and any(same_action(done, action) for done in message_actions(answer))
        for before, answer in zip(state.messages, state.messages[1:], strict=False)
        if answer["role"] == "assistant"
    )
