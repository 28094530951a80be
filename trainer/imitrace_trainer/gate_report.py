"""Hold what a gate said: one verdict for each cohort with its evidence, as JSON for the registry."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Literal

from imitrace.exceptions import CloneError
from imitrace_trainer.gate_rules import SAFETY

Verdict = Literal["pass", "fail", "inconclusive"]

METHODS = {
    "rollout": "every case was played twice: by the expert, and by the clone with the expert where it is not sure",
    "replay": "the clone answered the recorded states where it is sure; its own course was never played",
}
"""How the cases came about, and what that means."""
FORMAT: Final = 2
"""Of the record; others must be gated again."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How far the expert is from itself on the same tasks, by one metric."""

    tasks: int
    difference: float
    low: float
    high: float
    floor: float
    """Standard error of such a difference on as many tasks as the clone was judged on; and no less than the difference,
    where its bounds leave out 0."""

    @property
    def differs(self) -> bool:
        """Tell whether the expert is proven to differ from itself."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What one metric says; differences are clone minus expert, or for steps the share of them that it saves."""

    metric: str
    margin: float
    tasks: int
    """That have it."""
    expert: float
    clone: float
    difference: float
    low: float
    high: float
    verdict: Verdict
    reason: str
    judged: bool = True
    """False: only looked at; it fails a cohort when it is proven worse, and never lets one pass."""
    noise: Noise | None = None
    cases_needed: int = 0


@dataclass(frozen=True, kw_only=True)
class Harm:
    """How often the clone did something that the expert did not."""

    kind: str
    category: str
    """Of refusals; else empty."""
    regressions: int
    tasks: int
    """Where it could have."""
    bound: float
    """Exact upper bound of the rate."""
    refused_more: int = 0
    """Tasks in which the clone refused and the expert did not."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A share with its 95 % interval over tasks, of so many decisions."""

    value: float
    low: float
    high: float
    decisions: int


@dataclass(frozen=True, kw_only=True)
class Slice:
    """What came of some of the tasks: the expert's success and the clone's."""

    tasks: int
    expert: float
    clone: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Decisions that the gate asked for."""

    expert: int = 0
    """The expert's own courses."""
    again: int = 0
    """The expert's further courses, to know its noise."""
    beside: int = 0
    """The expert's in the clone's courses."""
    clone: int = 0


@dataclass(frozen=True, kw_only=True)
class CohortVerdict:
    """What the gate says of one cohort."""

    cohort: str
    verdict: Verdict
    confidence: float
    """Of each bound: more than the report's, since several cohorts are judged."""
    n: int
    tasks: int
    measures: tuple[Measure, ...]
    """The first is the one that the cohort is known by."""
    harms: tuple[Harm, ...]
    clone_share: float
    """Share of the decisions that the clone itself took."""
    clone_decisions: int
    """How many these were."""
    dead_calls: int
    """Those that called a tool which is not there."""
    regressions: int
    """Tasks in which the clone did harm that the expert did not."""
    regression_bound: float
    cases_needed: int
    """Further tasks, with which an equal clone would be known to be one 4 times in 5."""
    reason: str
    action: str
    unmeasured: str = ""
    """Why the expert's own noise is not known."""
    agreement: Figure | None = None
    """Share of the decisions that the clone would take which are the expert's, in recorded states."""
    residual: Figure | None = None
    """Share of all decisions in which the clone is not the expert, in recorded states: the imitation residual."""
    coverage: Mapping[str, Any] = field(default_factory=dict)  # JSON
    """What the dataset has of this cohort."""

    @property
    def metric(self) -> str:
        """Return the metrics' names."""
        return "+".join(measure.metric for measure in self.measures if measure.judged)

    @property
    def margin(self) -> float:
        """Return the first measure's margin."""
        return self.measures[0].margin

    @property
    def expert_rate(self) -> float:
        """Return the expert's mean by the first measure."""
        return self.measures[0].expert

    @property
    def clone_rate(self) -> float:
        """Return the clone's mean by the first measure."""
        return self.measures[0].clone

    @property
    def difference(self) -> float:
        """Return the first measure's difference."""
        return self.measures[0].difference

    @property
    def low(self) -> float:
        """Return the first measure's lower bound."""
        return self.measures[0].low

    @property
    def high(self) -> float:
        """Return the first measure's upper bound."""
        return self.measures[0].high


