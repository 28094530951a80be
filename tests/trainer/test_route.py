import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace.messages import Action, Message
from imitrace_trainer.canary import CANARY
from imitrace_trainer.policy import Decision, State
from imitrace_trainer.route import AUDIT, HANDOVER, Route, RoutedClone, Serving, refusal, route
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.route_rules import rule_from
from imitrace_trainer.thresholds import NEVER, Thresholds

TOOLS = [{"name": "look"}, {"name": "cancel"}]
THRESHOLDS = Thresholds(0.6, 0.9, ("cancel",))


def decide(
    name: str | None = "look",
    confidence: float = 0.7,
    ood: float = 0.5,
    order: object = 1,
    tags: Mapping[str, str] = {},
    vetoes: tuple[str | None, str | None] = (None, None),
) -> Route:
    kind = "message" if name is None else "tool_call"
    arguments = {} if name is None else {"order": order}
    decision = Decision(Action(kind, name, arguments), confidence, ood, {}, None, *vetoes)
    made = [{"type": "tool_call", "id": str(order), "name": "look", "arguments": {"order": order}} for order in (2, 3)]
    messages = [{"role": "assistant", "parts": [part]} for part in made]
    return route(decision, State(messages, TOOLS, {"cohort": "common"} | dict(tags)), THRESHOLDS, {"common"})


def test_a_proven_sure_new_call_of_an_offered_tool_is_the_clones() -> None:
    assert decide() == Route("clone", "trusted")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"tags": {"cohort": "safety"}}, "cohort 'safety' has no passing gate"),
        ({"name": None}, "the clone can't write text"),
        ({"name": "refund"}, "tool 'refund' is not offered"),
        ({"ood": 1.01}, "out of distribution (1.01)"),
        ({"confidence": 0.599}, "confidence 0.599"),
        ({"vetoes": ("veto: never", None)}, "veto: never"),
        ({"name": "cancel", "confidence": 0.95, "vetoes": (None, "veto: not this")}, "veto: not this"),
        ({"order": 2}, "the same call was already made"),
        ({"order": 3.0}, "the same call was already made"),
        ({"tags": {"cohort": "safety"}, "name": None, "ood": 9.0}, "cohort 'safety' has no passing gate"),
    ],
)
def test_the_expert_acts_for_the_first_reason_that_holds(changed: dict[str, Any], reason: str) -> None:
    routed = decide(**changed)
    assert (routed.actor, routed.reason) == ("expert", reason)


@pytest.mark.parametrize(
    "changed",
    [{"ood": 1.0}, {"confidence": 0.6}, {"order": "2"}, {"order": True}, {"vetoes": (None, "veto: not this")}],
)
def test_the_clone_acts_at_the_very_limits(changed: dict[str, Any]) -> None:
    assert decide(**changed).actor == "clone"


@pytest.mark.parametrize(("confidence", "actor"), [(0.899, "expert"), (0.9, "clone")])
def test_a_tool_that_cannot_be_undone_has_the_stricter_threshold(confidence: float, actor: str) -> None:
    assert decide("cancel", confidence, order=2).actor == actor


@pytest.mark.parametrize(("passed", "actor"), [(("all",), "clone"), (("common",), "expert"), ((), "expert")])
def test_a_trajectory_without_a_cohort_needs_the_gate_of_all(passed: Sequence[str], actor: str) -> None:
    decision = Decision(Action("tool_call", "look"), 1.0, 0.0, {})
    assert route(decision, State([], TOOLS), THRESHOLDS, passed).actor == actor


def test_nobody_is_as_sure_as_never() -> None:
    decision = Decision(Action("tool_call", "look"), 1.0, 0.0, {})
    never = Thresholds(NEVER, NEVER)
    assert route(decision, State([], TOOLS), never, {"all"}) == Route("expert", "confidence 1.000", doubt=True)


@pytest.mark.parametrize(
    ("changed", "doubt"),
    [
        ({"tags": {"cohort": "safety"}}, False),
        ({"name": None}, False),
        ({"name": "refund"}, False),
        ({"ood": 1.01}, True),
        ({"confidence": 0.599}, True),
        ({"order": 2}, True),
        ({"vetoes": ("veto: never", None)}, True),
    ],
)
def test_doubt_is_of_this_state_and_not_of_what_the_clone_may_never_do(changed: dict[str, Any], doubt: bool) -> None:
    assert decide(**changed).doubt == doubt


