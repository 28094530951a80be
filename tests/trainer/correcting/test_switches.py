from collections import Counter
from random import Random

import pytest

from imitrace.exceptions import ConfigError
from imitrace.messages import Action
from imitrace_trainer.correcting.config import CorrectConfig
from imitrace_trainer.correcting.mixing import MOST, weight_of
from imitrace_trainer.correcting.stuck import Repetition
from imitrace_trainer.correcting.switches import DivergenceSwitch, make_switch
from imitrace_trainer.policy import Decision

LOOK = Action("tool_call", "look", {"at": 3})


def decided(confidence: float = 0.9) -> Decision:
    return Decision(LOOK, confidence, 0.0, {"look": 1.0})


def unasked() -> Action | None:
    raise AssertionError("the expert was asked")


def test_a_random_switch_is_as_likely_at_each_step_up_to_the_horizon() -> None:
    draw = Random(5)
    begins = Counter[int]()
    for _ in range(4000):
        switch = make_switch("random", 0.5, 3, draw)
        begins[next(step for step in range(9) if switch.takes_over(step, decided(), unasked))] += 1
    assert set(begins) == {0, 1, 2, 3}
    assert all(900 < count < 1100 for count in begins.values())


def test_a_confidence_switch_asks_nobody() -> None:
    switch = make_switch("confidence", 0.6, 3, Random(0))
    assert switch.takes_over(0, decided(0.59), unasked)
    assert not switch.takes_over(7, decided(0.6), unasked)


def test_a_divergence_switch_compares_arguments_as_values() -> None:
    switch = DivergenceSwitch()
    assert not switch.takes_over(0, decided(), lambda: Action("tool_call", "look", {"at": 3.0}))
    assert switch.takes_over(0, decided(), lambda: Action("tool_call", "look", {"at": 4}))
    assert not switch.takes_over(0, decided(), lambda: None)


def test_the_same_decision_is_no_repetition_in_another_state() -> None:
    seen = Repetition(2)
    for state in ("a", "b", "a", "b"):
        seen.add(state, LOOK)
    assert seen.stuck is None
    other = seen.copy()
    other.add("a", LOOK)
    assert other.stuck == "the same decision 3 times in the same state"
    assert seen.stuck is None


@pytest.mark.parametrize(
    ("corrections", "known", "mix", "weight"), [(50, 100, 0.0, 1.0), (50, 100, 0.5, 2.0), (200, 100, 0.5, 0.5)]
)
def test_corrections_weigh_what_makes_them_the_share_that_is_wanted(
    corrections: int, known: float, mix: float, weight: float
) -> None:
    assert weight_of(corrections, known, mix) == weight
    assert mix in (0.0, corrections * weight / (corrections * weight + known))


def test_a_handful_of_corrections_is_not_learnt_by_heart() -> None:
    assert weight_of(1, 10_000, 0.5) == MOST
    assert weight_of(0, 10_000, 0.5) == 1.0


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"methode": "oec"}, r"correct\.methode is unknown, allowed: method, switch"),
        ({"method": "magic"}, r"correct\.method is 'magic', allowed: oec, dagger, handover, own"),
        ({"switch": 3}, r"correct\.switch is 3, allowed: random, confidence, divergence"),
        ({"beta": 1.0}, r"correct\.beta is 1\.0, allowed: a number from 0 and under 1"),
        ({"rounds": 0}, r"correct\.rounds is 0, allowed: a whole number from 1"),
        ({"rounds": True}, r"correct\.rounds is True, allowed: a whole number from 1"),
        ({"reject": 1}, r"correct\.reject is 1, allowed: true or false"),
    ],
)
def test_a_setting_that_is_not_allowed_is_named(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        CorrectConfig.from_table(table)


def test_settings_are_read() -> None:
    read = CorrectConfig.from_table({"method": "dagger", "beta": 0, "rounds": 3, "mask": False})
    assert read == CorrectConfig(method="dagger", beta=0.0, rounds=3, mask=False)
