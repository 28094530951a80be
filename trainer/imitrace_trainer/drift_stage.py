"""Look for drift of a champion's traffic, spend for the look, and note where there is none."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from imitrace_trainer.clone_files import read_clone
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.drift.blame import blamed
from imitrace_trainer.drift.checking import Champion, Found, look_for_drift, newest
from imitrace_trainer.drift.comparisons import corrected
from imitrace_trainer.drift.config import DriftConfig
from imitrace_trainer.drift.findings import ALL, NEEDED, DriftReport, Tested, Verdict
from imitrace_trainer.drift.sequential import Look, Watch, WatchFile, level
from imitrace_trainer.live_watch import watch_live
from imitrace_trainer.progress import Progress, silent
from imitrace_trainer.registry import Registry
from imitrace_trainer.source_copies import at_hand
from imitrace_trainer.sources import open_source
from imitrace_trainer.stages import dataset_of, load_clone
from imitrace_trainer.step_backs import StepBacks
from imitrace_trainer.survey import Frames
from imitrace_trainer.tool_contracts import moment

DAY: Final = 86_400 * 10**9
"""Nanoseconds."""


def drift_stage(  # noqa: PLR0913 - where to look, from when to when
    home: Path,
    clone: CloneConfig,
    source: str | None = None,
    progress: Progress = silent,
    *,
    now: int | None = None,
    since: int | None = None,
) -> DriftReport:
    """Compare recent traffic of a clone's agent with what its champion was trained on.

    Where enough trajectories have ended since the last look this is a look: it is paid for, and kept in ``drift.json``.
    Where it finds no drift, that is noted as evidence for the clone.

    Args:
        home: the workspace.
        clone: whose champion, and how to look.
        source: where the traces are; None finds the workspace's own.
        progress: is told how far it is.
        now: when the window ends, in nanoseconds since 1970; None: at this moment.
        since: when it begins; None: ``window_days`` before its end.

    Raises:
        CloneError: there is no champion, it is damaged, or what is remembered of it is.
        DatasetError: its dataset or the source can't be read.
    """
    WatchFile(home, clone.name).read()  # what is damaged is told before the work is done
    with at_hand(open_source(source, home), home, progress) as opened:
        return drift_look(home, clone, opened.frames(), progress, now=now, since=since)


def drift_look(  # noqa: PLR0913 - what to look at, from when to when
    home: Path,
    clone: CloneConfig,
    frames: Frames,
    progress: Progress = silent,
    *,
    now: int | None = None,
    since: int | None = None,
    thrifty: bool = False,
) -> DriftReport:
    """Do what ``drift_stage`` does with a source that is open.

    Args:
        home: the workspace.
        clone: whose champion, and how to look.
        frames: the tables of the source by name.
        progress: is told how far it is.
        now: when the window ends; see ``drift_stage``.
        since: when it begins.
        thrifty: compare nothing where too little is new for a look: the last verdict stands.

    Raises:
        CloneError: there is no champion, it is damaged, or what is remembered of it is.
        DatasetError: its dataset or the source can't be read.
    """
    end = int(datetime.now(UTC).timestamp() * 10**9) if now is None else now
    begin = end - int(clone.drift.window_days * DAY) if since is None else since
    watch = WatchFile(home, clone.name)
    champion = _champion(home, clone)
    seen = watch.read().of(champion.version).seen if thrifty else None
    found = look_for_drift(champion, frames, (begin, end), clone.drift, progress, seen)
    with watch.held() as before:
        report, after = settled(champion, found, before.of(champion.version), clone.drift, (begin, end))
        if after is not None:
            watch.write(after)
    watched = watch_live(home, clone, frames, end)
    report = replace(report, notes=(*report.notes, *watched.notes), alarms=watched.alarms)
    if report.verdict == "none" and report.new and not report.alarms:
        Registry(home).record_check(clone.name, "drift", report.at)
    if report.verdict == "drift" and report.new and clone.drift.step_back:
        return _stepped_back(home, report)
    return report


def _stepped_back(home: Path, report: DriftReport) -> DriftReport:
    """Give the cohorts in which drift occurs to the expert, and say so in the report's notes."""
    record = Registry(home).gate_record(report.clone, report.version)
    cohorts = blamed(report, record.passed_cohorts() if record is not None else ())
    new = StepBacks(home, report.clone).step_back(report.version, cohorts)
    told = [f"cohort {cohort!r} steps back to the expert: {step.why}" for cohort, step in sorted(new.items())]
    return replace(report, notes=(*report.notes, *told))


