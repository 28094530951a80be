"""Say what is known of how far a clone's word can be trusted: one record, as ``report.json`` and its page show it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from imitrace_trainer.drift.visited_states import StatesCompared
from imitrace_trainer.task_draws import Share


@dataclass(frozen=True)
class Bin:
    """Decisions of like confidence."""

    confidence: float
    """Their mean."""
    right: Share
    tasks: int


@dataclass(frozen=True)
class Reliability:
    """How confidence compares with being right."""

    bins: list[Bin]
    """Ten of equal size, by rising confidence."""
    error: Share
    """Expected calibration error (Guo et al. 2017) over these bins."""
    by_chance: float
    """What an honest confidence would show on as many independent decisions."""
    excess: Share
    """Mean confidence less the share that is right: above 0 it boasts, below it is modest."""


@dataclass(frozen=True)
class RiskPoint:
    """What a threshold would give."""

    confidence: float
    """The threshold."""
    coverage: float
    """Share of all decisions that the clone would take: calls at least so sure. Replies have another threshold."""
    risk: Share
    """Share of those that are not the expert's."""


@dataclass(frozen=True)
class Promise:
    """A threshold that the calibration tasks chose, and what it gives elsewhere."""

    error: float
    """Share of wrong decisions that was promised."""
    threshold: float | None
    """None: nothing could be promised."""
    coverage: Share
    risk: Share
    """Of what is covered."""


@dataclass(frozen=True)
class Slice:
    """How a clone does on a part of the decisions."""

    name: str
    tasks: int
    agreement: Share
    """The right tool, or both a message."""
    exact: Share
    """The right tool and arguments."""
    chosen_right: Share
    """Of the decisions in which the clone chose this tool, those in which the expert did; for cohorts the same as
    ``agreement``."""
    acted: Share
    """Share that the clone would take."""
    acted_right: Share
    """Of those, the share that is the expert's."""
    strange: Share
    """Share of states beyond the accepted distance."""


@dataclass(frozen=True)
class DistanceBin:
    """Decisions in states that are about as far from those of training."""

    least: float
    most: float
    """Relative distances: beyond 1 the expert acts."""
    agreement: Share
    """The right tool, or both a message."""
    exact: Share
    """The right tool and arguments."""
    tasks: int


@dataclass(frozen=True)
class LearningPoint:
    """What a clone reaches that learned from fewer tasks."""

    tasks: int
    decisions: int
    agreement: Share
    exact: Share
    gain: Share
    """Agreement less that of the point before, on the same decisions; of the first, less nothing."""


@dataclass(frozen=True)
class Ablated:
    """What a clone reaches that does without a group of features."""

    left_out: str
    agreement: Share
    worth: Share
    """By how much the whole clone agrees more often, on the same decisions."""


@dataclass(frozen=True)
class Refits:
    """What fitting again told."""

    learning: list[LearningPoint]
    ablation: list[Ablated]
    another_seed: Ablated
    """The whole clone with another seed: a group worth no more than this may be worth nothing."""
    seconds: float


@dataclass(frozen=True)
class CriticFigures:
    """How well a critic tells calls of successes from those of failures."""

    auroc: Share
    by_length: Share
    """The same by the number of steps so far: what any critic must beat."""
    refused: str | None
    """Why the critic is off; None: it is on."""

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "CriticFigures | None":
        """Return the figures of a critic as it is kept, ``refused`` and ``report``; None where it was not measured."""
        if "auroc" not in told["report"]:
            return None
        auroc, by_length = (
            Share(one["value"], one["low"], one["high"], int(one.get("decisions", 0)))
            for one in (told["report"]["auroc"], told["report"]["by_length"])
        )
        return cls(auroc, by_length, told["refused"])


@dataclass(frozen=True)
class Origin:
    """What was measured, and when."""

    clone: str
    version: int | None
    """None: it was measured before it got a number."""
    family: str
    dataset: str
    dataset_version: int
    dataset_hash: str
    trained_at: str
    measured_at: str


@dataclass(frozen=True, kw_only=True)
class Quality:
    """Every figure of a clone. Held out are the gate's tasks: nothing was fitted to them and nothing chosen by them."""

    origin: Origin
    tasks: int
    decisions: int
    trained_tasks: int
    calibration_tasks: int
    calibration_decisions: int
    agreement: Share
    exact: Share
    floor: Share
    """What the frequency table of the previous action reaches."""
    lead: Share
    """Agreement less the floor's."""
    reliability: Reliability
    on_calibration: Reliability
    """Of the calibration tasks, each by a calibration that was fitted to the others."""
    risk_coverage: list[RiskPoint]
    promised: float
    """The share of wrong decisions that the clone's own threshold promises."""
    proof: float
    """The confidence with which."""
    threshold: float | None
    """That threshold; None: never."""
    acted: Share
    """Share of the decisions that it would take."""
    acted_right: Share
    promises: list[Promise]
    tools: list[Slice]
    cohorts: list[Slice]
    distances: list[DistanceBin]
    """Five of equal size, the nearest to the training states first."""
    states: StatesCompared | None = None
    """Whether the held-out states can be told from those of training; None: nobody looked."""
    said: Share | None = None
    """Of ``acted``, the decisions in which it would reply; None: it never does."""
    said_right: Share | None = None
    """Of those, the share that is the expert's text."""
    critic: CriticFigures | None = None
    refits: Refits | None = None
    """None: nobody asked for them."""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)
