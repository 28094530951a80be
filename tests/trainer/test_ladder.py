"""The ladder: one lesson, every family, the calibration tasks choose, and the gate's tasks only compare."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from imitrace.messages import Action
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.families import BEST, FAMILIES
from imitrace_trainer.fit import BCConfig, fit
from imitrace_trainer.ladder import Climb, climb, compare, render
from imitrace_trainer.policy import same_action

Play = Callable[[int, int], list[Demonstration]]
CONFIG = BCConfig(device="cpu", batch=4)


@pytest.fixture(scope="module")
def climbed(play_shop: Play) -> Climb:
    torch.set_num_threads(1)
    return climb((play_shop(24, 1), play_shop(12, 2)), BEST, CONFIG)


def test_every_family_is_fitted_calibrated_and_judged_on_the_calibration_tasks(climbed: Climb, play_shop: Play) -> None:
    cases = len(play_shop(12, 2))
    assert list(climbed.clones) == list(FAMILIES) == list(climbed.on_calibration)
    assert {clone.family for clone in climbed.clones.values()} == set(FAMILIES)
    assert all(clone.calibration.cases == cases for clone in climbed.clones.values())


def test_the_one_with_the_best_lower_bound_ships(climbed: Climb) -> None:
    bounds = {family: share.low for family, share in climbed.on_calibration.items()}
    assert bounds[climbed.chosen] == max(bounds.values())
    assert bounds["frequency"] < bounds[climbed.chosen]
    assert climbed.clone is climbed.clones[climbed.chosen]


def test_failures_have_no_say_in_what_ships(climbed: Climb, play_shop: Play) -> None:
    astray = [replace(one, action=Action("message"), failed=True) for one in play_shop(6, 4)]
    among = climb((play_shop(24, 1), [*play_shop(12, 2), *astray]), "linear", CONFIG)
    assert among.on_calibration["linear"] == climbed.on_calibration["linear"]


def test_the_families_are_compared_on_the_same_held_out_tasks_the_one_that_ships_first(
    climbed: Climb, play_shop: Play
) -> None:
    held_out = play_shop(10, 3)
    first, *others = compare(climbed, held_out, [climbed.clone.act(one.state) for one in held_out])
    assert (first.family, first.behind.value, first.behind.high) == (climbed.chosen, 0, 0)
    assert {rung.family for rung in others} == set(FAMILIES) - {climbed.chosen}
    for rung in others:
        decisions = [climbed.clones[rung.family].act(one.state) for one in held_out]
        right = [same_action(made.action, one.action) for made, one in zip(decisions, held_out, strict=True)]
        assert rung.gate.value == sum(right) / len(right)
        assert rung.behind.value == pytest.approx(first.gate.value - rung.gate.value)
        assert rung.behind.low <= rung.behind.value <= rung.behind.high
    frequency = next(rung for rung in others if rung.family == "frequency")
    assert frequency.behind.low > 0
    assert f"| frequency | {frequency.calibration} | {frequency.gate} | +" in render([first, *others])


def test_a_family_alone_is_what_the_ladder_holds_of_it(climbed: Climb, play_shop: Play) -> None:
    alone, report = fit(play_shop(24, 1), play_shop(12, 2), CONFIG)
    states = [one.state for one in play_shop(3, 3)]
    assert [alone.act(state) for state in states] == [climbed.rehearsed["embedded"].act(state) for state in states]
    assert report.judged_loss == climbed.fit.judged_loss
    assert (report.decisions, climbed.fit.decisions) == (
        len(play_shop(24, 1)),
        len([*play_shop(24, 1), *play_shop(12, 2)]),
    )


def test_what_ships_has_learnt_from_the_calibration_tasks_and_is_as_sure_as_before(
    climbed: Climb, play_shop: Play
) -> None:
    shown, calibration = play_shop(24, 1), play_shop(12, 2)
    waved = [replace(one, action=Action("tool_call", "wave", {})) for one in calibration[:6]]
    among = climb((shown, [*calibration, *waved]), BEST, CONFIG)
    for name, clone in among.clones.items():
        before = among.rehearsed[name]
        assert clone.calibration == before.calibration
        assert clone.act(waved[0].state) != before.act(waved[0].state)
    assert among.refitted
    assert among.scored == [among.rehearsal.score(one.state)[0] for one in (*calibration, *waved)]
    assert climbed.scored == [climbed.rehearsal.score(one.state)[0] for one in calibration]


def test_what_ships_is_what_all_the_tasks_make_for_as_many_epochs(climbed: Climb, play_shop: Play) -> None:
    shown = [*play_shop(24, 1), *play_shop(12, 2)]
    whole, _ = fit(shown, [], replace(CONFIG, epochs=climbed.fit.kept_epoch))
    states = [one.state for one in play_shop(3, 3)]
    shares = [climbed.clones["embedded"].act(state).tools for state in states]
    assert [whole.act(state).tools for state in states] == shares


def test_a_clone_may_be_kept_from_the_calibration_tasks(climbed: Climb, play_shop: Play) -> None:
    apart = climb((play_shop(24, 1), play_shop(12, 2)), "linear", replace(CONFIG, refit=False))
    state = play_shop(1, 3)[0].state
    assert (apart.clone, apart.refitted) == (apart.rehearsal, False)
    assert apart.clone.act(state) == climbed.rehearsed["linear"].act(state) != climbed.clones["linear"].act(state)


def test_without_calibration_tasks_the_highest_rung_ships_and_is_never_sure(play_shop: Play) -> None:
    alone = climb((play_shop(4, 1), []), "embedded", BCConfig(device="cpu", epochs=1))
    clone = alone.clone
    assert not alone.refitted
    assert (clone.family, clone.act(play_shop(1, 3)[0].state).confidence) == ("embedded", 0.0)
