import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.exceptions import DatasetError
from imitrace_trainer.evaluators.agreement import agreement, cohen_kappa

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def test_kappa_is_what_the_textbook_says() -> None:
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.4)


@given(PAIRS)
def test_kappa_is_at_most_1_and_1_only_where_all_agree(pairs: list[tuple[bool, bool]]) -> None:
    kappa = cohen_kappa(pairs)
    if kappa is not None:
        assert kappa <= 1
        assert (kappa == 1) == all(one == other for one, other in pairs)


def test_a_side_with_one_class_has_no_or_no_positive_kappa() -> None:
    assert cohen_kappa([(True, True)] * 5) is None
    assert agreement([0.9, 0.9], [1, 0]).kappa == 0


def test_good_is_what_reaches_the_threshold_exactly() -> None:
    found = agreement([0.8, 0.79, 0.9], [0.8, 1.0, 0.0])
    assert (found.scored_good, found.labelled_good, found.both_good) == (2, 2, 1)
    assert (found.precision, found.recall) == (0.5, 0.5)
    assert found.accuracy == pytest.approx(1 / 3)


def test_the_interval_widens_where_cases_belong_together() -> None:
    rng = random.Random(1)
    labels = [float(rng.random() < 0.5) for _ in range(40)]
    scores = [label if rng.random() < 0.8 else 1 - label for label in labels]
    alone = agreement(scores * 4, labels * 4).kappa_interval
    together = agreement(scores * 4, labels * 4, [str(number) for number in range(40)] * 4).kappa_interval
    assert alone is not None
    assert together is not None
    assert together[1] - together[0] > 1.5 * (alone[1] - alone[0])


def test_as_many_labels_as_scores_are_needed() -> None:
    with pytest.raises(DatasetError, match="0 scores and 1 labels"):
        agreement([], [1.0])
