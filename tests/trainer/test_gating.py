"""Whole gates on the counter's clone: by rollout and by replay, with their records and pages."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imitrace.exceptions import CloneError, ConfigError
from imitrace_trainer.cohort import SplitConfig
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.curation import curate_stage
from imitrace_trainer.datasets import open_dataset
from imitrace_trainer.gating import gate_stage
from imitrace_trainer.registry import Registry
from imitrace_trainer.stages import train_stage
from imitrace_trainer.thresholds import NEVER

Fork = Callable[[Path], Path]


def quiet(stage: str, share: float) -> None:
    pass


def untrained(clone: CloneConfig) -> CloneConfig:
    return replace(clone, train=replace(clone.train, epochs=1, learning_rate=0.0))


def rolled(clone: CloneConfig, **changed: object) -> CloneConfig:
    assert clone.rollout is not None
    return replace(clone, rollout=replace(clone.rollout, **changed))  # type: ignore[arg-type]  # named by the test


def test_the_gate_without_a_rollout_replays_the_gate_split(
    trained_home: Path, counter_clone: CloneConfig, fork: Fork
) -> None:
    home = fork(trained_home)
    report = gate_stage(home, replace(counter_clone, rollout=None), "counter:1", quiet)
    dataset = open_dataset(home, "counter")
    assert (report.method, report.clone, report.version) == ("replay", "counter", 1)
    assert report.dataset_hash == dataset.hash
    assert sum(cohort.n for cohort in report.cohorts) == len(dataset.tasks("gate"))
    assert Registry(home).gate_record("counter", 1) == report


def test_the_gate_with_a_rollout_plays_fresh_tasks_of_every_cohort(promoted_home: Path) -> None:
    report = Registry(promoted_home).gate_record("counter", 1)
    assert report is not None
    assert (report.method, report.verdict) == ("rollout", "pass")
    assert [(c.cohort, c.n, c.tasks, c.expert_rate) for c in report.cohorts] == [
        ("common", 24, 24, 1.0),
        ("safety", 24, 24, 1.0),
    ]


def test_a_clone_fails_where_the_experts_rule_has_changed(
    trained_home: Path, counter_clone: CloneConfig, fork: Fork
) -> None:
    report = gate_stage(
        fork(trained_home), rolled(counter_clone, environment="counter_world:Reversed"), "counter", quiet
    )
    common, safety = report.cohorts
    assert (common.cohort, common.verdict, common.expert_rate) == ("common", "fail", 1.0)
    assert common.clone_rate < 0.5 < common.clone_share
    assert common.regressions > 0
    assert (safety.cohort, safety.verdict, report.passed_cohorts()) == ("safety", "pass", ("safety",))


def test_a_clone_that_is_never_sure_is_judged_inconclusive(
    trained_home: Path, counter_clone: CloneConfig, fork: Fork
) -> None:
    home = fork(trained_home)
    trained = train_stage(home, replace(untrained(counter_clone), family="embedded"), quiet)
    report = gate_stage(home, counter_clone, "counter:2", quiet)
    assert (trained.version, trained.thresholds.reversible) == (2, NEVER)
    assert {(cohort.verdict, cohort.clone_rate, cohort.clone_share) for cohort in report.cohorts} == {
        ("inconclusive", 1.0, 0.0)
    }


def test_the_gate_judges_the_clone_together_with_the_expert_it_asks(
    trained_home: Path, counter_clone: CloneConfig, fork: Fork
) -> None:
    report = gate_stage(fork(trained_home), counter_clone, "counter", quiet)
    assert [cohort.clone_rate for cohort in report.cohorts] == [1.0, 1.0]
    assert all(0.8 < cohort.clone_share <= 1.0 for cohort in report.cohorts)


def test_few_tasks_leave_the_gate_inconclusive(trained_home: Path, counter_clone: CloneConfig, fork: Fork) -> None:
    report = gate_stage(fork(trained_home), rolled(counter_clone, tasks=3), "counter", quiet)
    assert {cohort.verdict for cohort in report.cohorts} == {"inconclusive"}
    assert all(cohort.n == 3 and cohort.cases_needed > 0 for cohort in report.cohorts)


@pytest.mark.parametrize("changed", [{"environment": "counter_world:Forgetful"}, {"seed": 1}])
def test_a_gate_on_tasks_of_the_dataset_is_refused(
    trained_home: Path, counter_clone: CloneConfig, fork: Fork, changed: dict[str, object]
) -> None:
    home = fork(trained_home)
    with pytest.raises(
        CloneError, match=r"task 'common-1-\d+' of the gate is in the dataset: set another clone\.counter"
    ):
        gate_stage(home, rolled(counter_clone, **changed), "counter", quiet)
    assert Registry(home).gate_record("counter", 1) is None


@pytest.mark.parametrize("changed", [{"environment": "counter_world:Nowhere"}, {"expert": "counter_world:Nobody"}])
def test_a_world_that_is_not_there_is_named(
    trained_home: Path, counter_clone: CloneConfig, changed: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match=r"'counter_world:No.*' can't be loaded"):
        gate_stage(trained_home, rolled(counter_clone, **changed), "counter", quiet)


def test_a_gate_without_a_gate_split_has_no_cases(counter: Path, counter_clone: CloneConfig, tmp_path: Path) -> None:
    cohort = replace(counter_clone.cohort, split=SplitConfig(calibration=0.2, gate=0.0))
    clone = replace(untrained(counter_clone), cohort=cohort, rollout=None)
    curate_stage(tmp_path, cohort, str(counter / "snapshot"))
    train_stage(tmp_path, clone, quiet)
    with pytest.raises(CloneError, match="gate of counter v1 has no cases, needed: 1 or more; curate"):
        gate_stage(tmp_path, clone, "counter", quiet)


def test_a_gate_by_rollout_says_what_it_cost_what_the_expert_is_from_itself_and_what_is_recorded(
    promoted_home: Path,
) -> None:
    report = Registry(promoted_home).gate_record("counter", 1)
    assert report is not None
    spent = report.spent
    assert spent.expert == spent.again > 0
    assert spent.clone + spent.beside == spent.expert
    for cohort in report.cohorts:
        assert cohort.agreement is not None and cohort.agreement.value == 1.0
        assert cohort.residual is not None and (cohort.residual.value, cohort.residual.low) == (0.0, 0.0)
        assert cohort.coverage["tasks"]["gate"] > 0 and "close_ticket" in cohort.coverage["tools"]
    noise = report.cohorts[0].measures[0].noise
    assert noise is not None and (noise.tasks, noise.difference, noise.floor, noise.differs) == (24, 0.0, 0.0, False)
    assert report.waived == {"long_tail": "every ticket is as common"}


def test_a_page_lies_beside_the_record(promoted_home: Path) -> None:
    page = Registry(promoted_home).gate_page("counter", 1)
    assert (page.parent.name, page.name) == ("gates", "v1.html")
    assert "counter v1: what the gate said" in page.read_text(encoding="utf-8")


def test_a_gate_without_a_long_tail_is_refused_before_anybody_plays(
    trained_home: Path, counter_clone: CloneConfig, fork: Fork
) -> None:
    home = fork(trained_home)
    strict = replace(counter_clone, gate=replace(counter_clone.gate, waive={}))
    nowhere = rolled(strict, environment="counter_world:Nowhere")
    with pytest.raises(CloneError, match=r"gate of counter has no cohort 'long_tail', there are: common, safety; tag"):
        gate_stage(home, nowhere, "counter", quiet)
    assert Registry(home).gate_record("counter", 1) is None


def test_the_gate_asks_for_no_noise_where_that_is_set(
    trained_home: Path, counter_clone: CloneConfig, fork: Fork
) -> None:
    calm = replace(counter_clone, gate=replace(counter_clone.gate, noise_tasks=0))
    report = gate_stage(fork(trained_home), rolled(calm, tasks=2), "counter", quiet)
    assert report.spent.again == 0
    assert {cohort.unmeasured for cohort in report.cohorts} == {"clone.counter.gate.noise_tasks is 0"}


def test_courses_are_scored_beside_another_of_the_experts_where_a_cohort_asks_for_it(
    trained_home: Path, counter_clone: CloneConfig, fork: Fork
) -> None:
    asked = {"common": ("ToolSelectionAccuracy", "TrajectoryScore", "StepCount")}
    scored = replace(counter_clone, gate=replace(counter_clone.gate, metrics=asked))
    report = gate_stage(fork(trained_home), rolled(scored, tasks=3), "counter", quiet)
    common = report.cohorts[0]
    assert [(one.metric, one.expert, one.clone) for one in common.measures[:2]] == [
        ("ToolSelectionAccuracy", 1.0, 1.0),
        ("TrajectoryScore", 1.0, 1.0),
    ]
    assert [(one.metric, one.judged) for one in common.measures[2:]] == [("StepCount", True), ("TaskCompletion", False)]
    assert all(one.noise is not None and one.noise.tasks == 3 for one in common.measures if one.judged)


def test_the_record_is_the_report(promoted_home: Path) -> None:
    path = Registry(promoted_home).gate_page("counter", 1).with_suffix(".json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert (record["format"], record["verdict"], record["cohorts"][0]["metric"]) == (2, "pass", "TaskCompletion")


def test_an_expert_that_takes_a_seed_draws_otherwise_when_it_plays_again(
    trained_home: Path, counter_clone: CloneConfig, fork: Fork
) -> None:
    report = gate_stage(fork(trained_home), rolled(counter_clone, expert="counter_world:Moody"), "counter", quiet)
    common = report.cohorts[0]
    assert common.measures[0].noise is not None and common.measures[0].noise.floor > 0.05
    assert common.expert_rate < 1.0


def test_noise_that_is_louder_than_the_margin_leaves_the_cohort_open(
    trained_home: Path, counter_clone: CloneConfig, fork: Fork
) -> None:
    narrow = replace(counter_clone, gate=replace(counter_clone.gate, margins={"common": 0.05}))
    report = gate_stage(fork(trained_home), rolled(narrow, expert="counter_world:Moody"), "counter", quiet)
    assert report.cohorts[0].verdict == "inconclusive"
    assert " from itself" in report.cohorts[0].reason


def test_refusals_of_the_safety_cohort_are_counted(promoted_home: Path) -> None:
    report = Registry(promoted_home).gate_record("counter", 1)
    assert report is not None
    (refusals,) = [harm for harm in report.cohorts[1].harms if harm.kind == "refusal"]
    assert (refusals.regressions, refusals.tasks, refusals.refused_more) == (0, 24, 0)
