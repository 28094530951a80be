"""Score the trajectories of a source: a few at a time, each score once, and none over what others gave."""

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Final

import polars as pl

from imitrace.canonical import canonical_json
from imitrace.exceptions import DatasetError
from imitrace_trainer.episodes import Episode, Tables
from imitrace_trainer.evaluators.agreement import Agreement, agreement
from imitrace_trainer.evaluators.futureagi import EVALUATOR as FUTUREAGI
from imitrace_trainer.evaluators.judge import Judge
from imitrace_trainer.evaluators.result import Evaluator, Result, Task, check_score
from imitrace_trainer.evaluators.selection import Reference
from imitrace_trainer.evaluators.wordings import FLAGGED
from imitrace_trainer.frames import gather
from imitrace_trainer.sources import Source

OURS: Final = "imitrace"
"""Who scored, for scores that are computed here."""
JUDGE: Final = "judge:"
"""How a judge's evaluator begins; its model's name follows."""
_AT_ONCE = (500, 8_000)
_PASSES = 16
_FLAGS = ("Toxicity", "PromptInjection")
_NOT_COMPARED = (*_FLAGS, "StepCount")
_PER_STEP = ("ToolSelectionAccuracy", *_FLAGS)

Row = dict[str, Any]
"""A row of ``schema.SCORES``."""
Frames = Mapping[str, pl.LazyFrame]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Whose trajectories are scored, by what."""

    evaluators: Sequence[Evaluator]
    agent: str | None = None
    """None: every agent's."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags that the trajectory must have."""
    step_scores: Sequence[str] = ()
    """Names of steps' scores from outside that count."""
    labels: str | None = None
    """Name of the score from outside with which all are compared."""
    threshold: float = 0.8
    """From which on a value is good, in that comparison."""
    now: Callable[[], int] = time.time_ns
    """Nanoseconds since 1970."""


@dataclass
class Tally:
    """What became of one evaluator's scores of whole trajectories."""

    new: int = 0
    stored: int = 0
    """The same score is there already."""
    given: int = 0
    """Somebody else gave a score of this name, and it stays."""
    none: Counter[str] = field(default_factory=Counter)
    """No score, by reason."""
    values: list[float] = field(default_factory=list)
    labels: list[tuple[float, float, str]] = field(default_factory=list)
    """Score, label and task, where there is a label."""

    def to_json(self) -> dict[str, Any]:
        """Return the counts as a JSON object."""
        return {
            "new": self.new,
            "stored": self.stored,
            "given": self.given,
            "none": dict(self.none.most_common(5)),
            "mean": fmean(self.values) if self.values else None,
        }


@dataclass
class Scored:
    """What scoring found; complete once all rows were taken."""

    trajectories: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Trajectories that were not scored, by reason."""
    tallies: dict[str, Tally] = field(default_factory=dict)
    agreement: dict[str, Agreement] = field(default_factory=dict)

    @property
    def new(self) -> int:
        """Return how many trajectories' scores are new."""
        return sum(tally.new for tally in self.tallies.values())

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "trajectories": self.trajectories,
            "skipped": dict(self.skipped),
            "scores": {name: tally.to_json() for name, tally in self.tallies.items()},
            "agreement": {name: found.to_json() for name, found in self.agreement.items()},
        }


def learn_reference(source: Source, plan: Plan) -> Reference:
    """Return what experts and people did in a source.

    Raises:
        DatasetError: the source can't be read.
    """
    frames = source.frames()
    return Reference.of(episode for _, episodes, _ in _chunks(frames, _chosen(frames, plan)) for episode in episodes)