class Fixed:
    """A policy that says the same of every state."""

    def __init__(self, name: str = "look", confidence: float = 0.95, **arguments: object) -> None:
        self.decision = Decision(Action("tool_call", name, arguments), confidence, 0.5, {})

    def act(self, state: State) -> Decision:
        return replace(self.decision, confidence=float(state.tags.get("sure", self.decision.confidence)))


SOME = RouteConfig(audit=0.25, hold=0, handovers=0)


def seen(count: int, trajectory: str | None = "t", **tags: str) -> State:
    """Return a state after so many messages."""
    said: Message = {"role": "user", "parts": [{"type": "text", "content": "hm"}]}
    return State([said] * count, TOOLS, {"cohort": "common", **tags}, trajectory)


def served(config: RouteConfig, draw: Callable[[], float] = lambda: 0.99, **changed: Any) -> RoutedClone:
    clone = RoutedClone(Fixed(), THRESHOLDS, {"common"}, serving=replace(Serving.by(config), draw=draw))
    return replace(clone, **changed)


def test_a_rule_sends_what_it_says_to_the_expert_and_the_first_that_holds_counts() -> None:
    rules = [
        rule_from({"when": {"tag": "tier", "eq": "trial"}, "to": "clone"}, "rules[0]"),
        rule_from({"when": {"tag": "tier", "regex": "."}, "to": "expert"}, "rules[1]"),
    ]
    told = {tier: refusal({"cohort": "common", "tier": tier}, {"common"}, rules) for tier in ("vip", "trial")}
    assert told == {"vip": "rule 2 leaves this to the expert", "trial": None}
    assert refusal({"cohort": "rare", "tier": "trial"}, {"common"}, rules) == "cohort 'rare' has no passing gate"
    clone = served(RouteConfig(rules=tuple(rules)))
    assert clone.decide(seen(1, tier="vip"))[1] == Route("expert", "rule 2 leaves this to the expert")
    assert clone.decide(seen(2, tier="trial"))[1].actor == "clone"


def test_a_trusted_decision_that_is_drawn_goes_to_the_expert_with_its_propensity() -> None:
    assert served(SOME, lambda: 0.2).decide(seen(1))[1] == Route("expert", AUDIT, propensity=0.25)
    assert served(SOME, lambda: 0.25).decide(seen(1))[1] == Route("clone", "trusted", propensity=0.75)


def test_nothing_is_drawn_where_the_clone_is_not_trusted() -> None:
    assert served(SOME, lambda: 0.0).decide(seen(1, cohort="rare"))[1].propensity is None


def test_the_audit_takes_the_share_that_it_says() -> None:
    clone = served(replace(SOME, audit=0.05), random.Random(3).random)
    drawn = sum(clone.decide(seen(1, None))[1].reason == AUDIT for _ in range(4_000))
    assert 0.04 < drawn / 4_000 < 0.06


def test_in_doubt_after_having_acted_the_clone_hands_over_and_the_expert_keeps_the_next_decision() -> None:
    clone = served(replace(SOME, hold=1))
    told = [clone.decide(seen(place, sure=sure))[1] for place, sure in enumerate(("0.9", "0.1", "0.9", "0.9"))]
    assert [routed.actor for routed in told] == ["clone", "expert", "expert", "clone"]
    assert told[1].reason == f"{HANDOVER}confidence 0.100"
    assert told[2].reason == "the expert keeps this one after a handover"


def test_in_doubt_before_it_ever_acted_it_hands_nothing_over() -> None:
    clone = served(replace(SOME, hold=1))
    told = [clone.decide(seen(place, sure=sure))[1] for place, sure in enumerate(("0.1", "0.9"))]
    assert [routed.actor for routed in told] == ["expert", "clone"]
    assert told[0].reason == "confidence 0.100"


def test_after_so_many_handovers_the_expert_keeps_the_rest_of_that_trajectory_alone() -> None:
    clone = served(replace(SOME, handovers=2))
    sure = ("0.9", "0.1") * 3
    actors = [clone.decide(seen(place, sure=one))[1].actor for place, one in enumerate(sure)]
    assert actors == ["clone", "expert", "clone", "expert", "expert", "expert"]
    assert "handed over 2 times" in clone.decide(seen(9))[1].reason
    assert clone.decide(seen(9, "another"))[1].actor == "clone"


