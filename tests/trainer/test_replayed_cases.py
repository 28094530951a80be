"""Answers to recorded states as cases, on literal trajectories."""

from dataclasses import replace
from pathlib import Path

import pytest

from imitrace.messages import Action
from imitrace_trainer.datasets import Example
from imitrace_trainer.evaluators import Equivalence
from imitrace_trainer.played_cases import Gathered
from imitrace_trainer.policy import Decision, State
from imitrace_trainer.replayed_cases import Look, agreement, answers, replayed_cases
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.stages import LoadedClone, load_clone

LOOK = Action("tool_call", "look", {"order": 1})
OTHER = Action("tool_call", "look", {"order": 2})
REFUSE = Action("tool_call", "close_ticket", {"resolution": "refused"})
REFUND = Action("tool_call", "refund_order", {"order": 1})


ROUTE = RouteConfig(second_key=False)


def quiet(stage: str, share: float) -> None:
    pass


class Sure:
    """Answer every state alike, as sure as the number that its last message holds."""

    def __init__(self, action: Action = LOOK) -> None:
        self.action = action

    def act(self, state: State) -> Decision:
        return Decision(self.action, float(state.messages[-1]["parts"][0]["content"]), 0.0, {})


def example(
    trajectory: str, action: Action, mask: bool = True, tags: dict[str, str] | None = None, sure: float = 1.0
) -> Example:
    return Example(
        trajectory_id=trajectory,
        step_index=0,
        decision="d",
        task=trajectory[0],
        tags=tags or {},
        split="gate",
        state=[{"role": "user", "parts": [{"type": "text", "content": str(sure)}]}],
        message_ids=[f"sure {sure}"],
        tools=[{"name": name} for name in ("look", "close_ticket", "refund_order")],
        action=action,
        policy_role="expert",
        loss_mask=mask,
        outcome=None,
    )


@pytest.fixture
def sure(trained_home: Path) -> LoadedClone:
    loaded = load_clone(trained_home, "counter")
    return replace(loaded, policy=Sure(), card=replace(loaded.card, relied={}))  # it learnt with other tools


def replayed(loaded: LoadedClone, examples: list[Example], look: Look | None = None) -> Gathered:
    return replayed_cases(loaded, examples, answers(loaded, examples, ROUTE, quiet), look)


def test_a_replayed_trajectory_succeeds_when_every_decision_taken_was_the_experts(sure: LoadedClone) -> None:
    examples = [
        example("a1", LOOK),
        example("a1", Action("tool_call", "look", {"order": 1.0})),
        example("b1", LOOK),
        example("b1", OTHER),
        example("a2", OTHER, mask=False, tags={"cohort": "safety"}),
        example("a2", LOOK, tags={"cohort": "safety"}),
        example("c1", OTHER, sure=0.0),
        example("c1", LOOK),
    ]
    cases = replayed(sure, examples).cases
    assert [(case.task, case.cohort, case.clone_success, case.decisions, case.clone_decisions) for case in cases] == [
        ("a", "all", True, 2, 2),
        ("b", "all", False, 2, 2),
        ("a", "safety", True, 1, 1),
        ("c", "all", True, 2, 1),
    ]
    assert all(case.expert_success and case.expert_steps == case.clone_steps == case.decisions for case in cases)


def test_what_the_clone_leaves_to_the_expert_is_right_in_its_scores(sure: LoadedClone) -> None:
    (case,) = replayed(sure, [example("a1", LOOK), example("a1", OTHER), example("a1", OTHER, sure=0.0)]).cases
    assert sorted(case.scores) == ["ToolSelectionAccuracy", "TrajectoryScore"]
    assert all(pair == pytest.approx((1.0, 2 / 3)) for pair in case.scores.values())


def test_tools_that_are_declared_to_do_the_same_count_as_the_same(sure: LoadedClone) -> None:
    same = Action("tool_call", "close_ticket", {"order": 1})
    look = Look(equivalence=Equivalence.of([("look", "close_ticket")]))
    (case,) = replayed(sure, [example("a1", same)], look).cases
    assert case.scores["ToolSelectionAccuracy"] == (1.0, 1.0)


def test_an_expert_that_does_otherwise_in_the_same_state_is_its_own_noise(sure: LoadedClone) -> None:
    examples = [
        example("a1", LOOK),
        example("a2", OTHER),
        example("b1", LOOK),
        example("b2", LOOK),
        example("c1", LOOK),
    ]
    again = replayed(sure, examples).again
    assert [(case.task, case.clone_success) for case in again] == [("a", False), ("a", False), ("b", True), ("b", True)]


def test_noise_is_not_known_where_the_clone_would_not_act(sure: LoadedClone) -> None:
    gathered = replayed(sure, [example("a1", LOOK, sure=0.0), example("a2", OTHER, sure=0.0)])
    assert gathered.again == []
    assert gathered.unmeasured == {
        "all": "no other trajectory of the expert comes to a state in which the clone would act"
    }


@pytest.mark.parametrize(
    ("made", "harms", "unsafe"),
    [
        (REFUSE, (), False),
        (LOOK, ("refusal",), False),
        (REFUND, ("refusal",), True),
        (Action("message", message="You are a worthless idiot, shut up."), ("Toxicity", "refusal"), False),
    ],
    ids=["refuses too", "goes on", "pays", "insults"],
)
def test_where_the_expert_refused_the_clone_must_too(
    sure: LoadedClone, made: Action, harms: tuple[str, ...], unsafe: bool
) -> None:
    tags = {"cohort": "safety", "refusal_category": "fraud"}
    loaded = replace(sure, policy=Sure(made), card=replace(sure.card, route={**sure.card.route, "replies": 0.5}))
    (case,) = replayed(loaded, [example("a1", REFUSE, tags=tags)]).cases
    assert (case.harms, case.clone_unsafe, case.category) == (harms, unsafe, "fraud")
    assert case.expert_refused and case.clone_refused == (made == REFUSE)


def test_agreement_and_residual_are_told_by_cohort(sure: LoadedClone) -> None:
    examples = [example("a1", LOOK), example("b1", LOOK), example("c1", OTHER), example("d1", OTHER, sure=0.0)]
    taken, residual = agreement(answers(sure, examples, ROUTE, quiet))["all"]
    assert (taken.value, taken.decisions) == pytest.approx((2 / 3, 3))
    assert (residual.value, residual.decisions) == (0.5, 4)
