"""Show what on_policy.py measured as one HTML page: success by method beside its price, and cost against length."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from imitrace_trainer.pages import page, table
from imitrace_trainer.plots import STYLE, Axis, Plot, Series, whisker
from imitrace_trainer.task_draws import Share

Json = dict[str, Any]


def render(found: Json) -> str:
    """Return the page of a report."""
    size = found["size"]
    opening = (
        "<h1>Correcting a clone where its own steps lead</h1>"
        f"<p class=note>{size['calls']} calls of the expert a method, "
        f"{size['seeds']} repetitions, {size['tasks']} tasks each; 95 % intervals over repetitions and tasks. "
        f"{escape(found['machine'])}, {found['date']}.</p>"
    )
    return page("Correcting a clone", [opening, *_worlds(found), _chain(found["chain"])], STYLE)


def worlds(found: Json) -> dict[str, Json]:
    """Return of a report what was measured in worlds, by name."""
    return {name: one for name, one in found.items() if isinstance(one, dict) and "in_distribution" in one}


def _worlds(found: Json) -> Iterator[str]:
    for world, settings in worlds(found).items():
        for setting, rows in settings.items():
            yield f"<h2>{escape(world.replace('_', ', '))}: {escape(setting.replace('_', ' '))}</h2>"
            head = ("method", "n:success", "", "n:over bc_guard", "", "n:calls", "n:thrown away", "n:steps")
            ordered = sorted(rows.items(), key=lambda one: -one[1]["success"])
            yield table(head, [_row(arm, row) for arm, row in ordered])


def _row(arm: str, row: Mapping[str, Any]) -> list[str]:
    success, lead = _share(row, "success"), row.get("over_bc_guard")
    over = [f"n:{100 * lead['value']:+.1f}", f"bar:{whisker(_share(lead), -0.4, 0.4)}"] if lead else ["n:", "n:"]
    prices = (row.get(name, "") for name in ("expert_calls", "rejected_calls", "env_steps"))
    return [
        f"row:{arm}",
        f"n:{success.value:.1%} [{success.low:.1%}, {success.high:.1%}]",
        f"bar:{whisker(success)}",
        *over,
        *(f"n:{price}" for price in prices),
    ]


def _share(row: Mapping[str, Any], value: str = "value") -> Share:
    return Share(row[value], row["low"], row["high"], 0)


def _chain(found: Json) -> str:
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
