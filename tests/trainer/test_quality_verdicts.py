"""Each figure of a report comes with a word: good, bad, or that so few tasks can't tell."""

from dataclasses import replace

import pytest

from imitrace_trainer.drift.visited_states import StatesCompared
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.figures import (
    Ablated,
    Bin,
    CriticFigures,
    LearningPoint,
    Origin,
    Promise,
    Quality,
    Refits,
    Reliability,
    RiskPoint,
    Slice,
)
from imitrace_trainer.quality_verdicts import verdicts
from imitrace_trainer.task_draws import Share


def share(value: float, reach: float = 0.02, decisions: int = 100) -> Share:
    return Share(value, max(0.0, value - reach), min(1.0, value + reach), decisions)


def part(name: str, exact: float, tasks: int = 20) -> Slice:
    return Slice(name, tasks, share(0.9), share(exact), share(0.9), share(0.5), share(0.99), share(0.01))


def gain(value: float, reach: float = 0.01) -> Share:
    return Share(value, value - reach, value + reach, 100)


def _point(tasks: int, more: Share) -> LearningPoint:
    return LearningPoint(tasks, 2 * tasks, share(0.8), share(0.7), more)


def good() -> Quality:
    reliable = Reliability([Bin(0.9, share(0.9), 20)], share(0.03), 0.02, gain(0.0))
    return Quality(
        origin=Origin("desk", 3, "embedded", "desk", 2, "abc", "2026-11-21", "2026-11-22"),
        tasks=50,
        decisions=100,
        trained_tasks=150,
        calibration_tasks=40,
        calibration_decisions=90,
        agreement=share(0.9),
        exact=share(0.85),
        floor=share(0.6),
        lead=gain(0.3),
        reliability=reliable,
        on_calibration=reliable,
        risk_coverage=[RiskPoint(0.9, 0.5, share(0.01))],
        promised=0.05,
        proof=0.9,
        threshold=0.9,
        acted=share(0.5),
        acted_right=share(0.99, 0.01),
        promises=[Promise(0.01, None, share(0.0), Share(0, 0, 1, 0)), Promise(0.05, 0.9, share(0.5), share(0.01))],
        tools=[part("look", 0.86), part(MESSAGE, 0.84)],
        cohorts=[part("common", 0.86), part("safety", 0.84)],
        distances=[],
        states=StatesCompared(150, 50, 0.51, 0.4),
        critic=CriticFigures(share(0.8), share(0.6), None),
        refits=Refits(
            [_point(20, gain(0.8)), _point(150, gain(0.005))],
            [Ablated("facts", share(0.85), gain(0.05)), Ablated("history", share(0.9), gain(0.0))],
            Ablated("", share(0.9), gain(0.0)),
            12.0,
        ),
    )


def test_of_a_good_clone_everything_is_good() -> None:
    assert {name: verdict.tone for name, verdict in verdicts(good()).items()} == dict.fromkeys(
        ("agreement", "reliability", "risk", "tools", "cohorts", "states", "critic", "learning", "ablation"), "good"
    )


def test_what_was_not_fitted_again_is_not_judged() -> None:
    assert verdicts(good()).keys() - verdicts(replace(good(), refits=None)).keys() == {"learning", "ablation"}


NEVER_CALIBRATED = {"calibration_decisions": 0}
OFF = Reliability([], share(0.2), 0.02, gain(0.2))
MODEST = replace(OFF, excess=gain(-0.2))
FEW = replace(OFF, by_chance=0.15)
NONE_TAKEN = {"acted": share(0.0), "acted_right": Share(0, 0, 1, 0)}
REFUSED = CriticFigures(share(0.58, 0.08), share(0.61), "it knows no more")
UNSURE = CriticFigures(share(0.7, 0.1), share(0.65), None)
HARMFUL = replace(
    good().refits or Refits([], [], Ablated("", share(1), gain(0)), 0),
    ablation=[Ablated("facts", share(0.9), gain(-0.05))],
)


