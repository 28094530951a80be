"""The table of a state's values: groups of equal ones, their places, and their mentions."""

from imitrace.messages import Message
from imitrace_trainer.columns import LEAF, SOURCE, text_id
from imitrace_trainer.encoding import view_state
from imitrace_trainer.places import Places
from imitrace_trainer.reading import Reader, Scalar


def say(text: str, role: str = "user") -> Message:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def look(response: object, **arguments: Scalar) -> list[Message]:
    call = {"type": "tool_call", "id": "1", "name": "look", "arguments": arguments}
    answer = {"type": "tool_call_response", "id": "1", "response": response}
    return [{"role": "assistant", "parts": [call]}, {"role": "tool", "parts": [answer]}]


def table(*messages: Message) -> Places:
    return view_state(messages, [], Reader()).table


def values(places: Places) -> list[Scalar]:
    return [places.seen(int(row)).value for row in places.newest]


def test_equal_values_are_one_group_and_the_newest_comes_first() -> None:
    places = table(say("A B"), *look({"id": "A"}, id="B"))
    assert values(places)[:2] == ["A", "B"]
    assert len(places) == len(set(values(places)))
    rows, owners = places.rows(places.group_of("A") + 0 * places.newest[:1])
    assert [int(places.position[row]) for row in rows] == [2, 0]
    assert owners.tolist() == [0, 0]


def test_a_state_without_messages_has_no_values() -> None:
    assert len(table()) == 0


def test_only_so_many_places_are_kept_the_newest() -> None:
    places = table(*(message for n in range(50) for message in look([f"W{n}-{item}" for item in range(100)])))
    assert len(places.record) == 4_000
    assert places.group_of("W49-0") >= 0 > places.group_of("W0-0")


def test_arguments_of_earlier_calls_are_used() -> None:
    places = table(*look({"id": "B"}, id="A"))
    used = places.used(SOURCE, text_id("args:look.id"))
    assert [values(places)[group] for group in used.nonzero()[0]] == ["A"]
    assert (places.used(LEAF, text_id("id")) == used).all()


def test_a_value_is_mentioned_where_its_words_are_spoken() -> None:
    places = table(say("the desk lamp"), say("a lamp or the desk lamp", "assistant"), *look({"name": "Desk Lamp"}))
    assert places.mentioned(places.group_of("Desk Lamp")).tolist() == [1, 7]


def test_the_scope_of_a_named_value_ends_where_the_next_of_its_kind_is_named() -> None:
    places = table(say("For #W1, modify the lamp. For #W2, return the hose"), *look({"ids": ["#W1", "#W2"]}))
    scope = places.scope([places.group_of("#W1")])
    assert scope is not None
    assert scope.nonzero()[0].tolist() == [0, 1, 2, 3, 4]


def test_a_word_without_a_digit_has_no_scope() -> None:
    places = table(say("the lamp"), *look({"name": "lamp"}))
    assert places.scope([places.group_of("lamp")]) is None
