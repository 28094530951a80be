import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from imitrace.cli import main

if TYPE_CHECKING:  # torch takes seconds to import
    from imitrace_trainer.config import CloneConfig

Record = Callable[..., Path]
Drift = Callable[..., Result]


@pytest.fixture
def drift(home: Path, support: "CloneConfig") -> Drift:
    """Return a function from a snapshot and options to what the command did."""
    config = support.folder / "imitrace.toml"

    def run(snapshot: Path, *options: Any) -> Result:
        words = ["drift", "support", "--source", snapshot, "--home", home, "--config", config, *options]
        return CliRunner().invoke(main, list(map(str, words)))

    return run


@pytest.fixture(scope="session")
def usual(record: Record) -> Path:
    """Return more traffic of the same desk."""
    return record(count=60)


def test_no_drift_exits_0_and_drift_1_and_too_little_3(drift: Drift, usual: Path, record: Record) -> None:
    told = drift(usual, "--since", "1970-01-01")
    assert (told.exit_code, told.stdout.splitlines()[0].split(" (")[0]) == (0, "support v1: no drift")
    without = drift(record(count=40, start=30_000, without="get_order"), "--since", "1970-01-01")
    assert without.exit_code == 1
    assert "tool get_order vanished" in without.stdout
    little = drift(usual, "--days", 1)  # the traffic is of 1970
    assert little.exit_code == 3
    assert "0 recent trajectories, needed: 30" in little.stdout


def test_the_report_is_json_and_a_page(drift: Drift, usual: Path, tmp_path: Path) -> None:
    path = tmp_path / "drift.html"
    told = json.loads(drift(usual, "--since", "1970-01-01T00:00:00Z", "--json", "--html", path).stdout)
    assert told["verdict"] == told["distribution-shift-detector"]["verdict"] == "none"
    assert set(told["clone-vs-expert-action-disagreement-rate"]) >= {"audit", "handovers", "asked", "estimated"}
    page = path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("<figure>") == 2
    assert all(name in page for name in ("distribution-shift-detector", "states: kernel", "class='tone none'"))


def test_a_page_of_too_little_traffic_says_so(drift: Drift, usual: Path, tmp_path: Path) -> None:
    path = tmp_path / "drift.html"
    assert drift(usual, "--days", 1, "--html", path).exit_code == 3
    assert "0 recent trajectories, needed: 30" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--since", "yesterday"], "--since is 'yesterday', allowed: ISO 8601"),
        (["--since", "2026-03-01", "--days", "1"], "--days or --since, and not both"),
        (["--days", "0"], "0.0 is not in the range"),
    ],
)
def test_a_wrong_option_is_refused(drift: Drift, usual: Path, options: list[str], problem: str) -> None:
    told = drift(usual, *options)
    assert told.exit_code == 2
    assert problem in told.stderr


def test_a_page_that_can_not_be_written_is_named(drift: Drift, usual: Path, tmp_path: Path) -> None:
    told = drift(usual, "--days", 1, "--html", tmp_path / "nowhere" / "drift.html")
    assert told.exit_code == 2
    assert "drift.html can't be written" in told.stderr


def test_a_clone_that_is_not_configured_is_refused(home: Path, support: "CloneConfig") -> None:
    config = str(support.folder / "imitrace.toml")
    told = CliRunner().invoke(main, ["drift", "other", "--home", str(home), "--config", config])
    assert told.exit_code == 2
    assert "clone 'other' is not in imitrace.toml" in told.stderr
