"""Gate a clone: gather the cases, judge them, add what the dataset says, and keep the record and its page."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imitrace.exceptions import DatasetError
from imitrace_trainer.champion_comparison import compare_versions, find_champion
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.courses import Paths
from imitrace_trainer.coverage import NO_KIND, Coverage, CoverageConfig, coverage
from imitrace_trainer.datasets import Dataset, Example
from imitrace_trainer.evaluators.calls import Equivalence
from imitrace_trainer.gate import check_cohorts, judge
from imitrace_trainer.gate_page import render
from imitrace_trainer.gate_report import CohortVerdict, Figure, GateReport
from imitrace_trainer.paired_cases import beside
from imitrace_trainer.played_cases import Terms, cohorts_of, played_cases
from imitrace_trainer.progress import Progress
from imitrace_trainer.refusals import Refusals
from imitrace_trainer.registry import Registry
from imitrace_trainer.replayed_cases import Look, agreement, answers, replayed_cases
from imitrace_trainer.route_rules import COHORT_TAG, NO_COHORT, cohort_of
from imitrace_trainer.spending import spends
from imitrace_trainer.stages import dataset_of, load_clone, now

_RARE_CALLS = 10
"""Decisions of a tool in training below which it is named."""


@spends("gate")
def gate_stage(
    home: Path, clone: CloneConfig, reference: str, progress: Progress, expert_calls: int | None = None
) -> GateReport:
    """Judge a clone against the expert per cohort and keep the record, and how it is beside the champion.

    What is judged is what would act: the clone where it is sure, the expert elsewhere. With a ``rollout`` table both
    play fresh tasks; without, the clone answers the recorded states of the gate split, and a task counts as its success
    when every decision it was sure of was the expert's. The champion plays, or answers, the same.

    Args:
        home: the workspace.
        clone: what is asked of it.
        reference: which version.
        progress: told how far it is.
        expert_calls: most decisions that the expert may be asked for; None: no limit.

    Raises:
        CloneError: there is no such clone, nothing to judge by, or a cohort is absent that must not be.
        DatasetError: its dataset is gone.
        BudgetError: the expert was asked as often as it may.
    """
    loaded = load_clone(home, reference)
    dataset = dataset_of(home, loaded)
    held_out, train = dataset.examples("gate"), dataset.examples_of(loaded.card.fitted)
    check_cohorts(cohorts_of(dataset, "gate" if clone.rollout is None else None), clone.gate, clone.name)
    champion = find_champion(home, loaded.version.name, loaded.version.version)
    answered, paths = answers(loaded, held_out, clone.route, progress), Paths(train)
    if clone.rollout is None:
        equivalence = Equivalence.of(clone.score.equivalents, clone.score.ignored_arguments)
        look = Look(Refusals(clone.gate.refusals), clone.gate.refusal_tag, equivalence, paths)
        gathered = replayed_cases(loaded, held_out, answered, look)
        if champion is not None:
            theirs = answers(champion.loaded, held_out, clone.route, progress)
            served = replayed_cases(champion.loaded, held_out, theirs, look)
            gathered.beside = list(map(beside, served.cases, gathered.cases))
    else:
        gathered = played_cases(clone, loaded, dataset, paths, progress, Terms(champion, expert_calls))
    report = judge(
        gathered.cases,
        clone.gate,
        method="replay" if clone.rollout is None else "rollout",
        dataset_hash=dataset.hash,
        clone=loaded.version.name,
        version=loaded.version.version,
        created_at=now(),
        again=gathered.again,
        unmeasured=gathered.unmeasured,
    )
    covered = Covered(dataset, _learnt(train), clone.rollout is not None)
    figures = agreement(answered)
    cohorts = tuple(with_figures(cohort, figures, covered) for cohort in report.cohorts)
    compared = None if champion is None else compare_versions(champion, gathered.beside, clone.gate)
    report = replace(report, cohorts=cohorts, spent=gathered.spent, beside=compared)
    Registry(home).record_gate(loaded.version.name, loaded.version.version, report, render(report))
    return report


@dataclass(frozen=True)
class Covered:
    """What a dataset has."""

    dataset: Dataset
    learnt: Mapping[str, Counter[str]]
    """By cohort how many decisions there are to learn of each tool."""
    played: bool
    """The gate's tasks come from an environment, not from the dataset."""

    def of(self, cohort: CohortVerdict) -> dict[str, Any]:  # JSON
        """Return how many tasks there are of a cohort, how many a gate needs, and how often each tool was learnt."""
        config = CoverageConfig(tag=COHORT_TAG, margin=cohort.margin, confidence=cohort.confidence)
        kind = NO_KIND if cohort.cohort == NO_COHORT else cohort.cohort
        found: Coverage | None = None
        with suppress(DatasetError):  # a dataset without a gate split has none to cover
            found = next((one for one in coverage(self.dataset, config) if one.kind == kind), None)
        learnt = self.learnt.get(cohort.cohort, Counter())
        tools = dict(sorted(learnt.items(), key=lambda one: (one[1], one[0])))
        few = ", ".join(f"{name} {count}" for name, count in tools.items() if count < _RARE_CALLS)
        rarely = f"rarely learnt here, in decisions: {few}" if few else "no tool was rarely learnt here"
        tasks = f"{found.tasks['train']} training tasks" if found and self.played else str(found or "no gate split")
        told = f"{tasks}; {rarely}"
        counts = {"tasks": dict(found.tasks), "needed": found.needed, "missing": found.missing} if found else {}
        return {**counts, "tools": tools, "told": told}


def with_figures(
    cohort: CohortVerdict, figures: Mapping[str, tuple[Figure, Figure]], covered: Covered
) -> CohortVerdict:
    """Return a verdict with what recorded states say of its cohort, and what the dataset has of it."""
    taken, residual = figures.get(cohort.cohort, (None, None))
    return replace(cohort, agreement=taken, residual=residual, coverage=covered.of(cohort))


def _learnt(examples: Sequence[Example]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for example in examples:
        if example.loss_mask and example.action.name:
            counts.setdefault(cohort_of(example.tags), Counter())[example.action.name] += 1
    return counts
