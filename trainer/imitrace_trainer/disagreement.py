"""Estimate how often the expert would have done otherwise where the clone was trusted, from the audit slice.

Audited decisions are a random share of the trusted ones, drawn with known probability before anybody acted, so their
mean, each weighted by one over that probability (Horvitz and Thompson 1952, normalised as by Hájek 1971), stands for
all of them without bias. Decisions where the clone was not trusted say nothing about those where it was.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import polars as pl

from imitrace.messages import Action
from imitrace_trainer.frames import gather
from imitrace_trainer.intervals import upper_bound
from imitrace_trainer.policy import same_action
from imitrace_trainer.route import DRAWN, HANDOVER
from imitrace_trainer.route_rules import cohort_of
from imitrace_trainer.task_draws import EDGE, Share, TaskDraws

_STEPS: Final = (
    *("trajectory_id", "decision", "policy_role", "policy_name", "policy_version", "route_reason", "propensity"),
    *("shadow", "action_kind", "action_name", "action_arguments", "action_message", "started_at", "complete"),
)


@dataclass(frozen=True)
class Audited:
    """A decision that was trusted to the clone and drawn to go to the expert, by the audit or for a canary."""

    task: str
    cohort: str
    tool: str
    """The tool that the clone would have called, or ``message``."""
    propensity: float
    disagrees: bool
    trajectory: str = ""


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """What the audit slice of a clone says."""

    clone: str
    trusted: int
    """Decisions trusted to the clone, audited ones included."""
    audited: int
    unread: int
    """Audited decisions that can't be compared: their record is incomplete."""
    rate: Share
    """Share of the trusted decisions in which the expert does otherwise."""
    cohorts: Mapping[str, Share]
    tools: Mapping[str, Share]

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)

    def render(self) -> str:
        """Return this as text."""
        if not self.audited:
            return (
                f"{self.clone}: none of {self.trusted} trusted decisions was audited, so nothing is known; "
                f"set route.audit, or wait"
            )
        lines = [
            f"{self.clone}: the expert does otherwise in {self.rate} audited decisions ({self.trusted} were trusted)"
        ]
        for title, shares in (("cohort", self.cohorts), ("tool", self.tools)):
            lines += [f"  {title} {name}: {share}" for name, share in shares.items()]
        if self.unread:
            lines.append(f"  ! {self.unread} audited decisions are incomplete and left out")
        return "\n".join(lines)


@dataclass(frozen=True)
class HandedOver:
    """What became of the decisions that a clone handed over in doubt after having acted."""

    rate: Share
    """Share in which the expert did otherwise than the clone would have."""
    unread: int
    """Those that can't be compared: their record is incomplete."""


def handed_over(
    frames: Mapping[str, pl.LazyFrame], clone: str, since: int = 0, version: str | None = None
) -> HandedOver:
    """Return how often the expert did otherwise where a clone handed over.

    These are the decisions that it doubted most, so the rate is no estimate for others.

    Args:
        frames: ``steps`` and ``trajectories`` of a source.
        clone: its name.
        since: nanoseconds since 1970; earlier decisions don't count.
        version: only this one, such as ``v3``.
    """
    doubted = pl.col("route_reason").str.starts_with(HANDOVER) & pl.col("shadow").is_not_null()
    judged: list[Audited] = []
    unread = 0
    for decision in _decisions(frames, doubted & (pl.col("started_at") >= since)):
        shadow = _object(decision[0]["shadow"])
        if shadow.get("clone") == clone and version in (None, shadow.get("version")):
            one = _judged([{**row, "propensity": 1.0} for row in decision], shadow)
            unread += one is None
            judged += [] if one is None else [one]
    return HandedOver(weighted_share(judged), unread)


def estimate(
    frames: Mapping[str, pl.LazyFrame], clone: str, since: int = 0, version: str | None = None
) -> Disagreement:
    """Return how often the expert does otherwise where a clone is trusted.

    Args:
        frames: ``steps`` and ``trajectories`` of a source.
        clone: its name.
        since: nanoseconds since 1970; earlier decisions don't count.
        version: only this one, such as ``v3``.
    """
    judged, taken, unread = compared_decisions(frames, clone, since, version)
    return _summed(clone, judged, taken, unread)


