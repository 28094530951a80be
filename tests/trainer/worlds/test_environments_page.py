"""What docs/environments.md shows: its world is played from a file of its own, and what it names can be loaded."""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from imitrace_trainer.config import clone_from_config
from imitrace_trainer.environment import load_object
from imitrace_trainer.rollout import expert_actor, play
from imitrace_trainer.stages import make_world

PAGE = (Path(__file__).parents[3] / "docs" / "environments.md").read_text(encoding="utf-8")
TILL, LAKE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
TABLES = [tomllib.loads(text) for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)]


@pytest.fixture(autouse=True)
def path_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_the_world_of_the_page_is_played_by_its_expert(tmp_path: Path) -> None:
    (tmp_path / "till.py").write_text(TILL, encoding="utf-8")
    clone = clone_from_config({"cohort": {"till": {"agent": "till"}}, **TABLES[0]}, "till", tmp_path)
    assert clone.rollout is not None
    environment, make_expert = make_world(clone, clone.rollout)
    tasks = environment.tasks(20, 1)
    episodes = [play(environment, task, expert_actor(make_expert())) for task in tasks]
    assert all(episode.success and not episode.unsafe for episode in episodes)
    assert {episode.cohort for episode in episodes} == {"small", "large"}
    assert {task.id for task in tasks}.isdisjoint(task.id for task in environment.tasks(20, 2))


def test_what_the_page_names_can_be_loaded(tmp_path: Path) -> None:
    named = [table[key] for rollout in TABLES[1:] for table in _rollouts(rollout) for key in ("environment", "expert")]
    ours = [path for path in named if path.startswith("imitrace_trainer.")]
    assert len(ours) == 3
    assert all(callable(load_object(path, tmp_path)) for path in ours)


def _rollouts(config: dict[str, Any]) -> list[dict[str, Any]]:
    return [clone["rollout"] for clone in config["clone"].values()]


def test_the_lake_of_the_page_can_be_walked(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium", reason="needs pip install 'imitrace[gymnasium]'")
    (tmp_path / "page_lake.py").write_text(LAKE, encoding="utf-8")
    world = load_object("page_lake:lake", tmp_path)()
    for task in world.tasks(2, 1):
        assert world.reset(task.id)[1]["content"] == "You stand in row 0, column 0."
        assert [tool["function"]["name"] for tool in world.tools] == ["left", "down", "right", "up"]
