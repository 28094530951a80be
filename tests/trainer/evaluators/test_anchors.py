from pathlib import Path

import pytest

from imitrace_trainer.evaluators.anchors import anchors_of
from imitrace_trainer.evaluators.wordings import plain, read_wordings

SAMPLES = Path(__file__).parents[3] / "benchmarks" / "score_samples"


@pytest.mark.parametrize(
    ("pattern", "anchors"),
    [
        ("ignore", {"ignore"}),
        (r"\bignore\s+(?:all|every)", {"ignore"}),
        ("(?:reveal|show)s? me", {"reveal", "show"}),
        ("(?:reveal|show)", {"reveal", "show"}),
        ("(?:reveal|x)", None),
        ("(?:secret)?", None),
        ("(?:secret){2}", {"secret"}),
        ("(?!secret)abc", {"abc"}),
        (r"\w+", None),
    ],
)
def test_an_anchor_is_what_a_text_must_have(pattern: str, anchors: set[str] | None) -> None:
    found = anchors_of(pattern)
    assert (found and set(found)) == anchors


@pytest.mark.parametrize("name", ["injection", "toxicity"])
def test_no_wording_is_missed_for_its_anchors(name: str) -> None:
    known, _ = read_wordings(f"{name}.wordings")
    for line in (SAMPLES / f"{name}.tsv").read_text(encoding="utf-8").splitlines():
        text = plain(line.split("\t")[2])
        possible = [*known.possible(text)]
        assert all(wording in possible for wording in known.all if wording.pattern.search(text))
