"""How an expert's decisions are encoded."""

import random
from collections.abc import Callable

import numpy as np
import pytest

from imitrace.messages import Action, Message
from imitrace_trainer.demonstrations import (
    ChoiceRows,
    Coverage,
    Demonstration,
    SlotCase,
    encode_choices,
    encode_slots,
    learn_slot_vocabulary,
    read_choices,
    read_decisions,
)
from imitrace_trainer.embedded import EmbeddedPolicy
from imitrace_trainer.encoding import MESSAGE, Vocabulary
from imitrace_trainer.features import GROUPS
from imitrace_trainer.knowledge import learn_knowledge
from imitrace_trainer.policy import State
from imitrace_trainer.reading import Reader, Scalar

PAY = {
    "name": "pay",
    "description": "Pay.",
    "parameters": {"properties": {"how": {"type": "string"}, "n": {"type": "integer"}}, "required": ["how"]},
}


def pay(task: int, said: str, **arguments: Scalar) -> Demonstration:
    message: Message = {"role": "user", "parts": [{"type": "text", "content": said}]}
    return Demonstration(State([message], [PAY]), Action("tool_call", "pay", arguments), str(task))


def test_a_demonstration_is_labelled_by_its_tool_or_as_a_message() -> None:
    assert pay(1, "hi").label == "pay"
    assert Demonstration(State([], []), Action("message", message="hi"), "1").label == MESSAGE


def learn_slots(*shown: Demonstration) -> tuple[Vocabulary, list[SlotCase], Coverage]:
    knowledge = learn_knowledge(read_decisions(shown, Reader()))
    return learn_slot_vocabulary(shown, knowledge, Reader(), random.Random(0))


def slots_of(*shown: Demonstration) -> tuple[list[SlotCase], Coverage]:
    _, slots, coverage = learn_slots(*shown)
    return slots, coverage


def test_coverage_counts_values_that_were_nowhere_to_be_seen() -> None:
    _, coverage = slots_of(pay(1, "by cash, 3 times", how="cash", n=3), pay(2, "hi", how="gold"))
    assert (coverage.found, coverage.missing, coverage.share) == (3, 1, 0.75)  # an omitted parameter is found too


def test_nothing_to_find_is_full_coverage() -> None:
    assert Coverage().share == 1.0


def test_each_slot_keeps_the_experts_choice_and_only_so_many_others() -> None:
    slots, _ = slots_of(pay(1, " ".join(f"word{n}" for n in range(200)), how="word150"))
    assert [case.options for case in slots] == [61]
    assert set(slots[0].told.owners.tolist()) == set(range(61))


def test_a_message_and_a_tool_that_was_not_offered_have_no_slots() -> None:
    unknown = Demonstration(State([], []), Action("tool_call", "pay", {"how": "cash"}), "1")
    slots, coverage = slots_of(unknown, Demonstration(State([], [PAY]), Action("message", message="hi"), "1"))
    assert (slots, coverage.found, coverage.missing) == ([], 0, 0)


def test_encoded_slots_hold_rows_of_known_features() -> None:
    shown = [pay(task, "cash or card", how="cash") for task in range(2)]
    vocabulary, slots, _ = learn_slots(*shown)
    first = encode_slots(slots, vocabulary)[0]
    assert first.gold == 0
    assert first.lengths.sum() == len(first.rows)
    assert len(first.lengths) == slots[0].options
    assert first.rows.max() < len(vocabulary.ids)


def encoded(policy: EmbeddedPolicy, *shown: Demonstration) -> list[ChoiceRows]:
    return encode_choices(
        read_choices(shown, policy.knowledge, GROUPS, Reader()), policy.features, policy.config.groups
    )


def test_encoded_choices_say_what_was_offered_and_chosen(
    shop_clone: EmbeddedPolicy, play_shop: Callable[[int, int], list[Demonstration]]
) -> None:
    shown = play_shop(1, 7)
    one_tool = Demonstration(State(shown[0].state.messages, shown[0].state.tools[:1]), shown[0].action, "1")
    rows = encoded(shop_clone, *shown, one_tool)
    actions = shop_clone.knowledge.actions
    assert [actions[row.label] for row in rows[:-1]] == [demonstration.label for demonstration in shown]
    assert rows[0].offered.all()
    assert [name for name, offered in zip(actions, rows[-1].offered, strict=True) if offered] == [MESSAGE, "find_order"]


def test_a_chosen_tool_counts_as_offered_even_when_it_was_not_listed(shop_clone: EmbeddedPolicy) -> None:
    row = encoded(shop_clone, Demonstration(State([], []), Action("tool_call", "refund", {}), "1"))[0]
    assert row.offered[row.label] == 1


def test_a_states_weights_are_normalised_by_segment(
    shop_clone: EmbeddedPolicy, play_shop: Callable[[int, int], list[Demonstration]]
) -> None:
    bags = encoded(shop_clone, *play_shop(1, 7)[-1:])[0].bags
    parts = np.split(bags.weights, np.cumsum(bags.lengths)[:-1])
    lengths = [float(np.linalg.norm(part)) for part in parts if len(part)]
    assert lengths == pytest.approx([1.0] * len(shop_clone.config.groups), abs=1e-5)
    assert 0 <= bags.unknown < 0.5
