"""A state's features, weighed: known and unknown ones, by group."""

import numpy as np
import pytest

from imitrace_trainer.bags import make_bags, pack
from imitrace_trainer.encoding import Vocabulary

KNOWN = Vocabulary.learn([[3, 7], [3, 7], [3, 9], [9]])


@pytest.mark.parametrize(("features", "share"), [([7, 8, 3, 6], 0.5), ([], 0.0)])
def test_the_share_of_unknown_features_is_told(features: list[int], share: float) -> None:
    assert make_bags({"users": features, "facts": []}, KNOWN, ("users", "facts")).unknown == share


def test_what_is_not_weighed_is_known_or_unknown_all_the_same() -> None:
    bags = make_bags({"beside": [8, 3, 6], "users": [7]}, KNOWN, ("users",))
    assert (KNOWN.ids[bags.rows].tolist(), bags.lengths, bags.unknown) == ([7], [1], 0.5)
    assert bags.weights.tolist() == [1.0]


def test_rare_and_repeated_features_weigh_more_and_a_group_has_length_1() -> None:
    bags = make_bags({"users": [3, 9, 9, 8], "empty": [8], "facts": [3]}, KNOWN, ("users", "empty", "facts"))
    assert bags.lengths == [2, 0, 1]
    assert KNOWN.ids[bags.rows].tolist() == [3, 9, 3]
    common, rare, alone = bags.weights.tolist()
    assert common / rare == pytest.approx(KNOWN.idf[0] / KNOWN.idf[2] / (1 + np.log(2)))
    assert common**2 + rare**2 == pytest.approx(1)
    assert alone == pytest.approx(1)


def test_states_are_packed_one_behind_the_other() -> None:
    states = [make_bags({"users": part, "facts": [3]}, KNOWN, ("users", "facts")) for part in ([7, 9], [])]
    rows, weights, offsets = pack(states)
    assert KNOWN.ids[rows.numpy()].tolist() == [7, 9, 3, 3]
    assert (len(weights), offsets.tolist()) == (4, [0, 2, 3, 3])
