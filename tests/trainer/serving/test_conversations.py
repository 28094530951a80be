import pytest

from imitrace_trainer.serving.conversations import Conversations
from imitrace_trainer.serving.naming import Naming

SAYS = '{{"parts":[{{"content":"{0}","type":"text"}}],"role":"user"}}'
ANSWERS = '{{"parts":[{{"content":"{0}","type":"text"}}],"role":"assistant"}}'
HELLO, MORE = SAYS.format("hello"), SAYS.format("more")
HI, BYE = ANSWERS.format("hi"), ANSWERS.format("bye")
UNNAMED = Naming()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def talks(clock: Clock) -> Conversations:
    return Conversations(3, 10.0, clock)


def test_a_request_that_begins_with_an_earlier_one_goes_on_with_it(talks: Conversations) -> None:
    first = talks.find(UNNAMED, [HELLO])
    talks.answered(first, [HELLO], [HI], None)
    assert talks.find(UNNAMED, [HELLO, HI, MORE]) is first


def test_it_goes_on_although_the_answer_stands_there_in_other_words(talks: Conversations) -> None:
    first = talks.find(UNNAMED, [HELLO])
    talks.answered(first, [HELLO], [HI], None)
    assert talks.find(UNNAMED, [HELLO, BYE, MORE]) is first


def test_two_that_begin_alike_are_told_apart_by_what_they_were_answered(talks: Conversations) -> None:
    first, second = talks.find(UNNAMED, [HELLO]), talks.find(UNNAMED, [HELLO])
    assert first is not second
    talks.answered(first, [HELLO], [HI], None)
    talks.answered(second, [HELLO], [BYE], None)
    assert talks.find(UNNAMED, [HELLO, HI, MORE]) is first
    assert talks.find(UNNAMED, [HELLO, BYE, MORE]) is second


def test_a_beginning_that_failed_is_tried_again_and_a_later_request_too(talks: Conversations) -> None:
    first = talks.find(UNNAMED, [HELLO])
    first.failed = True
    assert talks.find(UNNAMED, [HELLO]) is first
    talks.answered(first, [HELLO], [HI], None)
    assert talks.find(UNNAMED, [HELLO, HI, MORE]) is first
    assert talks.find(UNNAMED, [HELLO, HI, MORE]) is first


def test_a_history_that_was_cut_is_another_conversation(talks: Conversations) -> None:
    first = talks.find(UNNAMED, [HELLO])
    talks.answered(first, [HELLO], [HI], None)
    assert talks.find(UNNAMED, [HI, MORE]) is not first


def test_a_named_trajectory_is_found_whatever_is_said(talks: Conversations) -> None:
    first = talks.find(Naming("ticket-1"), [HELLO])
    assert talks.find(Naming("ticket-1"), [MORE]) is first
    assert talks.find(Naming("ticket-2"), [MORE]) is not first


def test_what_the_models_service_keeps_goes_on_by_its_name(talks: Conversations) -> None:
    first = talks.find(UNNAMED, [HELLO])
    talks.answered(first, [HELLO], [HI], "resp_1")
    assert talks.find(UNNAMED, [MORE], "resp_1") is first
    assert talks.find(UNNAMED, [MORE], "resp_0") is not first


@pytest.mark.parametrize(("seconds", "same"), [(10.0, True), (10.1, False)])
def test_one_that_was_idle_for_long_is_forgotten(
    talks: Conversations, clock: Clock, seconds: float, same: bool
) -> None:
    first = talks.find(UNNAMED, [HELLO])
    talks.answered(first, [HELLO], [HI], None)
    clock.now = seconds
    assert (talks.find(UNNAMED, [HELLO, HI, MORE]) is first) is same
    assert len(talks) == 1


def test_one_that_was_idle_for_long_ends_although_nobody_asks(talks: Conversations, clock: Clock) -> None:
    talks.find(UNNAMED, [HELLO])
    clock.now = 11.0
    talks.forget_idle()
    assert len(talks) == 0


def test_of_too_many_the_one_that_was_idle_longest_ends(talks: Conversations) -> None:
    first, second, _ = (talks.find(Naming(name), [HELLO]) for name in "abc")
    talks.find(Naming("a"), [HELLO])
    talks.find(Naming("d"), [HELLO])
    assert len(talks) == 3
    assert talks.find(Naming("a"), [HELLO]) is first
    assert talks.find(Naming("b"), [HELLO]) is not second


def test_what_ends_is_forgotten_by_every_name(talks: Conversations) -> None:
    first = talks.find(Naming("a"), [HELLO])
    talks.answered(first, [HELLO], [HI], "resp_1")
    talks.end_all()
    talks.answered(first, [HELLO], [HI], "resp_1")
    assert (len(talks), talks._by_key, talks._by_name) == (0, {}, {})


def test_nothing_said_is_a_conversation_of_its_own(talks: Conversations) -> None:
    assert talks.find(UNNAMED, []) is not talks.find(UNNAMED, [])
