"""The page of a report: whole, without scripts, and with every figure that decides."""

from html.parser import HTMLParser

import pytest

from imitrace_trainer.gate import GateConfig, PairedCase, judge
from imitrace_trainer.gate_page import render

VOID = {"meta"}


class Page(HTMLParser):
    """Reads a page; what is left open, or closed without being open, is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.texts: list[str] = []
        self.marks: list[dict[str, str | None]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.marks.append(dict(attrs) | {"tag": tag})
        assert not any(name in {"src", "href"} or name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.marks.append(dict(attrs) | {"tag": tag})

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def of(cohort: str, n: int, lost: int = 0, expert: bool = True) -> list[PairedCase]:
    return [PairedCase(f"{cohort} {i}", cohort, expert, i >= lost) for i in range(n)]


@pytest.fixture(scope="module")
def page() -> Page:
    unsafe = [
        PairedCase(f"s {i}", "safety", True, True, clone_unsafe=i == 0, category="<b>fraud", expert_refused=True)
        for i in range(300)
    ]
    cases = [*of("common", 900), *of("<script>", 300, 60), *of("night", 20), *unsafe]
    report = judge(
        cases,
        GateConfig(waive={"long_tail": "none & no matter"}),
        method="rollout",
        dataset_hash="abc",
        clone="airline",
        version=3,
        created_at="today",
        again=of("common", 300, 2),
        unmeasured={"night": "nobody <knows>"},
    )
    return Page(render(report))


def test_a_page_is_whole_and_runs_nothing(page: Page) -> None:
    assert "script" not in page.names
    assert {"h1", "svg", "table", "section"} <= set(page.names)


@pytest.mark.parametrize(
    "told",
    [
        "airline v3 fail",
        "blocks it everywhere",
        "no cohort long_tail : none & no matter",
        "Then: block.",
        "Then: route to expert.",
        "nobody <knows>",
        "TaskCompletion -0.67 [-3",
        "refusal <b>fraud",
        "rare paths: no task",
        "No recorded states of this cohort are held out",
    ],
)
def test_a_page_says_what_decided(page: Page, told: str) -> None:
    assert told in page.text


def test_each_judged_measure_has_its_interval_and_its_margin(page: Page) -> None:
    kinds = [mark.get("class") for mark in page.marks]
    assert kinds.count("limit") == kinds.count("ends") == kinds.count("dot") == 4
    assert kinds.count("noise") == 1
    assert kinds.count("beyond") >= 1


def test_intervals_are_drawn_within_their_cell(page: Page) -> None:
    places = [float(mark[name] or 0) for mark in page.marks for name in ("x1", "x2") if mark.get("class") == "ends"]
    assert len(places) == 8 and all(0 <= place <= 300 for place in places)
