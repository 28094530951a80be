"""Write down how far a run is and how it ended; send a call away that comes when nothing is due."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from imitrace.exceptions import CloneError
from imitrace_trainer.drift.sequential import WatchFile
from imitrace_trainer.refreshing.config import ScheduleConfig
from imitrace_trainer.refreshing.due import Due, Memory, Standing, utc, why_due
from imitrace_trainer.refreshing.run_lock import run_lock
from imitrace_trainer.refreshing.runs import Run, Runs, moment
from imitrace_trainer.registry import Registry

EXITS: Final = {
    "promoted": 0,
    "renewed": 0,
    "unchanged": 0,
    "not_due": 0,
    "failed_gate": 1,
    "undecided": 1,
    "error": 2,
    "inconclusive": 3,
    "stopped": 5,
    "held": 6,
}
"""By outcome; 4 is another run's lock, which leaves no record."""
LOCKED: Final = 4


@dataclass
class Desk:
    """Writes down how far a run is."""

    runs: Runs
    run: Run
    clock: Callable[[], datetime]
    began: float = field(default_factory=time.monotonic)

    def mark(self, stage: str, **known: Any) -> None:  # fields of a run
        """Note that a stage begins, and what is known by then."""
        self.run = replace(self._left(), stage=stage, **known)
        self.runs.write(self.run)

    def end(self, outcome: str, why: str, **known: Any) -> None:  # fields of a run
        """Note how it ended."""
        state = "failed" if outcome in ("error", "stopped") else "finished"
        now, code = moment(self.clock()), EXITS[outcome]
        self.run = replace(self._left(), state=state, outcome=outcome, why=why, ended_at=now, exit_code=code, **known)
        self.runs.write(self.run)

    def _left(self) -> Run:
        seconds, self.began = time.monotonic() - self.began, time.monotonic()
        done = {"stage": self.run.stage, "ended_at": moment(self.clock()), "seconds": round(seconds, 3)}
        return replace(self.run, stages=(*self.run.stages, done))


def machine_clock() -> datetime:
    """Return the time of this machine."""
    return datetime.now(UTC)


def open_desk(home: Path, runs: Runs, memory: Memory, clock: Callable[[], datetime]) -> Desk:
    """Begin a run, or take up the one that was killed, on record; whoever calls holds the lock."""
    run = runs.begin(memory.unfinished, clock())
    known = run.champion or {"before": champion_of(home, run.clone)}
    desk = Desk(runs, replace(run, champion=known), clock)
    runs.write(desk.run)
    return desk


def dismissed(
    home: Path, name: str, schedule: ScheduleConfig | None, clock: Callable[[], datetime] = machine_clock
) -> Run | None:
    """Return the record of a call that comes when nothing is due, None where that takes a look or something is.

    It loads nothing that a clone needs, so that schedulers may call often.

    Raises:
        LockedError: another refresh of the clone runs.
    """
    if schedule is None:
        return None
    runs = Runs(home, name)
    Registry(home).versions(name)  # refuses a name that is not allowed, before it names a folder
    with run_lock(runs.folder, name):
        memory = Memory.of(runs.all())
        due = early_due(home, name, schedule, memory, clock())
        if due is None or due.reasons:
            return None
        desk = open_desk(home, runs, memory, clock)
        desk.end("not_due", due.why)
        runs.prune()
    return desk.run


def early_due(home: Path, name: str, schedule: ScheduleConfig | None, memory: Memory, now: datetime) -> Due | None:
    """Return whether a clone is due as far as that can be said without a look at the traces."""
    return why_due(schedule, memory, standing_of(home, name), now, drifted=drift_found(home, name, memory))


def drift_found(home: Path, name: str, memory: Memory) -> bool | None:
    """Return whether drift of a champion was found that no turn has answered; None: nobody looked for it.

    A turn answers what was found before it began, and what it found itself.
    """
    try:
        watch, number = WatchFile(home, name).read(), champion_of(home, name)
    except CloneError:  # who looks for drift says so
        return None
    if not watch.last or watch.champion != number:
        return None
    newest, turn = watch.last[-1], memory.turn
    own = (turn.drift or {}) if turn is not None else {}
    if turn is not None and own.get("look") == [number, newest.number]:
        return False
    began = None if turn is None else datetime.fromisoformat(turn.started_at).replace(microsecond=0)  # as looks have it
    earlier = began is not None and datetime.fromisoformat(newest.at) < began
    return newest.verdict == "drift" and not earlier


def champion_of(home: Path, name: str) -> int | None:
    """Return which version is champion."""
    return Registry(home).aliases(name).get("champion")


def standing_of(home: Path, name: str) -> Standing:
    """Return how the champion stands."""
    registry, number = Registry(home), champion_of(home, name)
    if number is None:
        return Standing()
    try:
        evidence = registry.evidence(registry.resolve(f"{name}:{number}")).at(time.time())
    except CloneError as error:
        return Standing(lack=str(error))
    return Standing(utc(evidence.until), evidence.lack)
