import random

import numpy
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace_trainer.likeness import HASHES, first_alike, packed, signatures, unpacked


def words(*trajectories: set[int]) -> pl.DataFrame:
    rows = [(number, word) for number, each in enumerate(trajectories) for word in each]
    return pl.DataFrame(rows, schema={"trajectory": pl.UInt32, "word": pl.UInt32}, orient="row")


def drawn(count: int, seed: int) -> set[int]:
    return set(random.Random(seed).sample(range(2**32), count))


@given(seed=st.integers(0, 10**6), shared=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_the_share_of_equal_hashes_is_about_the_share_of_words(seed: int, shared: int) -> None:
    pool = list(drawn(200, seed))
    one, other = set(pool[:100]), set(pool[100 - shared : 200 - shared])
    marks = signatures(words(one, other), 2)
    true = len(one & other) / len(one | other)
    assert abs((marks[0] == marks[1]).mean() - true) < 5 * 0.5 / HASHES**0.5


def test_a_copy_names_the_first_of_its_kind_and_others_stay() -> None:
    base = drawn(200, 1)
    nearly = set(list(base)[:195]) | drawn(5, 2)
    marks = signatures(words(base, drawn(200, 3), nearly, set(base), set()), 5)
    assert first_alike(marks, 0.8) == [None, None, 0, 0, None]


def test_trajectories_without_words_are_no_copies_of_each_other() -> None:
    assert first_alike(signatures(words(), 3), 0.5) == [None] * 3


def test_signatures_keep_through_a_column_and_from_version_to_version() -> None:
    marks = signatures(words({1, 2, 3}), 1)
    assert numpy.array_equal(unpacked(packed(marks)), marks)
    assert marks[0][:3].tolist() == [804704296, 228622331, 1561128287]
