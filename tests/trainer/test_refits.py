"""Fitting again: growing parts of the tasks, and all but one group of features, judged on the same decisions."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.figures import Refits
from imitrace_trainer.fit import BCConfig
from imitrace_trainer.refits import Refitter, growing_parts

Play = Callable[[int, int], list[Demonstration]]
LEFT_OUT = "last_user,users,assistant,facts,subject,matches,reply"


@pytest.fixture(scope="module")
def told() -> dict[str, list[float]]:
    return {}


@pytest.fixture(scope="module")
def refits(play_shop: Play, told: dict[str, list[float]]) -> Refits:
    torch.set_num_threads(1)

    def tell(stage: str, share: float) -> None:
        told.setdefault(stage.split(" ")[0], []).append(share)

    config = BCConfig(device="cpu", batch=16, epochs=2, leave_out=LEFT_OUT)
    return Refitter("linear", config, play_shop(16, 1), play_shop(6, 2), tell).run()


def test_the_curve_is_of_growing_parts_of_the_tasks(refits: Refits, play_shop: Play) -> None:
    assert [point.tasks for point in refits.learning] == [2, 4, 8, 16]
    assert refits.learning[-1].decisions == len(play_shop(16, 1))
    assert refits.learning[0].decisions < refits.learning[-1].decisions
    assert {point.agreement.decisions for point in refits.learning} == {len(play_shop(6, 2))}
    assert all(point.exact.value <= point.agreement.value for point in refits.learning)
    assert sum(point.gain.value for point in refits.learning) == pytest.approx(refits.learning[-1].agreement.value)


def test_each_group_that_is_used_is_left_out_once_and_its_worth_is_what_is_lost(refits: Refits) -> None:
    whole = refits.learning[-1].agreement.value
    assert [one.left_out for one in refits.ablation] == ["observation", "history", "affordances"]
    for one in [*refits.ablation, refits.another_seed]:
        assert one.worth.value == pytest.approx(whole - one.agreement.value)
        assert one.worth.low <= one.worth.value <= one.worth.high


def test_a_family_that_is_fitted_to_its_optimum_does_not_mind_another_seed(refits: Refits) -> None:
    assert (refits.another_seed.left_out, refits.another_seed.worth.value) == ("", 0)


def test_each_fit_tells_how_far_it_is(refits: Refits, told: dict[str, list[float]]) -> None:
    assert list(told) == [f"{number}/8" for number in range(1, 9)]
    assert all(shares[0] == 0 and shares[-1] == 1 for shares in told.values())


def test_counting_has_no_groups_to_leave_out(play_shop: Play) -> None:
    found = Refitter("frequency", BCConfig(device="cpu", epochs=1), play_shop(8, 1), play_shop(2, 2)).run()
    assert (found.ablation, [point.tasks for point in found.learning]) == ([], [1, 2, 4, 8])


def test_parts_from_which_nothing_can_be_learned_are_left_out(play_shop: Play) -> None:
    shown = play_shop(8, 1)
    first, *others = sorted({one.task for one in shown})
    same = [
        replace(one, task=task) for task in others for one in shown if one.label == "find_order" and one.task == task
    ]
    mixed = [*same, *(one for one in shown if one.task == first)]
    parts = growing_parts(mixed, 0)
    assert all(len({one.label for one in part}) > 1 for part in parts)
    assert len({one.task for one in parts[-1]}) == 8
