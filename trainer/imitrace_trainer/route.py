"""Decide who acts: the clone where it is proven and sure, the expert everywhere else."""

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from imitrace.messages import Action, Message, message_actions
from imitrace_trainer.canary import CANARY, inside
from imitrace_trainer.handovers import Handovers
from imitrace_trainer.policy import Decision, Policy, State, same_action
from imitrace_trainer.relied_tools import ReliedTools
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.route_rules import Rule, cohort_of
from imitrace_trainer.thresholds import Thresholds

Actor = Literal["clone", "expert"]

AUDIT: Final = "audit"
"""The reason of a decision that was trusted to the clone, and drawn to go to the expert."""
DRAWN: Final = (AUDIT, CANARY)
"""The reasons of decisions that were trusted to the clone, and drawn to go to the expert."""
HANDOVER: Final = "handover: "
"""How the reason begins where the clone, having acted in a trajectory, hands over in doubt: data to correct it by."""


@dataclass(frozen=True)
class Route:
    """Who acts, and why."""

    actor: Actor
    reason: str
    doubt: bool = False
    """The expert acts because the clone is unsure of this state, not because it may not act in such."""
    propensity: float | None = None
    """Where the clone was trusted: with which probability the one who acts was drawn; None: nothing was drawn."""


def route(  # noqa: PLR0913 - all that is heeded
    decision: Decision,
    state: State,
    thresholds: Thresholds,
    passed: Collection[str],
    rules: Sequence[Rule] = (),
    stepped_back: Mapping[str, str] | None = None,
) -> Route:
    """Return who acts on a state, as far as one clone's decision tells; the default is the expert.

    Args:
        decision: what the clone would do.
        state: what both see; its ``cohort`` tag says which gate verdict counts.
        thresholds: how sure the clone must be.
        passed: the cohorts in which its gate says pass.
        rules: where decisions go by tags.
        stepped_back: by cohort why it went back to the expert though its gate passed.
    """
    refused = refusal(state.tags, passed, rules, stepped_back)
    if refused is not None:
        return Route("expert", refused)
    action = decision.action
    veto = decision.veto_irreversible if action.name in thresholds.irreversible_tools else decision.veto
    can = (
        (action.kind == "tool_call" or bool(action.message), "the clone can't write text"),
        (action.name in (None, *(tool["name"] for tool in state.tools)), f"tool {action.name!r} is not offered"),
    )
    sure = (
        (decision.ood <= 1, f"out of distribution ({decision.ood:.2f})"),
        (
            decision.confidence >= thresholds.of(action.name, cohort_of(state.tags)),
            f"confidence {decision.confidence:.3f}",
        ),
        (not repeats(decision.action, state.messages), "the same call was already made"),
        (veto is None, veto or ""),
    )
    for checks, doubt in ((can, False), (sure, True)):
        failed = next((why for holds, why in checks if not holds), None)
        if failed is not None:
            return Route("expert", failed, doubt)
    return Route("clone", "trusted")


def refusal(
    tags: Mapping[str, str],
    passed: Collection[str],
    rules: Sequence[Rule] = (),
    stepped_back: Mapping[str, str] | None = None,
) -> str | None:
    """Return why the clone may act on nothing of a trajectory with these tags, None where it is worth asking."""
    number = next((number for number, rule in enumerate(rules) if rule.holds(tags)), None)
    if number is not None and rules[number].to == "expert":
        return f"rule {number + 1} leaves this to the expert"
    cohort = cohort_of(tags)
    if cohort in passed:
        return None
    return (stepped_back or {}).get(cohort, f"cohort {cohort!r} has no passing gate")


def repeats(action: Action, messages: Sequence[Message]) -> bool:
    """Tell whether an action repeats a call of this conversation, argument for argument."""
    answers = (message for message in messages if message["role"] == "assistant")
    return any(same_action(action, made) for answer in answers for made in message_actions(answer))


@dataclass(frozen=True)
class Serving:
    """What only counts where decisions are carried out: rules, the audit slice, and the memory of handovers."""

    config: RouteConfig
    handovers: Handovers
    draw: Callable[[], float] = field(default=random.SystemRandom().random)
    """Draws a number from 0 to under 1."""

    @classmethod
    def by(cls, config: RouteConfig) -> "Serving":
        """Return this with an empty memory."""
        return cls(config, Handovers(config))


