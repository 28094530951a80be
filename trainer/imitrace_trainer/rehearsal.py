"""Rehearse what a clone goes through: draw tasks, choose the threshold on some, count what it covers on others.

Tasks are drawn, never steps, and each draw is a split as a cohort's own: so the spread over the draws holds both how
few tasks the threshold is proven on and how few it is then judged by.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from imitrace_trainer.cohort import SplitConfig
from imitrace_trainer.encoding import IntArray
from imitrace_trainer.thresholds import NEVER, choose_threshold

_DRAWS: Final = 300
_TRIALS: Final = 40
_SURE: Final = 0.8
_FACTORS: Final = (1.25, 1.5, 2, 3, 4, 6, 8, 12, 16)
_QUANTILES: Final = (0.025, 0.5, 0.975)

BoolArray = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a model that never saw a decision's task makes of it; arrays of shape (n,)."""

    tasks: Sequence[str]
    call: BoolArray
    """Whether it would call a tool: text is the expert's to write."""
    again: BoolArray
    """Whether the call was made before, which is left to the expert."""
    right: BoolArray
    """Whether it is the expert's action, arguments included."""
    confidence: Numbers

    def only(self, rows: Sequence[int]) -> "Judged":
        """Return some of the decisions."""
        return Judged(
            tasks=[self.tasks[row] for row in rows],
            call=self.call[rows],
            again=self.again[rows],
            right=self.right[rows],
            confidence=self.confidence[rows],
        )


@dataclass(frozen=True)
class Predicted:
    """A share, the median over the draws, with the interval that 95 % of them lie in."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Draws:
    """What came of each draw."""

    thresholds: Numbers
    """Shape (draws,)."""
    held_out: BoolArray
    """Which decisions were judged, shape (draws, n)."""
    acted: BoolArray
    """On which of them a clone would have acted, shape (draws, n)."""

    @property
    def decided(self) -> float:
        """Share of the draws in which a threshold could be proven."""
        return float((self.thresholds < NEVER).mean())

    @property
    def mostly(self) -> BoolArray:
        """Which decisions are acted on in most draws that judge them, shape (n,)."""
        return np.asarray(2 * self.acted.sum(axis=0) > self.held_out.sum(axis=0))

    def coverage(self, rows: BoolArray) -> Predicted:
        """Return of some decisions the share acted on."""
        return _predicted(self.acted[:, rows].sum(axis=1), self.held_out[:, rows].sum(axis=1))

    def agreement(self, right: BoolArray) -> Predicted:
        """Return of those acted on the share that is right."""
        return _predicted(self.acted[:, right].sum(axis=1), self.acted.sum(axis=1))


def rehearse(judged: Judged, error: float, confidence: float, split: SplitConfig) -> Draws:
    """Draw splits and play them.

    Args:
        judged: the decisions.
        error: share of the clone's decisions that may differ from the expert's.
        confidence: of the proof.
        split: shares of the tasks that calibrate and judge, and the seed.
    """
    names, task = np.unique(np.array(judged.tasks), return_inverse=True)
    rows = [np.flatnonzero(task == number) for number in range(len(names))]
    calibrate, judge = (max(1, round(share * len(names))) for share in (split.calibration, split.gate))
    draw, able = np.random.default_rng(split.seed), judged.call & ~judged.again
    thresholds = np.zeros(_DRAWS)
    held_out, acted = (np.zeros((_DRAWS, len(task)), dtype=np.bool_) for _ in range(2))
    for number in range(_DRAWS):
        part = np.empty(len(names), dtype=np.int64)  # of each task: its place in the draw
        part[draw.permutation(len(names))] = np.arange(len(names))
        place = part[task]
        chosen = [rows[one] for one in np.flatnonzero(part < calibrate)]
        thresholds[number] = _threshold(judged, chosen, error, confidence)
        held_out[number] = (place >= calibrate) & (place < calibrate + judge)
        acted[number] = held_out[number] & able & (judged.confidence >= thresholds[number])
    return Draws(thresholds, held_out, acted)


def _predicted(part: IntArray, whole: IntArray) -> Predicted:
    """Return the median over the draws that have any, and between what 95 % of them lie; 0 to 1 where none has."""
    shares = part[whole > 0] / whole[whole > 0]
    if not len(shares):
        return Predicted(0.0, 0.0, 1.0)
    low, middle, high = np.quantile(shares, _QUANTILES)
    return Predicted(float(middle), float(low), float(high))


def tasks_needed(judged: Judged, error: float, confidence: float, split: SplitConfig) -> int | None:
    """Return with how many tasks like these a threshold is proven in four of five draws.

    Tasks to calibrate on are drawn with replacement, more and more of them. None: not with sixteen times as many
    either; then the model errs too often, and more of the same won't help unless it learns from them.
    """
    names, task = np.unique(np.array(judged.tasks), return_inverse=True)
    rows = [np.flatnonzero(task == number) for number in range(len(names))]
    draw = np.random.default_rng(split.seed)
    for factor in (1.0, *_FACTORS):
        count = max(1, round(split.calibration * len(names) * factor))
        drawn = ([rows[one] for one in draw.integers(0, len(names), count)] for _ in range(_TRIALS))
        proven = sum(_threshold(judged, some, error, confidence) < NEVER for some in drawn)
        if proven >= _SURE * _TRIALS:
            return round(len(names) * factor)
    return None


def _threshold(judged: Judged, tasks: Sequence[IntArray], error: float, confidence: float) -> float:
    """Return the threshold on some tasks, each the rows of its decisions; one that was drawn twice counts as two."""
    rows = np.concatenate(tasks) if tasks else np.zeros(0, dtype=np.int64)
    names = np.repeat(np.arange(len(tasks)), [len(own) for own in tasks])
    calls = judged.call[rows]
    rows, names = rows[calls], names[calls]
    confidences, right = judged.confidence[rows].tolist(), judged.right[rows].tolist()
    return choose_threshold(confidences, right, error, confidence, names.tolist())