def score_source(source: Source, plan: Plan, scored: Scored, progress: Callable[[str, float], None]) -> Iterator[Row]:
    """Yield the scores that are new, and count everything in ``scored``.

    A trajectory that still runs or is incomplete is skipped. A score that somebody else gave is never scored over; one
    that is stored with the same evaluator, version and value is not given again.

    Raises:
        DatasetError: the source can't be read, or there is no trajectory to score.
    """
    frames = source.frames()
    chosen = _chosen(frames, plan)
    if chosen.is_empty():
        raise DatasetError(f"{source.describe()} has no trajectory{_whose(plan)}; see 'imitrace trajectories'")
    ended = chosen.filter(pl.col("ended_at").is_not_null())
    ready = ended.filter(pl.col("complete"))
    scored.skipped = Counter({"still running": len(chosen) - len(ended), "incomplete": len(ended) - len(ready)})
    scored.tallies = {evaluator.name: Tally() for evaluator in plan.evaluators}
    held: list[Row] = []
    for done, episodes, given in _chunks(frames, ready):
        known = _Known(given, plan)
        for episode in episodes:
            scored.trajectories += 1
            task = known.task(episode.trajectory_id)
            for evaluator in plan.evaluators:
                rows = list(_rows((task, episode), evaluator, known, (plan, scored)))
                if isinstance(evaluator, Judge):
                    held += rows  # until its agreement with all labels is known
                else:
                    yield from rows
        progress("score", done / len(ready))
    for name, tally in scored.tallies.items():
        if tally.labels:
            scores, labels, tasks = zip(*tally.labels, strict=True)
            scored.agreement[name] = agreement(scores, labels, tasks, plan.threshold)
    for row in held:
        yield _with_agreement(row, scored.agreement.get(row["name"]))


class _Known:
    """The scores that are stored of a few trajectories."""

    def __init__(self, scores: pl.DataFrame, plan: Plan) -> None:
        self.ours: dict[tuple[str, int | None, str, str], Mapping[str, Any]] = {}
        self.given: dict[str, dict[str, float | None]] = {}
        self.steps: dict[str, dict[int, list[float]]] = {}
        for row in scores.sort("scored_at", maintain_order=True).iter_rows(named=True):
            trajectory, index, name = row["trajectory_id"], row["step_index"], row["name"]
            if is_ours(row["evaluator"]):
                self.ours[trajectory, index, name, f"{row['evaluator']} {row['evaluator_version']}"] = row
            elif index is None:
                self.given.setdefault(trajectory, {})[name] = row["value"]
            elif name in plan.step_scores and row["value"] is not None:
                self.steps.setdefault(trajectory, {}).setdefault(index, []).append(row["value"])

    def task(self, trajectory: str) -> Task:
        return Task(declared=self.given.get(trajectory, {}), step_scores=self.steps.get(trajectory, {}))


def is_ours(evaluator: str | None) -> bool:
    """Return whether a score was computed here."""
    return evaluator is not None and (evaluator in (OURS, FUTUREAGI) or evaluator.startswith(JUDGE))


def evaluator_name(evaluator: Evaluator) -> str:
    """Return who scores, as it is written beside the score."""
    if isinstance(evaluator, Judge):
        return f"{JUDGE}{evaluator.model}"
    return FUTUREAGI if evaluator.name.startswith("FutureAGI.") else OURS


def _rows(judged: tuple[Task, Episode], evaluator: Evaluator, known: _Known, of: tuple[Plan, Scored]) -> Iterator[Row]:
    (task, episode), (plan, scored) = judged, of
    tally = scored.tallies[evaluator.name]
    trajectory = episode.trajectory_id
    who, given = evaluator_name(evaluator), known.given.get(trajectory, {})
    if evaluator.name in given:
        tally.given += 1
        return
    before = known.ours.get((trajectory, None, evaluator.name, f"{who} {evaluator.version}"))
    if isinstance(evaluator, Judge) and before is not None and before["value"] is not None:
        result = Result(before["value"], before["explanation"] or "", before["label"])
    else:
        result = evaluator.evaluate(task, episode)
    if result.score is None:
        tally.none[result.reason.split(":")[0]] += 1
        return
    check_score(f"{evaluator.name} of {trajectory}", result.score)
    tally.values.append(result.score)
    label = given.get(plan.labels) if plan.labels else None
    if label is not None and math.isfinite(label) and evaluator.name not in _NOT_COMPARED:
        tally.labels.append((result.score, label, episode.task or trajectory))
    row = _row(trajectory, evaluator, who, plan.now())
    if before is not None and before["value"] == result.score:
        tally.stored += 1
    else:
        tally.new += 1
        yield row | {"value": result.score, "label": result.label, "explanation": result.reason}
    if evaluator.name not in _PER_STEP:
        return
    for step in result.steps:
        old = known.ours.get((trajectory, step.index, evaluator.name, f"{who} {evaluator.version}"))
        flagged = evaluator.name not in _FLAGS or step.score >= FLAGGED
        if flagged and (old is None or old["value"] != step.score):
            yield row | {
                "step_index": step.index,
                "value": step.score,
                "label": result.label,
                "explanation": step.reason,
            }