@pytest.mark.parametrize(
    ("changed", "about", "tone", "said"),
    [
        ({"lead": gain(-0.1)}, "agreement", "bad", "less than the table of the previous action"),
        ({"lead": gain(0.0)}, "agreement", "can't tell", "not surely more"),
        ({"reliability": OFF}, "reliability", "bad", "boasts by 0.200"),
        ({"reliability": MODEST}, "reliability", "bad", "is modest by 0.200"),
        ({"reliability": FEW}, "reliability", "can't tell", "an honest one would show 0.150"),
        (NEVER_CALIBRATED, "reliability", "bad", "never calibrated"),
        ({"decisions": 0}, "reliability", "can't tell", "Nothing was held out"),
        ({"threshold": None}, "risk", "bad", "It may never act: 40 calibration tasks prove no threshold"),
        (NONE_TAKEN, "risk", "bad", "none of the held-out decisions"),
        ({"acted_right": share(0.8)}, "risk", "bad", "20.0% [18.0%, 22.0%] of them wrong where at most 5%"),
        ({"acted_right": share(0.96)}, "risk", "can't tell", "4.0% [2.0%, 6.0%] of them wrong"),
        ({"tools": [part("look", 0.4), part(MESSAGE, 0.3)]}, "tools", "bad", "at look 40.0% [38.0%, 42.0%], a reply"),
        ({"tools": [part(f"t{n}", 0.4) for n in range(5)]}, "tools", "bad", " and 2 more"),
        ({"tools": [part("look", 0.4, tasks=9)]}, "tools", "can't tell", "1 of 1 tools have fewer than 10"),
        ({"cohorts": [part("all", 0.85)]}, "cohorts", "can't tell", "There is one cohort only"),
        (
            {"states": StatesCompared(150, 50, 0.8, 0.002)},
            "states",
            "bad",
            "can be told from those of training: a classifier",
        ),
        (
            {"states": StatesCompared(150, 50, 0.8, 0.2)},
            "states",
            "good",
            "a classifier's AUROC is 0.800, p 0.2",
        ),
        ({"states": StatesCompared(150, 7)}, "states", "can't tell", "7 tasks of a side, needed: 20"),
        ({"states": None}, "states", "can't tell", "were not compared"),
        ({"critic": None}, "critic", "can't tell", "It has no critic"),
        (
            {"critic": REFUSED},
            "critic",
            "bad",
            "off: AUROC 0.580 [0.500, 0.660], the number of steps so far reaches 0.610",
        ),
        ({"critic": UNSURE}, "critic", "can't tell", "AUROC 0.700"),
        ({"refits": replace(HARMFUL, learning=[])}, "learning", "can't tell", "Too few tasks"),
        ({"refits": HARMFUL}, "ablation", "bad", "better without facts"),
        ({"refits": replace(HARMFUL, ablation=[])}, "ablation", "can't tell", "no groups of features"),
    ],
)
def test_each_fault_is_told_in_numbers(changed: dict[str, object], about: str, tone: str, said: str) -> None:
    found = verdicts(replace(good(), **changed))[about]  # type: ignore[arg-type]  # named by the case
    assert found.tone == tone
    assert said in found.sentence


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (gain(0.06), "It still learns: from 75 to 150 tasks agreement went +6.0 [+5.0, +7.0] points"),
        (gain(0.06, 0.1), "is open"),
        (gain(-0.06), "would hardly help"),
    ],
)
def test_a_curve_is_judged_by_what_its_last_step_gained(more: Share, said: str) -> None:
    curve = [_point(75, gain(0.8)), _point(150, more)]
    assert said in verdicts(replace(good(), refits=replace(HARMFUL, learning=curve)))["learning"].sentence


def test_a_group_worth_no_more_than_another_seed_is_not_called_needed() -> None:
    lucky = Refits([], [Ablated("facts", share(0.9), gain(0.02))], Ablated("", share(0.9), gain(-0.03)), 1.0)
    found = verdicts(replace(good(), refits=lucky))["ablation"]
    assert (found.tone, found.sentence) == (
        "can't tell",
        "No group is surely needed: each can be stood in for by the others",
    )
