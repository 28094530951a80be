"""Find what stands against the clones of a workspace now, from what it has on record."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imitrace.exceptions import CloneError, ConfigError
from imitrace_trainer.drift.sequential import WatchFile
from imitrace_trainer.live_file import LiveFile
from imitrace_trainer.refreshing.run_desk import champion_of, standing_of
from imitrace_trainer.refreshing.runs import Run, Runs, names
from imitrace_trainer.registry import Registry
from imitrace_trainer.step_backs import StepBacks

DRIFT: Final = "imitrace.drift"
GATE_FAILED: Final = "imitrace.gate.failed"
LAPSED: Final = "imitrace.evidence.lapsed"
STEPPED_BACK: Final = "imitrace.stepped_back"
REFRESH_FAILED: Final = "imitrace.refresh.failed"
_GATED: Final = ("promoted", "renewed", "held", "failed_gate", "inconclusive")
_FAILED: Final = ("failed_gate", "inconclusive")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Something that stands."""

    name: str
    """One of the constants above."""
    clone: str
    about: str = ""
    """What of it, where there may be several: a cohort."""
    why: str

    @property
    def key(self) -> str:
        """Return what tells it from others; a condition that goes on keeps it."""
        return "/".join(filter(None, (self.name, self.clone, self.about)))


def standing(home: Path) -> tuple[list[Condition], list[str]]:
    """Return what stands, and what could not be read."""
    found: list[Condition] = []
    broken: list[str] = []
    for clone in sorted({*Registry(home).names(), *names(home)}):
        for look in (_drift, _stepped_back, _lapsed, _runs):
            try:
                found += look(home, clone)
            except (CloneError, ConfigError) as error:
                broken.append(str(error))
    return found, broken


def _drift(home: Path, clone: str) -> Iterator[Condition]:
    watch = WatchFile(home, clone).read()
    if watch.last and watch.champion == champion_of(home, clone) and watch.last[-1].verdict == "drift":
        yield Condition(name=DRIFT, clone=clone, why="; ".join(watch.last[-1].why))


def _stepped_back(home: Path, clone: str) -> Iterator[Condition]:
    number = champion_of(home, clone)
    if number is None:
        return
    reasons = StepBacks(home, clone).of(number).reasons()
    for alarm in LiveFile(home, clone).read().alarms:
        if alarm.version > number:  # it was taken back, and no newer one is champion yet
            reasons[alarm.cohort] = f"v{alarm.version} broke its promise, {alarm.did}: {alarm.why}"
    for cohort, why in reasons.items():
        yield Condition(name=STEPPED_BACK, clone=clone, about=cohort, why=why)


def _lapsed(home: Path, clone: str) -> Iterator[Condition]:
    lack = standing_of(home, clone).lack
    if lack is not None:
        yield Condition(name=LAPSED, clone=clone, why=lack)


def _runs(home: Path, clone: str) -> Iterator[Condition]:
    runs = Runs(home, clone).all()
    gated = _newest(runs, lambda run: run.outcome in _GATED)
    if gated is not None and gated.outcome in _FAILED:
        yield Condition(name=GATE_FAILED, clone=clone, why=f"v{gated.version}: {gated.outcome}: {gated.why}")
    worked = _newest(runs, lambda run: run.state != "running" and run.outcome != "not_due")
    if worked is not None and worked.state == "failed":
        yield Condition(name=REFRESH_FAILED, clone=clone, why=f"{worked.outcome}: {worked.why}")


def _newest(runs: list[Run], which: Callable[[Run], bool]) -> Run | None:
    return next((run for run in reversed(runs) if which(run)), None)