def _row(trajectory: str, evaluator: Evaluator, who: str, now: int) -> Row:
    return {
        "trajectory_id": trajectory,
        "step_index": None,
        "name": evaluator.name,
        "evaluator": who,
        "evaluator_version": evaluator.version,
        "scored_at": now,
    }


def _with_agreement(row: Row, found: Agreement | None) -> Row:
    if found is None:
        return row
    detail = json.loads(row["label"])
    told = {"kappa": found.kappa, "interval": found.kappa_interval, "n": found.n, "threshold": found.threshold}
    return row | {"label": canonical_json(detail | {"agreement": told})}


def _chosen(frames: Frames, plan: Plan) -> pl.DataFrame:
    trajectories = frames["trajectories"].sort("started_at", "trajectory_id")
    if plan.agent is not None:
        trajectories = trajectories.filter(pl.col("agent") == plan.agent)
    found = trajectories.collect()
    wanted = plan.tags.items()
    return found.filter(wanted <= json.loads(tags).items() for tags in found["tags"]) if wanted else found


def _chunks(frames: Frames, chosen: pl.DataFrame) -> Iterator[tuple[int, Iterator[Episode], pl.DataFrame]]:
    """Yield how many are done, the episodes of a few trajectories, and the scores that are stored of them.

    They go by id, as steps and scores stand, so that of each only the part is read where these are; messages stand
    anywhere, and are read only where somebody looks at one.
    """
    done = 0
    least, most = _AT_ONCE
    for few in chosen.sort("trajectory_id").iter_slices(max(least, min(most, len(chosen) // _PASSES))):
        ids = few.lazy().select("trajectory_id")
        first, last = (pl.lit(few["trajectory_id"][place]) for place in (0, -1))
        here = pl.col("trajectory_id").is_between(first, last)
        found = gather(
            {
                table: frames[table].filter(here).join(ids, on="trajectory_id", how="semi")
                for table in ("steps", "scores")
            }
        )
        offered = found["steps"].lazy().select("tools_hash").unique()
        tools = gather({"tools": frames["tools"].join(offered, on="tools_hash", how="semi")})
        done += len(few)
        read = _Late({"trajectories": few, **found, **tools}, frames["messages"])
        yield done, Tables(read, "").episodes(), found["scores"]


class _Late(Mapping[str, pl.DataFrame]):
    """Tables of a few trajectories, and the messages that their steps see, which are read when they are asked for."""

    def __init__(self, tables: dict[str, pl.DataFrame], messages: pl.LazyFrame) -> None:
        self._tables, self._messages = tables, messages

    def __getitem__(self, table: str) -> pl.DataFrame:
        if table == "messages" and table not in self._tables:
            seen = self._tables["steps"].lazy().select(pl.col("state").explode().alias("message_id")).unique()
            wanted = self._messages.join(seen, on="message_id", how="semi")
            self._tables |= gather({"messages": wanted})
        return self._tables[table]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._tables, "messages": None})

    def __len__(self) -> int:
        return len({**self._tables, "messages": None})


def _whose(plan: Plan) -> str:
    tags = f" with tags {dict(plan.tags)!r}" if plan.tags else ""
    return (f" of agent {plan.agent!r}" if plan.agent else "") + tags
