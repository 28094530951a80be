"""Show what a check for drift found as one HTML page that needs nothing else."""

import math
from collections.abc import Iterator
from html import escape
from typing import Final

from imitrace_trainer.drift.findings import ALL, DETECTOR, DISAGREEMENT, Disagreeing, DriftReport, Tested, chance_told
from imitrace_trainer.pages import page, table
from imitrace_trainer.plots import STYLE, Axis, Plot, Series, whisker
from imitrace_trainer.task_draws import Share

_STYLE: Final = (
    STYLE
    + """
.tone { display: inline-block; border: 2px solid; border-radius: .4rem; font-size: .9rem; padding: 0 .45rem; }
.none { color: #1d6b34; } .drift { color: #a3301f; } .insufficient { color: #6b5300; }
@media (prefers-color-scheme: dark) { .none { color: #7fd197; } .drift { color: #f2917f; }
  .insufficient { color: #e0c060; } }
.scroll { overflow-x: auto; } td.bar { min-width: 9rem; width: 20%; } .facts li { margin: .25rem 0; }
"""
)
_REACH: Final = 5.0
"""Times the least effect that matters, as far as is drawn."""
_RARE: Final = 10.0
"""Decimal places of the smallest p value that is drawn."""


def render(report: DriftReport) -> str:
    """Return the page of a check."""
    sections = [_head(report), f"<h2>{DETECTOR}</h2>"]
    if any(test.effect is not None for test in report.tests):
        sections.append(f"<div class=plots>{_effects(report)}{_budget(report)}</div>")
    sections += [*_groups(report), *_tools(report)]
    if report.disagreeing is not None:
        sections.append(_disagreeing(report.disagreeing))
    return page(f"{report.clone} v{report.version}: drift", sections, _STYLE)


def _head(report: DriftReport) -> str:
    counts = report.counts
    facts = [*report.why, *report.notes] or ["nothing differs by more than chance and by as much as matters"]
    looked = f"This was look {report.look}" if report.new else f"This was no new look; the last was {report.look}"
    return (
        f"<h1>{escape(report.clone)} v{report.version} <span class='tone {report.verdict}'>{report.verdict}</span></h1>"
        f"<p class=note>{counts['recent']:,} trajectories that ended from {escape(report.since)} to {escape(report.at)}"
        f", {counts['fresh']:,} of them since the look before, beside {counts['training']:,} of training, of which the "
        f"fit never saw {counts['unseen']:,}. {looked} of this champion: a false alarm had a chance of at most "
        f"{report.level:.2g} of the {report.alpha:g} of its whole life.</p>"
        f"<ul class=facts>{''.join(f'<li>{escape(fact)}</li>' for fact in facts)}</ul>"
    )


def _effects(report: DriftReport) -> str:
    made = [test for test in report.tests if test.effect is not None and test.corrected is not None]
    dots = [
        Series(name, [_dot(test) for test in made if test.drifts(report.level) is drifting], colour, joined=False)
        for name, colour, drifting in (("no drift", "a", False), ("drift", "b", True))
    ]
    across, up = Axis("effect, in units of the least that matters", 0, _REACH, percent=False), "p, decimal places"
    drawn = Plot("Effect and p value of each test", across, Axis(up, 0, _RARE, percent=False), dots, marks=[1.0])
    return drawn.figure(
        "Each test: how large the difference is, and how unlikely by chance. Right of the line it is large enough to "
        f"matter; drift is what is besides above {-math.log10(report.level):.1f}. What lies beyond stands at the edge."
    )


def _dot(test: Tested) -> tuple[float, Share]:
    places = min(_RARE, -math.log10(max(test.corrected or 0.0, 1e-300)))
    return size(test), Share(places, places, places, 0)


def size(test: Tested) -> float:
    """Return an effect in units of the least that matters; of an AUROC, what it has above a half."""
    base = 0.5 if test.measure == "AUROC" else 0.0
    return min(_REACH, abs((test.effect or 0.0) - base) / max(test.relevant - base, 1e-9))


def _budget(report: DriftReport) -> str:
    spent, points = 0.0, []
    for look in report.looks:
        spent += look["level"]
        points.append((float(look["number"]), Share(spent, spent, spent, 0)))
    if not points:
        return ""
    last = max(5.0, points[-1][0])
    up = Axis("chance of a false alarm", 0, report.alpha)
    drawn = Plot("What the looks spent", Axis("look", 0, last, percent=False), up, [Series("spent", points)])
    verdicts = [look["verdict"] for look in report.looks]
    told = ", ".join(f"{verdicts.count(word)} {word}" for word in ("none", "drift", "insufficient"))
    return drawn.figure(f"What the looks that are remembered spent of this champion's {report.alpha:g}: {told}.")


def _groups(report: DriftReport) -> Iterator[str]:
    head = ("test", "", "effect", "n:size", "n:matters from", "n:p, corrected", "n:training", "n:now")
    verdicts = report.cohorts()
    for group in [ALL, *verdicts]:
        own = [test for test in report.tests if test.group == group]
        if own:
            told = "" if group == ALL else f" <span class='tone {verdicts[group]}'>{verdicts[group]}</span>"
            name = "All trajectories" if group == ALL else f"Cohort {escape(group)}"
            rows = [_row(test, report.level) for test in own]
            yield f"<h2>{name}{told}</h2><div class=scroll>{table(head, rows)}</div>"


def _row(test: Tested, level: float) -> list[str]:
    if test.effect is None:
        return [f"row:{test.name}", "td:insufficient", "bar:", "n:-", f"n:{test.relevant:g}", "n:-", "n:-", "n:-"]
    means = ["-" if value is None else f"{value:.3g}" for value in (test.before, test.now)]
    length = Share(size(test), 0.0, size(test), 0)
    drifting = "drift" if test.drifts(level) else ""
    return [
        *(f"row:{test.name}", f"td:{drifting}", f"bar:{whisker(length, 0.0, _REACH)}"),
        *(f"n:{test.measure} {test.effect:.3f}", f"n:{test.relevant:g}", f"n:{chance_told(test.corrected)}"),
        *(f"n:{mean}" for mean in means),
    ]


def _tools(report: DriftReport) -> Iterator[str]:
    if report.tools:
        rows = [
            [f"row:{shift.tool}", f"td:{shift.kind}", f"td:{shift.text}", f"n:{chance_told(shift.p)}"]
            for shift in report.tools
        ]
        yield f"<h2>Tools</h2>{table(('tool', '', 'what', 'n:p'), rows)}"


def _disagreeing(found: Disagreeing) -> str:
    shares = (
        ("audited decisions of those trusted: the expert did otherwise", found.audit.rate),
        ("handed over in doubt: the expert did otherwise", found.handovers.rate),
        ("an expert acted, recent: otherwise than the clone would", found.asked),
        ("an expert acted, training: otherwise than the clone would", found.training),
        ("where it would act, recent: agreement that its confidence promises", found.estimated),
        ("where it would act, training: agreement that its confidence promises", found.estimated_before),
    )
    rows = [
        [f"row:{name}", f"n:{share}" if share.decisions else "n:none", f"bar:{_bar(share)}"] for name, share in shares
    ]
    head = ("decisions", "n:share, 95 % interval over trajectories", "")
    return f"<h2>{DISAGREEMENT}</h2><div class=scroll>{table(head, rows)}</div>"


def _bar(share: Share) -> str:
    return whisker(share) if share.decisions else ""
