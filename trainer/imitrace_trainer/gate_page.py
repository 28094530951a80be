"""Show what a gate found as one HTML page that needs nothing else: each cohort's difference beside what is allowed."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from imitrace_trainer.gate_report import METHODS, CohortVerdict, Figure, GateReport, Harm, Measure, Verdict
from imitrace_trainer.gate_text import percent, shown, told_beside, told_noise, told_rare, told_spent
from imitrace_trainer.pages import page, table
from imitrace_trainer.plots import STYLE, whisker
from imitrace_trainer.task_draws import Share

_STYLE: Final = (
    STYLE
    + """
.tone { display: inline-block; border: 2px solid; border-radius: .4rem; font-size: .8rem; padding: 0 .45rem;
  white-space: nowrap; }
.good { color: #1d6b34; } .bad { color: #a3301f; } .cant { color: #6b5300; }
@media (prefers-color-scheme: dark) { .good { color: #7fd197; } .bad { color: #f2917f; } .cant { color: #e0c060; } }
.scroll { overflow-x: auto; } .scroll:focus-visible { outline: 2px solid var(--bar); outline-offset: 2px; }
.forest { min-width: 50rem; } .forest td, .forest th { white-space: nowrap; } .forest td { vertical-align: middle; }
.forest td.bar, .forest th.bar { width: 34%; min-width: 15rem; padding: 0 .8rem; }
.forest tbody th small { color: var(--quiet); }
.forest svg { overflow: visible; } .noise { fill: var(--out); opacity: .2; } .dot { fill: var(--bar); }
.forest .limit { stroke: var(--out); stroke-dasharray: 3 3; stroke-width: 2; } .scale { display: flex; }
.scale span { flex: 1 1 0; text-align: center; font-weight: 400; color: var(--quiet); font-size: .75rem; }
.ends { stroke: var(--bar); stroke-width: 2.5; } .beyond { fill: var(--bar); }
.facts li { margin: .25rem 0; } section table { margin-bottom: .9rem; } td.bar { min-width: 8rem; }
"""
)
_TONES: Final[dict[Verdict, str]] = {"pass": "good", "fail": "bad", "inconclusive": "cant"}
_REACH: Final = 3.0
"""Margins to each side of no difference that are drawn."""
_WIDTH, _HEIGHT = 300, 26
_TICKS: Final = ("-3", "-2", "margin", "0", "+1", "+2", "+3")


def render(report: GateReport) -> str:
    """Return the page of a gate's report."""
    sections = [
        _head(report),
        _overview(report),
        _forest(report),
        *map(_cohort, report.cohorts),
        _about(report),
    ]
    return page(f"{report.clone} v{report.version}: what the gate said", sections, _STYLE)


def _head(report: GateReport) -> str:
    blocked = " A regression in the safety cohort blocks it everywhere." if report.blocked else ""
    return (
        f"<h1>{escape(report.clone)} v{report.version} {_badge(report.verdict)}</h1><p class=note>What the gate said "
        f"on {escape(report.created_at)}, of the clone beside the expert.{blocked} By <b>{report.method}</b>: "
        f"{METHODS[report.method]}. Dataset <code>{escape(report.dataset_hash)}</code>. Bounds are one-sided, at "
        f"levels with which all passes together hold at {report.confidence:.0%}. Dead calls, of tools that are not "
        f"there: {report.dead_call_rate:.2%}.</p>"
    )


def _overview(report: GateReport) -> str:
    lines = []
    for cohort in report.cohorts:
        then = f" <b>Then: {escape(cohort.action)}.</b>" if cohort.action else ""
        more = f" Needs {cohort.cases_needed:,} more tasks." if cohort.cases_needed else ""
        told = f"<b>{escape(cohort.cohort)}</b>: {escape(cohort.reason)}.{more}{then}"
        lines.append(f"<li>{_badge(cohort.verdict)} {told}</li>")
    waived = [
        f"<li>{_badge('inconclusive', 'waived')} no cohort <b>{escape(name)}</b>: {escape(why)}</li>"
        for name, why in report.waived.items()
    ]
    notes = [f"<li>{escape(note)}</li>" for note in report.notes]
    return f"<ul class=facts>{''.join([*lines, *waived, *notes])}</ul>"


def _forest(report: GateReport) -> str:
    head = (
        "<tr><th scope=col>cohort, metric</th><th scope=col>verdict</th><th scope=col class=bar>"
        f"<div class=scale aria-hidden=true>{''.join(f'<span>{tick}</span>' for tick in _TICKS)}</div></th>"
        + "".join(f"<th scope=col class=n>{name}</th>" for name in ("difference", "bounds", "margin", "noise", "tasks"))
        + "</tr>"
    )
    rows = [_forest_row(cohort, one) for cohort in report.cohorts for one in cohort.measures if one.judged]
    note = (
        "<p class=note>Clone minus expert, a row's margin being one step: the interval must lie right of the dashed "
        "line, which is as much worse as is allowed. The red band is the expert's own noise: how far it is from itself "
        "by chance on as many tasks. Regressions are a loss, with the exact upper bound of their rate.</p>"
    )
    region = "<div class=scroll role=region tabindex=0 aria-label='Difference and margin'>"
    return (
        f"<h2>Difference and margin</h2>{note}{region}"
        f"<table class=forest><thead>{head}</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _forest_row(cohort: CohortVerdict, measure: Measure) -> str:
    _, _, difference, bounds, margin, noise = shown(measure)
    cells = (difference, bounds, margin, noise, f"{measure.tasks:,}")
    numbers = "".join(f"<td class=n>{escape(cell)}</td>" for cell in cells)
    name = f"{escape(cohort.cohort)} <small>{escape(measure.metric)}</small>"
    return (
        f"<tr><th scope=row>{name}</th><td>{_badge(measure.verdict)}</td><td class=bar>{_interval(measure)}</td>"
        f"{numbers}</tr>"
    )


def _interval(measure: Measure) -> str:
    """Return a measure's interval, margin and noise, in units of its margin."""

    def x(value: float) -> float:
        inside = min(_REACH, max(-_REACH, value / measure.margin))
        return (inside + _REACH) / (2 * _REACH) * _WIDTH

    middle = _HEIGHT / 2
    parts = [f"<rect class=back width={_WIDTH} y={middle - 1} height=2 />"]
    if measure.noise is not None:
        low, high = x(-measure.noise.floor), x(measure.noise.floor)
        parts.append(f"<rect class=noise x={low:.1f} y=3 width={max(0.0, high - low):.1f} height={_HEIGHT - 6} />")
    parts.append(f"<line class=axis x1={x(0):.1f} y1=0 x2={x(0):.1f} y2={_HEIGHT} />")
    edge = x(-measure.margin)
    parts.append(f"<line class=limit x1={edge:.1f} y1=0 x2={edge:.1f} y2={_HEIGHT} />")
    left, right = x(measure.low), x(measure.high)
    parts.append(f"<line class=ends x1={left:.1f} y1={middle} x2={right:.1f} y2={middle} />")
    if measure.low < -_REACH * measure.margin:
        parts.append(f'<polygon class=beyond points="0,{middle} 8,{middle - 5} 8,{middle + 5}" />')
    if measure.high > _REACH * measure.margin:
        ends = f"{_WIDTH},{middle} {_WIDTH - 8},{middle - 5} {_WIDTH - 8},{middle + 5}"
        parts.append(f'<polygon class=beyond points="{ends}" />')
    parts.append(f"<rect class=dot x={x(measure.difference) - 3:.1f} y={middle - 6} width=6 height=12 />")
    box = f'width="100%" height={_HEIGHT} viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio=none aria-hidden=true'
    return f"<svg {box}>{''.join(parts)}</svg>"


def _cohort(cohort: CohortVerdict) -> str:
    facts = "".join(f"<li>{line}</li>" for line in _facts(cohort))
    harms = _harms(cohort.harms)
    return (
        f"<section><h2>{_badge(cohort.verdict)} {escape(cohort.cohort)}</h2><ul class=facts>{facts}</ul>"
        f"{_recorded(cohort)}{harms}{_covered(cohort)}</section>"
    )


def _facts(cohort: CohortVerdict) -> Iterator[str]:
    cases = f", {cohort.n:,} cases" if cohort.n != cohort.tasks else ""
    yield (
        f"{cohort.tasks:,} tasks{cases}; the clone took {cohort.clone_share:.1%} of the decisions "
        f"({cohort.clone_decisions:,}); bounds at {cohort.confidence:.2%}"
    )
    for measure in cohort.measures:
        expert, clone, difference, bounds, _, _ = shown(measure)
        beside = "" if measure.judged else ", looked at beside"
        yield (
            f"<b>{escape(measure.metric)}</b>{beside}: expert {expert}, clone {clone}, difference {difference} "
            f"({bounds}): {escape(measure.reason)}"
        )
    noises = [escape(told) for told in map(told_noise, cohort.measures) if told]
    lack = cohort.unmeasured or "nobody asked for it"
    yield f"The expert against itself: {'; '.join(noises) or f'not measured: {escape(lack)}'}"


def _recorded(cohort: CohortVerdict) -> str:
    if cohort.agreement is None or cohort.residual is None:
        return (
            "<p class=note>No recorded states of this cohort are held out, so its imitation residual is not known.</p>"
        )
    rows = [
        ["row:of what it would take, the expert's", f"n:{percent(cohort.agreement)}", f"bar:{_bar(cohort.agreement)}"],
        ["row:imitation residual, of all", f"n:{percent(cohort.residual)}", f"bar:{_bar(cohort.residual)}"],
    ]
    return table(("decisions in recorded states", "n:share, 95 % interval", ""), rows)


def _harms(harms: Sequence[Harm]) -> str:
    if not harms:
        return ""
    rows = [
        [
            f"row:{harm.kind} {harm.category}",
            f"n:{harm.regressions:,}",
            f"n:{harm.tasks:,}",
            f"n:{harm.bound:.2%}",
            f"n:{harm.refused_more or ''}",
        ]
        for harm in harms
    ]
    return table(("what the clone did and the expert did not", "n:tasks", "n:of", "n:at most", "n:refused more"), rows)


def _covered(cohort: CohortVerdict) -> str:
    told = cohort.coverage.get("told")
    if not told:
        return ""
    return f"<p class=note>Coverage: {escape(str(told))}.</p>"


def _about(report: GateReport) -> str:
    told = "".join(f"<li>{escape(line)}</li>" for line in (told_rare(report), told_spent(report), *told_beside(report)))
    return f"<h2>Besides</h2><ul class=facts>{told}</ul>"


def _badge(verdict: Verdict, word: str = "") -> str:
    return f'<span class="tone {_TONES[verdict]}">{word or verdict}</span>'


def _bar(figure: Figure) -> str:
    return whisker(Share(figure.value, figure.low, figure.high, figure.decisions))
