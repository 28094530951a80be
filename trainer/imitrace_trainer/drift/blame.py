"""Say in which cohorts drift occurs: those go back to the expert."""

from collections.abc import Collection, Sequence

from imitrace_trainer.drift.findings import ALL, DriftReport, Tested
from imitrace_trainer.step_backs import DRIFT, StepBack

MIX = "cohorts"
"""The comparison of how many trajectories are of which cohort; a gate judges each by itself."""
_TOLD = 2


def blamed(report: DriftReport, acts_in: Collection[str]) -> dict[str, StepBack]:
    """Return by cohort why it goes back to the expert.

    A cohort's own tests speak for it. A tool that is gone or broken speaks for the cohorts whose training called it.
    What only shows over all trajectories speaks for every cohort with recent traffic that its own tests don't clear;
    where they clear all, for all of them, unless the mix of cohorts has changed, which explains it.

    Args:
        report: of a look that found drift.
        acts_in: where the champion passed its gate; others are the expert's already.
    """
    found: dict[str, dict[str, str]] = {cohort: {} for cohort in acts_in}
    for shift in report.broken:
        for cohort in set(shift.cohorts) & set(found):
            found[cohort][f"tool {shift.tool} {shift.kind}"] = f"tool {shift.tool} {shift.kind}: {shift.text}"
    for test in report.tests:
        if test.group in found and test.group != ALL and test.drifts(report.level):
            found[test.group][test.name] = test.told()
    overall = [test for test in report.tests if test.group == ALL and test.drifts(report.level)]
    for cohort in _by_the_whole(report, overall) & set(found):
        found[cohort].update({test.name: test.told() for test in overall if test.name != MIX})
    return {
        cohort: StepBack(since=report.at, by=DRIFT, why=_short([*why.values()]), marks=tuple(sorted(why)))
        for cohort, why in found.items()
        if why
    }


def _by_the_whole(report: DriftReport, overall: Sequence[Tested]) -> set[str]:
    if not [test for test in overall if test.name != MIX]:
        return set()
    own, recent = report.cohorts(), set(report.slices)
    uncleared = {cohort for cohort in recent if own.get(cohort) != "none"}
    explained = any(test.name == MIX for test in overall)
    return uncleared if uncleared or explained else recent


def _short(why: list[str]) -> str:
    more = f"; and {len(why) - _TOLD} more" if len(why) > _TOLD else ""
    return "; ".join(why[:_TOLD]) + more
