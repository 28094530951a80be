"""Hold what a gate said: one verdict for each cohort, as JSON for the registry and as a table for people."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from imitrace.exceptions import CloneError

Verdict = Literal["pass", "fail", "inconclusive"]

SAFETY = "safety"
"""The cohort in which a single regression forbids the clone to act anywhere."""

METHODS = {
    "rollout": "every case was played twice: by the expert, and by the clone with the expert where it is not sure",
    "replay": "the clone answered the recorded states where it is sure; its own course was never played",
}
"""How the cases came about, and what that means."""


@dataclass(frozen=True, kw_only=True)
class CohortVerdict:
    """What the gate says of one cohort; rates are of the metric, differences are clone minus expert."""

    cohort: str
    verdict: Verdict
    metric: str
    margin: float
    n: int
    tasks: int
    expert_rate: float
    clone_rate: float
    difference: float
    low: float
    high: float
    clone_share: float
    """Share of the decisions that the clone itself took."""
    regressions: int
    regression_bound: float
    cases_needed: int
    reason: str
    action: str
    clone_decisions: int = 0
    """How many these were."""
    dead_calls: int = 0
    """Those that called a tool which is not there."""


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """What the gate says of one version of a clone, on which evidence."""

    clone: str
    version: int
    method: str
    dataset_hash: str
    created_at: str
    confidence: float
    cohorts: tuple[CohortVerdict, ...]

    @property
    def verdict(self) -> Verdict:
        """Return pass when every cohort passes, fail when one fails, else inconclusive."""
        return worst([cohort.verdict for cohort in self.cohorts])

    @property
    def blocked(self) -> bool:
        """Tell whether a regression in the safety cohort forbids the clone to act anywhere."""
        return any(cohort.regressions for cohort in self.cohorts if cohort.cohort == SAFETY)

    @property
    def dead_call_rate(self) -> float:
        """Return the share of the clone's decisions that called a tool which is not there; it must be 0."""
        taken = sum(cohort.clone_decisions for cohort in self.cohorts)
        return sum(cohort.dead_calls for cohort in self.cohorts) / taken if taken else 0.0

    def passed_cohorts(self) -> tuple[str, ...]:
        """Name the cohorts where the clone may act: those that passed, and none when it is blocked."""
        if self.blocked:
            return ()
        return tuple(cohort.cohort for cohort in self.cohorts if cohort.verdict == "pass")

    def to_json(self) -> str:
        """Return the report as JSON text, with what follows from it for people who read the file."""
        told = {"verdict": self.verdict, "blocked": self.blocked, "dead_call_rate": self.dead_call_rate}
        return json.dumps({**told, **asdict(self)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "GateReport":
        """Return the report that ``to_json`` wrote.

        Raises:
            CloneError: the text is not such a report.
        """
        try:
            record = json.loads(text)
            if record["method"] not in METHODS:
                raise ValueError(f"method is {record['method']!r}, allowed: {', '.join(METHODS)}")
            values = {field.name: record[field.name] for field in fields(cls)}
            values["cohorts"] = tuple(_cohort(row) for row in record["cohorts"])
        except (ValueError, KeyError, TypeError) as error:
            raise CloneError(f"gate record is unreadable ({error}); run 'imitrace gate' again") from error
        return cls(**values)

    def render(self) -> str:
        """Return the report as plain text: a table of the cohorts, then a reason for each."""
        lines = [
            f"gate of {self.clone} v{self.version}: {self.verdict}{', blocked in every cohort' * self.blocked}",
            f"method {self.method}: {METHODS[self.method]}",
            f"dataset {self.dataset_hash}, {self.created_at}, each bound one-sided at {self.confidence:.0%}, in points",
            f"dead calls {self.dead_call_rate:.2%}, of tools that are not there",
            "",
            *_aligned([_HEADER, *(_row(cohort) for cohort in self.cohorts)]),
            "",
        ]
        return "\n".join([*lines, *map(_sentence, self.cohorts)])


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return fail if there is one, else inconclusive if there is one, else pass."""
    if "fail" in verdicts:
        return "fail"
    return "inconclusive" if "inconclusive" in verdicts else "pass"


_HEADER = (
    "cohort",
    "verdict",
    "metric",
    "cases",
    "clone took",
    "expert",
    "clone",
    "difference",
    "bounds",
    "margin",
    "more cases",
)


def _row(cohort: CohortVerdict) -> tuple[str, ...]:
    return (
        cohort.cohort,
        cohort.verdict,
        cohort.metric,
        str(cohort.n),
        f"{cohort.clone_share:.0%}",
        f"{100 * cohort.expert_rate:.1f}",
        f"{100 * cohort.clone_rate:.1f}",
        f"{100 * cohort.difference:+.1f}",
        f"{100 * cohort.low:+.1f} to {100 * cohort.high:+.1f}",
        f"{100 * cohort.margin:g}",
        str(cohort.cases_needed or "-"),
    )


def _sentence(cohort: CohortVerdict) -> str:
    text = f"{cohort.cohort}: {cohort.reason}"
    if cohort.tasks < cohort.n:
        text += f"; {cohort.n} cases of {cohort.tasks} tasks count as independent, so the bounds are too narrow"
    return f"{text} -> {cohort.action}" if cohort.action else text


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def gate_section(report: GateReport | None) -> str:
    """Return what the newest gate said, which is written after the card and kept beside it."""
    if report is None:
        return "## The gate\n\nNever asked: it may act nowhere."
    held = [
        f"- {cohort.cohort}: {cohort.verdict} ({cohort.tasks} tasks; {cohort.reason})"
        for cohort in report.cohorts
        if cohort.cohort not in report.passed_cohorts()
    ]
    passed = ", ".join(report.passed_cohorts()) or "none"
    refused = "\n".join(held) or "- nothing that it judged"
    return (
        f"## The gate\n\nOf {report.created_at}, by {report.method}. Passed: {passed}. Do not use it in:\n\n{refused}"
    )


def _cohort(row: Any) -> CohortVerdict:  # any JSON value goes in
    cohort = CohortVerdict(**row)
    if cohort.verdict not in ("pass", "fail", "inconclusive"):
        raise ValueError(f"verdict is {cohort.verdict!r}, allowed: pass, fail, inconclusive")
    return cohort
