"""What people wrote is read in phrases too; everything else as before."""

from imitrace.messages import from_openai
from imitrace_trainer.phrases import PhraseReader, phrases
from imitrace_trainer.reading import Reader


def test_phrases_have_two_to_four_words_and_cross_no_comma() -> None:
    found = [seen.value for seen in phrases("the desk lamp, please. It broke")]
    assert found == ["the desk", "the desk lamp", "desk lamp", "It broke"]


def test_a_phrase_knows_the_words_around_it() -> None:
    lamp = next(seen for seen in phrases("buy the desk lamp in bulk") if seen.value == "desk lamp")
    assert (lamp.before, lamp.after, lamp.by_user) == ("the", "in", True)


def test_only_users_are_read_in_phrases_and_each_message_once() -> None:
    reader, plain = PhraseReader(), Reader()
    said, answer = (from_openai({"role": role, "content": "the desk lamp"}) for role in ("user", "assistant"))
    assert len(reader.read(said).seen) == len(plain.read(said).seen) + 3
    assert reader.read(said) is reader.read(said)
    assert reader.read(answer) == plain.read(answer)


def test_what_was_read_is_forgotten_at_the_limit_of_the_reader_inside() -> None:
    reader = PhraseReader(Reader(limit=1))
    first, second = (from_openai({"role": "user", "content": f"the desk lamp {n}"}) for n in (1, 2))
    assert reader.read(first) is not reader.read(second)
    assert reader.read(first).text == "the desk lamp 1"