def compared_decisions(
    frames: Mapping[str, pl.LazyFrame], clone: str, since: int = 0, version: str | None = None
) -> tuple[list[Audited], int, int]:
    """Return the trusted decisions that an expert took by a draw, those that the clone took, and those unreadable.

    Args:
        frames: ``steps`` and ``trajectories`` of a source.
        clone: its name.
        since: nanoseconds since 1970; earlier decisions don't count.
        version: only this one, such as ``v3``.
    """
    acted = (pl.col("policy_role") == "clone") & (pl.col("policy_name") == clone)
    audited = pl.col("route_reason").is_in(DRAWN) & pl.col("shadow").is_not_null()
    taken = unread = 0
    judged: list[Audited] = []
    for decision in _decisions(frames, (pl.col("started_at") >= since) & (acted | audited)):
        first = decision[0]
        if first["policy_role"] == "clone":
            taken += version in (None, first["policy_version"])
            continue
        shadow = _object(first["shadow"])
        if shadow.get("clone") != clone or version not in (None, shadow.get("version")):
            continue
        one = _judged(decision, shadow)
        unread += one is None
        judged += [] if one is None else [one]
    return judged, taken, unread


def _decisions(frames: Mapping[str, pl.LazyFrame], which: pl.Expr) -> list[list[dict[str, Any]]]:
    """Return the rows of each decision of which steps are chosen, with their trajectory's task and tags."""
    trajectories = frames["trajectories"].select("trajectory_id", "task", "tags")
    found = gather({"steps": frames["steps"].filter(which).select(_STEPS), "trajectories": trajectories})
    steps = found["steps"].sort("started_at", "trajectory_id")
    joined = steps.join(found["trajectories"], on="trajectory_id", how="left", maintain_order="left")
    rows = joined.iter_rows(named=True)
    by_decision: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_decision[row["trajectory_id"], row["decision"]].append(row)
    return list(by_decision.values())


def _summed(clone: str, judged: Sequence[Audited], taken: int, unread: int) -> Disagreement:
    return Disagreement(
        clone=clone,
        trusted=taken + len(judged) + unread,
        audited=len(judged),
        unread=unread,
        rate=weighted_share(judged),
        cohorts=_by(judged, "cohort"),
        tools=_by(judged, "tool"),
    )


def _by(judged: Sequence[Audited], key: str) -> dict[str, Share]:
    names = sorted({getattr(one, key) for one in judged})
    return {name: weighted_share([one for one in judged if getattr(one, key) == name]) for name in names}


def weighted_share(judged: Iterable[Audited], seed: int = 0) -> Share:
    """Return the share that disagrees, each weighted by one over its propensity, with a 95 % interval over tasks.

    Where all tasks say the same, the interval is the exact one of that many cases.
    """
    rows = list(judged)
    if not rows:
        return Share(0.0, 0.0, 1.0, 0)
    hits = np.array([one.disagrees for one in rows], dtype=np.float64)
    weights = np.array([1 / one.propensity for one in rows])
    value = float((hits * weights).sum() / weights.sum())
    tasks = len({one.task for one in rows})
    if value in (0.0, 1.0) or tasks == 1:
        reach = upper_bound(0, tasks, EDGE)
        return Share(value, max(0.0, value - reach), min(1.0, value + reach), len(rows))
    draws = TaskDraws([one.task for one in rows], seed)
    drawn = draws.sums(hits * weights) / draws.sums(weights)
    low, high = (float(edge) for edge in np.quantile(drawn, [1 - EDGE, EDGE]))
    return Share(value, low, high, len(rows))


def _judged(decision: Sequence[Mapping[str, Any]], shadow: Mapping[str, Any]) -> Audited | None:
    """Return an audited decision compared, None where its record is incomplete."""
    first = decision[0]
    said = shadow.get("action")
    if not isinstance(said, dict) or not first["propensity"] or not all(row["complete"] for row in decision):
        return None
    wanted = Action(said.get("kind", ""), said.get("name"), said.get("arguments") or {}, said.get("message"))
    return Audited(
        task=first["task"] or first["trajectory_id"],
        cohort=cohort_of(_object(first["tags"])),
        tool=wanted.name or "message",
        propensity=first["propensity"],
        disagrees=not any(same_action(wanted, _action(row)) for row in decision),
        trajectory=first["trajectory_id"],
    )


def _action(row: Mapping[str, Any]) -> Action:
    return Action(row["action_kind"], row["action_name"], _object(row["action_arguments"]), row["action_message"])


def _object(text: str | None) -> dict[str, Any]:
    """Return a JSON object, an empty one for anything else."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