@dataclass(frozen=True)
class RoutedClone:
    """A clone that says of each state what it would do and whether it may."""

    policy: Policy
    thresholds: Thresholds
    passed: Collection[str]
    """The cohorts in which it may act."""
    named: tuple[str, str] | None = None
    """Its name and version, for the trace."""
    second: Policy | None = None
    """Another family's clone, the second key to what can't be undone; None: there is none."""
    second_key: bool = False
    """Whether what can't be undone needs it."""
    serving: Serving | None = None
    """None: what is asked is looked at, not carried out."""
    stepped_back: Mapping[str, str] = field(default_factory=dict)
    """By cohort why it went back to the expert though its gate passed."""
    relied: ReliedTools = field(default_factory=ReliedTools)
    """The tools without which its cohorts are not what the gate judged."""
    canary: float = 0.0
    """In which share of the trajectories it is trusted while it is new; 0: it is tried no more."""

    def decide(self, state: State) -> tuple[Decision, Route]:
        """Return the clone's decision and who acts."""
        decision = self.policy.act(state)
        return decision, self.judge(decision, state)

    def judge(self, decision: Decision, state: State) -> Route:
        """Return who acts on a state in which the clone decided so."""
        serving = self.serving
        rules = serving.config.rules if serving else ()
        passed, stepped_back = self._allowed(state)
        routed = route(decision, state, self.thresholds, passed, rules, stepped_back)
        if routed.actor == "clone":
            routed = self._with_second_key(decision, state) or routed
        if serving is None:
            return routed
        at = None if state.trajectory is None else (state.trajectory, len(state.messages))
        kept = None if at is None else serving.handovers.kept(*at)
        if routed.actor == "clone":
            routed = self._drawn(routed, serving, state.trajectory) if kept is None else Route("expert", kept)
        if at and serving.handovers.note(*at, clone=routed.actor == "clone", doubt=routed.doubt):
            return replace(routed, reason=f"{HANDOVER}{routed.reason}")
        return routed

    def _allowed(self, state: State) -> tuple[Collection[str], Mapping[str, str]]:
        """Return the cohorts in which the clone may act on a state, and why it does not in others that passed."""
        cohort = cohort_of(state.tags)
        lack = self.relied.lack(state) if cohort in self.passed else None
        if lack is None:
            return self.passed, self.stepped_back
        return [name for name in self.passed if name != cohort], {**self.stepped_back, cohort: lack}

    def _drawn(self, routed: Route, serving: Serving, trajectory: str | None) -> Route:
        """Return a trusted decision, or the expert's where it is drawn for the audit or kept from a new champion.

        Whoever acts is told with the probability of that: of both draws together.
        """
        audit = serving.config.audit
        if self.canary:
            tried = self.canary * (1 - audit)
            drawn = serving.draw() < self.canary if trajectory is None else self._tries(trajectory)
            if not drawn:
                return Route("expert", CANARY, propensity=1 - tried)
            if audit and serving.draw() < audit:
                return Route("expert", AUDIT, propensity=1 - tried)
            return Route("clone", routed.reason, propensity=tried)
        if not audit:
            return routed
        if serving.draw() < audit:
            return Route("expert", AUDIT, propensity=audit)
        return Route("clone", routed.reason, propensity=1 - audit)

    def _tries(self, trajectory: str) -> bool:
        return inside(trajectory, self.named or ("", ""), self.canary)

    def _with_second_key(self, decision: Decision, state: State) -> Route | None:
        """Return why a call that can't be undone stays the expert's: no other family proposes the same."""
        if not self.second_key or decision.action.name not in self.thresholds.irreversible_tools:
            return None
        if self.second is None:
            return Route("expert", "no second key to what can't be undone: train it again")
        other = self.second.act(state).action
        if same_action(other, decision.action):
            return None
        return Route("expert", f"the second key says {other.name or 'message'}, or other arguments", doubt=True)
