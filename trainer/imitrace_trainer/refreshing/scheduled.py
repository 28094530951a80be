"""Run a refresh as a scheduler calls it: alone, only where it is due, within its limits, and on record."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from imitrace.exceptions import BudgetError, ImitraceError
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.progress import Progress
from imitrace_trainer.refresh import Course, Turn, gate_told, turn
from imitrace_trainer.refreshing.drift_in_turn import drift_in_turn
from imitrace_trainer.refreshing.due import Due, Memory, why_due_by
from imitrace_trainer.refreshing.judged import judged_before
from imitrace_trainer.refreshing.limits import Limits
from imitrace_trainer.refreshing.look import look
from imitrace_trainer.refreshing.run_desk import (
    Desk,
    champion_of,
    drift_found,
    early_due,
    machine_clock,
    open_desk,
    standing_of,
)
from imitrace_trainer.refreshing.run_lock import LockedError, held, holder, run_lock
from imitrace_trainer.refreshing.runs import Run, Runs, Seen
from imitrace_trainer.registry import Registry
from imitrace_trainer.source_copies import at_hand
from imitrace_trainer.sources import Source, open_source
from imitrace_trainer.tool_ledger import read_ledger


@dataclass(frozen=True)
class Asked:
    """What a call asks for."""

    home: Path
    clone: CloneConfig
    source: str | None = None
    """Where the traces are; None: what the schedule says, else the workspace's own."""
    force: bool = False
    """Whether it is due or not."""

    @property
    def where(self) -> str | None:
        """Return where the traces are."""
        schedule = self.clone.schedule
        return self.source or (schedule.source if schedule is not None else "") or None


def scheduled_refresh(
    asked: Asked, progress: Progress, say: Callable[[str], None], clock: Callable[[], datetime] | None = None
) -> Run:
    """Refresh a clone where that is due, and return the record of it.

    Args:
        asked: what the call asks for.
        progress: told how far each stage is.
        say: told what each stage did, a line or a few.
        clock: says the time; None: the machine's.

    Raises:
        LockedError: another refresh of the clone runs.
        ImitraceError: what went wrong; the record says it too. A limit is no error: the record says ``stopped``.
    """
    clock = clock or machine_clock
    runs = Runs(asked.home, asked.clone.name)
    Registry(asked.home).versions(asked.clone.name)  # refuses a name that is not allowed, before it names a folder
    with run_lock(runs.folder, asked.clone.name):
        memory = Memory.of(runs.all())
        desk = open_desk(asked.home, runs, memory, clock)
        try:
            _work(asked, memory, desk, progress, say)
        except BudgetError as error:
            desk.end("stopped", str(error))
        except ImitraceError as error:
            desk.end("error", str(error))
            raise
        except Exception as error:
            desk.end("error", f"{type(error).__name__}: {error}")
            raise
        runs.prune()
    return desk.run


def what_would_be_done(asked: Asked, progress: Progress) -> tuple[Due, list[str]]:
    """Return whether a refresh is due and what it would do, without a change to the workspace.

    Raises:
        LockedError: another refresh of the clone runs.
    """
    runs = Runs(asked.home, asked.clone.name)
    if held(runs.folder):
        raise LockedError(f"another refresh of {asked.clone.name} runs: {holder(runs.folder)}; wait for it, or end it")
    memory, now = Memory.of(runs.all()), machine_clock()
    due = _early(asked, memory, now)
    if due is None and asked.clone.schedule is not None:
        with (
            TemporaryDirectory() as aside,
            at_hand(open_source(asked.where, asked.home), Path(aside), progress) as opened,
        ):
            due = why_due_by(_seen(asked, opened, memory), asked.clone.schedule, memory, now)
    due = due or Due()
    return due, _plan(asked) if due.reasons else []


