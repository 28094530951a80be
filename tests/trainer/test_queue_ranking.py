from dataclasses import replace

import pytest

from imitrace.exceptions import ConfigError
from imitrace.messages import Action
from imitrace_trainer.queue_items import Item
from imitrace_trainer.queue_ranking import ORDERS, disagreement, rank, risk, risk_classes, uncertainty

RISK_OF = risk_classes({"desk": {"look": "read", "user": "read"}}, {"desk": frozenset({"refund"})})


def item(name: str, expert: str | None, clone: str | None, confidence: float | None = 0.9, text: str = "") -> Item:
    expert_action, clone_action = (None if tool is None else Action("tool_call", tool) for tool in (expert, clone))
    return Item(
        id=name,
        agent="desk",
        kind="disagreement",
        state=({"role": "user", "parts": [{"type": "text", "content": text or name}]},),
        tools=(),
        tags={},
        expert=expert_action,
        expert_name=None,
        clone=clone_action,
        clone_name=None,
        confidence=confidence,
        ood=1.0,
    )


READS, CHANGES, PAYS = item("reads", "look", "user"), item("changes", "look", "note"), item("pays", "look", "refund")


def names(items: list[Item], *judged: Item, by: str = "rank", seed: int = 0) -> list[str]:
    return [one.item.id for one in rank(items, judged, RISK_OF, by, seed)]


def test_the_worst_of_the_tools_is_the_risk() -> None:
    assert [risk(one, RISK_OF) for one in (READS, CHANGES, PAYS)] == ["read", "reversible", "irreversible"]
    said = replace(READS, clone=Action("message", message="Hi"))
    assert risk(said, RISK_OF) == "reversible"
    assert RISK_OF("other", "refund") == "reversible"


def test_disagreement_is_confidence_in_another_action_and_doubt_where_there_is_one_alone() -> None:
    assert disagreement(PAYS) == 0.9
    assert disagreement(item("acted", None, "look", 0.3)) == 0.7
    assert disagreement(item("unknown", "look", "user", None)) == 0.5
    assert uncertainty(PAYS) == pytest.approx(0.1)


def test_what_can_not_be_undone_comes_first_and_then_what_the_clone_was_sure_of() -> None:
    unsure = item("unsure", "look", "refund", 0.2, "something else")
    assert names([READS, CHANGES, unsure, PAYS]) == ["pays", "changes", "unsure", "reads"]
    assert names([READS, CHANGES, PAYS], by="risk") == ["pays", "changes", "reads"]


def test_the_score_is_the_product_of_its_three_parts() -> None:
    (ranked,) = rank([PAYS], [], RISK_OF)
    assert (ranked.disagreement, ranked.novelty) == (0.9, 0.75)
    assert ranked.score == pytest.approx(10 * 0.9 * 0.75)


def test_what_is_like_what_was_judged_or_stands_above_is_less_of_a_novelty() -> None:
    one, twin = (item(name, "look", "refund", text="the same words of a customer") for name in ("one", "twin"))
    other = item("other", "look", "refund", 0.8, text="quite another matter altogether")
    assert names([one, twin, other]) == ["one", "other", "twin"]
    assert names([one, other], twin) == ["other", "one"]


def test_uncertainty_and_a_draw_are_orders_too() -> None:
    items = [item(str(number), "look", "user", number / 10) for number in range(9)]
    assert names(items, by="uncertainty") == [str(number) for number in range(9)]
    draws = {tuple(names(items, by="random", seed=seed)) for seed in range(5)}
    assert len(draws) == 5
    assert names(items, by="random", seed=3) == names(items[::-1], by="random", seed=3)


@pytest.mark.parametrize("by", ORDERS)
def test_every_order_keeps_every_item_and_takes_none(by: str) -> None:
    items = [item(str(number), "look", "user", None) for number in range(520)]
    assert sorted(names(items, by=by)) == sorted(one.id for one in items)
    assert names([], by=by) == []


def test_an_order_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="order is 'age', allowed: rank, uncertainty, risk, random"):
        rank([], [], RISK_OF, "age")
