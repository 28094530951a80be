"""Where a conversation speaks of records."""

import numpy as np

from imitrace.messages import Message
from imitrace_trainer.encoding import view_state
from imitrace_trainer.mentions import NOWHERE, Mentions
from imitrace_trainer.options import Trail
from imitrace_trainer.reading import Reader


def mentions(said: str, response: object, **arguments: str) -> Mentions:
    user: Message = {"role": "user", "parts": [{"type": "text", "content": said}]}
    call = {"type": "tool_call", "id": "1", "name": "look", "arguments": arguments}
    answer = {"type": "tool_call_response", "id": "1", "response": response}
    messages = [user, {"role": "assistant", "parts": [call]}, {"role": "tool", "parts": [answer]}]
    return Mentions(view_state(messages, [], Reader()).table, 0)


def words_of(found: Mentions, *values: str) -> list[int]:
    groups = np.array([found.table.group_of(value) for value in values])
    _, words, _ = found.of_groups(*found.table.rows(groups), len(groups), None)
    return [-1 if word == NOWHERE else word for word in words.tolist()]


def test_a_record_is_spoken_of_where_most_of_its_values_are() -> None:
    beds = [{"id": "a1", "name": "Pet Bed", "size": "small"}, {"id": "b2", "name": "Pet Bed", "size": "large"}]
    found = mentions("a pet bed that is small, and then, " + "well " * 20 + "a pet bed that is large", beds)
    assert words_of(found, "a1", "b2") == [1, 29]


def test_a_weak_mention_inside_a_stronger_one_is_none() -> None:
    items = [{"id": "a1", "name": "Desk Lamp", "color": "black"}, {"id": "b2", "name": "Hose", "color": "green"}]
    items.append({"id": "c3", "name": "Tent", "light": "lamp"})
    found = mentions("the desk lamp, black, and the hose", items)
    assert words_of(found, "a1", "b2", "c3") == [1, 6, -1]


def test_the_subject_is_what_the_newest_call_took_of_what_was_named() -> None:
    found = mentions("For #W1, the lamp. For #W2, the hose", {"done": True}, id="#W2")
    scope = found.scope(Trail())
    assert scope is not None
    assert scope.nonzero()[0].tolist() == [4, 5, 6, 7]


def test_nothing_said_is_about_nothing() -> None:
    found = mentions("", {"id": "a1"})
    assert found.subject is None
    assert words_of(found, "a1") == [-1]
