import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace_trainer.kappas import agreements, cohen, krippendorff

COHEN = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
"""The textbook's fifty proposals: kappa 0.4."""
VERDICTS = st.sampled_from(["a", "b", "c"])


def test_cohens_kappa_is_the_textbooks() -> None:
    assert cohen(COHEN) == pytest.approx(0.4)
    assert cohen([("a", "a"), ("a", "a")]) is None
    assert cohen([]) is None


def test_krippendorffs_alpha_is_the_one_that_he_works_out() -> None:
    units = ["a a", "b b", "b b", "b b", "b b", "c c", "d d", "e e", "d d"]  # two observers, nominal, no missing data
    units[1:1] = ["b e"]
    assert krippendorff([unit.split() for unit in units]) == pytest.approx(1 - 19 * 2 / (400 - (4 + 81 + 4 + 16 + 9)))


def test_an_item_with_one_verdict_tells_nothing() -> None:
    assert krippendorff([("a", "a"), ("b", "b"), ("a", "b")]) == krippendorff([("a", "a"), ("b", "b"), ("a", "b"), "a"])
    assert krippendorff(["a", "b"]) is None


@given(st.lists(st.lists(VERDICTS, min_size=2, max_size=4), min_size=1, max_size=12))
def test_alpha_is_one_exactly_where_all_agree_on_more_than_one_verdict(items: list[list[str]]) -> None:
    alpha = krippendorff(items)
    if alpha is None:
        assert len({verdict for verdicts in items for verdict in verdicts}) == 1
    else:
        assert alpha <= 1
        assert (alpha == pytest.approx(1)) == all(len(set(verdicts)) == 1 for verdicts in items)


def test_each_two_reviewers_and_all_have_their_agreement_with_an_interval() -> None:
    judged = {f"i{n}": {"ann": pair[0], "ben": pair[1]} for n, pair in enumerate(COHEN)}
    judged["alone"] = {"cay": "yes"}
    found = agreements(judged)
    assert sorted(found) == ["all", "ann, ben"]
    kappa = found["ann, ben"]
    assert kappa.value == pytest.approx(0.4)
    assert (kappa.items, kappa.agreed) == (50, 35)
    assert kappa.low is not None
    assert kappa.high is not None
    assert 0.1 < kappa.low < 0.4 < kappa.high < 0.7
    assert str(kappa).startswith("0.40 [0.1")
    assert found["all"].items == 50


def test_where_nobody_shares_an_item_nothing_is_said() -> None:
    found = agreements({"a": {"ann": "x"}, "b": {"ben": "x"}})
    assert found["all"].value is None
    assert str(found["all"]) == "can't be told from 0 items, 0 of them agreed on"
