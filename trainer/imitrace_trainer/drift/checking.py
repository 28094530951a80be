"""Make all comparisons of a champion's training with recent traffic, before any verdict."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.datasets import Dataset
from imitrace_trainer.disagreement import estimate, handed_over
from imitrace_trainer.drift.asking import Asked, ask
from imitrace_trainer.drift.comparisons import compare
from imitrace_trainer.drift.config import DriftConfig
from imitrace_trainer.drift.findings import Disagreeing, Tested
from imitrace_trainer.drift.tool_sets import ToolShift, tool_shifts
from imitrace_trainer.drift.traffic import Traffic, recent_traffic, training_traffic
from imitrace_trainer.family import Clone
from imitrace_trainer.frames import gather
from imitrace_trainer.progress import Progress
from imitrace_trainer.survey import Frames
from imitrace_trainer.task_draws import Share, TaskDraws
from imitrace_trainer.thresholds import Thresholds
from imitrace_trainer.tool_ledger import ToolRules


@dataclass(frozen=True, kw_only=True)
class Champion:
    """Whose traffic is looked at."""

    name: str
    version: int
    clone: Clone
    thresholds: Thresholds
    rules: ToolRules
    dataset: Dataset
    fitted: Collection[str]
    """The splits that its weights were fitted to."""
    cohort: CohortConfig


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was compared."""

    counts: dict[str, int]
    """Trajectories: of ``training``, of these ``unseen`` by the fit, and ``recent``."""
    ended: Sequence[int] = ()
    """When each recent trajectory ended, in nanoseconds since 1970."""
    cohorts: Sequence[str] = ()
    """Of the recent trajectories."""
    notes: Sequence[str] = ()
    tests: Sequence[Tested] = ()
    tools: Sequence[ToolShift] = ()
    disagreeing: Disagreeing | None = None


def look_for_drift(  # noqa: PLR0913 - what is compared, how, and where not at all
    champion: Champion,
    frames: Frames,
    span: tuple[int, int],
    config: DriftConfig,
    progress: Progress,
    seen: int | None = None,
) -> Found:
    """Return every comparison; only counts where there is too little recent traffic.

    Args:
        champion: whose traffic.
        frames: the tables of a source by name.
        span: nanoseconds since 1970; what ended after the first and not after the second is recent.
        config: how to look.
        progress: is told how far it is.
        seen: nothing is compared where too few trajectories ended after this; None: it is in any case.

    Raises:
        DatasetError: a table can't be read.
    """
    training = training_traffic(champion.dataset, champion.fitted)
    tables = {name: champion.dataset.frame(name).select("trajectory_id") for name in ("trajectories", "rejected")}
    known = {one for table in gather(tables).values() for one in table["trajectory_id"]}
    recent = recent_traffic(frames, champion.cohort, champion.rules, span, known, progress)
    unseen = training.only(training.trajectories.filter("unseen")["trajectory_id"].to_list())
    counts = {"training": len(training.trajectories), "unseen": len(unseen.trajectories)}
    counts["recent"] = len(recent.trajectories)
    told = Found(
        counts=counts,
        ended=recent.trajectories["ended_at"].to_list(),
        cohorts=sorted(set(recent.trajectories["cohort"])),
        notes=[*_notes(recent, champion, counts, config)],
    )
    few = seen is not None and newest(told.ended, seen) < config.trajectories
    if few or counts["recent"] < config.trajectories:
        return told
    asked = _both_asked(champion.clone, (unseen, recent), config, progress)
    drawn = [side.drawn(config.compared, config.seed) for side in (training, recent)]
    return replace(
        told,
        tests=compare((drawn[0], drawn[1]), unselected(asked, champion.thresholds), config),
        tools=tool_changes(training, recent, champion.rules),
        disagreeing=_disagreeing(champion, frames, asked, span[0]),
    )


def _both_asked(
    clone: Clone, sides: tuple[Traffic, Traffic], config: DriftConfig, progress: Progress
) -> tuple[Asked, Asked]:
    def half(done: float) -> Progress:
        return lambda stage, share: progress(stage, done + share / 2)

    before, now = (side.drawn(config.asked, config.seed) for side in sides)
    first = ask(clone, before, config.decisions, config.seed, half(0.0))
    return first, ask(clone, now, config.decisions, config.seed, half(0.5))


