"""``imitrace curate`` in a process of its own, which is killed or interrupted while it works."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from imitrace.cli import main
from imitrace_trainer.datasets import list_datasets
from imitrace_trainer.source_copies import COPIES

ENDED = r"""
import os, re, sys
number, where = int(sys.argv.pop(1)), re.compile(sys.argv.pop(1))
def end(event, told):
    if where.match(" ".join(map(str, (event, *told)))):
        sys.setprofile(None)
        os.kill(os.getpid(), number)
def called(frame, event, _):
    if event == "call":
        end(event, (frame.f_code.co_filename, frame.f_code.co_name))
import imitrace_trainer.cli, imitrace_trainer.curation  # which takes long to be watched
from imitrace.cli import main
sys.addaudithook(end)
sys.setprofile(called)
main()
"""
"""The command itself, sent a signal by what it is about to do."""
POINTS = {
    "half of a copy is made": r"call .*/source_copies\.py _of$",
    "the steps are looked at": r"call .*/survey\.py gaps$",
    "half of the tables are written": r"call .*/step_counts\.py _add$",
    "its tables are whole": r"open .*/datasets/\.new-\w+/manifest\.json w",
    "it is about to appear": r"os\.rename .*/datasets/\.new-\w+ .*/v1 ",
    "its page is about to appear": r"os\.rename .*/\.v1\.html-\w+ .*/v1\.html ",
}


def words(stored: Path, home: Path) -> list[str]:
    config = home.parent / "imitrace.toml"
    config.write_text('[cohort.desk]\nagent = "desk"\nsplit = { calibration = 0.2, gate = 0.2 }\n')
    source = ["--source", str(stored / "traces.duckdb")]
    return ["curate", "desk", *source, "--home", str(home), "--config", str(config)]


def curated(stored: Path, home: Path) -> Result:
    done = CliRunner().invoke(main, [*words(stored, home), "--json"])
    assert done.exit_code == 0, done.output
    return done


def drafts(home: Path) -> list[str]:
    return [path.parent.name for folder in (COPIES, "datasets") for path in sorted((home / folder).glob(".new-*"))]


def visible(home: Path) -> list[tuple[int, str]]:
    """Return the versions there are, after reading them whole."""
    found = list_datasets(home)
    assert all(len(dataset.examples()) == dataset.manifest["counts"]["steps"] for dataset in found)
    return [(dataset.version, dataset.hash) for dataset in found]


@pytest.fixture(scope="module")
def wanted(stored: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The hash of a version that nothing disturbed."""
    return str(json.loads(curated(stored, tmp_path_factory.mktemp("calm") / "home").stdout)["hash"])


def ended(number: signal.Signals, where: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", ENDED, str(int(number)), where]
    return subprocess.run([*program, *command], stderr=subprocess.PIPE, text=True, check=False)


def test_a_killed_run_leaves_no_half_version_and_the_next_one_makes_the_same(
    stored: Path, wanted: str, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    for point, where in POINTS.items():
        assert ended(signal.SIGKILL, where, words(stored, home)).returncode == -signal.SIGKILL, point
        assert visible(home) == ([(1, wanted)] if "page" in point else []), point
        assert drafts(home) in ([COPIES], [COPIES, "datasets"]), point  # what earlier runs left is gone
    assert json.loads(curated(stored, home).stdout)["created"] is False
    assert (visible(home), drafts(home)) == ([(1, wanted)], [])
    assert (home / "datasets" / "desk" / "v1.html").exists()


@pytest.mark.parametrize("point", ["half of a copy is made", "half of the tables are written"])
def test_an_interrupted_run_says_so_in_a_line_and_leaves_nothing(stored: Path, tmp_path: Path, point: str) -> None:
    home = tmp_path / "home"
    done = ended(signal.SIGINT, POINTS[point], words(stored, home))
    assert (done.returncode, done.stderr) == (130, "imitrace: interrupted\n")
    assert (visible(home), drafts(home)) == ([], [])
