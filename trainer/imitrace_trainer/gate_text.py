"""Say what a gate found in plain text: a table of the cohorts, then a reason and the figures for each."""

from collections.abc import Iterator

from imitrace_trainer.gate_report import METHODS, CohortVerdict, Figure, GateReport, Measure
from imitrace_trainer.gate_rules import STEP_COUNT

_HEADER = (
    "cohort",
    "verdict",
    "metric",
    "tasks",
    "clone took",
    "expert",
    "clone",
    "difference",
    "bounds",
    "margin",
    "noise",
    "more tasks",
)


def render(report: GateReport) -> str:
    """Return the report as plain text."""
    lines = [
        f"gate of {report.clone} v{report.version}: {report.verdict}{', blocked in every cohort' * report.blocked}",
        f"method {report.method}: {METHODS[report.method]}",
        f"dataset {report.dataset_hash}, {report.created_at}, in points; bounds are one-sided, so that all passes "
        f"together hold at {report.confidence:.0%}",
        f"dead calls {report.dead_call_rate:.2%}, of tools that are not there",
        "",
        *aligned([_HEADER, *(row for cohort in report.cohorts for row in _rows(cohort))]),
        "",
        *(line for cohort in report.cohorts for line in _sentences(cohort)),
        "",
        *_about(report),
    ]
    return "\n".join(lines).rstrip()


def shown(measure: Measure) -> tuple[str, str, str, str, str, str]:
    """Return a measure's numbers for people: expert, clone, difference, bounds, margin, noise."""
    scale = 1 if measure.metric == STEP_COUNT else 100
    unit = " %" if measure.metric == STEP_COUNT else ""
    noise = "-" if measure.noise is None else f"{100 * measure.noise.floor:.1f}"
    return (
        f"{scale * measure.expert:.1f}",
        f"{scale * measure.clone:.1f}",
        f"{100 * measure.difference:+.1f}{unit}",
        f"{100 * measure.low:+.1f} to {100 * measure.high:+.1f}",
        f"{100 * measure.margin:g}{unit}",
        noise,
    )


def told_noise(measure: Measure) -> str:
    """Return what is known of the expert against itself by a metric."""
    noise = measure.noise
    if noise is None:
        return ""
    word = "a difference" if noise.differs else "no difference"
    return (
        f"{measure.metric} {100 * noise.difference:+.2f} [{100 * noise.low:+.2f}, {100 * noise.high:+.2f}] on "
        f"{noise.tasks} tasks, {word}, noise {100 * noise.floor:.2f}"
    )


def told_figures(cohort: CohortVerdict) -> Iterator[str]:
    """Yield what else is known of a cohort, a line each."""
    noises = "; ".join(filter(None, map(told_noise, cohort.measures)))
    yield f"the expert against itself: {noises or 'not measured: ' + (cohort.unmeasured or 'nobody asked for it')}"
    for harm in cohort.harms:
        what = f"{harm.kind} {harm.category}".rstrip()
        more = f", refused {harm.refused_more} more" if harm.refused_more else ""
        yield f"{what}: {harm.regressions} worse in {harm.tasks} tasks, rate at most {harm.bound:.2%}{more}"
    if cohort.agreement is not None and cohort.residual is not None:
        yield (
            f"recorded states: the expert's in {percent(cohort.agreement)} that it would take; "
            f"imitation residual {percent(cohort.residual)}"
        )
    for measure in cohort.measures:
        if not measure.judged:
            yield f"looked at beside: {measure.metric} {measure.reason}"
    if cohort.coverage and cohort.verdict != "pass":
        yield f"coverage: {cohort.coverage['told']}"


def percent(figure: Figure) -> str:
    """Return a figure in percent with its interval."""
    if not figure.decisions:
        return "none of 0 decisions"
    low, high = 100 * figure.low, 100 * figure.high
    return f"{100 * figure.value:.1f} % [{low:.1f}, {high:.1f}] of {figure.decisions} decisions"


def told_rare(report: GateReport) -> str:
    """Return what came of tasks on rare paths."""
    rare = report.rare
    if rare is None:
        return "rare paths: no task in which the expert's sequence of tools is rare in training"
    return (
        f"rare paths: {rare.tasks} tasks in which the expert's sequence of tools is rare in training, success "
        f"{100 * rare.expert:.1f} and {100 * rare.clone:.1f}, difference {100 * rare.difference:+.1f} "
        f"[{100 * rare.low:+.1f}, {100 * rare.high:+.1f}]"
    )


def told_beside(report: GateReport) -> list[str]:
    """Return how the version did beside the champion, a line for each cohort and metric."""
    found = report.beside
    if found is None:
        return []
    lines = []
    for one in found.measures:
        word = "proven worse" if one.worse else "proven better" if one.low > 0 else "no difference proven"
        lines.append(
            f"beside champion v{found.version}: {one.cohort} {one.metric} {100 * one.difference:+.2f} "
            f"[{100 * one.low:+.2f}, {100 * one.high:+.2f}] on {one.tasks} tasks, {word}"
        )
    left_out = [f"beside champion v{found.version}: left out are {found.left_out} tasks that it had learnt from"]
    return lines + (left_out if found.left_out else [])


def told_spent(report: GateReport) -> str:
    """Return what the gate cost in decisions."""
    spent = report.spent
    return (
        f"it took {spent.expert} decisions of the expert, {spent.again} to know its noise, {spent.beside} beside the "
        f"clone, and {spent.clone} of the clone"
    )


def aligned(rows: list[tuple[str, ...]]) -> list[str]:
    """Return rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _rows(cohort: CohortVerdict) -> Iterator[tuple[str, ...]]:
    for number, measure in enumerate(one for one in cohort.measures if one.judged):
        head = (cohort.cohort, cohort.verdict) if not number else ("", "")
        share = f"{cohort.clone_share:.0%}" if not number else ""
        needed = str(cohort.cases_needed or "-") if not number else ""
        yield (*head, measure.metric, str(measure.tasks), share, *shown(measure), needed)


def _sentences(cohort: CohortVerdict) -> Iterator[str]:
    text = f"{cohort.cohort}: {cohort.reason}"
    if cohort.tasks < cohort.n:
        text += f"; {cohort.n} cases of {cohort.tasks} tasks, each task counts once"
    text += f" (bounds at {cohort.confidence:.2%})"
    yield f"{text} -> {cohort.action}" if cohort.action else text
    yield from (f"  {line}" for line in told_figures(cohort))


def _about(report: GateReport) -> Iterator[str]:
    yield told_rare(report)
    yield told_spent(report)
    yield from told_beside(report)
    yield from (f"waived: no cohort {name}: {why}" for name, why in report.waived.items())
    yield from report.notes
