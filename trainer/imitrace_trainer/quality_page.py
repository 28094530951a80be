"""Show how far a clone's word can be trusted as one HTML page that needs nothing else: plots, and their tables."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from imitrace_trainer.card import RARE_TASKS
from imitrace_trainer.figures import Ablated, Quality, Refits, Reliability, Slice
from imitrace_trainer.ladder import Rung
from imitrace_trainer.pages import page, table
from imitrace_trainer.plots import STYLE, Axis, Plot, Series, whisker
from imitrace_trainer.quality_verdicts import HONEST, Verdict, called, points, signed, verdicts
from imitrace_trainer.task_draws import Share

_STYLE: Final = (
    STYLE
    + """
.tone { display: inline-block; border: 2px solid; border-radius: .4rem; font-size: .8rem; padding: 0 .45rem;
  margin-right: .5rem; vertical-align: .1em; white-space: nowrap; }
.good { color: #1d6b34; } .bad { color: #a3301f; } .cant { color: #6b5300; }
@media (prefers-color-scheme: dark) { .good { color: #7fd197; } .bad { color: #f2917f; } .cant { color: #e0c060; } }
.scroll { overflow-x: auto; } .scroll:focus-visible { outline: 2px solid var(--bar); outline-offset: 2px; }
.scroll { margin-bottom: 1.2rem; } .scroll table { min-width: 34rem; }
.scroll th.name { min-width: 8rem; overflow-wrap: break-word; }
td.n { white-space: nowrap; }
td.bar { width: 20%; min-width: 6rem; } .overview li { margin: .3rem 0; } th.n { white-space: nowrap; }
"""
)
_TOPS: Final = (0.1, 0.2, 0.25, 0.5)
"""Where an axis of shares may end."""
_INTERVAL: Final = "n:95 % interval"


def render(quality: Quality, rungs: Sequence[Rung] = ()) -> str:
    """Return the page; ``rungs`` are the families that it was compared with."""
    told = verdicts(quality)
    sections = [
        _head(quality),
        _overview(told),
        _section(told["agreement"], _families(quality, rungs)),
        _section(told["reliability"], _reliability(quality)),
        _section(told["risk"], _risk(quality)),
        _section(told["tools"], _tools(quality.tools)),
        _section(told["cohorts"], _cohorts(quality.cohorts)),
        _section(told["states"], _states(quality)),
        _section(told["critic"], _critic(quality)),
        *_refitted(quality.refits, told),
        _limits(quality),
    ]
    return page(f"{_named(quality)}: how far its word can be trusted", sections, _STYLE)


def _named(quality: Quality) -> str:
    version = quality.origin.version
    return quality.origin.clone + (f" v{version}" if version else "")


def _head(quality: Quality) -> str:
    origin = quality.origin
    return (
        f"<h1>{escape(_named(quality))}</h1><p class=note>How far its word can be trusted. Family {origin.family}, "
        f"trained {escape(origin.trained_at)} on {quality.trained_tasks:,} tasks of {escape(origin.dataset)} "
        f"v{origin.dataset_version}, content <code>{escape(origin.dataset_hash)}</code>. Measured "
        f"{escape(origin.measured_at)} on <b>{quality.tasks:,} held-out tasks, {quality.decisions:,} decisions</b>: "
        f"the gate's, to which nothing was fitted and by which nothing was chosen. The calibration tasks, "
        f"{quality.calibration_tasks:,} with {quality.calibration_decisions:,} decisions, are shown only where it says "
        f"so. Intervals are of 95 %, from 1,000 draws of whole tasks.</p>"
    )


def _overview(told: dict[str, Verdict]) -> str:
    lines = "".join(f"<li>{_badge(one)}{escape(one.sentence)}.</li>" for one in told.values())
    return f"<ul class=overview>{lines}</ul>"


def _badge(verdict: Verdict) -> str:
    kind = {"good": "good", "bad": "bad"}.get(verdict.tone, "cant")
    return f'<span class="tone {kind}">{verdict.tone}</span>'


def _section(verdict: Verdict, body: str) -> str:
    return f"<section><h2>{_badge(verdict)}{escape(verdict.sentence)}</h2>{body}</section>"


def _listed(about: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table that is reached by the keyboard where it is wider than the window."""
    return f'<div class=scroll role=region tabindex=0 aria-label="{escape(about)}">{table(head, rows)}</div>'


def _figures(share: Share) -> list[str]:
    """Return the three cells of a share."""
    if not share.decisions:
        return ["n:", "n:", "bar:"]
    interval = f"{share.low:.1%} to {share.high:.1%}"
    return [f"n:{share.value:.1%}", f"n:{interval}", f"bar:{whisker(share)}"]


def _families(quality: Quality, rungs: Sequence[Rung]) -> str:
    rows = [
        ["row:the same action", *_figures(quality.agreement)],
        ["row:the same by the previous action's table", *_figures(quality.floor)],
        ["row:the same action and arguments", *_figures(quality.exact)],
    ]
    note = (
        "<p class=note>A reply that is left to the expert counts as the same whatever it says, one that the clone "
        "gives only if it is the expert's. Agreement is not correctness: where the expert errs, agreeing errs with it. "
        f"The lead over the table is {signed(quality.lead)} points.</p>"
    )
    shown = note + _listed("Agreement with the expert", ("held out", "n:share", _INTERVAL, ""), rows)
    if not rungs:
        return shown
    rows = [
        [
            f"row:{rung.family}{'' if number else ' (ships)'}",
            *_figures(rung.gate),
            f"n:{signed(rung.behind) if number else ''}",
        ]
        for number, rung in enumerate(rungs)
    ]
    head = ("family", "n:action and arguments", _INTERVAL, "", "n:points behind what ships")
    note = (
        "<p class=note>The families that were fitted. The calibration tasks chose; the held-out tasks had no say.</p>"
    )
    return shown + note + _listed("The families beside each other", head, rows)


def _reliability(quality: Quality) -> str:
    note = (
        "<p class=note>On the dashed line confidence says what is true; below it the clone boasts, above it is modest. "
        f"Good: a mean gap (ECE) of {HONEST} or less. Each dot is a tenth of the decisions.</p>"
    )
    shown = (
        ("Held-out tasks", quality.reliability),
        ("Calibration tasks, each by a calibration fitted to the others", quality.on_calibration),
    )
    plots = "".join(_reliability_plot(name, one) for name, one in shown)
    tables = "".join(_bins(name, one) for name, one in shown)
    return f"{note}<div class=plots>{plots}</div>{tables}"


def _reliability_plot(name: str, found: Reliability) -> str:
    series = Series(name, [(one.confidence, one.right) for one in found.bins], joined=False)
    plot = Plot(f"Reliability diagram: {name}", Axis("confidence"), Axis("share right"), [series], diagonal=True)
    error = f"{found.error.value:.3f} [{found.error.low:.3f}, {found.error.high:.3f}]"
    return plot.figure(
        f"{name}: ECE {error}, by chance {found.by_chance:.3f}; too sure by {signed(found.excess)} points."
    )


def _bins(name: str, found: Reliability) -> str:
    rows = [
        [f"row:{one.confidence:.3f}", f"n:{one.right.decisions:,}", f"n:{one.tasks:,}", *_figures(one.right)]
        for one in found.bins
    ]
    head = ("mean confidence", "n:decisions", "n:tasks", "n:right", _INTERVAL, "")
    return f"<p class=note>{escape(name)}</p>" + _listed(f"Reliability, {name}", head, rows)


def _risk(quality: Quality) -> str:
    note = (
        "<p class=note>The surer the clone must be, the less it takes and the less of that is wrong. Low and flat is "
        "good; a curve that begins high means that even its surest calls can't be trusted. It ends where the clone's "
        f"calls do: {_replies(quality)}.</p>"
    )
    series = Series("wrong", [(one.coverage, one.risk) for one in quality.risk_coverage], colour="b")
    reach = max([0.0, *(one.risk.high for one in quality.risk_coverage)])
    top = next((top for top in _TOPS if reach <= top), 1.0)
    marks = (
        [quality.acted.value - (quality.said.value if quality.said else 0.0)] if quality.acted_right.decisions else []
    )
    across, up = Axis("share of decisions that it takes"), Axis("share of those wrong", high=top)
    plot = Plot("Risk-coverage curve: wrong decisions by share taken", across, up, [series], marks=marks)
    kept = "The upright line is where its own threshold stands." if marks else "Its own threshold takes nothing."
    rows = [
        [f"row:{one.confidence:.3f}", f"n:{one.coverage:.1%}", *_figures(one.risk)] for one in quality.risk_coverage
    ]
    head = ("from this confidence", "n:takes", "n:wrong", _INTERVAL, "")
    curve = f"<div class=plots>{plot.figure(kept)}</div>" + _listed("Risk and coverage by threshold", head, rows)
    return note + curve + _promised(quality)


def _replies(quality: Quality) -> str:
    if quality.said is None:
        return "its replies are left to the expert"
    told = f"by a threshold of its own it would also reply in {points(quality.said)} of the decisions"
    right = quality.said_right
    return f"{told}, in the expert's words in {points(right)} of those" if right and right.decisions else told


def _promised(quality: Quality) -> str:
    rows = []
    for one in quality.promises:
        kept = "nothing can be promised" if one.threshold is None else f"{one.threshold:.3f}"
        wrong = points(one.risk) if one.risk.decisions else ""
        taken = points(one.coverage) if one.threshold is not None else ""
        held = "" if not one.risk.decisions else "yes" if one.risk.value <= one.error else "no"
        rows.append([f"row:{one.error:.0%} wrong", f"name:{kept}", f"n:{taken}", f"n:{wrong}", f"name:{held}"])
    note = (
        f"<p class=note>What thresholds promise that the calibration tasks prove with {quality.proof:.0%} confidence, "
        "and what came of it on the held-out tasks.</p>"
    )
    head = ("at most", "from this confidence", "n:takes", "n:wrong", "kept?")
    return note + _listed("Promises and what came of them", head, rows)


def _tasks(count: int) -> str:
    return f"n:{count:,}{' (few)' if count < RARE_TASKS else ''}"


def _hundredths(share: Share) -> str:
    """Return a share of a narrow column, in points of a hundred."""
    if not share.decisions:
        return "n:none"
    return f"n:{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def _acted(one: Slice) -> list[str]:
    return [_hundredths(one.acted), _hundredths(one.acted_right)]


def _tools(tools: Sequence[Slice]) -> str:
    note = (
        "<p class=note>By what the expert did, in percent. Rows of few tasks, fewer than "
        f"{RARE_TASKS}, say little: their intervals are too narrow. Right to choose: where the clone chose the tool, "
        "the expert did too.</p>"
    )
    head = ("expert did", "n:times", "n:tasks", "n:same tool", "n:and arguments", "", "n:right to choose")
    rows = [
        [
            f"row:{called(one.name)}",
            f"n:{one.exact.decisions:,}",
            _tasks(one.tasks),
            _hundredths(one.agreement),
            _hundredths(one.exact),
            f"bar:{whisker(one.exact)}",
            _hundredths(one.chosen_right),
        ]
        for one in tools
    ]
    acted = [[f"row:{called(one.name)}", *_acted(one)] for one in tools if one.acted_right.decisions]
    taken = _listed("What it would take, by tool", ("expert did", "n:would take", "n:of that right"), acted)
    return note + _listed("Tools", head, rows) + (taken if acted else "")


def _cohorts(cohorts: Sequence[Slice]) -> str:
    note = (
        "<p class=note>In percent. What it may do in each is the gate's to say; <code>imitrace gate</code> asks it. "
        "Beyond the accepted distance from its training states the expert acts.</p>"
    )
    head = (
        "cohort",
        "n:decisions",
        "n:tasks",
        "n:same action",
        "n:and arguments",
        "n:would take",
        "n:of that right",
        "n:too far",
    )
    rows = [
        [
            f"row:{one.name}",
            f"n:{one.exact.decisions:,}",
            _tasks(one.tasks),
            _hundredths(one.agreement),
            _hundredths(one.exact),
            *_acted(one),
            _hundredths(one.strange),
        ]
        for one in cohorts
    ]
    return note + _listed("Cohorts", head, rows)


def _states(quality: Quality) -> str:
    found = quality.states
    if found is None:
        return _distances(quality)
    compared = (
        f"<p class=note>One state of each of {found.before:,} training and {found.now:,} held-out tasks, as deep in "
        "them. AUROC 0.5: nothing tells them. Where something does, as where tasks are held out by date, the figures "
        "here are of what comes, not of what it was trained on. Recent traffic: see <code>imitrace drift</code>.</p>"
    )
    return compared + _distances(quality)


def _distances(quality: Quality) -> str:
    note = (
        "<p class=note>By how far a state is from those of training: fifths of the held-out decisions, the nearest "
        "first, in percent. 1 is the accepted distance. Agreement that falls with distance is what the limit is "
        "for; where it does not, the limit costs coverage and averts nothing."
    )
    if len({one.least for one in quality.distances}) < len(quality.distances):
        note += " Rows of one distance are in no order: this family tells few distances apart."
    rows = [
        [
            f"row:{one.least:.2f} to {one.most:.2f}",
            f"n:{one.exact.decisions:,}",
            _tasks(one.tasks),
            _hundredths(one.agreement),
            _hundredths(one.exact),
            f"bar:{whisker(one.exact)}",
        ]
        for one in quality.distances
    ]
    head = ("distance", "n:decisions", "n:tasks", "n:same action", "n:and arguments", "")
    return f"{note}</p>" + _listed("Agreement by distance", head, rows)


def _critic(quality: Quality) -> str:
    found = quality.critic
    note = (
        "<p class=note>AUROC: how often a call of a success is rated above one of a failure; 0.5 is chance. Long "
        "trajectories tend to fail, so a critic must beat the number of steps so far.</p>"
    )
    if found is None:
        return note
    refused = f"<p class=note>{escape(found.refused)}</p>" if found.refused else ""
    told = (("the critic", found.auroc), ("the number of steps so far", found.by_length))
    rows = [
        [f"row:{name}", f"n:{one.value:.3f}", f"n:{one.low:.3f} to {one.high:.3f}", f"bar:{whisker(one)}"]
        for name, one in told
    ]
    return note + refused + _listed("Critic", ("rated by", "n:AUROC", _INTERVAL, ""), rows)


def _refitted(refits: Refits | None, told: dict[str, Verdict]) -> list[str]:
    if refits is None:
        note = "Not measured: they take a fit each. <code>imitrace report CLONE --full</code> makes them."
        return [f"<section><h2>Learning curve, and what each group of features is worth</h2><p>{note}</p></section>"]
    return [_section(told["learning"], _learning(refits)), _section(told["ablation"], _ablation(refits))]


def _learning(refits: Refits) -> str:
    note = "<p class=note>The clone fitted again to parts of its training tasks, each part within the next.</p>"
    most = max((one.tasks for one in refits.learning), default=1)
    series = [
        Series("the same action", [(one.tasks, one.agreement) for one in refits.learning]),
        Series("and arguments", [(one.tasks, one.exact) for one in refits.learning], colour="b"),
    ]
    plot = Plot("Learning curve", Axis("training tasks", 0, most, percent=False), Axis("share right"), series)
    rows = [
        [
            f"row:{one.tasks:,}",
            f"n:{one.decisions:,}",
            f"n:{points(one.agreement)}",
            f"n:{points(one.exact)}",
            f"n:{signed(one.gain) if number else ''}",
        ]
        for number, one in enumerate(refits.learning)
    ]
    head = ("training tasks", "n:decisions", "n:same action", "n:and arguments", "n:points gained")
    shown = f"<div class=plots>{plot.figure('Blue: the same action. Red: and arguments.')}</div>"
    return note + shown + _listed("Learning curve", head, rows)


def _ablation(refits: Refits) -> str:
    note = (
        "<p class=note>The clone fitted again without one group of features at a time, to all its training tasks. "
        "Right of the line: it is worse without. A group worth no more than another seed may be worth nothing, and "
        "of twenty groups worth nothing one leaves its interval by chance.</p>"
    )
    ranked = sorted(refits.ablation, key=lambda one: -one.worth.value)
    reach = max([0.02, *(max(abs(one.worth.low), abs(one.worth.high)) for one in [*ranked, refits.another_seed])])
    rows = [_ablated(f"row:without {one.left_out}", one, reach) for one in ranked]
    rows.append(_ablated("row:with all, another seed", refits.another_seed, reach))
    head = ("fitted again", "n:same action", "n:points worse", "")
    return note + _listed("What each group of features is worth", head, rows)


def _ablated(name: str, one: Ablated, reach: float) -> list[str]:
    return [name, f"n:{points(one.agreement)}", f"n:{signed(one.worth)}", f"bar:{whisker(one.worth, -reach, reach)}"]


def _limits(quality: Quality) -> str:
    lines = [
        "whether the expert was right. All is agreement with it; an expert that fails is agreed with too.",
        "how a task goes on when the clone acts. Each decision is taken on the expert's own history; one that differs "
        "would have led elsewhere. Only the gate with a rollout plays that.",
        "anything of other agents, tools or times than the dataset's. Tasks were held out by chance, not by date.",
        f"much of what few tasks hold. Fewer than {RARE_TASKS} make an interval too narrow; such rows are marked.",
        "which of many figures stands out by chance: of twenty intervals one is expected to miss.",
    ]
    if quality.threshold is not None:
        lines.append(
            "how often it acts in service: that takes a gate that passed in the cohort, which is not asked here."
        )
    shown = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<section><h2>What this page can't say</h2><ul>{shown}</ul></section>"
