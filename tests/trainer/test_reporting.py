"""The report of a registered clone: measured anew, kept beside the version, and the version itself unchanged."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from imitrace.cli import main
from imitrace.exceptions import CloneError, DatasetError
from imitrace_trainer.datasets import open_dataset
from imitrace_trainer.registry import Registry
from imitrace_trainer.reporting import Reported, report_stage
from imitrace_trainer.stages import evaluate_stage, load_clone

Fork = Callable[[Path], Path]


def quiet(stage: str, share: float) -> None:
    pass


@pytest.fixture(scope="module")
def home(trained_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(trained_home, tmp_path_factory.mktemp("reported") / "home"))


@pytest.fixture(scope="module")
def reported(home: Path) -> Reported:
    return report_stage(home, "counter", False, quiet)


def test_a_report_lies_beside_the_version_which_stays_whole(home: Path, reported: Reported) -> None:
    folder = home / "clones" / "counter" / "reports"
    assert (reported.report, reported.page) == (folder / "v1.json", folder / "v1.html")
    assert json.loads(reported.report.read_text(encoding="utf-8"))["quality"] == reported.quality.to_json()
    assert "<title>counter v1: how far its word can be trusted</title>" in reported.page.read_text(encoding="utf-8")
    registry = Registry(home)
    assert registry.faults(registry.resolve("counter")) == []
    assert (registry.names(), registry.versions("counter")) == (["counter"], [1])


def test_it_says_the_same_as_what_was_written_in_training(home: Path, reported: Reported) -> None:
    version = Registry(home).resolve("counter").path
    told = json.loads((version / "report.json").read_text(encoding="utf-8"))
    then, now = told["quality"], reported.quality.to_json()
    assert (then["origin"].pop("version"), now["origin"].pop("version")) == (None, 1)
    assert then["origin"].pop("measured_at") <= now["origin"].pop("measured_at")
    assert then == json.loads(json.dumps(now))
    assert json.loads(reported.report.read_text(encoding="utf-8"))["ladder"] == told["ladder"]


def test_its_figures_are_those_of_the_evaluation(home: Path, reported: Reported) -> None:
    evaluation, quality = evaluate_stage(home, "counter"), reported.quality
    assert (quality.tasks, quality.decisions) == (evaluation.tasks, evaluation.exact_agreement.decisions)
    assert quality.agreement.value == evaluation.action_agreement.value
    assert quality.floor.value == evaluation.floor_agreement.value
    assert quality.reliability.error.value == pytest.approx(evaluation.calibration_error)
    assert quality.origin.dataset_hash == open_dataset(home, "counter").hash
    assert (quality.promised, quality.proof) == (0.1, 0.8)
    assert quality.threshold == pytest.approx(load_clone(home, "counter").thresholds.reversible)
    assert {one.name for one in quality.cohorts} == {"common", "safety"}


def test_a_full_report_fits_again(trained_home: Path, fork: Fork) -> None:
    home = fork(trained_home)
    told: set[str] = set()
    found = report_stage(home, "counter:1", True, lambda stage, share: told.add(stage.split(" ")[0]))
    refits = found.quality.refits
    assert refits is not None
    assert refits.learning[-1].agreement.value == found.quality.agreement.value == 1
    assert len(refits.ablation) == 10
    assert {f"{number}/15" for number in range(1, 16)} | {"measure"} == told
    assert "without history" in found.page.read_text(encoding="utf-8")


def test_the_command_prints_a_word_for_each_part_and_where_the_page_is(trained_home: Path, fork: Fork) -> None:
    home = fork(trained_home)
    text = CliRunner().invoke(main, ["report", "counter", "--home", str(home)]).stdout.splitlines()
    assert text[0].startswith("good        It chooses the expert's action in 100.0% ")
    assert text[-1] == str(home / "clones" / "counter" / "reports" / "v1.html")
    asked = CliRunner().invoke(main, ["report", "counter", "--json", "--home", str(home)])
    record = json.loads(asked.stdout)
    assert (asked.exit_code, record["page"], record["origin"]["version"]) == (0, text[-1], 1)
    assert [f"{one['tone']:<10}  {one['sentence']}" for one in record["verdicts"].values()] == text[:-1]


def test_what_cannot_be_measured_is_refused_with_the_mend(trained_home: Path, fork: Fork) -> None:
    home = fork(trained_home)
    with pytest.raises(CloneError, match=r"clone 'nobody' does not exist, there is: counter"):
        report_stage(home, "nobody", False, quiet)
    (home / "datasets" / "counter" / "v1").rename(home / "datasets" / "counter" / "v7")
    with pytest.raises(DatasetError, match="counter"):
        report_stage(home, "counter", False, quiet)
    assert not (home / "clones" / "counter" / "reports").exists()


def test_settings_that_are_unknown_here_ask_for_a_new_training(trained_home: Path) -> None:
    from imitrace_trainer.reporting import _training

    card = load_clone(trained_home, "counter").card
    strange = replace(card, training=card.training | {"config": {"warmth": 3}})
    with pytest.raises(CloneError, match=r"counter was trained with settings unknown here .*; train it again"):
        _training(strange)
