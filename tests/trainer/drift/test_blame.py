"""Which cohorts drift is in: by their own tests, by tools that their training called, or by the whole alone."""

from dataclasses import replace
from typing import Any

import pytest

from imitrace_trainer.drift import findings
from imitrace_trainer.drift.blame import blamed
from imitrace_trainer.drift.findings import DriftReport
from imitrace_trainer.drift.tool_sets import ToolShift


def compared(name: str, group: str, drifts: bool, **told: Any) -> findings.Tested:
    p = 1e-9 if drifts else 0.9
    made = findings.Tested(
        name=name, group=group, measure="V", relevant=0.1, trajectories=(90, 90), effect=0.4, p=p, corrected=p
    )
    return replace(made, **told)


def report(*tests: findings.Tested, **told: Any) -> DriftReport:
    plain: dict[str, Any] = {"clone": "desk", "version": 1, "at": "2026-03-01T00:00:00+00:00", "verdict": "drift"}
    plain |= {"why": (), "since": "", "look": 1, "level": 0.02, "alpha": 0.05, "new": True, "counts": {}}
    return DriftReport(**{**plain, "tests": tests, "slices": ("common", "rare"), **told})


ALL_DRIFT = compared("tools", "all", True)
FINE = compared("tools", "common", False)
UNKNOWN = compared("tools", "rare", False, effect=None, p=None, corrected=None, lack="too few")


@pytest.mark.parametrize(
    ("found", "cohorts"),
    [
        (report(compared("tools", "rare", True), FINE), {"rare"}),
        (report(compared("tools", "rare", True), FINE, ALL_DRIFT), {"rare"}),
        (report(ALL_DRIFT, FINE, UNKNOWN), {"rare"}),
        (report(ALL_DRIFT, FINE, compared("tools", "rare", False)), {"common", "rare"}),
        (report(ALL_DRIFT, compared("cohorts", "all", True), FINE, compared("tools", "rare", False)), set()),
        (report(compared("cohorts", "all", True), FINE, UNKNOWN), set()),
        (report(ALL_DRIFT, slices=("rare",)), {"rare"}),
        (report(compared("tools", "all", False), FINE), set()),
    ],
)
def test_drift_is_where_it_shows(found: DriftReport, cohorts: set[str]) -> None:
    assert set(blamed(found, ("common", "rare"))) == cohorts
    assert set(blamed(found, ("common",))) == cohorts & {"common"}


def test_a_tool_that_is_gone_counts_for_the_cohorts_that_called_it() -> None:
    gone = ToolShift("refund", "vanished", 1.0, 1e-9, "offered no more", breaking=True, cohorts=("rare",))
    (step,) = blamed(report(FINE, broken=(gone,)), ("common", "rare")).values()
    assert (step.by, step.since, step.marks) == ("drift", "2026-03-01T00:00:00+00:00", ("tool refund vanished",))
    assert step.told("rare") == (
        "cohort 'rare' stepped back: drift of 2026-03-01T00:00:00+00:00: tool refund vanished: offered no more"
    )


def test_a_long_list_of_reasons_is_cut() -> None:
    own = [compared(name, "rare", True) for name in ("tools", "steps", "distance")]
    assert blamed(report(*own), ("rare",))["rare"].why.endswith("; and 1 more")
