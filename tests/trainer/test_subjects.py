"""What a state is about, by the user's own words."""

from imitrace.messages import Message
from imitrace_trainer.encoding import StateView, view_state
from imitrace_trainer.reading import Reader
from imitrace_trainer.subjects import find_subject, match_features, reply_features, subject_features


def said(content: str, role: str = "user") -> Message:
    return {"role": role, "parts": [{"type": "text", "content": content}]}


def looked(order: str, response: object) -> list[Message]:
    call = {"type": "tool_call", "id": order, "name": "look", "arguments": {"order": order}}
    answer = {"type": "tool_call_response", "id": order, "response": response}
    return [{"role": "assistant", "parts": [call]}, {"role": "tool", "parts": [answer]}]


def view(*messages: Message) -> StateView:
    return view_state(messages, [], Reader())


ASKED = said("Please return W100 because it is torn, and cancel order W200 today.")


def test_the_subject_is_what_the_newest_call_took_that_the_user_had_named() -> None:
    state = view(ASKED, *looked("W100", {}), *looked("hidden", {}))
    subject = find_subject(state)
    assert (subject.value, subject.before) == ("w100", ("please", "return"))


def test_its_words_end_before_the_next_thing_of_its_kind() -> None:
    assert find_subject(view(ASKED, *looked("W100", {}))).after == ("because", "it", "is", "torn")
    assert find_subject(view(ASKED, *looked("W200", {}))).words == {"torn", "and", "cancel", "order", "today"}


def test_without_a_call_there_is_no_subject() -> None:
    state = view(ASKED)
    assert (find_subject(state).value, subject_features(state, find_subject(state))) == ("", ["none"])


def test_what_was_done_with_the_subject_is_told() -> None:
    state = view(ASKED, *looked("W100", {}))
    assert {"took look", "before return did look"} <= set(subject_features(state, find_subject(state)))


def test_what_an_answer_has_of_the_users_values_is_told() -> None:
    asked = said("The flight of 2026-05-03 with W100")
    state = view(asked, *looked("W100", {"day": "2026-05-03", "seat": "12A"}))
    assert match_features(state) == ["look.order said True", "look answers 1", "look:day said"]
    assert match_features(view(asked)) == ["none"]


def test_an_answer_to_a_question_is_crossed_with_it() -> None:
    asked = said("It costs 30. Shall I cancel it?", "assistant")
    features = reply_features(view(said("hi"), asked, said("Yes, please")))
    assert {"asked cancel", "asked cancel it", "yes to cancel", "opens yes"} <= set(features)
    assert "asked costs" not in features
    assert reply_features(view(said("hi"))) == ["first"]
    assert reply_features(view(said("hi"), asked)) == ["none"]
