"""Say on which evidence a version may act, where, and until when: what is too old counts no more."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from imitrace.exceptions import CloneError
from imitrace_trainer.gate_report import GateReport
from imitrace_trainer.route_config import RouteConfig

CHECKS: Final = ("tools", "drift")
"""What is looked at again and again while a clone serves, and recorded by ``Registry.record_check``."""

_MENDS: Final = {"gate": "imitrace gate", "tools": "imitrace tools diff", "drift": "imitrace drift"}


@dataclass(frozen=True)
class Evidence:
    """Where a version may act."""

    cohorts: tuple[str, ...] = ()
    lack: str | None = None
    """Why it may act nowhere, None when it may."""
    until: float | None = None
    """Seconds since 1970 from when on it lapses; None: never."""
    lapse: str = ""
    """What is too old then."""
    stepped_back: Mapping[str, str] = field(default_factory=dict)
    """Why the version acts no more in cohorts in which its gate passed."""

    def at(self, now: float) -> "Evidence":
        """Return this as it counts at a time, in seconds since 1970."""
        return self if self.until is None or now < self.until else Evidence(lack=self.lapse)

    def without(self, stepped_back: Mapping[str, str]) -> "Evidence":
        """Return this without the cohorts that stepped back, given by cohort with the reason."""
        own = {cohort: why for cohort, why in stepped_back.items() if cohort in self.cohorts}
        return replace(self, cohorts=tuple(one for one in self.cohorts if one not in own), stepped_back=own)


def weigh(
    label: str, report: GateReport | None, dataset_hash: str, checks: Mapping[str, str], config: RouteConfig
) -> Evidence:
    """Return what a version's records allow.

    Args:
        label: the version in words, such as ``airline v3``.
        report: what its gate said last; None: it was never asked.
        dataset_hash: what the version was made from.
        checks: when each of ``CHECKS`` was last found in order, ISO 8601.
        config: how long each counts.
    """
    if report is None:
        return Evidence(lack=f"{label} has no gate record")
    if report.dataset_hash != dataset_hash:
        return Evidence(lack=f"{label} was gated on another dataset than it was made from")
    if not report.passed_cohorts():
        return Evidence(lack=f"{label} passed its gate in no cohort")
    times = {"gate": report.created_at, "tools": max(report.created_at, checks.get("tools", ""), key=_seconds)}
    ends: list[tuple[float, str]] = []
    for what, days in (("gate", config.gate_days), ("tools", config.tools_days), ("drift", config.drift_days)):
        at = times.get(what, checks.get(what, ""))
        if days and not at:
            return Evidence(lack=f"{label} has no record of {what}; run '{_MENDS[what]}'")
        if days:
            lapse = f"{label}'s evidence lapsed: {what} of {at}, older than {days:g} days; run '{_MENDS[what]}'"
            ends.append((_seconds(at) + timedelta(days=days).total_seconds(), lapse))
    until, lapse = min(ends, default=(None, ""))
    return Evidence(report.passed_cohorts(), None, until, lapse)


def _seconds(at: str) -> float:
    """Return a time as seconds since 1970, the beginning of time for none.

    Raises:
        CloneError: it is no time of ISO 8601.
    """
    try:
        time = datetime.fromisoformat(at) if at else datetime.fromtimestamp(0, UTC)
    except ValueError as error:
        raise CloneError(f"time {at!r} in a clone's records is not ISO 8601; run 'imitrace gate' again") from error
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
