import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace_trainer.episodes import Episode
from imitrace_trainer.evaluators.futureagi import ReasoningQuality as TheirReasoningQuality
from imitrace_trainer.evaluators.reasoning import EMPTY_WORDS, ReasoningQuality

Make = Callable[..., Episode]
FIND = ("find", {"id": "A1"}, "{}")
PAY = ("pay", {"id": "A1", "amount": 5}, "ok")
CONNECTIVES = ["so", "but", "then", "if", "because", "therefore", "however", "first", "finally", "going to", "need to"]


@given(st.lists(st.sampled_from(CONNECTIVES), max_size=40), st.randoms(use_true_random=False))
def test_padding_with_connectives_does_not_raise_it(episode: Make, padding: list[str], rng: random.Random) -> None:
    thought = ["Order", "A1", "must", "be", "found", "before", "it", "is", "paid", "back"]
    padded = list(thought)
    for word in padding:
        padded.insert(rng.randint(0, len(padded)), word)
    plain, fuller = (
        ReasoningQuality().evaluate(None, episode([" ".join(words), FIND], "Done.")).score
        for words in (thought, padded)
    )
    assert fuller == plain


@pytest.mark.parametrize("thought", ["so but then if because therefore", "First, then; finally? However: so."])
def test_connectives_alone_are_no_thought(episode: Make, thought: str) -> None:
    empty = episode([thought, FIND], [thought, PAY], [thought, FIND], "Done.")
    assert ReasoningQuality().evaluate(None, empty).score is None
    assert (TheirReasoningQuality().evaluate(None, empty).score or 0) > 0.8


def test_a_thought_about_what_is_there_and_done_beats_one_about_something_else(episode: Make) -> None:
    near, far = (
        ReasoningQuality().evaluate(None, episode([thought, FIND], "Done.")).score
        for thought in ("To pay order A1 back I find A1.", "Quarterly revenue looks splendid this Wednesday.")
    )
    assert near is not None
    assert far is not None
    assert near > 0.8
    assert far < 0.2


def test_saying_the_same_again_is_worth_nothing(episode: Make) -> None:
    once = ReasoningQuality().evaluate(None, episode(["I find order A1.", FIND], [PAY], "Done."))
    twice = ReasoningQuality().evaluate(None, episode(["I find order A1.", FIND], ["I find order A1.", FIND], "Done."))
    assert twice.score == (once.score or 0) / 2


def test_hidden_thoughts_are_no_bad_ones(episode: Make) -> None:
    assert ReasoningQuality().evaluate(None, episode([FIND], "Done.")).score is None


def test_what_counts_as_empty_is_in_lower_case() -> None:
    assert {word for word in EMPTY_WORDS if word != word.lower()} == set()
