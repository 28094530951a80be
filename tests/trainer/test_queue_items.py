from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from imitrace.messages import Action
from imitrace_trainer.equivalence import OTHER_ORDER
from imitrace_trainer.queue_items import Item, find_items, item_id, without_ids

Make = Callable[..., dict[str, pl.DataFrame]]
Json = dict[str, Any]  # a JSON object

TOOLS = [{"name": name, "description": "", "parameters": {"type": "object"}} for name in ("look", "user", "refund")]


def shadow(name: str, confidence: float = 0.9, **arguments: object) -> Json:
    action = {"kind": "tool_call", "name": name, "arguments": arguments}
    return {"clone": "desk", "version": "v3", "action": action, "confidence": confidence, "ood": 0.4, "trusted": False}


def case(calls: list[Any], **steps: Json) -> Json:
    return {"tools": TOOLS, "calls": calls, "steps": {int(place[1:]): told for place, told in steps.items()}}


def found(make: Make, *cases: Json, **options: Any) -> list[Item]:
    return find_items({table: frame.lazy() for table, frame in make(*cases).items()}, **options)


def test_a_decision_in_which_the_clone_differs_is_asked_about(make_diverging: Make) -> None:
    told = {"shadow": shadow("refund", order="A1"), "route_reason": "audit", "propensity": 0.05, "policy_name": "gpt"}
    (item,) = found(make_diverging, case([("look", {"order": "A1"}), "user"], s0=told))
    assert item.kind == "disagreement"
    assert item.expert == Action("tool_call", "look", {"order": "A1"})
    assert item.clone == Action("tool_call", "refund", {"order": "A1"})
    assert (item.expert_name, item.clone_name, item.confidence, item.ood) == ("gpt", "desk v3", 0.9, 0.4)
    assert (item.reason, item.propensity) == ("audit", 0.05)
    assert (item.places, item.tasks) == ((("t0", 0),), ("t0",))
    assert [tool["name"] for tool in item.tools] == ["look", "user", "refund"]
    assert item.state[0]["role"] == "user"
    assert Item.from_json(item.to_json()) == item


@pytest.mark.parametrize(
    "told",
    [
        {"shadow": shadow("look", order="A1")},
        {"shadow": {**shadow("look"), "action": {"kind": "message", "name": None, "arguments": {}}}},
        {"shadow": {**shadow("look"), "action": None}},
        {"shadow": shadow("refund"), "complete": False},
        {"policy_role": "clone", "confidence": 0.8},
        {"policy_role": "synthetic", "shadow": shadow("refund")},
    ],
    ids=["agrees", "leaves the text to the expert", "was not asked", "is incomplete", "is sure", "is synthetic"],
)
def test_what_needs_no_judge_is_not_asked_about(make_diverging: Make, told: Json) -> None:
    assert found(make_diverging, case([("look", {"order": "A1"})], s0=told)) == []


def test_what_a_clone_did_unsure_is_asked_about(make_diverging: Make) -> None:
    told = {"policy_role": "clone", "policy_name": "desk", "policy_version": "v2", "confidence": 0.3}
    (item,) = found(make_diverging, case(["look"], s0=told))
    assert (item.kind, item.expert, item.clone) == ("low_confidence", None, Action("tool_call", "look"))
    assert item.clone_name == "desk v2"
    assert found(make_diverging, case(["look"], s0=told), low=0.2) == []


def test_where_the_expert_took_over_is_asked_about_also_without_a_shadow(make_diverging: Make) -> None:
    acted = {"policy_role": "clone", "confidence": 0.9}
    (item,) = found(make_diverging, case(["look", "user", "refund"], s0=acted))
    assert (item.kind, item.clone, item.places) == ("handover", None, (("t0", 1),))


def test_the_same_content_is_one_item_with_all_the_places_where_it_was_seen(make_diverging: Make) -> None:
    told = {"shadow": shadow("refund")}
    harmless = case(["look", "refund"], s0={"shadow": shadow("user")})
    (item,) = found(make_diverging, *[case(["look"], s0=told)] * 3)
    assert (item.seen, item.tasks) == (3, ("t0", "t1", "t2"))
    others = found(make_diverging, case(["look"], s0=told), harmless)
    assert len({one.id for one in others}) == 2


def test_harmless_is_only_what_was_harmless_each_time(make_diverging: Make) -> None:
    told, reads = {"shadow": shadow("user")}, {"desk": {"look", "user"}}
    harmless, harmful = case(["look", "user"], s0=told), case(["look", "refund", "user"], s0=told)
    (item,) = found(make_diverging, harmless, reads=reads)
    assert item.equivalent == OTHER_ORDER
    (item,) = found(make_diverging, harmless, harmful, reads=reads)
    assert item.equivalent is None
    (item,) = found(make_diverging, harmless)
    assert item.equivalent is None


def test_an_id_does_not_depend_on_the_ids_of_calls() -> None:
    def said(call_id: str) -> Json:
        return {"role": "tool", "parts": [{"type": "tool_call_response", "id": call_id, "response": "ok"}]}

    assert without_ids(said("a")) == without_ids(said("b"))
    look, other = Action("tool_call", "look", {"a": 1}, call_id="x"), Action("tool_call", "look", {"a": 1})
    assert item_id(["m"], look, None) == item_id(["m"], other, None)
    assert len({item_id(["m"], look, None), item_id(["n"], look, None), item_id(["m"], None, look)}) == 3


def test_only_one_agents_decisions_are_asked_about_when_it_is_named(make_diverging: Make) -> None:
    told = {"shadow": shadow("refund")}
    cases = [case(["look"], s0=told), {**case(["user"], s0=told), "agent": "shop"}]
    assert {item.agent for item in found(make_diverging, *cases)} == {"desk", "shop"}
    assert [item.agent for item in found(make_diverging, *cases, agent="shop")] == ["shop"]


def test_parallel_calls_of_one_answer_are_one_decision(make_diverging: Make) -> None:
    told = {"shadow": shadow("refund"), "decision": "both"}
    (item,) = found(make_diverging, case(["look", "refund"], s0=told, s1=told))
    assert (item.places, item.equivalent) == ((("t0", 0),), "the expert made this call in the same answer")