def test_asking_again_about_the_same_state_changes_nothing() -> None:
    clone = served(replace(SOME, handovers=1))
    for place, sure in enumerate(("0.9", "0.1")):
        told = {clone.decide(seen(place, sure=sure))[1].actor for _ in range(3)}
        assert len(told) == 1
    assert clone.decide(seen(2))[1].actor == "expert"


@settings(max_examples=100, deadline=None)
@given(sure=st.lists(st.sampled_from(["0.1", "0.9"]), max_size=30), hold=st.integers(0, 3), handovers=st.integers(1, 3))
def test_the_clone_comes_back_at_most_as_often_as_it_may_hand_over(sure: list[str], hold: int, handovers: int) -> None:
    clone = served(replace(SOME, hold=hold, handovers=handovers))
    told = [clone.decide(seen(place, sure=one))[1] for place, one in enumerate(sure)]
    starts = sum(
        one.actor == "clone" and (place == 0 or told[place - 1].actor == "expert") for place, one in enumerate(told)
    )
    assert starts <= handovers
    assert sum(one.reason.startswith(HANDOVER) for one in told) <= handovers


@pytest.mark.parametrize(
    ("second", "actor", "reason"),
    [
        (Fixed("cancel", order=1), "clone", "trusted"),
        (Fixed("cancel", order=2), "expert", "the second key says cancel, or other arguments"),
        (Fixed("look"), "expert", "the second key says look, or other arguments"),
        (None, "expert", "no second key to what can't be undone: train it again"),
    ],
)
def test_what_can_not_be_undone_needs_two_keys(second: Fixed | None, actor: str, reason: str) -> None:
    clone = RoutedClone(Fixed("cancel", order=1), THRESHOLDS, {"common"}, second=second, second_key=True)
    routed = clone.decide(seen(1))[1]
    assert (routed.actor, routed.reason) == (actor, reason)


@settings(max_examples=200, deadline=None)
@given(
    confidence=st.floats(0, 1),
    ood=st.floats(0, 3),
    agrees=st.booleans(),
    veto=st.booleans(),
    cohort=st.sampled_from(["common", "rare"]),
)
def test_nothing_that_can_not_be_undone_is_done_below_its_threshold_or_with_one_key(
    confidence: float, ood: float, agrees: bool, veto: bool, cohort: str
) -> None:
    policy, second = Fixed("cancel", confidence, order=1), Fixed("cancel", order=1 if agrees else 2)
    policy.decision = replace(policy.decision, ood=ood, veto_irreversible="veto: no" if veto else None)
    clone = RoutedClone(policy, THRESHOLDS, {"common"}, second=second, second_key=True)
    allowed = clone.decide(seen(1, cohort=cohort))[1].actor == "clone"
    assert allowed == (confidence >= 0.9 and ood <= 1 and agrees and not veto and cohort == "common")


def test_a_new_champion_is_tried_in_a_share_of_the_trajectories_each_with_one_answer() -> None:
    config = RouteConfig(audit=0.2)
    trusted = served(config, random.Random(1).random)
    tried = replace(trusted, named=("desk", "3"), canary=0.25)
    routes = [[tried.decide(seen(1, f"t{number}"))[1] for _ in range(5)] for number in range(600)]
    kept = [all(one.reason == CANARY for one in own) for own in routes]
    assert all(own or not any(one.reason == CANARY for one in some) for own, some in zip(kept, routes, strict=True))
    assert 0.7 < sum(kept) / 600 < 0.8
    told = {(one.actor, one.reason): one.propensity for own in routes for one in own}
    assert told == {
        ("clone", "trusted"): pytest.approx(0.2),
        ("expert", CANARY): pytest.approx(0.8),
        ("expert", AUDIT): pytest.approx(0.8),
    }
    acted = sum(one.actor == "clone" for own in routes for one in own) / 3_000
    assert 0.17 < acted < 0.23


def test_another_version_is_tried_in_other_trajectories() -> None:
    clones = [replace(served(SOME, lambda: 0.9), named=("desk", name), canary=0.5) for name in ("3", "4")]
    answers = [[one.decide(seen(1, f"t{number}"))[1].actor for number in range(50)] for one in clones]
    assert answers[0] != answers[1]
