"""What docs/background.md and its diagram name is there, and the figures are those of the committed results."""

import contextlib
import io
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGE = (DOCS / "background.md").read_text(encoding="utf-8")
LINKS = [(words, target) for words, target in re.findall(r"\[([^\]]+)\]\(([^)]+)\)", PAGE) if "://" not in target]
DRAWN = ElementTree.parse(DOCS / "dagger.svg")  # noqa: S314 - our own file
FLOW = {"environment", "correcting/playing", "correction_rows", "curate", "datasets", "fit", "gate"}


def drawn(kind: str) -> list[str]:
    texts = DRAWN.iter("{http://www.w3.org/2000/svg}text")
    return ["".join(text.itertext()) for text in texts if text.get("class") == kind]


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("module", drawn("module"))
def test_every_module_in_the_diagram_is_there(module: str) -> None:
    assert (ROOT / "trainer" / "imitrace_trainer" / f"{module}.py").is_file()


def test_the_diagram_shows_the_whole_way_and_the_page_shows_the_diagram() -> None:
    assert sorted(FLOW - set(drawn("module"))) == []
    assert "](dagger.svg)" in PAGE


def test_the_diagrams_words_have_colours_in_light_and_dark() -> None:
    style = DRAWN.getroot()[0].text or ""
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    used = {element.get("class") for element in DRAWN.iter() if element.get("class")}
    assert [name for name in sorted(map(str, used)) if f".{name}{{" not in light or f".{name}{{" not in dark] == []


@pytest.mark.parametrize(("words", "target"), LINKS, ids=[words.strip("`") for words, _ in LINKS])
def test_what_the_page_links_is_there(words: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    page = (DOCS / path).resolve() if path else DOCS / "background.md"
    assert page.exists()
    assert not anchor or anchor in anchors(page)
    if words.startswith("`test_"):
        assert f"def {words.strip('`')}(" in page.read_text(encoding="utf-8")


def test_the_figures_are_those_of_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    code, told = (re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[0] for kind in ("python", "text"))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "docs/background.md", "exec"), {})  # noqa: S102 - what the page says to run
    assert printed.getvalue() == told
