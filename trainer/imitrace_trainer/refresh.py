"""Do the whole turn: curate, fit, evaluate, gate, promote or hold. One call, one report.

Each stage leaves what it made and finds it again, so a turn that was killed is simply done again.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from imitrace.exceptions import CloneError
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.curation import curate_frames
from imitrace_trainer.datasets import Dataset
from imitrace_trainer.gate_report import GateReport
from imitrace_trainer.gate_text import render
from imitrace_trainer.gating import gate_stage
from imitrace_trainer.passport import recipe
from imitrace_trainer.progress import Progress, silent
from imitrace_trainer.refreshing.judged import Judged, gate_terms
from imitrace_trainer.refreshing.limits import Limits
from imitrace_trainer.registry import Promotion, Registry
from imitrace_trainer.seal import read_record
from imitrace_trainer.source_copies import at_hand
from imitrace_trainer.sources import Source, open_source
from imitrace_trainer.stages import Trained, load_clone, now, promote_stage, train_stage
from imitrace_trainer.step_backs import LIVE, StepBacks
from imitrace_trainer.survey import Frames
from imitrace_trainer.tool_contracts import find_contracts
from imitrace_trainer.tool_findings import Finding, describe_finding, find_changes
from imitrace_trainer.tool_ledger import read_ledger


@dataclass(frozen=True)
class Turn:
    """What a refresh did."""

    dataset: Dataset | None
    """None: a change of a tool is undecided."""
    trained: Trained | None
    """None: the champion was already trained on this very dataset, or there is none, or it was trained before."""
    gate: GateReport | None
    promotion: Promotion | None
    """None: the champion stays."""
    reason: str
    undecided: tuple[Finding, ...] = ()
    """Changes of tools that break recorded calls."""
    outcome: str = ""
    """One of ``runs.TURNS``, or undecided."""
    terms: str = ""
    """On which terms it was gated: see ``gate_terms``."""


class Mark(Protocol):
    """Is told which stage begins, and what is known by then."""

    def __call__(self, stage: str, **known: Any) -> None:  # fields of a run
        """Take note."""


def _unmarked(stage: str, **known: Any) -> None:
    pass


@dataclass(frozen=True)
class Course:
    """How a turn is accompanied."""

    progress: Progress = silent
    """Told how far each stage is."""
    say: Callable[[str], None] = lambda text: None
    """Told what each stage did, a line or a few."""
    mark: Mark = _unmarked
    limits: Limits = field(default_factory=Limits)
    renew: bool = False
    """Gate the champion again where there is nothing new to learn: its evidence lapses soon."""
    judged: Judged = field(default_factory=dict)
    """What was gated in vain before: on the same terms it is not gated again."""
    force: bool = False
    """Gate also a version that broke its promise in service."""
    since: str | None = None
    """When the run began, ISO 8601, if it was killed since: what was gated from then on is not gated again."""


def refresh(home: Path, clone: CloneConfig, source: str | None, progress: Progress, say: Callable[[str], None]) -> Turn:
    """Take a clone from what was traced to a promotion, or to the reason why not.

    While a change of its agent's tools that breaks recorded calls is undecided, nothing is made.

    Args:
        home: the workspace.
        clone: what to make.
        source: where the traces are; None finds the workspace's own.
        progress: told how far each stage is.
        say: told what each stage did, a line or a few.
    """
    with at_hand(open_source(source, home), home, progress) as opened:
        return turn(home, clone, opened, Course(progress, say))


def turn(home: Path, clone: CloneConfig, opened: Source, course: Course) -> Turn:
    """Do what ``refresh`` does with a source that is open.

    Raises:
        BudgetError: it came to a limit.
    """
    course.mark("curate")
    frames, agent, say = opened.frames(), clone.cohort.agent, course.say
    undecided = undecided_changes(home, frames, agent)
    if undecided:
        say("\n".join(map(describe_finding, undecided)))
        reason = f"undecided changes of the tools of {agent}: {len(undecided)}; decide, then refresh again"
        return Turn(None, None, None, None, reason, undecided, "undecided")
    dataset = curate_frames(home, clone.cohort, frames, opened.describe(), course.limits.watching(course.progress))
    note_tools_checked(home, agent)
    say(f"dataset {dataset.name} v{dataset.version}{'' if dataset.created else ' (unchanged)'}")
    told = {"name": dataset.name, "version": dataset.version, "hash": dataset.hash}
    if champion_dataset(home, clone.name) == dataset.hash:
        return _nothing_new(home, clone, dataset, course)
    made = made_by_recipe(home, clone, dataset)
    trained: Trained | None = None
    if made is None:
        course.mark("train", dataset=told)
        course.limits.check_rows(dataset)
        trained = train_stage(home, clone, course.limits.watching(course.progress))
        say(f"trained {trained.name} v{trained.version}\n{trained.evaluation.render()}")
    else:
        say(f"{clone.name} v{made} is of this dataset and these settings: it is gated, not trained again")
    version = made if trained is None else trained.version
    assert version is not None  # noqa: S101 - one of the two is there
    terms = _terms(home, clone)
    back = [one for one in StepBacks(home, clone.name).of(version).cohorts.values() if one.by == LIVE]
    if back and not course.force:
        reason = f"v{version} went back on what it promised: {back[0].why}; a version of newer traffic is awaited"
        return Turn(dataset, None, None, None, reason, outcome="unchanged")
    if (version, terms) in course.judged:
        return Turn(dataset, None, None, None, _repeated(version, course.judged[version, terms]), outcome="unchanged")
    course.mark("gate", dataset=told, version=version)
    report = _gated(home, clone, version, course)
    say(render(report))
    outcome, reason = _held(home, clone.name, report)
    if outcome:
        return Turn(dataset, trained, report, None, reason, outcome=outcome, terms=terms)
    course.mark("promote", gate=gate_told(report))
    promotion = promote_stage(home, clone.name, version, clone.route)
    reason = f"v{promotion.version} acts in {', '.join(promotion.cohorts)}"
    return Turn(dataset, trained, report, promotion, reason, outcome="promoted")


def _nothing_new(home: Path, clone: CloneConfig, dataset: Dataset, course: Course) -> Turn:
    nothing = "the champion was trained on this dataset: nothing new to learn"
    if not course.renew:
        return Turn(dataset, None, None, None, nothing, outcome="unchanged")
    version, terms = Registry(home).aliases(clone.name)["champion"], _terms(home, clone)
    if (version, terms) in course.judged:
        reason = f"{nothing}; {_repeated(version, course.judged[version, terms])}"
        return Turn(dataset, None, None, None, reason, outcome="unchanged")
    course.mark("gate", version=version)
    report = _gated(home, clone, version, course)
    course.say(render(report))
    acts = ", ".join(report.passed_cohorts())
    if not acts:
        lost = f"{nothing}; its evidence lapses, and it passed no gate: the expert acts"
        return Turn(dataset, None, report, None, lost, outcome=_unproven(report), terms=_terms(home, clone))
    return Turn(dataset, None, report, None, f"{nothing}; gated again, it acts in {acts}", outcome="renewed")


def _terms(home: Path, clone: CloneConfig) -> str:
    champion = Registry(home).aliases(clone.name).get("champion")
    return gate_terms(clone, champion, champion_cohorts(home, clone.name))


def _repeated(version: int, told: str) -> str:
    return f"v{version} is not gated again, for nothing changed since {told}; 'refresh --force' gates it all the same"


def _gated(home: Path, clone: CloneConfig, version: int, course: Course) -> GateReport:
    """Return what the gate says of a version; what it said in the run that was killed counts."""
    if course.since is not None:
        with suppress(CloneError):  # an unreadable record is none
            record = Registry(home).gate_record(clone.name, version)
            if record is not None and datetime.fromisoformat(record.created_at) >= datetime.fromisoformat(course.since):
                return record
    watched = course.limits.watching(course.progress)
    return gate_stage(home, clone, f"{clone.name}:{version}", watched, course.limits.expert_calls)


def _held(home: Path, name: str, report: GateReport) -> tuple[str, str]:
    """Return why the champion stays, as an outcome and in words; nothing where it does not."""
    if not report.passed_cohorts():
        return _unproven(report), "no cohort passed its gate: the champion stays"
    lost = sorted(set(champion_cohorts(home, name)) - set(report.passed_cohorts()))
    if lost:
        return "held", f"the champion acts in {', '.join(lost)} too: it stays"
    worse = report.beside.worse if report.beside is not None else ()
    if worse:
        told = ", ".join(f"{one.cohort} {one.metric} by at least {-100 * one.high:.1f} points" for one in worse)
        return "held", f"v{report.version} is proven worse than the champion ({told}): it stays"
    return "", ""


def _unproven(report: GateReport) -> str:
    return "inconclusive" if report.verdict == "inconclusive" else "failed_gate"


def gate_told(report: GateReport) -> dict[str, Any]:
    """Return what a run keeps of a gate, as JSON values."""
    beside = report.beside
    measures = [] if beside is None else [{**vars(one), "worse": one.worse} for one in beside.measures]
    return {
        "verdict": report.verdict,
        "cohorts": {cohort.cohort: cohort.verdict for cohort in report.cohorts},
        "beside": None if beside is None else {"champion": beside.version, "measures": measures},
    }


def made_by_recipe(home: Path, clone: CloneConfig, dataset: Dataset) -> int | None:
    """Return the newest version that training again would only repeat, None where there is none."""
    wanted = recipe(dataset, clone, read_ledger(home).rules(clone.cohort.agent))
    registry = Registry(home)
    for number in reversed(registry.versions(clone.name)):
        with suppress(CloneError):  # a damaged version is trained again
            version = registry.resolve(f"{clone.name}:{number}")
            if (read_record(version.path).get("passport") or {}).get("recipe") == wanted:
                registry.check(version)
                return number
    return None


def undecided_changes(home: Path, frames: Frames, agent: str) -> tuple[Finding, ...]:
    """Return the changes of an agent's tools that break recorded calls and that nobody has decided on."""
    contracts = find_contracts(frames, agent)
    return tuple(finding for finding in find_changes(contracts, read_ledger(home), agent) if finding.open)


def note_tools_checked(home: Path, agent: str | None) -> None:
    """Keep that the tools of an agent, or of all, were found in order, for every clone of it."""
    registry = Registry(home)
    for name in registry.names():
        with suppress(CloneError):  # a damaged clone acts nowhere, whatever its tools
            if agent in (None, read_record(registry.resolve(name).path).get("agent")):
                registry.record_check(name, "tools", now())


def champion_cohorts(home: Path, name: str) -> tuple[str, ...]:
    """Return the cohorts in which the champion may act: none without a champion, or without a record of it to read."""
    registry = Registry(home)
    number = registry.aliases(name).get("champion")
    try:
        record = registry.gate_record(name, number) if number is not None else None
        back = StepBacks(home, name).of(number).cohorts if number is not None else {}
    except CloneError:  # of an older form, say: then it acts nowhere
        record, back = None, {}
    return tuple(cohort for cohort in (record.passed_cohorts() if record else ()) if cohort not in back)


def champion_dataset(home: Path, name: str) -> str | None:
    """Return the hash of the dataset that the champion was trained on, None without a champion."""
    registry = Registry(home)
    if "champion" not in registry.aliases(name):
        return None
    return load_clone(home, f"{name}@champion").card.dataset_hash