@dataclass(frozen=True, kw_only=True)
class BesideMeasure:
    """How candidate and champion did by one metric on the same tasks of a cohort; differences are candidate's less."""

    cohort: str
    metric: str
    tasks: int
    champion: float
    candidate: float
    difference: float
    low: float
    high: float

    @property
    def worse(self) -> bool:
        """Tell whether the candidate is proven to be worse."""
        return self.high < 0


@dataclass(frozen=True, kw_only=True)
class Beside:
    """The candidate beside the champion that serves, where that may act."""

    version: int
    """The champion's."""
    confidence: float
    """That none of these bounds is wrong."""
    measures: tuple[BesideMeasure, ...]
    left_out: int = 0
    """Tasks that the champion had learnt from."""

    @property
    def worse(self) -> tuple[BesideMeasure, ...]:
        """Return the measures by which the candidate is proven to be worse."""
        return tuple(measure for measure in self.measures if measure.worse)


_TOLD = ("metric", "margin", "expert_rate", "clone_rate", "difference", "low", "high")
"""What follows from the measures, for people who read the file."""


@dataclass(frozen=True, kw_only=True)
class GateReport:
    """What the gate says of one version of a clone, on which evidence."""

    clone: str
    version: int
    method: str
    dataset_hash: str
    created_at: str
    confidence: float
    """That no cohort passed in which the clone is worse than allowed."""
    cohorts: tuple[CohortVerdict, ...]
    rare: Slice | None = None
    """Tasks whose sequence of tools is rare in training."""
    spent: Spent = field(default_factory=Spent)
    waived: Mapping[str, str] = field(default_factory=dict)
    """Cohorts that are asked for and absent, and why that was allowed."""
    notes: tuple[str, ...] = ()
    beside: Beside | None = None
    """Beside the champion; None where there was none, or it was this very version."""

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
        record = {"format": FORMAT, **told, **asdict(self)}
        for row, cohort in zip(record["cohorts"], self.cohorts, strict=True):
            row |= {name: getattr(cohort, name) for name in _TOLD}
        return json.dumps(record, indent=2) + "\n"

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
            if record.get("format") != FORMAT:
                raise ValueError(f"format is {record.get('format', 1)}, allowed: {FORMAT}")
            values = {field.name: record[field.name] for field in fields(cls) if field.name != "beside"}
            values["beside"] = _beside(record["beside"]) if record.get("beside") else None
            values["cohorts"] = tuple(_cohort(row) for row in record["cohorts"])
            values["rare"] = Slice(**record["rare"]) if record["rare"] else None
            values["spent"], values["notes"] = Spent(**record["spent"]), tuple(record["notes"])
        except (ValueError, KeyError, TypeError) as error:
            raise CloneError(f"gate record is unreadable ({error}); run 'imitrace gate' again") from error
        return cls(**values)


def worst(verdicts: list[Verdict]) -> Verdict:
    """Return fail if there is one, else inconclusive if there is one, else pass."""
    if "fail" in verdicts:
        return "fail"
    return "inconclusive" if "inconclusive" in verdicts else "pass"


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


def _cohort(row: Mapping[str, Any]) -> CohortVerdict:  # any JSON value goes in
    values = {key: value for key, value in row.items() if key not in _TOLD}
    values["measures"] = tuple(_measure(one) for one in row["measures"])
    values["harms"] = tuple(Harm(**one) for one in row["harms"])
    for name in ("agreement", "residual"):
        values[name] = Figure(**row[name]) if row[name] else None
    if not values["measures"] or row["verdict"] not in ("pass", "fail", "inconclusive"):
        raise ValueError(f"verdict is {row['verdict']!r}, allowed: pass, fail, inconclusive, with a measure")
    return CohortVerdict(**values)


def _beside(row: Mapping[str, Any]) -> Beside:
    return Beside(**{**row, "measures": tuple(BesideMeasure(**one) for one in row["measures"])})


def _measure(row: Mapping[str, Any]) -> Measure:
    return Measure(**{**row, "noise": Noise(**row["noise"]) if row["noise"] else None})
