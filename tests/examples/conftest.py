"""Work the support desk's tasks for the tests."""

from collections.abc import Sequence

import pytest

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