def _champion(home: Path, clone: CloneConfig) -> Champion:
    loaded = load_clone(home, f"{clone.name}@champion")
    return Champion(
        name=clone.name,
        version=loaded.version.version,
        clone=read_clone(loaded.version.path)[0],
        thresholds=loaded.thresholds,
        rules=loaded.rules,
        dataset=dataset_of(home, loaded),
        fitted=loaded.card.fitted,
        cohort=clone.cohort,
    )


def settled(
    champion: Champion, found: Found, watch: Watch, config: DriftConfig, span: tuple[int, int]
) -> tuple[DriftReport, Watch | None]:
    """Return the report, and what is to be remembered; None where this was no look.

    Args:
        champion: whose traffic was looked at.
        found: what was compared.
        watch: what is remembered of this champion.
        config: what matters.
        span: the window, in nanoseconds since 1970.
    """
    fresh = newest(found.ended, watch.seen)
    enough = found.counts["recent"] >= config.trajectories
    new = enough and fresh >= config.trajectories
    number = watch.looks + new
    spent = level(config.alpha, max(1, number))
    chances = [shift.p for shift in found.tools if shift.breaking]
    tests, tools = corrected(list(found.tests), chances)
    shifted = [
        test.told() if test.group == ALL else f"{test.group}, {test.told()}" for test in tests if test.drifts(spent)
    ]
    broken = [shift for shift in found.tools if shift.breaking]
    broken = [shift for shift, p in zip(broken, tools, strict=True) if p <= spent and shift.share >= config.rate]
    gone = [f"tool {shift.tool} {shift.kind}: {shift.text}" for shift in broken]
    verdict, why = _verdict(tests, watch, [*gone, *shifted], new=new, enough=enough)
    if not new and enough:
        why = (*why, f"{fresh} trajectories have ended since the last look, needed for another: {config.trajectories}")
    elif not enough:
        why = (f"{found.counts['recent']} recent trajectories, needed: {config.trajectories}",)
    at = moment(span[1])
    look = Look(number, at, spent, found.counts["recent"], verdict, why)
    after = watch.after(look, max(found.ended), alarmed=bool(shifted)) if new else None
    report = DriftReport(
        clone=champion.name,
        version=champion.version,
        at=at,
        verdict=verdict,
        why=why,
        since=moment(span[0]),
        look=number,
        level=spent,
        alpha=config.alpha,
        new=new,
        counts={**found.counts, "fresh": fresh},
        tests=tests,
        tools=found.tools,
        broken=broken,
        slices=found.cohorts,
        disagreeing=found.disagreeing,
        notes=found.notes,
        looks=[asdict(one) for one in (after or watch).last],
    )
    return report, after


def _verdict(
    tests: Sequence[Tested], watch: Watch, drifts: Sequence[str], *, new: bool, enough: bool
) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict and why: of this look, or of the last one, and of an alarm that stands."""
    standing = () if watch.alarm is None else (f"the alarm of {watch.alarm.at} stands: {'; '.join(watch.alarm.why)}",)
    if not enough:
        return "insufficient", ()
    if not new:
        last: Verdict = watch.last[-1].verdict if watch.last else "insufficient"  # type: ignore[assignment]
        return last, watch.last[-1].why if watch.last else ()
    if drifts or standing:
        return "drift", (*drifts, *standing)
    made = {test.name for test in tests if test.group == ALL and test.effect is not None}
    lack = [name for name in NEEDED if name not in made]
    if lack:
        return "insufficient", (f"could not be compared: {', '.join(lack)}",)
    return "none", ()
