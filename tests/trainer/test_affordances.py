"""What a tool's arguments could take, and whether it was used."""

from typing import Any

from imitrace.messages import Message
from imitrace_trainer.affordances import AFFORDANCES, Affordances, Findings, Origins, SlotOrigin, open_slots
from imitrace_trainer.encoding import view_state
from imitrace_trainer.reading import Reader

TEXT = {"type": "string"}
PARAMETERS = {"properties": {"order": TEXT, "how": {"enum": ["a"]}, "note": TEXT}, "required": ["order", "how"]}
LOOK = {"name": "look", "description": "", "parameters": PARAMETERS}
ORIGINS = Origins({"look.order": SlotOrigin(frozenset({"user", "list:*.id"}), frozenset({"A#"}))})


def said(content: str) -> Message:
    return {"role": "user", "parts": [{"type": "text", "content": content}]}


def called(name: str, arguments: dict[str, Any], response: object) -> list[Message]:
    call = {"type": "tool_call", "id": name + str(arguments), "name": name, "arguments": arguments}
    answer = {"type": "tool_call_response", "id": name + str(arguments), "response": response}
    return [{"role": "assistant", "parts": [call]}, {"role": "tool", "parts": [answer]}]


def found(*messages: Message) -> Findings:
    return Affordances(view_state(messages, [LOOK], Reader()), ORIGINS, {}).found("look.order")


def test_only_required_scalars_that_nothing_enumerates_are_open() -> None:
    assert open_slots(LOOK) == ["look.order"]
    assert open_slots({"name": "look", "parameters": None}) == []


def test_values_are_told_apart_by_who_said_them_and_whether_they_were_used() -> None:
    listed = called("list", {}, [{"id": "W3", "what": "lamp"}, {"id": "W4", "what": "rug"}])
    one = found(said("W1 and W2"), *called("look", {"order": "W1"}, "none"), *listed)
    assert (one.unused, one.said, one.newest) == ({"W2", "W3", "W4"}, {"W2"}, {"W3", "W4"})


def test_a_record_matches_by_a_word_of_the_users_that_its_neighbours_lack() -> None:
    listed = [{"id": "W3", "what": "red lamp"}, {"id": "W4", "what": "red rug"}, {"id": "W5", "what": "red sofa"}]
    one = found(said("the red rug, please"), *called("list", {}, listed))
    assert (one.matched, one.matched_used) == ({"W4"}, False)
    again = found(said("the red rug"), *called("list", {}, listed), *called("look", {"order": "W4"}, ""), said("a rug"))
    assert (again.matched, again.matched_used) == (set(), True)


def test_values_of_another_look_or_another_source_do_not_count() -> None:
    one = found(said("rug"), *called("other", {}, {"id": "W9"}))
    assert (one.any, one.unused) == (False, set())


def test_a_tool_whose_name_begins_as_the_users_role_is_not_the_user() -> None:
    view = view_state([said("hi"), *called("user_list", {}, {"id": "W9"})], [LOOK], Reader())
    origins = Origins({"look.order": SlotOrigin(frozenset({"user_list:id"}))})
    one = Affordances(view, origins, {}).found("look.order")
    assert (one.unused, one.said) == ({"W9"}, set())


def test_a_slot_that_training_never_saw_can_take_nothing() -> None:
    view = view_state([said("W1")], [LOOK], Reader())
    told = Affordances(view, Origins({}), {"look": ["look.order"]}).of(LOOK)
    assert (len(told), sum(told)) == (AFFORDANCES, 1.0)
