"""Work the support desk's tasks for the tests."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from support_desk import Desk, Episode, make_expert, play


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture(scope="session")
def faultless() -> Sequence[Episode]:
    """400 tasks in the natural mix, worked by an expert that never errs."""
    desk = Desk()
    expert = make_expert(desk)
    return [play(desk, expert.act, desk.reset(task.id)) for task in desk.tasks(400, seed=11)]
