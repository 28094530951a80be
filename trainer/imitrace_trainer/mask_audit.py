"""Refuse a dataset whose masks can't be right: nothing is learnt from, or what must not be.

A row is a decision, so what users and tools said is never learnt from, whatever a mask says. That every row counts is
the rule where all rows are an expert's, and wrong where some are of others: then nobody masked.
"""

from collections import Counter
from collections.abc import Sequence

from imitrace.exceptions import CloneError
from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.correcting.corrected_episodes import PREFIX
from imitrace_trainer.datasets import Example


def audit_masks(examples: Sequence[Example], cohort: CohortConfig, split: str = "train") -> None:
    """Check which steps a clone of a cohort would learn from.

    A clone's own steps count where they are of an episode that its environment called a success.

    Args:
        examples: the steps.
        cohort: whose.
        split: where they stand; only of the steps to train on some must count.

    Raises:
        CloneError: there are steps and all are masked; or steps count that nobody may learn from: of a role that the
            cohort does not name, where it names no confirmation that could allow it.
    """
    counted = [example for example in examples if example.loss_mask]
    if examples and not counted and split == "train":
        raise CloneError(
            f"all {len(examples)} steps of the train split are masked, none is left to learn from; "
            f"'imitrace datasets show {cohort.name}' has the reasons: change the cohort's rules and curate again"
        )
    strangers = Counter(
        one.policy_role
        for one in counted
        if one.policy_role not in cohort.roles
        and not (one.policy_role == "clone" and one.trajectory_id.startswith(PREFIX))
    )
    if strangers and cohort.confirmed is None:
        told = ", ".join(f"{count} by {role}" for role, count in sorted(strangers.items()))
        scope = "every step counts" if len(counted) == len(examples) else "steps count"
        raise CloneError(
            f"masks of the {split} split are wrong: {scope}, {told} among them, "
            f"allowed: {', '.join(cohort.roles)}; curate cohort {cohort.name!r} again"
        )
