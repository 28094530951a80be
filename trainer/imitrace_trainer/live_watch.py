"""Hold a champion in service to its promise: proven broken, it steps back; else its trial ends in time."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import polars as pl

from imitrace.exceptions import CloneError
from imitrace_trainer.betting import Fortune
from imitrace_trainer.canary import CanaryFile
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.disagreement import Audited, compared_decisions
from imitrace_trainer.drafts import locked
from imitrace_trainer.frames import gather
from imitrace_trainer.live_file import Alarm, Live, LiveFile
from imitrace_trainer.registry import Registry
from imitrace_trainer.step_backs import LIVE, StepBack, StepBacks
from imitrace_trainer.survey import Frames
from imitrace_trainer.tool_contracts import moment

_MARK: Final = "promise"
_HOUR: Final = 3_600


@dataclass(frozen=True)
class Watched:
    """What a look at live decisions found."""

    live: Live
    alarms: tuple[Alarm, ...] = ()
    """New ones."""
    notes: tuple[str, ...] = ()
    """What was done, in words."""


def watch_live(home: Path, clone: CloneConfig, frames: Frames, now: int | None = None) -> Watched:
    """Count what experts did where the champion was trusted, and act where its promise is broken.

    Of trajectories that ended since the last look; the cohorts in which it may act share ``drift.alpha`` evenly, which
    is the chance that any of them is ever wronged.

    Args:
        home: the workspace.
        clone: whose champion.
        frames: the tables of a source by name.
        now: what ended later does not count, in nanoseconds since 1970; None: at this moment.

    Raises:
        CloneError: what is remembered of it is damaged.
        DatasetError: a table can't be read.
    """
    registry, until = Registry(home), time.time_ns() if now is None else now
    number = registry.aliases(clone.name).get("champion")
    if number is None:
        return Watched(Live())
    file, rate = LiveFile(home, clone.name), registry.route_config(clone.name).error
    seen = file.read().of(number).seen
    judged, newest = _newly(frames, clone.name, number, (seen, until))
    record = registry.gate_record(clone.name, number)
    acts_in = record.passed_cohorts() if record is not None else ()
    with file.held() as before:
        live = before.of(number)
        if live.seen == seen:  # else somebody else counted them
            live = replace(live, seen=max(seen, newest), cohorts=_bet(live.cohorts, judged, rate))
        known = {alarm.cohort for alarm in live.alarms if alarm.version == number}
        limit = max(1, len(acts_in)) / clone.drift.alpha
        broken = [cohort for cohort in acts_in if cohort not in known and _size(live, cohort) >= limit]
        file.write(live)
    told = {cohort: _told(live.cohorts[cohort], rate) for cohort in broken}
    alarms = tuple(_act(home, clone.name, number, one, moment(until)) for one in told.items())
    if alarms:
        with file.held() as before:
            live = replace(before, alarms=(*before.alarms, *alarms))
            file.write(live)
    notes = [f"cohort {alarm.cohort!r}: {alarm.why}; {alarm.did}" for alarm in alarms]
    ended = None if alarms or known else _end_trial(home, clone.name, number, live, until)
    return Watched(live, alarms, (*notes, *([ended] if ended else [])))


def _newly(frames: Frames, name: str, version: int, span: tuple[int, int]) -> tuple[list[list[Audited]], int]:
    """Return the compared decisions of each trajectory that ended in a span, the first that ended first.

    Of one that went on over an earlier look only what was decided since counts, so that nothing counts twice.
    """
    ended = frames["trajectories"].filter((pl.col("ended_at") > span[0]) & (pl.col("ended_at") <= span[1]))
    steps = frames["steps"].join(ended.select("trajectory_id"), on="trajectory_id", how="semi")
    times = gather({"ended": ended.select("trajectory_id", "ended_at").sort("ended_at", "trajectory_id")})["ended"]
    judged, _, _ = compared_decisions({**frames, "steps": steps}, name, span[0] + 1, f"v{version}")
    by_trajectory: dict[str, list[Audited]] = defaultdict(list)
    for one in judged:
        by_trajectory[one.trajectory].append(one)
    ordered = [by_trajectory[trajectory] for trajectory in times["trajectory_id"] if trajectory in by_trajectory]
    return ordered, max(times["ended_at"].to_list(), default=0)


def _bet(cohorts: Mapping[str, Fortune], judged: Sequence[Sequence[Audited]], rate: float) -> dict[str, Fortune]:
    after = dict(cohorts)
    for decisions in judged:
        cohort = decisions[0].cohort
        after[cohort] = after.get(cohort, Fortune()).after([one.disagrees for one in decisions], rate)
    return after


def _size(live: Live, cohort: str) -> float:
    return live.cohorts.get(cohort, Fortune()).size


def _told(fortune: Fortune, rate: float) -> str:
    found = f"{fortune.disagreements} of {fortune.decisions} trusted decisions"
    return f"the expert did otherwise in {found}, promised: {rate:g} (evidence 1 to {fortune.size:.3g})"


def _act(home: Path, name: str, version: int, broken: tuple[str, str], at: str) -> Alarm:
    """Take a cohort from a version, and put the previous champion back where its evidence lets it act there."""
    cohort, why = broken
    StepBacks(home, name).step_back(version, {cohort: StepBack(since=at, by=LIVE, why=why, marks=(_MARK,))})
    did = "it steps back to the expert"
    previous = _proven(home, name, version, cohort)
    if previous is not None and Registry(home).aliases(name).get("champion") == version:
        Registry(home).rollback(name)
        did = f"v{previous} is champion again"
    return Alarm(version=version, cohort=cohort, at=at, why=why, did=did)


def _proven(home: Path, name: str, version: int, cohort: str) -> int | None:
    registry = Registry(home)
    previous = registry.aliases(name).get("previous")
    if previous in (None, version):
        return None
    try:
        evidence = registry.evidence(registry.resolve(f"{name}@previous")).at(time.time())
    except CloneError:  # what can't be read proves nothing
        return None
    return previous if cohort in evidence.cohorts else None


def _end_trial(home: Path, name: str, version: int, live: Live, until: int) -> str | None:
    """Let a champion act in full that was tried long enough, and say so."""
    file, config = CanaryFile(home, name), Registry(home).route_config(name)
    trial = file.read()
    if not trial.runs(version) or live.decisions < config.canary_decisions:
        return None
    now = datetime.fromtimestamp(until / 10**9, UTC)
    if (now - datetime.fromisoformat(trial.since)).total_seconds() < config.canary_hours * _HOUR:
        return None
    why = f"{live.decisions} decisions were compared, and no promise is proven broken"
    with locked(home / "clones"):
        file.end(moment(until), why)
    return f"v{version} acts in all trajectories from now on: {why}"
