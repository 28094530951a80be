"""What a choice is made on, by groups."""

import pytest

from imitrace.messages import Message
from imitrace_trainer.affordances import SlotOrigin
from imitrace_trainer.encoding import view_state
from imitrace_trainer.features import GROUPS, ChoiceEncoder
from imitrace_trainer.reading import Reader

LOOK = {"name": "look", "parameters": {"properties": {"order": {"type": "string"}}, "required": ["order"]}}
OTHER = {**LOOK, "name": "show"}
ORIGINS = {".order": SlotOrigin(frozenset({"user"}), frozenset({"A#"}))}
ASKED: Message = {"role": "user", "parts": [{"type": "text", "content": "where is W1"}]}


def test_every_group_is_told_in_order() -> None:
    features, taken = ChoiceEncoder(ORIGINS, GROUPS)(view_state([ASKED], [LOOK], Reader()), ["look", "gone"])
    assert tuple(features) == GROUPS
    assert taken[0].any()
    assert not taken[1].any()


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_that_is_left_out_tells_nothing_but_that_a_prompt_changed(group: str) -> None:
    kept = [other for other in GROUPS if other != group]
    features, taken = ChoiceEncoder(ORIGINS, kept)(view_state([ASKED], [LOOK], Reader()), ["look"])
    assert list(features) == [*kept, *(["system"] if group == "system" else [])]
    assert taken.any() == (group != "affordances")


def test_a_parameter_of_a_new_tool_takes_what_one_of_its_name_does() -> None:
    encoder = ChoiceEncoder(ORIGINS, GROUPS)
    both = encoder(view_state([ASKED], [LOOK, OTHER], Reader()), ["look", "show"])[1]
    assert both[0].tolist() == both[1].tolist()
