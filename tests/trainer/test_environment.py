import sys
from pathlib import Path

import pytest

from imitrace.exceptions import ConfigError
from imitrace_trainer.environment import load_object


@pytest.fixture(autouse=True)
def path_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_an_object_is_loaded_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "planted_world.py").write_text("class World:\n    tools = ['hoe']\n", encoding="utf-8")
    assert load_object("planted_world:World", tmp_path)().tools == ["hoe"]


def test_an_object_is_loaded_from_a_package(tmp_path: Path) -> None:
    (tmp_path / "planted_package").mkdir()
    (tmp_path / "planted_package" / "world.py").write_text("NAME = 'farm'\n", encoding="utf-8")
    assert load_object("planted_package.world:NAME", tmp_path) == "farm"


def test_the_folder_is_searched_once_however_often_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "planted_once.py").write_text("NAME = 1\n", encoding="utf-8")
    assert [load_object("planted_once:NAME", tmp_path) for _ in range(2)] == [1, 1]
    assert sys.path.count(str(tmp_path)) == 1


@pytest.mark.parametrize("path", ["", "world", ":World", "world:", "./world.py:World", "world:a b", "a..b:World"])
def test_what_names_no_object_is_told_how_to_write_one(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_object(path, tmp_path)
    assert str(caught.value) == f"{path!r} is no object, write 'package.module:name'"


@pytest.mark.parametrize("path", ["planted_absent:World", "planted_bare:World"])
def test_an_absent_module_or_name_says_where_it_was_looked_for(path: str, tmp_path: Path) -> None:
    (tmp_path / "planted_bare.py").write_text("", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"can't be loaded \(.*(planted|World).*\); it must be importable from "
    ) as caught:
        load_object(path, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
