"""Only what is said again and again becomes a template, and nothing of a person's own stays in its text."""

import pytest

from imitrace.messages import Action, from_openai
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.phrases import PhraseReader
from imitrace_trainer.policy import State
from imitrace_trainer.reply_skeletons import Scanner, alike, bag
from imitrace_trainer.reply_templates import Mined, mine


def told(*pairs: tuple[str, str], tasks: int | None = None) -> Mined:
    """Mine replies, each with what the user said before; of as many tasks as there are, or fewer."""
    shown = [
        Demonstration(
            State([from_openai({"role": "user", "content": said})], [{"name": "pay", "parameters": {}}]),
            Action("message", message=reply),
            str(number if tasks is None else number % tasks),
        )
        for number, (said, reply) in enumerate(pairs)
    ]
    return mine(shown, PhraseReader())


def texts(mined: Mined) -> list[str]:
    return [template.text for template in mined.templates]


def test_what_looks_like_a_value_becomes_a_typed_slot() -> None:
    mined = told(
        ("W123 for $1200 please", "I paid $1,200 back for W123."),
        ("W77, it was $30", "I paid $30 back for W77."),
        ("my order is W5 of $250", "I paid $250 back for W5."),
    )
    assert texts(mined) == ["I paid ${amount_1} back for {code_1}."]


def test_what_is_copied_from_the_user_becomes_a_phrase() -> None:
    goods = ("desk lamp", "cutting board", "rain jacket")
    mined = told(
        *((f"I like the {one} a lot", f"Thanks for your kind words on the {one}. We are glad.") for one in goods)
    )
    assert texts(mined) == ["Thanks for your kind words on the {phrase_1}. We are glad."]


def test_three_replies_of_two_tasks_are_no_template() -> None:
    assert texts(told(*[("hi", "Good day to you.")] * 3, tasks=2)) == []
    assert texts(told(*[("hi", "Good day to you.")] * 3, tasks=3)) == ["Good day to you."]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("Please write to mia@mail.example about it.", "a email that the conversation does not hold"),
        ("I moved it to card 77120043 for you.", "a code that the conversation does not hold"),
        ("I have told Mia about it.", "a name that the conversation does not hold"),
    ],
)
def test_a_value_that_the_conversation_does_not_hold_is_refused(reply: str, reason: str) -> None:
    mined = told(*[("please help", reply)] * 4)
    assert texts(mined) == []
    assert mined.refused == {reason: 1}


def test_a_name_that_begins_a_sentence_is_refused_where_it_is_known_as_one() -> None:
    mined = told(*[("please help", "Mia will call.")] * 4, *[("I am Mia", "Good to know you, Mia.")] * 4)
    assert texts(mined) == ["Good to know you, {name_1}."]
    assert mined.refused == {"a name that the conversation does not hold": 1}


def test_a_number_that_all_say_is_text() -> None:
    assert texts(told(*[("when?", "Within 24 hours.")] * 3)) == ["Within 24 hours."]


def test_nearly_the_same_words_are_one_template_unless_they_say_the_contrary() -> None:
    first = "I can help you with that and could you please give me the number of your order now?"
    near, far = first.replace("now", "here"), first.replace("can", "cannot")
    mined = told(*[("hi", first)] * 3)
    assert (found := mined.label(near)) is not None
    assert found[0].text == first
    assert mined.label(far) is None
    assert mined.label("x" * 5_000) is None


def test_mining_twice_gives_the_same_in_any_order() -> None:
    pairs = [(f"W{n} please", f"W{n} is on its way to you.") for n in range(100, 108)] + [("hi", "Good day.")] * 4
    assert texts(told(*pairs)) == texts(told(*reversed(pairs))) == ["{code_1} is on its way to you.", "Good day."]


def test_replies_that_differ_in_a_number_or_a_negation_are_not_alike() -> None:
    words = ["you", "may", "bring", "up", "to", "2", "bags", "on", "this", "flight", "without", "any", "fee"]
    assert alike(bag(words), bag(words)) == 1.0
    for place in (5, 10):
        assert alike(bag(words), bag([*words[:place], "3", *words[place + 1 :]])) == 0.0


def test_words_of_tools_and_words_written_small_are_ordinary() -> None:
    scanner = Scanner([("Your user ID, please. Gold members have Gold lines; gold is free.", "1")], ["user_id"])
    assert scanner.names == frozenset()
    assert scanner.scan("The Gold ID of Mia Li").said == ("Mia Li",)
