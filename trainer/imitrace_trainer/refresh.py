"""Do the whole turn: curate, fit, evaluate, gate, promote or hold. One call, one report."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from imitrace.exceptions import CloneError
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.curation import curate_frames
from imitrace_trainer.datasets import Dataset
from imitrace_trainer.gate_report import GateReport
from imitrace_trainer.gate_text import render
from imitrace_trainer.gating import gate_stage
from imitrace_trainer.progress import Progress
from imitrace_trainer.registry import Promotion, Registry
from imitrace_trainer.seal import read_record
from imitrace_trainer.source_copies import at_hand
from imitrace_trainer.sources import open_source
from imitrace_trainer.stages import Trained, load_clone, now, promote_stage, train_stage
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
    """None: the champion was already trained on this very dataset, or there is none."""
    gate: GateReport | None
    promotion: Promotion | None
    """None: the champion stays."""
    reason: str
    undecided: tuple[Finding, ...] = ()
    """Changes of tools that break recorded calls."""


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
        frames, agent = opened.frames(), clone.cohort.agent
        undecided = undecided_changes(home, frames, agent)
        if undecided:
            say("\n".join(map(describe_finding, undecided)))
            reason = f"undecided changes of the tools of {agent}: {len(undecided)}; decide, then refresh again"
            return Turn(None, None, None, None, reason, undecided)
        dataset = curate_frames(home, clone.cohort, frames, opened.describe(), progress)
    note_tools_checked(home, agent)
    say(f"dataset {dataset.name} v{dataset.version}{'' if dataset.created else ' (unchanged)'}")
    if champion_dataset(home, clone.name) == dataset.hash:
        return Turn(dataset, None, None, None, "the champion was trained on this dataset: nothing new to learn")
    trained = train_stage(home, clone, progress)
    say(f"trained {trained.name} v{trained.version}\n{trained.evaluation.render()}")
    report = gate_stage(home, clone, f"{clone.name}:{trained.version}", progress)
    say(render(report))
    if not report.passed_cohorts():
        return Turn(dataset, trained, report, None, "no cohort passed its gate: the champion stays")
    lost = sorted(set(champion_cohorts(home, clone.name)) - set(report.passed_cohorts()))
    if lost:
        return Turn(dataset, trained, report, None, f"the champion acts in {', '.join(lost)} too: it stays")
    promotion = promote_stage(home, clone.name, trained.version, clone.route)
    return Turn(dataset, trained, report, promotion, f"v{promotion.version} acts in {', '.join(promotion.cohorts)}")


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
    except CloneError:  # of an older form, say: then it acts nowhere
        record = None
    return record.passed_cohorts() if record else ()


def champion_dataset(home: Path, name: str) -> str | None:
    """Return the hash of the dataset that the champion was trained on, None without a champion."""
    registry = Registry(home)
    if "champion" not in registry.aliases(name):
        return None
    return load_clone(home, f"{name}@champion").card.dataset_hash
