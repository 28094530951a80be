from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from imitrace.cli import main
from imitrace.exceptions import DatasetError
from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.curate import curate
from imitrace_trainer.datasets import open_dataset, write_dataset
from imitrace_trainer.effect import effect, effect_of_failures
from imitrace_trainer.out_of_fold import Sketch
from imitrace_trainer.sketched_steps import SketchedStep
from imitrace_trainer.sources import open_source

WISHES = {"refund": "please pay back what I spent", "cancel": "stop that booking at once", "track": "where is it now"}
COHORT = CohortConfig(name="desk", agent="desk", split=SplitConfig(calibration=0, gate=0))


def case(number: int, wrong: bool = False) -> dict[str, Any]:
    wish = list(WISHES)[number % 3]
    done = list(WISHES)[(number + 1) % 3] if wrong else wish
    told = {"outcome": "failure" if wrong else "success", "says": f"{WISHES[wish]} number {number}"}
    return {"id": f"t{number}", "task": f"t{number}", "roles": ["expert"], "step": {"action_name": done}} | told


def step(number: int, action: str | None = None) -> SketchedStep:
    kind = number % 3
    seen = Sketch(np.array([kind], dtype=np.int16), np.array([1.0], dtype=np.float32))
    return SketchedStep(f"t{number}", 0, f"t{number}", action or "abc"[kind], seen)


def test_steps_that_contradict_the_usual_ones_harm_and_more_of_the_same_do_not() -> None:
    usual = [step(number) for number in range(60)]
    bad = effect(usual, [step(number, "abc"[(number + 1) % 3]) for number in range(60, 160)])
    same = effect(usual, [step(number) for number in range(60, 160)])
    assert bad.without == same.without == 1
    assert bad.along < 0.5
    assert bad.high < 0
    assert str(bad).endswith("they harm")
    assert (same.along, same.difference) == (1, 0)
    assert str(same).endswith("neither harm nor use is shown")
    assert (bad.tasks, bad.steps, bad.further) == (60, 60, 100)


def test_of_a_task_held_out_nothing_further_is_seen() -> None:
    usual = [step(number) for number in range(60)]
    told = [replace(one, action="abc"[(number + 1) % 3]) for number, one in enumerate(usual)]
    apart = [replace(one, task=f"u{one.task}") for one in told]
    assert effect(usual, told).along > effect(usual, apart).along


def test_an_action_that_only_the_further_steps_have_is_guessed_too() -> None:
    found = effect([step(number) for number in range(30)], [step(number, "z") for number in range(30, 40)])
    assert found.tasks == 30


def test_too_few_tasks_say_nothing() -> None:
    with pytest.raises(DatasetError, match="9 tasks can't be guessed apart, expected at least 10"):
        effect([step(number) for number in range(9)], [])


@pytest.fixture
def write(tmp_path: Path, make_snapshot: Callable[..., Path]) -> Callable[[list[dict[str, Any]]], Path]:
    """Return a function from cases to the workspace with their dataset."""

    def made(cases: list[dict[str, Any]]) -> Path:
        source = open_source(str(make_snapshot(*cases)), tmp_path)
        write_dataset(tmp_path, COHORT, curate(source.frames(), COHORT), source.describe())
        return tmp_path

    return made


def test_failures_that_a_version_keeps_are_measured_by_a_command(
    write: Callable[[list[dict[str, Any]]], Path],
) -> None:
    home = write([case(number, wrong=number >= 60) for number in range(160)])
    done = CliRunner().invoke(main, ["datasets", "harm", "desk", "--home", str(home)])
    assert done.exit_code == 0, done.output
    assert "100 steps of failures, beside 60 of 60 tasks" in done.output
    assert "they harm" in done.output


def test_a_version_without_failures_has_nothing_to_measure(write: Callable[[list[dict[str, Any]]], Path]) -> None:
    home = write([case(number) for number in range(12)])
    with pytest.raises(DatasetError, match="dataset desk v1 keeps no failed trajectory to train on"):
        effect_of_failures(open_dataset(home, "desk"))
