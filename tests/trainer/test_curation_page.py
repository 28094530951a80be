from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.curation import curate_stage, page_of

HOSTILE = "<script>alert('x')</script>\"&"
COHORT = CohortConfig(name="desk", agent="desk", where=(Condition.parse("s >= 0.5"),))
CASES: list[dict[str, Any]] = [
    {"id": f"t{n}", "task": f"task {n}", "scores": {"s": n / 10}, "tags": {"intent": "refund"}, "started_at": n}
    for n in range(10)
]
VOID = {"meta"}


class Page(HTMLParser):
    """Reads a page; what is left open, or closed without being open, is an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        assert not any(name in {"src", "href"} or name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def page(home: Path, source: Path, cohort: CohortConfig = COHORT) -> Page:
    return Page(page_of(curate_stage(home, cohort, str(source))).read_text(encoding="utf-8"))


def test_a_page_stands_beside_the_version_and_shows_what_was_kept(
    tmp_path: Path, make_snapshot: Callable[..., Path]
) -> None:
    clone = {"id": "c", "roles": ["expert", "clone"], "task": "c", "scores": {"s": 1.0}}
    found = page(tmp_path, make_snapshot(*CASES, clone))
    text = " ".join(found.texts)
    assert (tmp_path / "datasets" / "desk" / "v1.html").is_file()
    assert "6 of 11 trajectories kept, 12 steps" in text
    assert "s 0.0, wanted >= 0.5" in text
    for shown in ("What the rules left", "refund", "lookup", "by a clone, not confirmed", "11 trajectories, mean"):
        assert shown in text
    assert "script" not in found.names


def test_a_page_counts_the_labels_of_scores(tmp_path: Path, make_snapshot: Callable[..., Path]) -> None:
    labelled = [case | {"scores": {"Review": "fair" if n < 6 else HOSTILE}} for n, case in enumerate(CASES)]
    cohort = CohortConfig(name="desk", agent="desk", where=(Condition.parse('Review == "fair"'),))
    texts = page(tmp_path, make_snapshot(*labelled), cohort).texts
    rows = [texts[place + 1 : place + 4] for place, text in enumerate(texts) if text == "Review"]
    assert rows == [[HOSTILE, "0", "4"], ["fair", "6", "0"]]


def test_a_page_says_what_is_learnt_from_failures(tmp_path: Path, make_snapshot: Callable[..., Path]) -> None:
    failure = {"id": "late", "task": "task 9", "scores": {"s": 0.0}, "outcome": "failure"}
    cohort = replace(COHORT, hindsight=0.5, split=SplitConfig(calibration=0, gate=0))
    source = make_snapshot(*(case | {"step": {"observation": "ok"}} for case in [*CASES, failure]))
    text = " ".join(page(tmp_path, source, cohort).texts)
    assert "2 steps of 1 failures, 16.7% of the train split's to learn from." in text
    assert "ended in failure" not in text


@pytest.mark.parametrize(("action", "said"), [("mask", "the files hold them still"), ("count", "Only counted")])
def test_a_page_counts_personal_data_by_rule_and_shows_none(
    tmp_path: Path, make_snapshot: Callable[..., Path], action: str, said: str
) -> None:
    address = "anna.berg@example.org"
    cohort = replace(COHORT, personal_data=("email", "phone"), personal_data_action=action)
    found = page(tmp_path, make_snapshot(*CASES, {"id": "a", "says": address, "scores": {"s": 1.0}}), cohort)
    place = found.texts.index("Personal data")
    assert found.texts[place:][5:11] == ["email", "1", "1", "phone", "0", "0"]
    assert said in " ".join(found.texts)
    assert not any(address in text for text in found.texts)


@pytest.mark.parametrize("place", ["tags", "task", "step", "scores", "says", "incomplete_reason"])
def test_what_traces_say_is_never_markup(tmp_path: Path, make_snapshot: Callable[..., Path], place: str) -> None:
    said: Any = {
        "tags": {HOSTILE: HOSTILE},
        "step": {"action_name": HOSTILE, "error_type": HOSTILE},
        "scores": {"s": 1.0, HOSTILE: 0.5},
    }.get(place, HOSTILE)
    rest: dict[str, Any] = {"complete": False} if place == "incomplete_reason" else {}
    hostile = {"id": HOSTILE, "task": "x", "scores": {"s": 1.0}, place: said} | rest
    assert "script" not in page(tmp_path, make_snapshot(*CASES, hostile)).names


def test_a_version_without_scores_or_rejections_has_a_page(tmp_path: Path, make_snapshot: Callable[..., Path]) -> None:
    whole = CohortConfig(name="desk", agent="desk", split=SplitConfig(calibration=0, gate=0))
    text = " ".join(page(tmp_path, make_snapshot({"id": "t"}), whole).texts)
    assert "1 of 1 trajectories kept" in text
    assert "No scores." in text


def test_a_lost_page_is_written_again(tmp_path: Path, make_snapshot: Callable[..., Path]) -> None:
    source = make_snapshot(*CASES)
    dataset = curate_stage(tmp_path, COHORT, str(source))
    page_of(dataset).unlink()
    assert not curate_stage(tmp_path, COHORT, str(source)).created
    assert page_of(dataset).is_file()


def test_the_same_snapshot_gives_the_same_files(tmp_path: Path, make_snapshot: Callable[..., Path]) -> None:
    source = make_snapshot(*CASES)
    one, other = (curate_stage(tmp_path / home, COHORT, str(source)) for home in ("a", "b"))
    assert one.hash == other.hash
    for path in one.path.glob("*.parquet"):
        assert path.read_bytes() == (other.path / path.name).read_bytes()
