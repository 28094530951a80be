"""Know a gate again that would only repeat what it said: the same version on the same terms."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from imitrace.canonical import content_hash
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.refreshing.runs import Run

JUDGED = ("failed_gate", "inconclusive", "held")
"""Outcomes of runs whose gate let nothing be promoted."""

Judged = Mapping[tuple[int, str], str]
"""By version and terms: in which run it was gated, and what came of it."""


def gate_terms(clone: CloneConfig, champion: int | None, acts_in: Sequence[str]) -> str:
    """Return a hash of all that a gate's verdict on a version follows from, beside the version and chance.

    Args:
        clone: how it is gated, routed and scored, and where it plays.
        champion: the version that it is compared with.
        acts_in: the cohorts in which that acts.
    """
    rollout = None if clone.rollout is None else asdict(clone.rollout)
    asked = {"gate": asdict(clone.gate), "rollout": rollout, "score": asdict(clone.score)}
    beside = {"champion": champion, "acts_in": sorted(acts_in)}
    return content_hash({**asked, "route": clone.route.to_json(), **beside})


def judged_before(runs: Sequence[Run]) -> Judged:
    """Return what past runs gated in vain, given oldest first; records without terms say nothing."""
    found: dict[tuple[int, str], str] = {}
    for run in runs:
        terms = (run.gate or {}).get("terms")
        if run.state == "finished" and run.version is not None and terms:
            found.pop((run.version, terms), None)
            if run.outcome in JUDGED:
                found[run.version, terms] = f"run {run.id} came to {run.outcome}: {run.why}"
    return found
