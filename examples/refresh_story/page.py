"""Draw the story: which share the clone took in each cohort, and how much was solved beside the expert alone."""

from collections.abc import Sequence
from html import escape

from imitrace_trainer.intervals import wilson
from imitrace_trainer.pages import STYLE as PAGE_STYLE
from imitrace_trainer.plots import STYLE, Axis, Plot, Series
from imitrace_trainer.task_draws import Share
from refresh_story.shop import COHORTS
from refresh_story.story import Told


def render(told: Sequence[Told]) -> str:
    """Return the page."""
    across = Axis("day", 1, len(told), percent=False)
    marks = [one.number for one in told if one.events]
    colours = dict(zip(COHORTS, "ab", strict=True))
    shares = [
        Series(name, [(one.number, _share(one.day.by_clone[name], one.day.decisions[name])) for one in told], colour)
        for name, colour in colours.items()
    ]
    solved = [
        Series("clone and expert", [(one.number, _all(one.day.solved, one)) for one in told], "a"),
        Series("expert alone", [(one.number, _all(one.day.by_expert, one)) for one in told], "b", joined=False),
    ]
    plots = [
        Plot("share of the clone by day", across, Axis("decisions by the clone"), shares, marks=marks).figure(
            "Decisions that the clone took: orders (first colour), accounts (second)."
        ),
        Plot("solved by day", across, Axis("tickets solved", 0.9), solved, marks=marks).figure(
            "Tickets solved by clone and expert together (line), and by the expert alone on the same ones (dots)."
        ),
    ]
    events = "".join(f"<li>day {one.number}: {escape(event)}</li>" for one in told for event in one.events)
    head = f"<!doctype html><meta charset=utf-8><title>The refresh story</title><style>{PAGE_STYLE}{STYLE}</style>"
    return f"{head}<main><h1>The refresh story</h1><div class=plots>{''.join(plots)}</div><ol>{events}</ol></main>\n"


def _all(solved: dict[str, int], told: Told) -> Share:
    return _share(sum(solved.values()), sum(told.day.tickets.values()))


def _share(hits: int, count: int) -> Share:
    low, high = wilson(hits, count)
    return Share(hits / max(1, count), low, high, count)
