"""A candidate beside the champion: by cohort, without what the champion had learnt, and in whole gates."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imitrace_trainer.champion_comparison import Champion, compare_versions, find_champion
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.datasets import open_dataset
from imitrace_trainer.gate_report import GateReport
from imitrace_trainer.gate_rules import GateConfig
from imitrace_trainer.gate_text import told_beside
from imitrace_trainer.gating import gate_stage
from imitrace_trainer.paired_cases import PairedCase, beside
from imitrace_trainer.registry import Registry
from imitrace_trainer.stages import load_clone, train_stage

Fork = Callable[[Path], Path]


def quiet(stage: str, share: float) -> None:
    pass


@pytest.fixture
def champion(promoted_home: Path) -> Champion:
    return Champion(load_clone(promoted_home, "counter:1"), ("common", "long_tail"), frozenset({"old"}))


def cases(cohort: str, champion: int, candidate: int, count: int = 40) -> list[PairedCase]:
    """Return tasks of which champion and candidate did the first so many."""
    return [PairedCase(f"{cohort}-{n}", cohort, n < champion, n < candidate) for n in range(count)]


def test_a_candidate_that_is_as_good_is_not_called_worse(champion: Champion) -> None:
    found = compare_versions(champion, cases("common", 40, 39), GateConfig())
    (measure,) = found.measures
    assert (measure.tasks, measure.champion, measure.candidate, found.worse) == (40, 1.0, 0.975, ())


def test_a_candidate_that_is_much_worse_in_one_cohort_is_called_so_there(champion: Champion) -> None:
    asked = GateConfig(metrics={"long_tail": ("TaskCompletion",)})
    found = compare_versions(champion, cases("common", 40, 40) + cases("long_tail", 40, 20), asked)
    (worse,) = found.worse
    assert (worse.cohort, worse.difference) == ("long_tail", -0.5)
    assert worse.low < -0.5 < worse.high < 0


def test_where_the_champion_may_not_act_and_what_it_had_learnt_do_not_count(champion: Champion) -> None:
    known = replace(cases("common", 40, 0, 1)[0], task="old")
    found = compare_versions(champion, [*cases("vip", 40, 0), known, *cases("common", 40, 40)], GateConfig())
    assert ([measure.cohort for measure in found.measures], found.worse, found.left_out) == (["common"], (), 1)


def test_equals_are_seldom_told_apart(champion: Champion) -> None:
    """Of pairs that differ by chance alone, at most one in twenty may be called worse."""
    import random

    called = 0
    for seed in range(400):
        draw = random.Random(seed)
        drawn = [PairedCase(str(n), "common", draw.random() < 0.9, draw.random() < 0.9) for n in range(60)]
        called += bool(compare_versions(champion, drawn, GateConfig()).worse)
    assert called <= 400 * 0.05 + 14  # and three standard errors


def test_a_case_beside_has_the_champion_in_the_experts_place() -> None:
    first = PairedCase("t", "common", True, True, clone_steps=3, scores={"TrajectoryScore": (1.0, 0.7)})
    second = PairedCase("t", "common", True, False, clone_steps=5, scores={"TrajectoryScore": (1.0, 0.4)})
    made = beside(first, second)
    assert (made.expert_success, made.clone_success, made.expert_steps, made.clone_steps) == (True, False, 3, 5)
    assert made.scores == {"TrajectoryScore": (0.7, 0.4)}


def test_a_version_is_not_beside_itself_and_not_beside_nobody(promoted_home: Path, trained_home: Path) -> None:
    found = find_champion(promoted_home, "counter", 2)
    assert found is not None
    assert found.cohorts == ("common", "safety")
    assert found.learnt == open_dataset(promoted_home, "counter").tasks("train") | open_dataset(
        promoted_home, "counter"
    ).tasks("calibration")
    assert find_champion(promoted_home, "counter", 1) is None
    assert find_champion(trained_home, "counter", 2) is None


@pytest.mark.parametrize("replayed", [True, False])
def test_a_gate_plays_the_champion_on_the_same_tasks(
    promoted_home: Path, counter_clone: CloneConfig, fork: Fork, replayed: bool
) -> None:
    home = fork(promoted_home)
    other = replace(counter_clone, train=replace(counter_clone.train, seed=4))
    train_stage(home, other, quiet)
    report = gate_stage(home, replace(other, rollout=None) if replayed else other, "counter:2", quiet)
    assert report.beside is not None
    assert report.beside.version == 1
    tasks = {cohort.cohort: cohort.tasks for cohort in report.cohorts}
    assert {one.cohort: one.tasks for one in report.beside.measures} == tasks
    assert report.beside.left_out == 0
    assert all(one.low <= one.difference <= one.high for one in report.beside.measures)
    assert Registry(home).gate_record("counter", 2) == report
    assert told_beside(report)[0].startswith("beside champion v1: common TaskCompletion ")


def test_a_record_of_before_is_read_as_beside_nobody(promoted_home: Path) -> None:
    record = Registry(promoted_home).gate_record("counter", 1)
    assert record is not None
    older = record.to_json().replace('  "beside": null', '  "older": null')
    assert "beside" not in older.split('"spent"')[0]
    assert GateReport.from_json(older) == record
