"""Compare a candidate with the champion that serves, on the tasks that the gate judges it by."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imitrace.exceptions import CloneError, DatasetError
from imitrace_trainer.gate_report import Beside, BesideMeasure
from imitrace_trainer.gate_rules import METRICS, SAFETY, STEP_COUNT, TASK_COMPLETION, GateConfig, ordered
from imitrace_trainer.paired_cases import PairedCase, compare
from imitrace_trainer.registry import Registry
from imitrace_trainer.stages import LoadedClone, dataset_of, load_clone


@dataclass(frozen=True)
class Champion:
    """The champion as it serves."""

    loaded: LoadedClone
    cohorts: tuple[str, ...]
    """Where it may act."""
    learnt: frozenset[str]
    """Tasks that it was trained or calibrated on; none are known where its dataset is gone."""


def find_champion(home: Path, name: str, version: int) -> Champion | None:
    """Return the champion that a version of the same clone would follow.

    None where there is none, it is this version, it may act nowhere, or it can't be read: then it serves nobody.
    """
    registry = Registry(home)
    number = registry.aliases(name).get("champion")
    if number in (None, version):
        return None
    try:
        record = registry.gate_record(name, number)
        cohorts = record.passed_cohorts() if record is not None else ()
        loaded = load_clone(home, f"{name}:{number}") if cohorts else None
    except CloneError:
        return None
    return None if loaded is None else Champion(loaded, cohorts, _learnt(home, loaded))


def compare_versions(champion: Champion, cases: Sequence[PairedCase], config: GateConfig) -> Beside:
    """Return how a candidate did beside the champion, cohort by cohort and metric by metric, where that may act.

    Bounds hold together at the gate's confidence (Bonferroni): of equals it is seldom said that one is worse.

    Args:
        champion: who it is.
        cases: of both, as ``paired_cases.beside`` makes them.
        config: by which metrics the gate judges.
    """
    shown = [case for case in cases if case.cohort in champion.cohorts]
    known = [case for case in shown if case.task not in champion.learnt]
    asked = [
        (cohort, metric) for cohort in ordered({c.cohort: c for c in known}) for metric in _metrics(config, cohort)
    ]
    level = 1 - (1 - config.confidence) / max(1, len(asked))
    measures = []
    for cohort, metric in asked:
        found = compare([case for case in known if case.cohort == cohort], metric)
        difference, low, high = found.bounds(level)
        measures.append(
            BesideMeasure(
                cohort=cohort,
                metric=metric,
                tasks=len(found.pairs),
                champion=found.expert,
                candidate=found.clone,
                difference=difference,
                low=low,
                high=high,
            )
        )
    left_out = len({case.task for case in shown} & champion.learnt)
    number = champion.loaded.version.version
    return Beside(version=number, confidence=config.confidence, measures=tuple(measures), left_out=left_out)


def _metrics(config: GateConfig, cohort: str) -> tuple[str, ...]:
    """Return what a cohort is compared by: of the safety cohort success, since harm fails a candidate by itself."""
    asked = (TASK_COMPLETION,) if cohort == SAFETY else config.rule(cohort).metrics
    return tuple(metric for metric in asked if metric in METRICS and metric != STEP_COUNT) or (TASK_COMPLETION,)


def _learnt(home: Path, loaded: LoadedClone) -> frozenset[str]:
    try:
        dataset = dataset_of(home, loaded)
        return frozenset(dataset.tasks("train") | dataset.tasks("calibration"))
    except DatasetError:
        return frozenset()