def _work(asked: Asked, memory: Memory, desk: Desk, progress: Progress, say: Callable[[str], None]) -> None:
    schedule, now = asked.clone.schedule, desk.clock()
    due = _early(asked, memory, now)
    if due is not None and not due.reasons:
        say(due.why)
        desk.end("not_due", due.why)
        return
    with at_hand(open_source(asked.where, asked.home), asked.home, progress) as opened:
        limits = Limits.of(schedule)
        seen = _seen(asked, opened, memory)
        drift = drift_in_turn(asked.home, asked.clone, opened.frames(), limits.watching(progress))
        desk.run = replace(desk.run, seen=seen, drift=drift)
        if drift is not None:
            say(f"drift: {'; '.join([drift['verdict'], *drift['why']])}")
        if due is None and schedule is not None:
            due = why_due_by(seen, schedule, memory, now)
            due = Due((*due.reasons, *_found(asked, memory, drift)), due.lacks)
        if due is not None and not due.reasons:
            say(due.why)
            desk.end("not_due", due.why)
            return
        reasons = due.reasons if due is not None else ()
        if schedule is not None:
            say("; ".join(reasons))
        desk.run = replace(desk.run, due=reasons)
        since = desk.run.started_at if memory.unfinished is not None else None
        judged = {} if asked.force else judged_before(desk.runs.all())
        course = Course(progress, say, desk.mark, limits, _renews(asked, now), judged, asked.force, since)
        done = turn(asked.home, asked.clone, opened, course)
    outcome, reason = _outcome(asked, done, desk.run)
    say(reason)
    desk.end(outcome, reason, **_known(asked, done, desk.run))


def _outcome(asked: Asked, done: Turn, run: Run) -> tuple[str, str]:
    """Return what a run came to, of which the last attempt may have found the champion promoted already."""
    champion = champion_of(asked.home, asked.clone.name)
    if done.outcome == "unchanged" and champion != run.champion.get("before"):
        return "promoted", f"v{champion} was promoted before the run was killed"
    return done.outcome, done.reason


def _known(asked: Asked, done: Turn, run: Run) -> dict[str, Any]:
    """Return what a turn leaves for its record."""
    dataset = done.dataset
    return {
        "dataset": dataset and {"name": dataset.name, "version": dataset.version, "hash": dataset.hash},
        "version": run.version if done.gate is None else done.gate.version,
        "gate": run.gate if done.gate is None else {**gate_told(done.gate), "terms": done.terms},
        "champion": {**run.champion, "after": champion_of(asked.home, asked.clone.name)},
    }


def _early(asked: Asked, memory: Memory, now: datetime) -> Due | None:
    """Return whether it is due as far as that can be said without a look at the traces."""
    if asked.force:
        return Due(("it was forced",))
    return early_due(asked.home, asked.clone.name, asked.clone.schedule, memory, now)


def _seen(asked: Asked, opened: Source, memory: Memory) -> Seen:
    rules = read_ledger(asked.home).rules(asked.clone.cohort.agent)
    return look(opened.frames(), asked.clone.cohort, rules, memory.turn.seen if memory.turn is not None else None)


def _found(asked: Asked, memory: Memory, drift: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield what the run's own look makes it due by."""
    if drift_found(asked.home, asked.clone.name, memory):
        yield "drift was found"
    for alarm in (drift or {}).get("alarms", ()):
        yield f"v{alarm['version']} broke its promise in cohort {alarm['cohort']!r}"


def _renews(asked: Asked, now: datetime) -> bool:
    """Tell whether the champion is to be gated again though there is nothing new to learn."""
    schedule, standing = asked.clone.schedule, standing_of(asked.home, asked.clone.name)
    if schedule is None:
        return False
    soon = standing.until is not None and (standing.until - now).total_seconds() < 86_400 * schedule.expires_days
    return soon or standing.lack is not None


def _plan(asked: Asked) -> list[str]:
    clone, schedule, number = asked.clone, asked.clone.schedule, champion_of(asked.home, asked.clone.name)
    against = f"the expert and champion v{number}" if number is not None else "the expert"
    looks = [] if schedule is None or not schedule.drift or number is None else [f"look for drift of v{number}"]
    plan = [
        *looks,
        f"curate cohort {clone.cohort.name} from {open_source(asked.where, asked.home).describe()}",
        f"train {clone.name} where the dataset is another than the champion's",
        f"gate it against {against}",
        "promote it where it passed, acts in no fewer cohorts and is not proven worse than the champion",
    ]
    limits = [] if schedule is None else _limits(schedule.most_minutes, schedule.most_rows, schedule.expert_calls)
    return plan + ([f"within {', '.join(limits)}"] if limits else [])


def _limits(minutes: float, rows: int, calls: int) -> Sequence[str]:
    told = ((minutes, f"{minutes:g} minutes"), (rows, f"{rows} rows"), (calls, f"{calls} calls of the expert"))
    return [text for limit, text in told if limit]
