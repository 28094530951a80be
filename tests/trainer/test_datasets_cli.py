import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from imitrace.cli import main
from imitrace.exceptions import ConfigError
from imitrace_trainer.datasets_cli import named_version

CASES: list[dict[str, Any]] = [
    {"id": f"t{n}", "task": f"task {n}", "scores": {"s": n / 10}, "tags": {"cohort": "common"}} for n in range(10)
]


def imitrace(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def home(tmp_path: Path, make_snapshot: Callable[..., Path]) -> Path:
    """A workspace with two versions of a dataset, of which the second is stricter."""
    source, config = make_snapshot(*CASES), tmp_path / "imitrace.toml"
    for least in (0.2, 0.5):
        config.write_text(f'[cohort.desk]\nagent = "desk"\nwhere = ["s >= {least}"]\n')
        done = imitrace("curate", "desk", "--source", source, "--home", tmp_path / "home", "--config", config)
        assert done.exit_code == 0, done.output
    return tmp_path / "home"


def test_datasets_are_listed_with_their_pages(home: Path) -> None:
    told = imitrace("datasets", "--home", home).output
    assert "desk v1" in told
    assert str(home / "datasets" / "desk" / "v2.html") in told
    assert [found["name"] for found in json.loads(imitrace("datasets", "--home", home, "--json").output)] == [
        "desk"
    ] * 2


def test_a_difference_says_which_rule_did_it(home: Path) -> None:
    told = imitrace("datasets", "diff", "desk@1", "desk", "--home", home).output
    assert "went        3  scores" in told
    assert "asked  where: ['s >= 0.2'] -> ['s >= 0.5']" in told
    found = json.loads(imitrace("datasets", "diff", "desk@v1", "desk@2", "--home", home, "--json").output)
    assert (found["went"], found["came"]) == ({"scores": 3}, {})
    assert {"trajectory_id": "t2", "what": "went", "why": "scores"} in found["rows"]


def test_coverage_says_how_many_more_tasks_the_gate_needs(home: Path) -> None:
    assert "more tasks for a decidable gate" in imitrace("datasets", "coverage", "desk", "--home", home).output
    options = ("--margin", "0.9", "--disagreement", "0", "--json")
    (found,) = json.loads(imitrace("datasets", "coverage", "desk@1", "--home", home, *options).output)
    assert (found["kind"], found["needed"]) == ("common", 2)


@pytest.mark.parametrize(
    ("text", "wanted"), [("desk", ("desk", None)), ("desk@3", ("desk", 3)), ("desk@v3", ("desk", 3))]
)
def test_a_version_is_named(text: str, wanted: tuple[str, int | None]) -> None:
    assert named_version(text) == wanted


@pytest.mark.parametrize("text", ["desk@", "desk@x", "desk@1.5"])
def test_a_version_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected a number, as in NAME@3"):
        named_version(text)
