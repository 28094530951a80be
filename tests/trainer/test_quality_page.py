"""One page with every figure: it needs nothing else, and each plot has its table."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from imitrace_trainer.drift.visited_states import StatesCompared
from imitrace_trainer.figures import Ablated, CriticFigures, LearningPoint, Origin, Quality, Refits, Reliability
from imitrace_trainer.ladder import Rung
from imitrace_trainer.quality import Judged, by_cohort, by_distance, by_tool, promises, reliability, risk_coverage
from imitrace_trainer.quality_page import render
from imitrace_trainer.quality_verdicts import verdicts
from imitrace_trainer.task_draws import Share, TaskDraws

VOID = {"meta", "line", "rect", "circle", "polygon", "polyline", "br"}
EMPTY = Share(0, 0, 1, 0)


HALF, GAIN = Share(0.5, 0.4, 0.6, 100), Share(0.65, 0.64, 0.66, 100)
REFITS = Refits(
    [LearningPoint(20, 40, HALF, HALF, HALF), LearningPoint(150, 300, HALF, HALF, GAIN)],
    [Ablated("facts", HALF, GAIN), Ablated("history", HALF, Share(-0.01, -0.02, 0.01, 100))],
    Ablated("", HALF, Share(0.0, -0.01, 0.01, 100)),
    12.0,
)


def desk(**changed: object) -> Quality:
    """Return the figures of fifty tasks with two decisions each, every fifth wrong."""
    rows = [
        Judged(
            task=str(task),
            cohort="safety" if task % 3 else "common",
            label=("look", "refund")[turn],
            guess="look" if (task + turn) % 5 == 0 else ("look", "refund")[turn],
            exact=(task + turn) % 5 > 0,
            confidence=0.5 + task / 100,
            ood=task / 40,
            acts=task > 30,
        )
        for task in range(50)
        for turn in (0, 1)
    ]
    draws = TaskDraws([one.task for one in rows])
    right = draws.share([one.exact for one in rows])
    return replace(
        Quality(
            origin=Origin("desk", 3, "embedded", "desk", 2, "abc", "2026-11-21", "2026-11-22"),
            tasks=50,
            decisions=100,
            trained_tasks=150,
            calibration_tasks=50,
            calibration_decisions=100,
            agreement=right,
            exact=right,
            floor=HALF,
            lead=GAIN,
            reliability=reliability(rows, draws),
            on_calibration=reliability(rows, draws),
            risk_coverage=risk_coverage(rows, draws),
            promised=0.05,
            proof=0.9,
            threshold=0.9,
            acted=HALF,
            acted_right=HALF,
            promises=promises(rows, rows, draws, 0.9),
            tools=by_tool(rows, draws),
            cohorts=by_cohort(rows, draws),
            distances=by_distance(rows, draws),
            critic=CriticFigures(GAIN, HALF, None),
            refits=REFITS,
        ),
        **changed,  # type: ignore[arg-type]  # named by the test
    )


class Page(HTMLParser):
    """Reads a page, and fails where it is not whole or would fetch or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.names: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        assert tag not in {"script", "iframe", "object", "link"}
        assert not any(name in {"src", "href"} or name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


RUNGS = [Rung("embedded", HALF, HALF, HALF), Rung("frequency", HALF, HALF, GAIN)]


def test_the_page_says_of_what_it_is_on_how_much_and_what_it_cannot_say() -> None:
    found = Page(render(desk(), RUNGS))
    for said in ("desk v3", "50 held-out tasks, 100 decisions", "abc", "2026-11-22", "What this page can't say"):
        assert said in found.text
    assert all(f"{verdict.sentence}." in found.text for verdict in verdicts(desk()).values())
    assert "embedded (ships)" in found.text
    assert "+65.0 [+64.0, +66.0]" in found.text


def test_each_plot_has_a_name_a_caption_and_a_table_that_the_keyboard_reaches() -> None:
    text = render(desk(), RUNGS)
    plots = re.findall(r'<figure><svg [^>]*role=img aria-label="([^"]+)"', text)
    assert len(plots) == 4
    assert text.count("<figcaption>") == 4
    regions = re.findall(r'role=region tabindex=0 aria-label="([^"]+)"><table>', text)
    assert len(regions) == text.count("<table>") == len(set(regions))
    assert text.count("<th scope=row") >= text.count("<tr>") - len(regions)


def test_no_number_leaves_its_plot() -> None:
    found = [float(x) for x in re.findall(r"\b(?:x1|x2|cx)=(-?[0-9.]+)", render(desk(), RUNGS))]
    assert found
    assert all(0 <= x <= 420 for x in found)


@pytest.mark.parametrize(
    "changed",
    [
        {"refits": None, "critic": None},
        {"tools": [], "cohorts": [], "distances": [], "promises": [], "risk_coverage": []},
        {"threshold": None, "acted": EMPTY, "acted_right": EMPTY, "agreement": EMPTY, "exact": EMPTY, "decisions": 0},
        {"reliability": Reliability([], EMPTY, 0.0, EMPTY), "on_calibration": Reliability([], EMPTY, 0.0, EMPTY)},
    ],
)
def test_a_page_is_whole_whatever_is_missing(changed: dict[str, object]) -> None:
    found = Page(render(desk(**changed)))
    assert ("imitrace report CLONE --full" in found.text) == ("refits" in changed)


def test_names_from_the_data_are_only_text() -> None:
    (tool, *others), origin = desk().tools, desk().origin
    nasty = "<script>alert('x')</script>&amp;\""
    found = desk(tools=[replace(tool, name=nasty), *others], origin=replace(origin, clone=nasty))
    assert Page(render(found)).text.count(nasty) == 4


def test_the_same_figures_give_the_same_page() -> None:
    assert render(desk(), RUNGS) == render(desk(), RUNGS)


def test_the_held_out_states_are_told_beside_those_of_training() -> None:
    found = Page(render(desk(states=StatesCompared(1200, 50, 0.7, 0.002))))
    assert "One state of each of 1,200 training and 50 held-out tasks" in found.text
    assert "The held-out states can be told from those of training" in found.text


def test_agreement_is_told_by_distance() -> None:
    found = Page(render(desk()))
    assert "distance decisions tasks same action and arguments 0.00 to 0.23 20 10 90.0 [" in found.text
    nearest, *others = desk().distances
    assert "tells few distances apart" not in found.text
    assert "tells few distances apart" in Page(render(desk(distances=[nearest, nearest, *others]))).text


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, "calls do: its replies are left to the expert."),
        ({"said": HALF, "said_right": EMPTY}, "would also reply in 50.0% [40.0%, 60.0%] of the decisions."),
        ({"said": HALF, "said_right": GAIN}, "in the expert's words in 65.0% [64.0%, 66.0%] of those."),
    ],
)
def test_replies_are_told_beside_the_curve_of_calls(changed: dict[str, object], told: str) -> None:
    assert told in Page(render(desk(**changed))).text
