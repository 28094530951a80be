"""Decide whether a refresh is due: from its schedule, its past runs, what is new, and how long the champion may act."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from imitrace_trainer.refreshing.config import ScheduleConfig
from imitrace_trainer.refreshing.runs import TURNS, Run, Seen

_DAY = 86_400
_PROMPT = timedelta(minutes=5)
"""How late schedulers call at most, where nothing else is known."""


@dataclass(frozen=True)
class Memory:
    """What past runs say."""

    unfinished: Run | None = None
    """A run that was killed; whoever asks holds the lock, so nobody works on it."""
    last: Run | None = None
    """The newest that finished, if only to say that it was not due."""
    turn: Run | None = None
    """The newest that went the whole way."""

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Memory":
        """Return what runs say, given oldest first."""
        newest = runs[-1] if runs else None
        done = [run for run in runs if run.state == "finished"]
        turns = [run for run in done if run.outcome in TURNS]
        unfinished = newest if newest is not None and newest.state == "running" else None
        return cls(unfinished, done[-1] if done else None, turns[-1] if turns else None)


@dataclass(frozen=True)
class Due:
    """Whether a refresh is due, and why, or why not."""

    reasons: tuple[str, ...] = ()
    """None: it is not due."""
    lacks: tuple[str, ...] = ()
    """What was asked for and is not so."""

    @property
    def why(self) -> str:
        """Return it in one line."""
        return "; ".join(self.reasons) if self.reasons else f"not due: {'; '.join(self.lacks)}"


@dataclass(frozen=True)
class Standing:
    """How the champion stands."""

    until: datetime | None = None
    """When its evidence lapses; None: never."""
    lack: str | None = None
    """Why it may act nowhere, None when it may or there is none."""


def why_due(
    schedule: ScheduleConfig | None, memory: Memory, standing: Standing, now: datetime, *, drifted: bool | None
) -> Due | None:
    """Say whether a refresh is due without a look at the traces; None where that takes a look.

    Args:
        schedule: what its table says; None: it is always due.
        memory: what past runs say.
        standing: how the champion stands.
        now: the time.
        drifted: whether drift was found since the last turn; None: nobody looked for it.
    """
    reasons = [] if schedule is not None else ["no schedule says when, so it is due whenever it is called"]
    killed = memory.unfinished
    if killed is not None:
        reasons.append(f"run {killed.id} was killed at stage {killed.stage}: it is taken up again")
    if schedule is None:
        return Due(tuple(reasons))
    if memory.turn is None and killed is None:
        reasons.append("no refresh of it went the whole way yet")
    if drifted and schedule.drift:
        reasons.append("drift was found")
    if reasons:
        return Due(tuple(reasons))
    missed, following = _missed(schedule, memory, now)
    if schedule.cron and not missed:
        return Due(lacks=(f"not before {following}",))
    routine = _routine(schedule, memory, missed, now)
    if standing.lack is not None:
        routine.append(f"the champion may act nowhere: {standing.lack}")
    elif standing.until is not None and standing.until - now < timedelta(days=schedule.expires_days):
        routine.append(f"the champion's evidence lapses at {standing.until.isoformat(timespec='minutes')}")
    return Due(tuple(routine)) if routine else None


def why_due_by(seen: Seen, schedule: ScheduleConfig, memory: Memory, now: datetime) -> Due:
    """Say whether a refresh is due by what is in the traces now; ``why_due`` has found nothing else."""
    before = memory.turn.seen if memory.turn is not None else None
    before = before or Seen()
    reasons: list[str] = []
    lacks: list[str] = []
    if seen.tools != before.tools:
        reasons.append("the agent's tools changed")
    if seen.ledger != before.ledger:
        reasons.append("other things are decided about its tools")
    if schedule.new_rows:
        new = new_rows(seen, before)
        told = f"{new} new rows of {schedule.new_rows}"
        (reasons if new >= schedule.new_rows else lacks).append(told)
    if schedule.after_days and memory.turn is not None:
        lacks.append(f"the last turn ended {_days(memory.turn, now):.1f} days ago, of {schedule.after_days:g}")
    if not reasons and not lacks:
        lacks.append("nothing that was asked for came about")
    return Due(tuple(reasons), tuple(lacks))


def new_rows(seen: Seen, before: Seen) -> int:
    """Return how many decisions came since: also where others were deleted, and where those that came are older."""
    return max(seen.newer, seen.rows - before.rows, 0)


def _routine(schedule: ScheduleConfig, memory: Memory, missed: Sequence[datetime], now: datetime) -> list[str]:
    reasons = []
    if missed and not schedule.conditional:
        times = f", {len(missed)} times since the last run" if len(missed) > 1 else ""
        reasons.append(f"scheduled for {missed[-1].isoformat(timespec='minutes')}{times}")
    if not schedule.cron and not schedule.conditional:
        reasons.append("its schedule has neither cron, after_days nor new_rows, so it is due whenever it is called")
    if schedule.after_days and memory.turn is not None and _days(memory.turn, now) >= schedule.after_days:
        reasons.append(f"the last turn ended {_days(memory.turn, now):.1f} days ago")
    return reasons


def _missed(schedule: ScheduleConfig, memory: Memory, now: datetime) -> tuple[list[datetime], str]:
    """Return the times since the last run that finished, and the next one in words."""
    times, last = schedule.times, memory.last
    if times is None or last is None:
        return [], ""
    start = datetime.fromisoformat(last.started_at)
    if start > now:  # the clock was ahead then: nothing must wait until it is there again
        start = now - _PROMPT
    following = next(times.after(now)).isoformat(timespec="minutes")
    return times.between(start, now), f"{following} {schedule.time_zone}"


def _days(run: Run, now: datetime) -> float:
    ended = datetime.fromisoformat(run.ended_at or run.started_at)
    return (now - ended).total_seconds() / _DAY


def utc(seconds: float | None) -> datetime | None:
    """Return seconds since 1970 as a time, None for none."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
