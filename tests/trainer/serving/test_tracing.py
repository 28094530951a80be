import shutil
from pathlib import Path

import pytest

from imitrace_trainer.serving.config import ServeConfig
from imitrace_trainer.serving.tracing import agent_of


def agent(clone: str | None, home: Path) -> str | None:
    return agent_of(ServeConfig(upstream="http://x/v1", clone=clone, home=home))


def test_the_agent_is_the_one_that_the_clone_was_made_from(lamps: Path) -> None:
    card = lamps / "clones" / "lamps" / "v1" / "clone.json"
    assert agent("lamps", lamps) == "lamps"  # the card names none
    card.write_text(card.read_text().replace('"agent": null', '"agent": "desk"'))
    assert [agent(name, lamps) for name in ("lamps", "lamps@champion", "lamps:1")] == ["desk"] * 3


@pytest.mark.parametrize(("clone", "name"), [(None, None), ("lamps", "lamps"), ("lamps@candidate", "lamps")])
def test_without_a_version_it_is_called_as_the_clone(clone: str | None, name: str | None, lamps: Path) -> None:
    shutil.rmtree(lamps / "clones" / "lamps" / "v1")
    assert agent(clone, lamps) == name
