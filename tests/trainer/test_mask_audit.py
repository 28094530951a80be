"""The audit of masks: nothing learnt, and learning from who is no teacher, are refused by name."""

from dataclasses import replace
from pathlib import Path

import pytest

from imitrace.exceptions import CloneError
from imitrace.messages import Action
from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.curation import curate_stage
from imitrace_trainer.datasets import Example
from imitrace_trainer.mask_audit import audit_masks
from imitrace_trainer.registry import Registry
from imitrace_trainer.stages import train_stage

COHORT = CohortConfig(name="shop", agent="shop")


def step(role: str = "expert", mask: bool = True) -> Example:
    return Example(
        trajectory_id="t",
        step_index=0,
        decision="d",
        task="1",
        tags={},
        split="train",
        state=[],
        message_ids=[],
        tools=[],
        action=Action("tool_call", "look"),
        policy_role=role,
        loss_mask=mask,
        outcome=None,
    )


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [step()] * 3,
        [step(), step("human"), step(mask=False)],
        [step(), step("clone", mask=False)],
    ],
)
def test_masks_that_can_be_right_pass(steps: list[Example]) -> None:
    audit_masks(steps, COHORT)


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([step(mask=False)] * 3, "all 3 steps of the train split are masked, .*'imitrace datasets show shop'"),
        ([step(), step("clone"), step("clone")], "every step counts, 2 by clone among them, allowed: expert, human"),
        ([step("tutor"), step(mask=False)], "steps count, 1 by tutor among them, .* curate cohort 'shop' again"),
    ],
)
def test_masks_that_cannot_be_right_are_refused(steps: list[Example], told: str) -> None:
    with pytest.raises(CloneError, match=told) as refused:
        audit_masks(steps, COHORT)
    assert "\n" not in str(refused.value)


def test_the_calibration_tasks_are_looked_at_as_well_but_may_all_be_masked() -> None:
    audit_masks([step(mask=False)] * 3, COHORT, "calibration")
    with pytest.raises(CloneError, match=r"masks of the calibration split are wrong: .*, 1 by tutor among them"):
        audit_masks([step(), step("tutor")], COHORT, "calibration")


def test_what_a_person_may_have_confirmed_counts() -> None:
    audit_masks([step("clone")], replace(COHORT, confirmed=Condition("right", ">=", 1.0)))


def test_a_dataset_whose_masks_are_of_other_rules_trains_nothing_and_leaves_nothing(
    counter: Path, counter_clone: CloneConfig, tmp_path: Path
) -> None:
    curate_stage(tmp_path, counter_clone.cohort, str(counter / "snapshot"))
    stricter = replace(counter_clone, cohort=replace(counter_clone.cohort, roles=("human",)))
    with pytest.raises(CloneError, match=r"every step counts, [0-9]+ by expert among them, allowed: human"):
        train_stage(tmp_path, stricter, lambda stage, share: None)
    assert Registry(tmp_path).versions("counter") == []
    assert not (tmp_path / "fits").exists()