def tool_changes(training: Traffic, recent: Traffic, rules: ToolRules) -> list[ToolShift]:
    """Return what became of tools; what was decided in the ledger breaks nothing."""
    (old, first), (new, second) = training.offered(), recent.offered()
    definitions = {schema: json.loads(text) for schema, text in (first | second).items()}
    decided = rules.retired | set(rules.maps)
    shifts = tool_shifts(old, new, definitions) if old.trajectories and new.trajectories else []
    called = _callers(training)
    return [
        replace(one, breaking=one.breaking and one.tool not in decided, cohorts=called.get(one.tool, ()))
        for one in shifts
    ]


def _callers(training: Traffic) -> dict[str, tuple[str, ...]]:
    """Return by tool the cohorts whose trajectories called it."""
    cohorts = training.trajectories.select("trajectory_id", "cohort")
    called = training.steps.join(cohorts, on="trajectory_id").group_by("kind").agg(pl.col("cohort").unique().sort())
    return {tool: tuple(some) for tool, some in called.iter_rows()}


def _disagreeing(champion: Champion, frames: Frames, asked: tuple[Asked, Asked], since: int) -> Disagreeing:
    version = f"v{champion.version}"
    (training, before), (recent, now) = (_shares(one, champion.thresholds) for one in asked)
    return Disagreeing(
        audit=estimate(frames, champion.name, since, version),
        handovers=handed_over(frames, champion.name, since, version),
        asked=recent,
        training=training,
        estimated=now,
        estimated_before=before,
    )


def _shares(asked: Asked, thresholds: Thresholds) -> tuple[Share, Share]:
    """Return how often an expert did otherwise, and the agreement that is estimated where the clone would act.

    The estimate is the mean of calibrated confidences, as NannyML's CBPE has it: right as long as they stay calibrated.
    """
    draws, acts = TaskDraws(asked.trajectories), _acts(asked, thresholds)
    known = ~np.isnan(asked.agrees)
    rate = draws.share(np.where(known, 1 - asked.agrees, 0.0).astype(np.float64), known)
    return rate, draws.share(asked.confidence.astype(np.float64), acts)


def unselected(asked: tuple[Asked, Asked], thresholds: Thresholds) -> tuple[Asked, Asked]:
    """Return the same with the expert's word only where it is not there by the clone's choice.

    Beside a clone in service an expert acts where the clone stands back, which are the decisions it errs in most. So on
    both sides only those are compared in which it would stand back: there the expert acted in all.
    """
    if not np.isnan(asked[1].agrees).any():
        return asked
    before, now = (
        replace(one, agrees=np.where(_acts(one, thresholds), np.nan, one.agrees).astype(np.float64)) for one in asked
    )
    return before, now


def _acts(asked: Asked, thresholds: Thresholds) -> npt.NDArray[np.bool_]:
    """Tell in which decisions the clone would act."""
    limits = [thresholds.of(tool, cohort) for tool, cohort in zip(asked.tools, asked.cohorts, strict=True)]
    return np.asarray((asked.confidence >= np.array(limits)) & (asked.distance <= 1), dtype=np.bool_)


def _notes(recent: Traffic, champion: Champion, counts: dict[str, int], config: DriftConfig) -> Iterator[str]:
    if recent.unscored:
        yield f"{recent.unscored} recent trajectories lack a score that training's were chosen by; run 'imitrace score'"
    if counts["unseen"] < config.trajectories:
        more = ", or train with refit = false" if "calibration" in champion.fitted else " or split.calibration"
        yield (
            f"{counts['unseen']} trajectories of training were kept from the fit, needed to compare states: "
            f"{config.trajectories}; raise split.gate{more}"
        )


def newest(ended: Sequence[int], after: int) -> int:
    """Return how many trajectories ended after a time."""
    return int((pl.Series(ended, dtype=pl.Int64) > after).sum())
