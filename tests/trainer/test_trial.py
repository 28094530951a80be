import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imitrace.exceptions import CloneError
from imitrace.messages import Action
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.gate import PairedCase, judge
from imitrace_trainer.intervals import wilson
from imitrace_trainer.registry import Registry
from imitrace_trainer.rollout import Episode, Turn
from imitrace_trainer.stages import load_clone
from imitrace_trainer.trial import Latency, Success, TrialReport, summarise, try_clone

Fork = Callable[[Path], Path]
DONE = Action("tool_call", "look")


def episode(cohort: str, success: bool, *roles: str, unsafe: bool = False) -> Episode:
    turns = [Turn(DONE, role, "", 0.001 * (number + 1)) for number, role in enumerate(roles)]
    return Episode("task", cohort, success, unsafe, turns=turns)


def summary() -> TrialReport:
    return summarise(
        {
            "expert": [episode("common", True, *["expert"] * 3), episode("safety", True, "expert")],
            "clone": [episode("common", False, "clone", unsafe=True), episode("safety", True, "clone")],
            "hybrid": [episode("common", True, "clone", "clone", "expert"), episode("safety", False, "expert")],
        }
    )


def trial(home: Path, clone: CloneConfig, seed: int = 77) -> TrialReport:
    assert clone.rollout is not None
    told: list[float] = []
    report = try_clone(home, clone, replace(clone.rollout, tasks=8), lambda _, share: told.append(share), seed)
    assert told == [number / 8 for number in range(1, 9)]
    return report


def regate(home: Path, clone: CloneConfig, *passed: str) -> None:
    """Put a record in place in which only these cohorts passed."""
    version = load_clone(home, "counter@champion").version
    cases = [PairedCase(f"{n}", name, True, name in passed) for name in ("common", "long_tail") for n in range(200)]
    report = judge(
        cases,
        clone.gate,
        method="rollout",
        dataset_hash="",
        created_at="",
        clone="counter",
        version=version.version,
    )
    assert report.passed_cohorts() == passed
    Registry(home).record_gate("counter", version.version, report)


def test_every_cohort_and_the_whole_have_a_row_for_each_arm() -> None:
    rows = summary().cohorts
    assert list(rows) == ["common", "safety", "overall"]
    assert {tuple(arms) for arms in rows.values()} == {("expert", "clone", "hybrid")}
    assert rows["overall"]["clone"] == Success(0.5, *wilson(1, 2), tasks=2)
    assert [rows["safety"][arm].success for arm in ("expert", "clone", "hybrid")] == [1.0, 1.0, 0.0]


def test_shares_count_the_hybrids_decisions_by_who_took_them() -> None:
    assert summary().clone_share == {"common": 2 / 3, "safety": 0.0, "overall": 0.5}
    assert summary().expert_calls_saved == 0.5
    assert summary().expert_calls == {"expert": 2.0, "clone": 0.0, "hybrid": 1.0}


def test_harm_and_latency_are_told_by_arm() -> None:
    assert summary().unsafe == {"expert": 0, "clone": 1, "hybrid": 0}
    latency = summary().latency_ms
    medians = {arm: one.p50 for arm, one in latency["overall"].items()}
    assert medians == {"expert": pytest.approx(1.5), "clone": pytest.approx(1.0), "hybrid": pytest.approx(1.5)}
    assert list(latency) == ["common", "safety", "overall"]
    assert all(one.p50 <= one.p99 for arms in latency.values() for one in arms.values())


def test_a_turn_in_which_nobody_acted_is_no_decision() -> None:
    silent = Episode("task", "common", turns=[Turn(None, "clone", "alone", 0.0)])
    report = summarise({"expert": [episode("common", True, "expert")], "clone": [silent], "hybrid": [silent]})
    assert report.clone_share == {"common": 0.0, "overall": 0.0}
    assert report.expert_calls_saved == 1.0


def test_an_expert_that_never_acted_leaves_nothing_to_save() -> None:
    idle = [Episode("task", "common")]
    report = summarise({"expert": idle, "clone": idle, "hybrid": idle})
    assert (report.expert_calls_saved, report.latency_ms["overall"]["expert"]) == (1.0, Latency(0.0, 0.0))


def test_a_gated_clone_takes_most_decisions_over_without_loss(promoted_home: Path, counter_clone: CloneConfig) -> None:
    report = trial(promoted_home, counter_clone)
    assert {name: arms["hybrid"].tasks for name, arms in report.cohorts.items()} == {
        "common": 4,
        "safety": 4,
        "overall": 8,
    }
    assert report.cohorts["overall"]["expert"].success == report.cohorts["overall"]["hybrid"].success == 1.0
    assert report.clone_share["overall"] > 0.8
    assert report.expert_calls_saved == pytest.approx(report.clone_share["overall"])
    assert report.unsafe == {"expert": 0, "clone": 0, "hybrid": 0}
    assert min(one.p50 for one in report.latency_ms["overall"].values()) > 0


def test_a_cohort_without_a_pass_is_the_experts_alone(
    promoted_home: Path, counter_clone: CloneConfig, fork: Fork
) -> None:
    home = fork(promoted_home)
    regate(home, counter_clone, "common")
    report = trial(home, counter_clone)
    assert report.clone_share["safety"] == 0.0
    assert report.clone_share["common"] > 0.8
    assert report.cohorts["safety"]["hybrid"] == report.cohorts["safety"]["expert"]


def test_where_no_cohort_passed_the_hybrid_is_the_expert(
    promoted_home: Path, counter_clone: CloneConfig, fork: Fork
) -> None:
    home = fork(promoted_home)
    regate(home, counter_clone)
    report = trial(home, counter_clone)
    assert set(report.clone_share.values()) == {0.0}
    assert report.expert_calls_saved == 0.0
    assert all(arms["hybrid"] == arms["expert"] for arms in report.cohorts.values())


def test_a_champion_whose_gate_record_is_gone_acts_nowhere(
    promoted_home: Path, counter_clone: CloneConfig, fork: Fork
) -> None:
    home = fork(promoted_home)
    (home / "clones" / "counter" / "gates" / "v1.json").unlink()
    assert trial(home, counter_clone).clone_share["overall"] == 0.0


def test_a_trial_needs_a_champion(trained_home: Path, counter_clone: CloneConfig) -> None:
    with pytest.raises(CloneError, match="'counter@champion' names no version, there is: @candidate"):
        trial(trained_home, counter_clone)


def test_the_same_seed_gives_the_same_trial(promoted_home: Path, counter_clone: CloneConfig) -> None:
    first, again = (replace(trial(promoted_home, counter_clone), latency_ms={}) for _ in range(2))
    assert first == again


def test_the_report_is_json() -> None:
    record = json.loads(json.dumps(summary().to_json()))
    assert record["cohorts"]["overall"]["clone"]["tasks"] == 2
    told = {"cohorts", "clone_share", "expert_calls_saved", "expert_calls", "latency_ms", "unsafe", "handed_over"}
    assert set(record) == told
