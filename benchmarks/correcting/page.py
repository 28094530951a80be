"""Show what on_policy.py measured as one HTML page: success by method beside its price, and what it depends on."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from imitrace_trainer.pages import page, table
from imitrace_trainer.plots import STYLE, Axis, Plot, Series, whisker
from imitrace_trainer.task_draws import Share

Json = dict[str, Any]
_UNBROKEN = "tbody th, tbody td { white-space: nowrap; overflow-wrap: normal }"


def render(found: Json) -> str:
    """Return the page of a report."""
    size = found["size"]
    opening = (
        "<h1>Correcting a clone where its own steps lead</h1>"
        f"<p class=note>Calls of the expert a method: {escape(_listed(size['calls']))}. "
        f"Up to {size['seeds']} repetitions, {size['tasks']} tasks each; 95 % intervals over repetitions and tasks. "
        f"{escape(found['machine'])}, {found['date']}.</p>"
    )
    plots = (
        _disagreement(found),
        _prices(found),
        _interventions(found),
        _mixes(found),
        _lives(found),
        _chain(found),
    )
    return page("Correcting a clone", [opening, *_worlds(found), *filter(None, plots)], STYLE + _UNBROKEN)


def worlds(found: Json) -> dict[str, Json]:
    """Return of a report what was measured in worlds, by name."""
    return {name: one for name, one in found.items() if isinstance(one, dict) and "in_distribution" in one}


def _worlds(found: Json) -> Iterator[str]:
    for world, settings in worlds(found).items():
        for setting, rows in settings.items():
            yield f"<h2>{escape(world.replace('_', ', '))}: {escape(setting.replace('_', ' '))}</h2>"
            head = ("method", "n:success", "", "n:over bc_guard", "", "n:runs", "n:calls", "n:thrown away", "n:steps")
            ordered = sorted(rows.items(), key=lambda one: -one[1]["success"])
            yield table(head, [_row(arm, row) for arm, row in ordered])


def _row(arm: str, row: Mapping[str, Any]) -> list[str]:
    success, lead = _share(row, "success"), row.get("over_bc_guard")
    over = [f"n:{100 * lead['value']:+.1f}", f"bar:{whisker(_share(lead), -0.4, 0.4)}"] if lead else ["n:", "n:"]
    prices = (row.get(name) for name in ("seeds", "expert_calls", "rejected_calls", "env_steps"))
    return [
        f"row:{arm}",
        f"n:{success.value:.1%} [{success.low:.1%}, {success.high:.1%}]",
        f"bar:{whisker(success)}",
        *over,
        *("n:" if price is None else f"n:{price}" for price in prices),
    ]


def _listed(calls: Mapping[str, int]) -> str:
    return ", ".join(f"{ground} {count}" for ground, count in calls.items())


def _disagreement(found: Json) -> str:
    """Plot how often clone and expert differ at each step, where the clone leads and where the expert does."""
    figures = [
        _figure(
            f"{world.replace('_', ', ')}: {arm} differs from the expert",
            Axis("step", 0, 15, percent=False),
            [_points(way, ways[way], "step", colour) for way, colour in (("own_way", "b"), ("experts_way", "a"))],
            f"{world.replace('_', ', ')}: {arm}, on its own way (red) and on the expert's (blue).",
        )
        for world, arms in found["disagreement"].items()
        for arm, ways in arms.items()
    ]
    return _section("Where clone and expert differ", figures)


def _prices(found: Json) -> str:
    """Plot success against calls of the expert, each method beside behaviour cloning with a guard."""
    price, base = found["price"], found["price"].get("bc_guard", [])
    most = max((row["calls"] for rows in price.values() for row in rows), default=0)
    figures = [
        _figure(
            f"{arm} by calls of the expert",
            Axis("calls", 0, most, percent=False),
            [_points("bc_guard", base, "calls", "a"), _points(arm, rows, "calls", "b")],
            f"{arm} (red) and bc_guard (blue), desk, fallible expert.",
        )
        for arm, rows in price.items()
        if arm != "bc_guard" and len(rows) > 1
    ]
    return _section("Success by calls of the expert", [*figures, _gains(price)] if figures else [])


def _gains(price: Mapping[str, Sequence[Json]]) -> str:
    """Show what a call of the expert brings: the lead over ``bc_guard`` at the same price, for each 100 calls."""
    rows = [
        [f"row:{arm}", f"n:{row['calls']}", f"n:{100 * gain['value']:+.1f}", f"bar:{whisker(_share(gain), -0.1, 0.1)}"]
        for arm, known in price.items()
        for row in known
        if (gain := row["gain"]) is not None
    ]
    return table(("method", "n:calls", "n:points over bc_guard for each 100 calls", ""), rows)


def _interventions(found: Json) -> str:
    """Plot success against how often the expert acts or is asked, over all steps that were paid for."""
    rows = found.get("desk_fallible", {}).get("in_distribution", {})
    handed, others = (
        [
            (rows[arm]["expert_calls"] / rows[arm]["env_steps"], _share(rows[arm], "success"))
            for arm in arms
            if arm in rows
        ]
        for arms in (("handover_50", "handover", "handover_90"), ("dagger", "oec", "bc"))
    )
    series = [Series("handover", handed, "b"), Series("others", others, "a", joined=False)]
    caption = "Desk, fallible expert, at one price: handover below a confidence of 0.5, 0.7, 0.9 (red); others blue."
    figures = [_figure("Success by share of steps in which the expert is asked", Axis("calls a step"), series, caption)]
    return _section("How often the expert is asked", figures if len(handed) > 1 else [])


def _mixes(found: Json) -> str:
    """Plot success against the share of what is learnt that corrections are made to be."""
    rows = found.get("desk_fallible", {}).get("in_distribution", {})
    mixes = sorted((int(arm.rpartition("_")[2]), row) for arm, row in rows.items() if arm.startswith("oec_mix_"))
    points = [(mix / 100, _share(row, "success")) for mix, row in mixes]
    caption = "oec at the desk, fallible expert, by the share of corrections in what is learnt."
    figures = [_figure("Success by mix", Axis("share of corrections"), [Series("oec", points)], caption)]
    return _section("The mix", figures if points else [])


def _lives(found: Json) -> str:
    """Plot success over ten refreshes of a desk that drifts, each way beside the expert."""
    cycles = list(found.get("drifting_fallible", {}).values())
    arms = sorted(set.intersection(*map(set, cycles))) if cycles else []
    lines = {arm: [(float(at), _share(rows[arm], "success")) for at, rows in enumerate(cycles)] for arm in arms}
    figures = [
        _figure(
            f"{arm} over ten refreshes",
            Axis("refresh", 0, len(cycles) - 1, percent=False),
            [Series("expert", lines["expert"], "a"), Series(arm, points, "b")],
            f"{arm} (red) and the expert (blue).",
        )
        for arm, points in lines.items()
        if arm != "expert" and "expert" in lines
    ]
    return _section("Ten refreshes of a desk that drifts", figures)


def _section(title: str, figures: Sequence[str]) -> str:
    return f"<h2>{escape(title)}</h2><div class=plots>{''.join(figures)}</div>" if figures else ""


def _figure(title: str, across: Axis, series: Sequence[Series], caption: str) -> str:
    return Plot(title, across, Axis("of the tasks" if across.title != "step" else "differ"), series).figure(caption)


def _points(name: str, rows: Sequence[Mapping[str, Any]], place: str, colour: str) -> Series:
    return Series(name, [(row[place], _share(row)) for row in rows], colour)


def _share(row: Mapping[str, Any], value: str = "value") -> Share:
    return Share(row[value], row["low"], row["high"], 0)


def _chain(report: Json) -> str:
    found = report["chain"]
    most = max(found["cost"]["bc"])
    series = [
        Series(
            name,
            [(length, Share(cost, cost, cost, 0)) for length, cost in zip(found["lengths"], costs, strict=True)],
            kind,
        )
        for (name, costs), kind in zip(found["cost"].items(), "ba", strict=True)
    ]
    across, up = (
        Axis("length", 0, max(found["lengths"]), percent=False),
        Axis("steps off the way", 0, most, percent=False),
    )
    told = ", ".join(
        f"{name} as length to the power of {one['value']} [{one['low']}, {one['high']}]"
        for name, one in found["exponent"].items()
    )
    drawn = Plot("Cost against length on a chain", across, up, series).figure(
        f"Cost grows: {told}; bc is the upper one."
    )
    return f"<h2>Error against length</h2><div class=plots>{drawn}</div>"
