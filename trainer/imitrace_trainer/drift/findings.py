"""Hold what a check for drift found, and say it as JSON and as text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from imitrace_trainer.disagreement import Disagreement, HandedOver
from imitrace_trainer.drift.tool_sets import ToolShift
from imitrace_trainer.live_file import Alarm
from imitrace_trainer.task_draws import Share

Verdict = Literal["none", "drift", "insufficient"]

DETECTOR: Final = "distribution-shift-detector"
DISAGREEMENT: Final = "clone-vs-expert-action-disagreement-rate"
ALL: Final = "all"
"""The group of all trajectories."""
NEEDED: Final = ("states: kernel", "states: features", "states: classifier", "tools", "steps")
"""Tests over all trajectories without which nothing is said to be without drift."""


@dataclass(frozen=True, kw_only=True)
class Tested:
    """One comparison of training and recent traffic."""

    name: str
    group: str
    """A cohort, or ``all``."""
    measure: str
    """What the effect is: ``AUROC``, ``Cramer's V``."""
    relevant: float
    """From which size on the effect matters."""
    trajectories: tuple[int, int]
    """Of training and of recent traffic."""
    effect: float | None = None
    """None: it could not be made."""
    p: float | None = None
    before: float | None = None
    now: float | None = None
    corrected: float | None = None
    """The p value corrected for all tests of the check; None: this one has no part in the verdict."""
    lack: str | None = None
    """Why it could not be made."""

    def drifts(self, level: float) -> bool:
        """Tell whether the difference is more than chance, and large enough to matter."""
        return self.corrected is not None and self.corrected <= level and abs(self.effect or 0.0) >= self.relevant

    def told(self) -> str:
        """Return this in words."""
        if self.effect is None:
            return f"{self.name}: {self.lack}"
        moved = "" if self.before is None else f", {self.before:.3g} in training, {self.now:.3g} now"
        size = f"{self.measure} {self.effect:.3f} (matters from {self.relevant:g})"
        return f"{self.name}: {size}, p {chance_told(self.corrected)}{moved}"


@dataclass(frozen=True, kw_only=True)
class Disagreeing:
    """How often the expert does otherwise than the clone would, by who was looked at."""

    audit: Disagreement
    """Where the clone was trusted and the draw gave the decision to the expert."""
    handovers: HandedOver
    """Where the clone was in doubt after having acted."""
    asked: Share
    """Where an expert acted in recent traffic, whether trusted or not: of the decisions that were looked at."""
    training: Share
    """The same in trajectories of training that the clone was not fitted to."""
    estimated: Share
    """Where it would act now: the agreement that its confidence promises, with no label."""
    estimated_before: Share
    """The same in training."""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return {name: value.to_json() if name == "audit" else asdict(value) for name, value in vars(self).items()}


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """What a check says."""

    clone: str
    version: int
    at: str
    """ISO 8601."""
    verdict: Verdict
    why: tuple[str, ...]
    since: str
    """When the window begins."""
    look: int
    """How many looks this champion had, this one included if it was one."""
    level: float
    """How likely a false alarm may be at this look."""
    alpha: float
    new: bool
    """Whether this was a look; else too little is new, and the last look's verdict stands."""
    counts: Mapping[str, int]
    """Trajectories: of ``training``, of these ``unseen`` by the fit, ``recent``, of these ``fresh`` since the last
    look."""
    tests: Sequence[Tested] = ()
    tools: Sequence[ToolShift] = ()
    broken: Sequence[ToolShift] = ()
    """Those of the tools whose change is drift."""
    slices: Sequence[str] = ()
    """The cohorts of recent traffic."""
    disagreeing: Disagreeing | None = None
    alarms: Sequence[Alarm] = ()
    """Promises that experts proved broken since the last look."""
    notes: Sequence[str] = ()
    looks: Sequence[Mapping[str, Any]] = field(default=())
    """The last looks, this one included."""

    def cohorts(self) -> dict[str, Verdict]:
        """Return what is to be said of each cohort with recent traffic."""
        found: dict[str, Verdict] = {}
        for group in sorted({test.group for test in self.tests} - {ALL}):
            own = [test for test in self.tests if test.group == group]
            made = any(test.effect is not None for test in own)
            shifted = any(test.drifts(self.level) for test in own)
            found[group] = "drift" if shifted else "none" if made else "insufficient"
        return found

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        tests = [{**asdict(test), "drift": test.drifts(self.level)} for test in self.tests]
        detector = {
            "verdict": self.verdict,
            "level": self.level,
            "cohorts": self.cohorts(),
            "tests": tests,
            "tools": [shift.to_json() for shift in self.tools],
        }
        names = ("clone", "version", "at", "verdict", "since", "look", "alpha", "new")
        return {
            **{name: getattr(self, name) for name in names},
            "why": [*self.why],
            "trajectories": dict(self.counts),
            DETECTOR: detector,
            DISAGREEMENT: None if self.disagreeing is None else self.disagreeing.to_json(),
            "alarms": [asdict(alarm) for alarm in self.alarms],
            "looks": [*self.looks],
            "notes": [*self.notes],
        }

    def render(self) -> str:
        """Return this as text."""
        counts = self.counts
        shown = f"{counts['recent']} trajectories since {self.since}, {counts['training']} of training"
        looked = f"look {self.look}" if self.new else f"no new look, the last was {self.look}"
        lines = [f"{self.clone} v{self.version}: {_WORDS[self.verdict]} ({shown}; {looked}, level {self.level:.2g})"]
        lines += [f"  {line}" for line in self.why]
        lines.append(f"{DETECTOR}:")
        for group in [ALL, *self.cohorts()]:
            own = [test for test in self.tests if test.group == group and (test.effect is not None or group == ALL)]
            lines += [f"  {'!' if test.drifts(self.level) else ' '} {group}, {test.told()}" for test in own]
            if group != ALL and not own:
                lines.append(f"    {group}: insufficient")
        lines += [
            f"  {'!' if shift.breaking else ' '} tool {shift.tool} {shift.kind}: {shift.text}" for shift in self.tools
        ]
        if self.disagreeing is not None:
            lines += [f"{DISAGREEMENT}:", *_told_disagreeing(self.disagreeing)]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


_WORDS: Final[dict[Verdict, str]] = {"none": "no drift", "drift": "DRIFT", "insufficient": "insufficient"}


def _told_disagreeing(found: Disagreeing) -> list[str]:
    audited = f"{found.audit.rate}" if found.audit.audited else "none yet"
    handed = f"{found.handovers.rate}" if found.handovers.rate.decisions else "none"
    return [
        f"    audited decisions of the trusted: {audited}",
        f"    handed over in doubt: {handed}",
        f"    where an expert acted: {found.asked}; in training: {found.training}",
        f"    agreement that its confidence promises where it would act: {_promised(found.estimated)}; "
        f"in training: {_promised(found.estimated_before)}",
    ]


def _promised(share: Share) -> str:
    return f"{share}" if share.decisions else "it would act nowhere"


def chance_told(p: float | None) -> str:
    """Return a p value in a few characters."""
    return "-" if p is None else f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
